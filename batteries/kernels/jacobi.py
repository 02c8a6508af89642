"""Cyclic Jacobi method for many small symmetric float64 matrices at once: eigenvalues and eigenvectors.

Importing this module imports numba; only :mod:`batteries.kernels.eigensolver` does so, on the first call that can use it.

Eight matrices are solved side by side, see :mod:`batteries.kernels.matrix_tiles`. A round of a tournament pairs all D indices,
giving D / 2 disjoint rotations at once; D - 1 rounds are a sweep (Brent and Luk 1985). Rotations as in Golub and Van Loan, 8.5.

The result for a matrix does not depend on its neighbours or the number of threads, to the bit: a matrix that has converged gets
the rotation c = 1, s = 0, which changes nothing, while its neighbours continue; nothing is summed across lanes; and a short
last block is filled with copies of the last matrix.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import numpy as np

from batteries.kernels.kernel_cache import kernel
from batteries.kernels.matrix_tiles import ROWS, WIDTH, fill, gather_gram, gather_symmetric, load, scale_down, scratch
from batteries.kernels.vectors import Array, Vector, any_above, magnitude, njit, root, where_above
from batteries.kernels.vectors import store_slot as store

__all__ = ["WIDTH", "schedule", "solve_gram", "solve_symmetric"]

SWEEPS = 40  # limit; random matrices need 4 (D=4) to 8 (D=32)
CONVERGED = 1e-30  # squared off-diagonal norm over squared norm: 1e-15 of the matrix, the precision of float64
NEGLIGIBLE = 1e-100  # scaled element taken as zero; its square is still a normal number
TINY = 1e-300  # prevents 0 / 0 in an identity rotation


def schedule(width: int) -> Array:
    """Return the rounds of a tournament, in which every pair p < q of ``width`` indices (made even) meets once.

    Returns:
        Pairs (width - 1, width / 2, 2) int64, for an even width.
    """
    width += width % 2
    # circle method: index 0 stays, the others rotate by one, and opposite ones meet
    ring = list(range(width))
    rounds = []
    for _ in range(width - 1):
        rounds.append([sorted((ring[i], ring[width - 1 - i])) for i in range(width // 2)])
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return np.array(rounds, dtype=np.int64)


@njit
def _norms(a: Array, width: int) -> tuple[Vector, Vector]:
    """Return the squared norms of the diagonal and of the rest."""
    diagonal, off = fill(0.0), fill(0.0)
    for i in range(width):
        x = load(a, i * width + i)
        diagonal = diagonal + x * x
        # the lower triangle is not stored: an off-diagonal element counts twice
        for j in range(i + 1, width):
            x = load(a, i * width + j)
            off = off + (x * x + x * x)
    return diagonal, off


@njit
def _choose(a: Array, c: Array, s: Array, pairs: Array, width: int, active: Vector) -> None:
    """Choose the rotation that annihilates a[p, q] for every pair, and apply it to the pair's own 2x2 block."""
    zero, one, tiny, negligible = fill(0.0), fill(1.0), fill(TINY), fill(NEGLIGIBLE)
    for i in range(width // 2):
        p, q = pairs[i, 0], pairs[i, 1]
        kept = load(a, p * width + q)
        # no branch can depend on one lane: inactive lanes get h = 0, which makes the rotation c = 1, s = 0 below
        h = where_above(active, zero, kept, zero)
        h = where_above(magnitude(h), negligible, h, zero)
        ap, aq = load(a, p * width + p), load(a, q * width + q)
        d, twice = aq - ap, h + h
        # the smaller root of t^2 + (d / h) t - 1, computed without cancellation: a rotation by at most 45 degrees, which
        # convergence requires
        t = twice / (magnitude(d) + root(d * d + twice * twice) + tiny)
        t = where_above(zero, d, zero - t, t)
        cosine = one / root(one + t * t)
        store(c, i, cosine)
        store(s, i, t * cosine)
        # not by products with c and s, which would round: the diagonal changes by t h, and a[p, q] becomes zero, or stays
        # as it was if h was set to zero
        store(a, p * width + p, ap - t * h)
        store(a, q * width + q, aq + t * h)
        store(a, p * width + q, kept - h)


@njit
def _turn(a: Array, c: Array, s: Array, pairs: Array, width: int, i: int) -> None:
    """Apply rotations i and j to the 2x2 block where they meet, for every j > i, in the upper triangle."""
    p, q = pairs[i, 0], pairs[i, 1]
    ci, si = load(c, i), load(s, i)
    for j in range(i + 1, width // 2):
        u, v = pairs[j, 0], pairs[j, 1]
        cj, sj = load(c, j), load(s, j)
        # p < q and u < v, but either pair may come first: every element is addressed above the diagonal
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
        # all rotations of a round first: its pairs are disjoint, so none changes the elements that another is chosen from
        _choose(a, c, s, pairs[turn], width, active)
        for i in range(width // 2):
            _turn(a, c, s, pairs[turn], width, i)
            # eigenvectors are rows of w: a rotation runs along contiguous memory
            if vectors:
                p, q = pairs[turn, i, 0] * width, pairs[turn, i, 1] * width
                ci, si = load(c, i), load(s, i)
                for k in range(width):
                    x, y = load(w, p + k), load(w, q + k)
                    store(w, p + k, ci * x - si * y)
                    store(w, q + k, si * x + ci * y)


@njit
def _diagonalise(a: Array, w: Array, c: Array, s: Array, pairs: Array, width: int, vectors: bool) -> None:
    """Bring the eigenvalues to the diagonal of a and the eigenvectors to the rows of w."""
    zero, one = fill(0.0), fill(1.0)
    if vectors:
        for i in range(width):
            for k in range(width):
                store(w, i * width + k, one if i == k else zero)
    # rotations preserve the norm, so the threshold relative to it is known before the first
    diagonal, off = _norms(a, width)
    enough = (diagonal + off) * fill(CONVERGED)
    # an extra sweep for one matrix runs for all eight, but the rotations of inactive ones change nothing
    for _ in range(SWEEPS):
        active = off - enough
        if not any_above(active, zero):
            break
        _sweep(a, w, c, s, pairs, width, active, vectors)
        _, off = _norms(a, width)


@njit
def _rank(a: Array, rank: Array, width: int, given: int) -> None:
    """Compute the rank of every eigenvalue in ascending order; equal ones keep their order."""
    zero, one = fill(0.0), fill(1.0)
    for i in range(given):
        x = load(a, i * width + i)
        place = zero
        for j in range(given):
            y = load(a, j * width + j)
            # counted, not sorted: a separate order for each lane without branches, with D^2 comparisons beside D^3 work
            place = place + where_above(x, y, one, zero)
            if j < i:
                place = place + where_above(x, y, zero, where_above(y, x, zero, one))
        store(rank, i, place)


@njit
def _scatter(a: Array, w: Array, rank: Array, scale: Array, values: Array, vectors: Array, first: int, width: int) -> None:
    """Write the results of eight matrices to their places in the batch; no vectors if ``vectors`` has size zero."""
    count, given = values.shape
    for lane in range(min(WIDTH, count - first)):
        poison = 0.0 * scale[lane]  # NaN for a non-finite matrix
        for i in range(given):
            place = int(rank[i * WIDTH + lane])
            values[first + lane, place] = a[(i * width + i) * WIDTH + lane] * scale[lane]
            if vectors.size:
                for k in range(given):
                    vectors[first + lane, place, k] = w[(i * width + k) * WIDTH + lane] + poison


@njit
def _even(given: int) -> int:
    """Return the width solved: an odd matrix is padded with a zero row and column, which no rotation changes."""
    return given + given % 2


@njit
def _memory(given: int, vectors: Array) -> tuple[Array, ...]:
    """Allocate the scratch of one thread: a, w, c, s, rank, rows, top, bad, scale."""
    width = _even(given)
    turned = width * width if vectors.size else 1  # unused without vectors
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
    """Solve eight matrices, from ``first``, whose upper triangles are in memory."""
    a, w, c, s, rank, _, top, bad, scale = memory
    given = values.shape[1]
    width = _even(given)
    # ridge before scaling, since it is relative to the given matrix; not on the padding row of an odd one
    for i in range(given):
        store(a, i * width + i, load(a, i * width + i) + fill(ridge))
    scale_down(a, top, bad, scale, width)
    _diagonalise(a, w, c, s, pairs, width, vectors.size > 0)
    _rank(a, rank, width, given)
    _scatter(a, w, rank, scale, values, vectors, first, width)


@kernel
def solve_symmetric(source: Array, ridge: float, pairs: Array, values: Array, vectors: Array, start: int, stop: int) -> None:
    """Solve blocks ``start`` to ``stop`` of eight matrices each.

    Args:
        source: Matrices (n, D, D) float64, contiguous, of which the lower triangles are read.
        ridge: Number added to every diagonal.
        pairs: Result of ``schedule(D)``.
        values: Output (n, D) float64, eigenvalues in ascending order.
        vectors: Output (n, D, D) float64, eigenvectors as *rows*; of size zero to omit them.
        start: First block.
        stop: Block after the last one.
    """
    memory = _memory(source.shape[2], vectors)
    for block in range(start, stop):
        gather_symmetric(source, block * WIDTH, memory[0], _even(source.shape[2]))
        _solve(memory, ridge, pairs, values, vectors, block * WIDTH)


@kernel
def solve_gram(source: Array, ridge: float, pairs: Array, values: Array, vectors: Array, start: int, stop: int) -> None:
    """Solve blocks as :func:`solve_symmetric` does, for M'M + ridge I of ``source`` (n, V, D), float32 or float64."""
    memory = _memory(source.shape[2], vectors)
    for block in range(start, stop):
        gather_gram(source, block * WIDTH, memory[5], memory[0], _even(source.shape[2]))
        _solve(memory, ridge, pairs, values, vectors, block * WIDTH)
