"""Eigenvalues alone of many small symmetric float64 matrices at once, by tridiagonal reduction.

Importing this module imports numba; only :mod:`batteries.kernels.eigensolver` does so, on the first call that can use it.

Eight matrices are solved side by side, see :mod:`batteries.kernels.matrix_tiles`. Householder reflections make
them tridiagonal (Golub and Van Loan, 8.3.1). The QL iteration without square roots of Pal, Walker and Kahan, with Wilkinson's
shift, makes them diagonal (Parlett, The Symmetric Eigenvalue Problem, chapter 8; as in LAPACK's dsterf). With
diagonal d_i and squared couplings e_i of rows i and i + 1, a sweep runs upwards from the last row n, with gamma = d_n - shift,
p = gamma**2 and s = 0:

    r = p + e_i;  e_{i+1} = s r;  gamma' = (p (d_i - shift) - e_i gamma) / r;  d_{i+1} = gamma + (d_i - gamma');
    p' = gamma'**2 r / p;  s = e_i / r

Each matrix sweeps the rows from its own first coupling on, and stays unchanged above it while its neighbours do theirs: so no
branch depends on one lane, and the result for a matrix does not depend on its neighbours, to the bit. Above the first coupling
e_i = 0, where the recurrence terminates; hence a row 0 of zeros, to terminate a sweep through all rows.

The latency of a step is that of its division. Two blocks of eight alternate, so that their divisions overlap.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from batteries.kernels.kernel_cache import kernel
from batteries.kernels.matrix_tiles import ROWS, WIDTH, fill, gather_gram, gather_symmetric, load, scale_down, scratch
from batteries.kernels.vectors import Array, Vector, any_above, magnitude, njit, root, where_above
from batteries.kernels.vectors import store_slot as store

__all__ = ["TOGETHER", "gram_values", "symmetric_values"]

BLOCKS = 2  # blocks iterated together
TOGETHER = BLOCKS * WIDTH  # matrices iterated together
SWEEPS = 30  # limit per row, as in LAPACK; random matrices need 2.4
UNCOUPLED = 1e-32  # squared coupling over squared norm: 1e-16 of the matrix
NEGLIGIBLE = 1e-200  # squared length below which a column of a scaled matrix needs no reflection
TINY = 1e-70  # smallest gamma, far below the precision of float64: keeps p r a normal number


# ---- to a tridiagonal matrix -----------------------------------------------------------------------------------------


@njit
def _reduce(a: Array, v: Array, q: Array, d: Array, e: Array, base: int, width: int) -> None:
    """Reduce to tridiagonal form: write the diagonal to d and squared couplings to e, from slot ``base`` + 1."""
    for k in range(width):
        store(d, base + 1 + k, load(a, k * width + k))
        if k + 1 < width:
            # the iteration needs only the square of a coupling, not its sign
            square, shrink = _reflector(a, v, q, k, width)
            store(e, base + 1 + k, square)
        if k + 2 < width:
            _multiply(a, v, q, shrink, k, width)
            _update(a, v, q, k, width)


@njit
def _reflector(a: Array, v: Array, q: Array, k: int, width: int) -> tuple[Vector, Vector]:
    """Find v of the reflection I - shrink v v' that annihilates row k right of its coupling; return coupling^2 and shrink."""
    zero, one, negligible = fill(0.0), fill(1.0), fill(NEGLIGIBLE)
    head, rest = load(a, k * width + k + 1), zero
    for j in range(k + 2, width):
        x = load(a, k * width + j)
        store(v, j, x)
        rest = rest + x * x
    square = rest + head * head
    length = root(square)
    # the sign of the head avoids cancellation. v has a zero for row k, which may be one of a pair of rows below
    store(v, k, zero)
    store(v, k + 1, head + where_above(zero, head, zero - length, length))
    for j in range(k, width):
        store(q, j, zero)
    # a negligible row has no direction: shrink = 0 makes the reflection the identity, and its coupling stays
    return square, where_above(square, negligible, one / (square + length * magnitude(head)), zero)


@njit
def _pairs_from(k: int, width: int) -> int:
    """Return the first of the rows after k taken in pairs: if odd in number, they include row k, finished and with v = 0."""
    return k + 1 - (width - k - 1) % 2


@njit
def _multiply(a: Array, v: Array, q: Array, shrink: Vector, k: int, width: int) -> None:
    """Compute q of the reflected matrix A - v q' - q v': q = p - shrink (v'p) v / 2 with p = shrink A v."""
    inner = fill(0.0)
    # each element is read once, for its own product and that of its mirror image below the diagonal; two rows at a time, so
    # that v and q are loaded once for both
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
        # later rows add nothing more to these elements of q: they are final
        s, t = s * shrink, t * shrink
        store(q, i, s)
        store(q, i + 1, t)
        inner = inner + s * vi + t * vk
    inner = inner * shrink * fill(0.5)
    for i in range(k + 1, width):
        store(q, i, load(q, i) - inner * load(v, i))


@njit
def _update(a: Array, v: Array, q: Array, k: int, width: int) -> None:
    """Subtract v q' + q v' from the rows after k."""
    for i in range(_pairs_from(k, width), width, 2):
        vi, qi, vk, qk = load(v, i), load(q, i), load(v, i + 1), load(q, i + 1)
        # includes the element of row i + 1 left of the diagonal, which is never read, so that both rows have one length
        for j in range(i, width):
            vj, qj = load(v, j), load(q, j)
            store(a, i * width + j, load(a, i * width + j) - vi * qj - qi * vj)
            store(a, (i + 1) * width + j, load(a, (i + 1) * width + j) - vk * qj - qk * vj)


# ---- to a diagonal one -----------------------------------------------------------------------------------------------


@njit
def _uncoupled(d: Array, e: Array, base: int, width: int) -> Vector:
    """Return the squared coupling below which rows count as uncoupled."""
    two, square = fill(2.0), fill(0.0)
    for i in range(base + 1, base + width + 1):
        square = square + (load(d, i) * load(d, i) + two * load(e, i))
    return square * fill(UNCOUPLED)


@njit
def _locate(d: Array, e: Array, base: int, low: int, width: int, enough: Vector) -> tuple[Vector, Vector]:
    """Find the first row from ``low`` coupled to the next, and the shift: the nearer eigenvalue of that 2x2 block."""
    zero, half = fill(0.0), fill(0.5)
    top, first, second, square = fill(width + 1.0), zero, zero, zero
    # from the last row up, so that the last write in each lane is of its first coupling; all lanes visit all rows
    for i in range(width - 1, low - 1, -1):
        x = load(e, base + i)
        top = where_above(x, enough, fill(float(i)), top)
        first = where_above(x, enough, load(d, base + i), first)
        second = where_above(x, enough, load(d, base + i + 1), second)
        square = where_above(x, enough, x, square)
        # a small enough coupling is set to zero at once: it must not grow again in a sweep meant for another lane
        store(e, base + i, where_above(x, enough, x, zero))
    # the sign again avoids cancellation in the denominator
    gap = (second - first) * half
    distance = root(gap * gap + square)
    return top, first - square / (gap + where_above(zero, gap, zero - distance, distance))


@njit
def _lowest(e: Array, base: int, low: int, width: int) -> int:
    """Find the first row from ``low`` that is coupled in any lane."""
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
    """Do a step of the recurrence in the module's docstring, with one division 1 / (p r); return the next gamma, p and s."""
    square, distance = load(e, base + i), load(d, base + i) - shift
    here = fill(i + 1.5)  # above top in the lanes whose sweep includes row i + 1
    # one division for both of the recurrence, by r and by p, since its latency dominates
    r = p + square
    inverse = fill(1.0) / (p * r)
    store(e, base + i + 1, where_above(here, top, s * r, load(e, base + i + 1)))
    after = _off_zero(p * (p * distance - square * gamma) * inverse)
    store(d, base + i + 1, where_above(here, top, gamma + (load(d, base + i) - after), load(d, base + i + 1)))
    return after, after * after * (r * r * inverse), square * p * inverse


@njit
def _iterate(d: Array, e: Array, width: int) -> None:
    """Iterate until d holds the eigenvalues of both blocks, unsorted."""
    # each block is preceded by its row 0 of zeros, hence width + 1 slots
    other, zero = width + 1, fill(0.0)
    enough, enough_too = _uncoupled(d, e, 0, width), _uncoupled(d, e, other, width)
    low = 1
    for _ in range(SWEEPS * width):
        top, shift = _locate(d, e, 0, low, width, enough)
        top_too, shift_too = _locate(d, e, other, low, width, enough_too)
        # skip rows that no lane of either block needs any more
        low = min(_lowest(e, 0, low, width), _lowest(e, other, low, width))
        if low == width:
            break
        gamma, gamma_too = _off_zero(load(d, width) - shift), _off_zero(load(d, other + width) - shift_too)
        p, p_too, s, s_too = gamma * gamma, gamma_too * gamma_too, zero, zero
        # alternating blocks, see above; down to row low - 1, where the sweep of the first coupled row ends
        for i in range(width - 1, low - 2, -1):
            gamma, p, s = _step(d, e, 0, i, top, shift, gamma, p, s)
            gamma_too, p_too, s_too = _step(d, e, other, i, top_too, shift_too, gamma_too, p_too, s_too)


# ---- the solver ------------------------------------------------------------------------------------------------------


@njit
def _sort(d: Array, base: int, width: int) -> None:
    """Sort each lane in ascending order."""
    # bubble sort: the same exchanges for all lanes, without branches, and cheap beside the iteration
    for last in range(base + width, base + 1, -1):
        for i in range(base + 1, last):
            x, y = load(d, i), load(d, i + 1)
            store(d, i, where_above(x, y, y, x))
            store(d, i + 1, where_above(x, y, x, y))


@njit
def _memory(width: int) -> tuple[Array, ...]:
    """Allocate the scratch of one thread: a, v, q, d, e, rows, top, bad, and the scales of every block."""
    d, e = scratch(BLOCKS * (width + 1)), scratch(BLOCKS * (width + 1))
    d[:] = 0.0  # rows 0 and their couplings
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
    """Scale and reduce a block whose upper triangles are in memory."""
    a, v, q, d, e, _, top, bad, scale = memory
    for i in range(width):
        store(a, i * width + i, load(a, i * width + i) + fill(ridge))
    scale_down(a, top, bad, scale[block * WIDTH :], width)
    _reduce(a, v, q, d, e, block * (width + 1), width)


@njit
def _finish(memory: tuple[Array, ...], values: Array, first: int) -> None:
    """Compute the eigenvalues of all blocks and write them to the batch, from ``first``."""
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
    """Solve groups ``start`` to ``stop`` of sixteen matrices each.

    Args:
        source: Matrices (n, D, D) float64, contiguous, of which the lower triangles are read.
        ridge: Number added to every diagonal.
        values: Output (n, D) float64, eigenvalues in ascending order.
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
    """Solve groups as :func:`symmetric_values` does, for M'M + ridge I of ``source`` (n, V, D), float32 or float64."""
    width = source.shape[2]
    memory = _memory(width)
    for group in range(start, stop):
        for block in range(BLOCKS):
            gather_gram(source, group * TOGETHER + block * WIDTH, memory[5], memory[0], width)
            _prepare(memory, ridge, block, width)
        _finish(memory, values, group * TOGETHER)
