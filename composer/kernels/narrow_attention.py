"""Kernels for attention with narrow heads, used by :mod:`composer.container.attention`.

Importing this module imports numba; only :mod:`composer.container.attention` does, on the first call that can use it.

With keys of two numbers, a score costs less than its exponential, so the scores are computed twice, for their maximum and for
the sums, and never stored. A vector is a segment of queries, and keys are read one at a time. Nothing is summed across lanes or
threads: the result for a head depends only on that head, bit by bit.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from batteries.kernels.exponential import exp2
from batteries.kernels.float32_vectors import WIDTH, fill, load_several
from batteries.kernels.kernel_cache import kernel
from batteries.kernels.vectors import Array, Vector, add_dot, add_products, njit, store, store_several, where_above

__all__ = ["kernels"]

LOG2_E = 1.4426950408889634  # exponentials are computed as powers of two

Strided = tuple[Array, tuple[int, int, int]]  # memory, and strides of group, head and token; a token is contiguous
Head = tuple[Array, int, int]  # memory, start of the first token, and stride


@njit
def _head(source: Strided, n: int, heads: int) -> Head:
    memory, (group, head, token) = source
    return memory, n // heads * group + n % heads * head, token


@njit
def _turn(source: Head, scale: float, queries: Array, shape: tuple[int, int, int]) -> None:
    """Transpose a head's queries to components, scaled."""
    memory, first, token = source
    tokens, d, stride = shape
    for n in range(tokens):
        for i in range(d):
            queries[i * stride + n] = memory[first + n * token + i] * scale


@njit
def _largest(query: Any, keys: Head, tokens: int) -> Vector:
    """Compute the largest score of each query, ignoring NaN."""
    memory, first, token = keys
    zero = fill(0.0)
    largest = add_dot(zero, query, memory, first)
    for n in range(1, tokens):
        score = add_dot(zero, query, memory, first + n * token)
        largest = where_above(score, largest, score, largest)
    return largest


@njit
def _mix(query: Any, keys: Head, values: Head, tokens: int, sums: Any) -> tuple[Vector, Any]:
    """Sum the weights of each query, and add the weighted values to ``sums``."""
    memory, key, token = keys
    given, value, step = values
    total = fill(0.0)
    # scores start from minus the largest, so that no exponential overflows and each is a chain of multiply-adds
    shift = total - _largest(query, keys, tokens)
    for _ in range(tokens):
        weight = exp2(add_dot(shift, query, memory, key))
        total = total + weight
        sums = add_products(sums, weight, given, value)
        key, value = key + token, value + step
    return total, sums


@njit
def _finish(mixed: Array, totals: Array, out: Array, n: int, stride: int) -> None:
    _, tokens, heads, d = out.shape
    # one division per query, not per number; queries beyond the tokens are not copied
    for token in range(tokens):
        share = np.float32(1.0) / totals[token]
        for i in range(d):
            out[n // heads, token, n % heads, i] = mixed[i * stride + token] * share


def kernels(d: int) -> Callable[..., None]:
    """Build the kernel for heads of width d; it is compiled on its first call."""

    def attend(q: Strided, k: Strided, v: Strided, out: Array, start: int, stop: int) -> None:
        """Compute ``out = softmax(q k' / sqrt(d)) v`` for heads ``start`` to ``stop``, group by group.

        Args:
            q: Queries.
            k: Keys.
            v: Values.
            out: Mixed values (G, N, heads, d), float32, contiguous, written.
            start: First head.
            stop: Head after the last one.
        """
        _, tokens, heads, _ = out.shape
        stride = -(-tokens // WIDTH) * WIDTH
        queries, mixed = np.zeros(d * stride, dtype=np.float32), np.empty(d * stride, dtype=np.float32)
        totals, nothing = np.empty(stride, dtype=np.float32), np.zeros(WIDTH, dtype=np.float32)
        scale = np.float32(LOG2_E / math.sqrt(d))
        for n in range(start, stop):
            keys, values = _head(k, n, heads), _head(v, n, heads)
            _turn(_head(q, n, heads), scale, queries, (tokens, d, stride))
            for x in range(0, tokens, WIDTH):
                query = load_several(queries, x, stride, d)
                total, sums = _mix(query, keys, values, tokens, load_several(nothing, 0, 0, d))
                store(totals, x, total)
                store_several(mixed, x, stride, sums)
            _finish(mixed, totals, out, n, stride)

    return kernel(attend)
