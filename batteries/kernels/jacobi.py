"""Cyclic Jacobi for many small symmetric float64 matrices at once: eigenvalues and vectors for the batched solver.

Importing this module imports numba; :mod:`batteries.kernels.eigensolver` does so on the first call that can use it, and only
there.

Eight matrices are solved side by side, see :mod:`batteries.kernels.matrix_tiles`. A round of a tournament pairs
all D indices, D / 2 disjoint rotations at once; D - 1 rounds are a sweep (Brent and Luk 1985). Rotations as in Golub and Van
Loan, 8.5.

What makes the answer for one matrix independent of its neighbours and of the number of threads, to the bit: a matrix that
has converged gets the rotation c = 1, s = 0, which changes nothing, while its neighbours go on; nothing is summed across
lanes; and a last, short block is filled with copies of the last matrix.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import numpy as np

from batteries.kernels.kernel_cache import kernel
from batteries.kernels.matrix_tiles import ROWS, WIDTH, fill, gather_gram, gather_symmetric, load, scale_down, scratch
from batteries.kernels.vectors import Array, Vector, any_above, magnitude, njit, root, where_above
from batteries.kernels.vectors import store_slot as store

__all__ = ["WIDTH", "schedule", "solve_gram", "solve_symmetric"]

SWEEPS = 40  # of which random matrices need 4 (D=4) to 8 (D=32)
CONVERGED = 1e-30  # squared off-diagonal norm over squared norm: 1e-15 of the matrix, below what float64 holds of it
NEGLIGIBLE = 1e-100  # of a scaled element, whose square still is a normal number
TINY = 1e-300  # keeps 0 / 0 out of a rotation that turns nothing


def schedule(width: int) -> Array:
    """Rounds of a tournament: every pair p < q of ``width`` indices (made even) meets once.

    Returns:
        (width - 1, width / 2, 2) int64, for an even width.
    """
    width += width % 2
    # the circle method: index 0 stays, the others move on by one, and those that face one another meet
    ring = list(range(width))
    rounds = []
    for _ in range(width - 1):
        rounds.append([sorted((ring[i], ring[width - 1 - i])) for i in range(width // 2)])
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return np.array(rounds, dtype=np.int64)


@njit
def _norms(a: Array, width: int) -> tuple[Vector, Vector]:
    """Squared norms of the diagonal and of what is off it."""
    diagonal, off = fill(0.0), fill(0.0)
    for i in range(width):
        x = load(a, i * width + i)
        diagonal = diagonal + x * x
        # the lower triangle is not kept: an element off the diagonal stands for two
        for j in range(i + 1, width):
            x = load(a, i * width + j)
            off = off + (x * x + x * x)
    return diagonal, off


@njit
def _choose(a: Array, c: Array, s: Array, pairs: Array, width: int, active: Vector) -> None:
    """Rotation that annuls a[p, q] for every pair, applied to the pair's own 2x2 block."""
    zero, one, tiny, negligible = fill(0.0), fill(1.0), fill(TINY), fill(NEGLIGIBLE)
    for i in range(width // 2):
        p, q = pairs[i, 0], pairs[i, 1]
        kept = load(a, p * width + q)
        # no branch can depend on one lane: where nothing is to be turned, h = 0 makes the rotation c = 1, s = 0 below
        h = where_above(active, zero, kept, zero)
        h = where_above(magnitude(h), negligible, h, zero)
        ap, aq = load(a, p * width + p), load(a, q * width + q)
        d, twice = aq - ap, h + h
        # the smaller root of t^2 + (d / h) t - 1, without the difference of near numbers: a turn by at most 45 degrees, without
        # which the sweeps need not converge
        t = twice / (magnitude(d) + root(d * d + twice * twice) + tiny)
        t = where_above(zero, d, zero - t, t)
        cosine = one / root(one + t * t)
        store(c, i, cosine)
        store(s, i, t * cosine)
        # not by products with c and s, which would round: the diagonal changes by t h, and a[p, q] becomes zero, or stays
        # as it was where h was set to zero
        store(a, p * width + p, ap - t * h)
        store(a, q * width + q, aq + t * h)
        store(a, p * width + q, kept - h)


@njit
def _turn(a: Array, c: Array, s: Array, pairs: Array, width: int, i: int) -> None:
    """Rotations i and j on the 2x2 block where they meet, for every j > i; only the upper triangle is kept."""
    p, q = pairs[i, 0], pairs[i, 1]
    ci, si = load(c, i), load(s, i)
    for j in range(i + 1, width // 2):
        u, v = pairs[j, 0], pairs[j, 1]
        cj, sj = load(c, j), load(s, j)
        # p < q and u < v, but either pair may come first: every element is looked for above the diagonal
        pu = p * width + u if p < u else u * width + p
        pv = p * width + v if p < v else v * width + p
        qu = q * width + u if q < u else u * width + q
        qv = q * width + v if q < v else v * width + q
        # both rotations while the four elements are in registers: rows by (c_i, s_i), then columns by (c_j, s_j)
        xpu, xpv, xqu, xqv = load(a, pu), load(a, pv), load(a, qu), load(a, qv)
        ypu, yqu = ci * xpu - si * xqu, si * xpu + ci * xqu
        ypv, yqv = ci * xpv - si * xqv, si * xpv + ci * xqv
        store(a, pu, ypu * cj - ypv * sj)
        store(a, pv, ypu * sj + ypv * cj)
        store(a, qu, yqu * cj - yqv * sj)
        store(a, qv, yqu * sj + yqv * cj)


@njit
def _sweep(a: Array, w: Array, c: Array, s: Array, pairs: Array, width: int, active: Vector, vectors: bool) -> None:
    for turn in range(width - 1):
        # all rotations of a round first: its pairs are disjoint, so none changes what another is chosen by
        _choose(a, c, s, pairs[turn], width, active)
        for i in range(width // 2):
            _turn(a, c, s, pairs[turn], width, i)
            # eigenvectors are rows of w: a rotation goes along two stretches of memory, not down two columns
            if vectors:
                p, q = pairs[turn, i, 0] * width, pairs[turn, i, 1] * width
                ci, si = load(c, i), load(s, i)
                for k in range(width):
                    x, y = load(w, p + k), load(w, q + k)
                    store(w, p + k, ci * x - si * y)
                    store(w, q + k, si * x + ci * y)


@njit
def _diagonalise(a: Array, w: Array, c: Array, s: Array, pairs: Array, width: int, vectors: bool) -> None:
    """Eigenvalues to the diagonal of a, the eigenvectors to the rows of w."""
    zero, one = fill(0.0), fill(1.0)
    if vectors:
        for i in range(width):
            for k in range(width):
                store(w, i * width + k, one if i == k else zero)
    # rotations keep the norm of the whole, so what is small beside it is known before the first
    diagonal, off = _norms(a, width)
    enough = (diagonal + off) * fill(CONVERGED)
    # a sweep more for one is a sweep for all eight: the others are not active, and their rotations change nothing
    for _ in range(SWEEPS):
        active = off - enough
        if not any_above(active, zero):
            break
        _sweep(a, w, c, s, pairs, width, active, vectors)
        _, off = _norms(a, width)


@njit
def _rank(a: Array, rank: Array, width: int, given: int) -> None:
    """Place of every eigenvalue in ascending order; of equal ones the first comes first."""
    zero, one = fill(0.0), fill(1.0)
    for i in range(given):
        x = load(a, i * width + i)
        place = zero
        for j in range(given):
            y = load(a, j * width + j)
            # counted, not sorted: an order of its own for each lane without a branch, for D^2 comparisons of D^3 work
            place = place + where_above(x, y, one, zero)
            if j < i:
                place = place + where_above(x, y, zero, where_above(y, x, zero, one))
        store(rank, i, place)


@njit
def _scatter(a: Array, w: Array, rank: Array, scale: Array, values: Array, vectors: Array, first: int, width: int) -> None:
    """Eight answers to their places in the batch; of vectors of size zero, none."""
    count, given = values.shape
    for lane in range(min(WIDTH, count - first)):
        poison = 0.0 * scale[lane]  # NaN where a matrix was not finite
        for i in range(given):
            place = int(rank[i * WIDTH + lane])
            values[first + lane, place] = a[(i * width + i) * WIDTH + lane] * scale[lane]
            if vectors.size:
                for k in range(given):
                    vectors[first + lane, place, k] = w[(i * width + k) * WIDTH + lane] + poison


@njit
def _even(given: int) -> int:
    """Width solved: an odd matrix gets a zero row and column, which no rotation touches."""
    return given + given % 2


@njit
def _memory(given: int, vectors: Array) -> tuple[Array, ...]:
    """Scratch of one thread: a, w, c, s, rank, rows, top, bad, scale."""
    width = _even(given)
    turned = width * width if vectors.size else 1  # not read where no vectors are wanted
    small = scratch(1), scratch(1), scratch(1)
    return (
        scratch(width * width),
        scratch(turned),
        scratch(width),
        scratch(width),
        scratch(width),
        scratch(ROWS * width),
        *small,
    )


@njit
def _solve(memory: tuple[Array, ...], ridge: float, pairs: Array, values: Array, vectors: Array, first: int) -> None:
    """Eight matrices whose upper triangles are in memory, from ``first`` on."""
    a, w, c, s, rank, _, top, bad, scale = memory
    given = values.shape[1]
    width = _even(given)
    # the ridge before the scale, as it is of the size of the matrix that is asked about; not to the zero row of an odd one
    for i in range(given):
        store(a, i * width + i, load(a, i * width + i) + fill(ridge))
    scale_down(a, top, bad, scale, width)
    _diagonalise(a, w, c, s, pairs, width, vectors.size > 0)
    _rank(a, rank, width, given)
    _scatter(a, w, rank, scale, values, vectors, first, width)


@kernel
def solve_symmetric(source: Array, ridge: float, pairs: Array, values: Array, vectors: Array, start: int, stop: int) -> None:
    """Solves blocks ``start`` to ``stop``, of eight matrices each.

    Args:
        source: (n, D, D) float64, contiguous; the lower triangles are read.
        ridge: Added to every diagonal.
        pairs: ``schedule(D)``.
        values: (n, D) float64, written, ascending.
        vectors: (n, D, D) float64, written, eigenvectors as *rows*; of size zero if they are not wanted.
        start: First block.
        stop: Block after the last one.
    """
    memory = _memory(source.shape[2], vectors)
    for block in range(start, stop):
        gather_symmetric(source, block * WIDTH, memory[0], _even(source.shape[2]))
        _solve(memory, ridge, pairs, values, vectors, block * WIDTH)


@kernel
def solve_gram(source: Array, ridge: float, pairs: Array, values: Array, vectors: Array, start: int, stop: int) -> None:
    """The same for M'M + ridge I, of ``source`` (n, V, D) float32 or float64, contiguous."""
    memory = _memory(source.shape[2], vectors)
    for block in range(start, stop):
        gather_gram(source, block * WIDTH, memory[5], memory[0], _even(source.shape[2]))
        _solve(memory, ridge, pairs, values, vectors, block * WIDTH)
