"""Eigenvalues alone of many small symmetric float64 matrices at once, by way of a tridiagonal matrix.

Importing this module imports numba; :mod:`batteries.kernels.eigensolver` does so on the first call that can use it, and only
there.

Eight matrices are solved side by side, see :mod:`batteries.kernels.matrix_tiles`. Householder reflections make
them tridiagonal (Golub and Van Loan, 8.3.1). The QL iteration without square roots of Pal, Walker and Kahan, with Wilkinson's
shift, makes those diagonal (Parlett, The Symmetric Eigenvalue Problem, chapter 8; the same as in LAPACK's dsterf). With
diagonal d_i and squared couplings e_i of rows i and i + 1, a sweep runs upwards from the last row n, with gamma = d_n - shift,
p = gamma**2 and s = 0:

    r = p + e_i;  e_{i+1} = s r;  gamma' = (p (d_i - shift) - e_i gamma) / r;  d_{i+1} = gamma + (d_i - gamma');
    p' = gamma'**2 r / p;  s = e_i / r

Every matrix sweeps the rows from its own first coupling on, and is left alone above it, while those beside it do theirs: so
no branch depends on one lane, and the answer for one matrix does not depend on its neighbours, to the bit. Above its first
coupling e_i = 0, in which the recurrence ends of itself; hence a row 0 of zeros, for a sweep through all of them to end in.

A step waits for its division. Two blocks of eight take turns, and the one's division is done in the time of the other's.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from batteries.kernels.kernel_cache import kernel
from batteries.kernels.matrix_tiles import ROWS, WIDTH, fill, gather_gram, gather_symmetric, load, scale_down, scratch
from batteries.kernels.vectors import Array, Vector, any_above, magnitude, njit, root, where_above
from batteries.kernels.vectors import store_slot as store

__all__ = ["TOGETHER", "gram_values", "symmetric_values"]

BLOCKS = 2  # iterated together
TOGETHER = BLOCKS * WIDTH  # matrices
SWEEPS = 30  # per row, at most, as in LAPACK; random matrices need 2.4
UNCOUPLED = 1e-32  # squared coupling over squared norm: 1e-16 of the matrix
NEGLIGIBLE = 1e-200  # squared length of a column of a scaled matrix that needs no reflection
TINY = 1e-70  # stands in for gamma below it, far below what float64 holds of the matrix: p r stays a normal number


# ---- to a tridiagonal matrix -----------------------------------------------------------------------------------------


@njit
def _reduce(a: Array, v: Array, q: Array, d: Array, e: Array, base: int, width: int) -> None:
    """Diagonal to d and the squared couplings to e, from slot ``base`` + 1 on."""
    for k in range(width):
        store(d, base + 1 + k, load(a, k * width + k))
        if k + 1 < width:
            # only the square of a coupling is needed, whose root and sign the iteration never asks for
            square, shrink = _reflector(a, v, q, k, width)
            store(e, base + 1 + k, square)
        if k + 2 < width:
            _multiply(a, v, q, shrink, k, width)
            _update(a, v, q, k, width)


@njit
def _reflector(a: Array, v: Array, q: Array, k: int, width: int) -> tuple[Vector, Vector]:
    """v of I - shrink v v' that annuls row k right of its coupling; the square of the coupling, and shrink."""
    zero, one, negligible = fill(0.0), fill(1.0), fill(NEGLIGIBLE)
    head, rest = load(a, k * width + k + 1), zero
    for j in range(k + 2, width):
        x = load(a, k * width + j)
        store(v, j, x)
        rest = rest + x * x
    square = rest + head * head
    length = root(square)
    # the sign of the head: the sum cannot cancel. v has a zero for row k, which may be one of a pair of rows below
    store(v, k, zero)
    store(v, k + 1, head + where_above(zero, head, zero - length, length))
    for j in range(k, width):
        store(q, j, zero)
    # a row that is nearly nothing has no direction: shrink = 0 reflects nothing, and the coupling is as small as it is
    return square, where_above(square, negligible, one / (square + length * magnitude(head)), zero)


@njit
def _pairs_from(k: int, width: int) -> int:
    """Rows after k in twos; if they are odd in number, row k, where v is 0 and which is done with, is one of them."""
    return k + 1 - (width - k - 1) % 2


@njit
def _multiply(a: Array, v: Array, q: Array, shrink: Vector, k: int, width: int) -> None:
    """q of A - v q' - q v', which is the reflected A: q = p - shrink (v'p) v / 2 with p = shrink A v."""
    inner = fill(0.0)
    # each element is read once, for its own product and for that of its mirror image below the diagonal; two rows at a time, so
    # that v and q are loaded once for two
    for i in range(_pairs_from(k, width), width, 2):
        vi, vk = load(v, i), load(v, i + 1)
        x = load(a, i * width + i + 1)
        s = load(q, i) + load(a, i * width + i) * vi + x * vk
        t = load(q, i + 1) + load(a, (i + 1) * width + i + 1) * vk + x * vi
        for j in range(i + 2, width):
            x, y, vj = load(a, i * width + j), load(a, (i + 1) * width + j), load(v, j)
            s = s + x * vj
            t = t + y * vj
            store(q, j, load(q, j) + x * vi + y * vk)
        # rows after these have added to q all that they will: what is there is final
        s, t = s * shrink, t * shrink
        store(q, i, s)
        store(q, i + 1, t)
        inner = inner + s * vi + t * vk
    inner = inner * shrink * fill(0.5)
    for i in range(k + 1, width):
        store(q, i, load(q, i) - inner * load(v, i))


@njit
def _update(a: Array, v: Array, q: Array, k: int, width: int) -> None:
    """- v q' - q v', of the rows after k."""
    for i in range(_pairs_from(k, width), width, 2):
        vi, qi, vk, qk = load(v, i), load(q, i), load(v, i + 1), load(q, i + 1)
        # of row i + 1 the element left of the diagonal too, which nobody reads, so that both rows are of one length
        for j in range(i, width):
            vj, qj = load(v, j), load(q, j)
            store(a, i * width + j, load(a, i * width + j) - vi * qj - qi * vj)
            store(a, (i + 1) * width + j, load(a, (i + 1) * width + j) - vk * qj - qk * vj)


# ---- to a diagonal one -----------------------------------------------------------------------------------------------


@njit
def _uncoupled(d: Array, e: Array, base: int, width: int) -> Vector:
    """Squared coupling below which rows are on their own."""
    two, square = fill(2.0), fill(0.0)
    for i in range(base + 1, base + width + 1):
        square = square + (load(d, i) * load(d, i) + two * load(e, i))
    return square * fill(UNCOUPLED)


@njit
def _locate(d: Array, e: Array, base: int, low: int, width: int, enough: Vector) -> tuple[Vector, Vector]:
    """First row from ``low`` on that is coupled to its next, and the shift: the eigenvalue of the two nearest to it."""
    zero, half = fill(0.0), fill(0.5)
    top, first, second, square = fill(width + 1.0), zero, zero, zero
    # from the last row up, so that what is written last in each lane is of its first coupling; all lanes go all the way
    for i in range(width - 1, low - 1, -1):
        x = load(e, base + i)
        top = where_above(x, enough, fill(float(i)), top)
        first = where_above(x, enough, load(d, base + i), first)
        second = where_above(x, enough, load(d, base + i + 1), second)
        square = where_above(x, enough, x, square)
        # a coupling that is small enough becomes none at once: it must not grow again in a sweep that is another lane's
        store(e, base + i, where_above(x, enough, x, zero))
    # again the larger of two terms in the denominator, whose sum cannot cancel
    gap = (second - first) * half
    distance = root(gap * gap + square)
    return top, first - square / (gap + where_above(zero, gap, zero - distance, distance))


@njit
def _lowest(e: Array, base: int, low: int, width: int) -> int:
    """First row from ``low`` on that is coupled in any lane."""
    while low < width and not any_above(load(e, base + low), fill(0.0)):
        low += 1
    return low


@njit
def _off_zero(gamma: Vector) -> Vector:
    return where_above(magnitude(gamma), fill(TINY), gamma, fill(TINY))


@njit
def _step(
    d: Array, e: Array, base: int, i: int, top: Vector, shift: Vector, gamma: Vector, p: Vector, s: Vector
) -> tuple[Vector, Vector, Vector]:
    """Recurrence of the module's docstring, with both its divisions by way of 1 / (p r); the next gamma, p and s."""
    square, distance = load(e, base + i), load(d, base + i) - shift
    here = fill(i + 1.5)  # above top in the lanes whose row i + 1 is theirs
    # the two divisions of the recurrence are by r and by p: one division for both, as that is what the chain waits for
    r = p + square
    inverse = fill(1.0) / (p * r)
    store(e, base + i + 1, where_above(here, top, s * r, load(e, base + i + 1)))
    after = _off_zero(p * (p * distance - square * gamma) * inverse)
    store(d, base + i + 1, where_above(here, top, gamma + (load(d, base + i) - after), load(d, base + i + 1)))
    return after, after * after * (r * r * inverse), square * p * inverse


@njit
def _iterate(d: Array, e: Array, width: int) -> None:
    """Eigenvalues of both blocks to d, in no order."""
    # each block has its row 0 of zeros in front of it, hence width + 1 slots
    other, zero = width + 1, fill(0.0)
    enough, enough_too = _uncoupled(d, e, 0, width), _uncoupled(d, e, other, width)
    low = 1
    for _ in range(SWEEPS * width):
        top, shift = _locate(d, e, 0, low, width, enough)
        top_too, shift_too = _locate(d, e, other, low, width, enough_too)
        # rows that no lane of either block needs any more are left out
        low = min(_lowest(e, 0, low, width), _lowest(e, other, low, width))
        if low == width:
            break
        gamma, gamma_too = _off_zero(load(d, width) - shift), _off_zero(load(d, other + width) - shift_too)
        p, p_too, s, s_too = gamma * gamma, gamma_too * gamma_too, zero, zero
        # the blocks in turns, see above; down to row low - 1, into which the sweep of the first coupled row ends
        for i in range(width - 1, low - 2, -1):
            gamma, p, s = _step(d, e, 0, i, top, shift, gamma, p, s)
            gamma_too, p_too, s_too = _step(d, e, other, i, top_too, shift_too, gamma_too, p_too, s_too)


# ---- the solver ------------------------------------------------------------------------------------------------------


@njit
def _sort(d: Array, base: int, width: int) -> None:
    """Ascending, every lane for itself."""
    # exchanges of neighbours, the same for all lanes whatever their order: no branch, and little beside the iteration
    for last in range(base + width, base + 1, -1):
        for i in range(base + 1, last):
            x, y = load(d, i), load(d, i + 1)
            store(d, i, where_above(x, y, y, x))
            store(d, i + 1, where_above(x, y, x, y))


@njit
def _memory(width: int) -> tuple[Array, ...]:
    """Scratch of one thread: a, v, q, d, e, rows, top, bad, and the scales of every block."""
    d, e = scratch(BLOCKS * (width + 1)), scratch(BLOCKS * (width + 1))
    d[:] = 0.0  # rows 0, and their couplings
    e[:] = 0.0
    return (
        scratch(width * width),
        scratch(width),
        scratch(width),
        d,
        e,
        scratch(ROWS * width),
        scratch(1),
        scratch(1),
        scratch(BLOCKS),
    )


@njit
def _prepare(memory: tuple[Array, ...], ridge: float, block: int, width: int) -> None:
    """Block whose upper triangles are in memory, scaled and made tridiagonal."""
    a, v, q, d, e, _, top, bad, scale = memory
    for i in range(width):
        store(a, i * width + i, load(a, i * width + i) + fill(ridge))
    scale_down(a, top, bad, scale[block * WIDTH :], width)
    _reduce(a, v, q, d, e, block * (width + 1), width)


@njit
def _finish(memory: tuple[Array, ...], values: Array, first: int) -> None:
    """Eigenvalues of all blocks to their places in the batch, from ``first`` on."""
    _, _, _, d, e, _, _, _, scale = memory
    count, width = values.shape
    _iterate(d, e, width)
    for block in range(BLOCKS):
        base = block * (width + 1)
        _sort(d, base, width)
        for lane in range(min(WIDTH, count - first - block * WIDTH)):
            matrix = block * WIDTH + lane
            for i in range(width):
                values[first + matrix, i] = d[(base + 1 + i) * WIDTH + lane] * scale[matrix]


@kernel
def symmetric_values(source: Array, ridge: float, values: Array, start: int, stop: int) -> None:
    """Solves groups ``start`` to ``stop``, of sixteen matrices each.

    Args:
        source: (n, D, D) float64, contiguous; the lower triangles are read.
        ridge: Added to every diagonal.
        values: (n, D) float64, written, ascending.
        start: First group.
        stop: Group after the last one.
    """
    width = source.shape[2]
    memory = _memory(width)
    for group in range(start, stop):
        for block in range(BLOCKS):
            gather_symmetric(source, group * TOGETHER + block * WIDTH, memory[0], width)
            _prepare(memory, ridge, block, width)
        _finish(memory, values, group * TOGETHER)


@kernel
def gram_values(source: Array, ridge: float, values: Array, start: int, stop: int) -> None:
    """The same for M'M + ridge I, of ``source`` (n, V, D) float32 or float64, contiguous."""
    width = source.shape[2]
    memory = _memory(width)
    for group in range(start, stop):
        for block in range(BLOCKS):
            gather_gram(source, group * TOGETHER + block * WIDTH, memory[5], memory[0], width)
            _prepare(memory, ridge, block, width)
        _finish(memory, values, group * TOGETHER)
