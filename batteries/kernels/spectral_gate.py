"""Kernels of the gate on the modes of many small matrices, forward and backward, for :mod:`batteries.model.spectral`.

Importing this module imports numba; only :mod:`batteries.model.spectral` does so, on the first call that can use it. A product
of two 4x4 matrices is a few dozen operations, less than torch's overhead per matrix of a batch; here all operations on one M
are done while it is in the processor's first cache. The width is a constant of the compiled code, so that inner loops unroll.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from batteries.kernels.kernel_cache import kernel

Array = np.ndarray
CONTRACT = {"contract"}  # a product and a sum may become one multiply-add

# An inlined part of a kernel: D is a constant in it as in the kernel, and rounding is the same.
inlined: Any = njit(fastmath=CONTRACT, forceinline=True)


class GateKernels(NamedTuple):
    """Kernels of one width, forward and backward; see :mod:`batteries.model.spectral` for the formulas."""

    gate: Callable[..., None]
    pull: Callable[..., None]


@njit
def _turned(X: Array, W: Array, into: Array, half: Array) -> None:
    """Compute W' X W for a small square X."""
    D = len(X)
    for i in range(D):
        for j in range(D):
            half[i, j] = 0.0
            for k in range(D):
                half[i, j] += X[i, k] * W[k, j]
    for i in range(D):
        for j in range(D):
            into[i, j] = 0.0
            for k in range(D):
                into[i, j] += W[k, i] * half[k, j]


@njit
def _sandwich(W: Array, weights: Array, into: Array) -> None:
    """Compute W diag(weights) W' in the precision of ``into``."""
    D = len(W)
    for i in range(D):
        for j in range(D):
            total = 0.0
            for k in range(D):
                total += W[i, k] * weights[k] * W[j, k]
            into[i, j] = total


@inlined
def _add_products(M: Array, grad: Array, n: int, gram: Array, inner: Array, D: int) -> None:
    """Compute M'M and M'grad of matrix n."""
    gram[:] = 0.0
    inner[:] = 0.0
    for v in range(M.shape[1]):
        for i in range(D):
            x = np.float64(M[n, v, i])
            for j in range(D):
                gram[i, j] += x * M[n, v, j]
                inner[i, j] += x * grad[n, v, j]


@inlined
def _eigenvalues(turned: Array, values: Array, D: int) -> float:
    """Copy the diagonal of W' M'M W and return its maximum. Recomputing is cheaper than keeping the solver's eigenvalues."""
    top = turned[0, 0]
    for k in range(D):
        values[k] = turned[k, k]
        top = max(top, values[k])
    return top


@inlined
def _weigh(turned: Array, values: Array, bound: float, weights: Array, on_weights: Array, n: int, inner: Array, D: int) -> None:
    """Compute the gradient on the weights of matrix n, and twice the symmetric part of W' M'grad W times slope over gap."""
    for i in range(D):
        on_weights[n, i] = turned[i, i]
        for j in range(D):
            gap = values[j] - values[i]
            slope = (weights[n, j] - weights[n, i]) * gap / (gap * gap + bound)
            inner[i, j] = (turned[i, j] + turned[j, i]) * slope


@inlined
def _multiply(M: Array, A: Array, n: int, out: Array, D: int) -> None:
    """Compute M A of matrix n."""
    for v in range(M.shape[1]):
        for j in range(D):
            x = M[n, v, 0] * A[0, j]  # starting without a zero saves a step in so short a sum
            for k in range(1, D):
                x += M[n, v, k] * A[k, j]
            out[n, v, j] = x


@inlined
def _multiply_both(grad: Array, A: Array, M: Array, B: Array, n: int, out: Array, D: int) -> None:
    """Compute grad A + M B of matrix n."""
    for v in range(M.shape[1]):
        for j in range(D):
            x = grad[n, v, 0] * A[0, j] + M[n, v, 0] * B[0, j]
            for k in range(1, D):
                x += grad[n, v, k] * A[k, j] + M[n, v, k] * B[k, j]
            out[n, v, j] = x


def kernels(D: int) -> GateKernels:
    """Return the kernels for matrices of width D, compiled on their first call."""

    def gate(M: Array, W: Array, weights: Array, out: Array, start: int, stop: int) -> None:
        """Compute ``out = M W diag(weights) W'`` for matrices ``start`` to ``stop``.

        Args:
            M: Matrices (n, V, D).
            W: Eigenvectors (n, D, D) float64, as columns.
            weights: Weights of the modes (n, D).
            out: Output (n, V, D).
            start: First matrix.
            stop: Matrix after the last one.
        """
        A = np.empty((D, D), dtype=M.dtype)
        for n in range(start, stop):
            _sandwich(W[n], weights[n], A)
            _multiply(M, A, n, out, D)

    def pull(
        M: Array, W: Array, weights: Array, grad: Array, floors: Any, on_M: Array, on_weights: Array, start: int, stop: int
    ) -> None:
        """Compute the gradients of :func:`gate`, through the eigenvectors W too.

        Args:
            M: Matrices (n, V, D).
            W: Eigenvectors (n, D, D) of M'M, float64, as columns.
            weights: Weights of the modes (n, D).
            grad: Gradient on the output (n, V, D).
            floors: Smallest gap between eigenvalues, relative to the largest one, and absolute.
            on_M: Gradient on M (n, V, D), an output.
            on_weights: Gradient on the weights (n, D), an output.
            start: First matrix.
            stop: Matrix after the last one.
        """
        gram, inner, half = np.empty((D, D)), np.empty((D, D)), np.empty((D, D))
        turned, values = np.empty((D, D)), np.empty(D)
        A, B = np.empty((D, D), dtype=M.dtype), np.empty((D, D), dtype=M.dtype)
        for n in range(start, stop):
            _add_products(M, grad, n, gram, inner, D)
            _turned(gram, W[n], turned, half)
            top = _eigenvalues(turned, values, D)
            bound = (floors[0] * top + floors[1]) ** 2
            _turned(inner, W[n], turned, half)
            _weigh(turned, values, bound, weights, on_weights, n, inner, D)
            _turned(inner, W[n].T, turned, half)
            _sandwich(W[n], weights[n], A)
            for i in range(D):  # in the precision of M, like A
                for j in range(D):
                    B[i, j] = turned[i, j]
            _multiply_both(grad, A, M, B, n, on_M, D)

    return GateKernels(kernel(gate, fastmath=CONTRACT), kernel(pull, fastmath=CONTRACT))
