"""Muon with one orthogonalisation for all matrices of a size, in float32: torch's own takes them one by one in bfloat16.

Letters: G matrix of an update, r its shorter side, A = G G' its Gram matrix (r, r).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Muon
from torch.optim.optimizer import ParamsT


class BatchedMuon(Muon):
    """torch's Muon without weight decay; state, hyper-parameters and size of the updates are torch's own defaults.

    Args:
        matrices: Parameters of two dimensions, all on one device.
        lr: Learning rate.
    """

    def __init__(self, matrices: ParamsT, lr: float) -> None:
        super().__init__(matrices, lr=lr, weight_decay=0.0)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch's is untyped
        """Update every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            steps = [self._momentum(matrix, group["momentum"], nesterov=group["nesterov"]) for matrix in matrices]
            steps = orthogonal(steps, group["ns_coefficients"], group["ns_steps"], group["eps"])
            for matrix, step in zip(matrices, steps, strict=True):
                matrix.add_(step, alpha=-group["lr"] * max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5)
        return loss

    def _momentum(self, matrix: Tensor, momentum: float, *, nesterov: bool) -> Tensor:
        """Average a matrix's gradient into its momentum, and return the direction to orthogonalise."""
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average: Tensor = state["momentum_buffer"]
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum) if nesterov else average


def orthogonal(matrices: Sequence[Tensor], coefficients: Sequence[float], steps: int, eps: float) -> list[Tensor]:
    """Push the singular values of matrices towards 1 by the quintic Newton-Schulz iteration.

    An iteration multiplies G by P = a + b A + c A^2 from the left. P commutes with A, so that the next A is P A P: all products
    but the first and the last are of r x r matrices, however long the other side.

    Args:
        matrices: Matrices (m, n) of any sizes.
        coefficients: Coefficients a, b, c of the polynomial.
        steps: Number of iterations.
        eps: Least norm to divide by: a zero matrix stays zero.

    Returns:
        Matrices of the same sizes, in the same order.
    """
    wide = [matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]  # (r, n)
    scaled = [matrix / matrix.norm().clamp_min(eps) for matrix in wide]
    sizes: dict[int, list[int]] = defaultdict(list)
    for index, matrix in enumerate(scaled):
        sizes[len(matrix)].append(index)
    found = list(scaled)
    for members in sizes.values():
        grams = torch.stack([scaled[index] @ scaled[index].mT for index in members])
        for index, factor in zip(members, _factors(grams, coefficients, steps), strict=True):
            found[index] = factor @ scaled[index]
    return [one.mT if matrix.shape[0] > matrix.shape[1] else one for one, matrix in zip(found, matrices, strict=True)]


def _factors(A: Tensor, coefficients: Sequence[float], steps: int) -> Tensor:
    """Return the products (B, r, r) of all polynomials of an iteration, from the Gram matrices (B, r, r)."""
    product = P = _polynomial(A, coefficients)
    for _ in range(steps - 1):
        A = P @ A @ P
        P = _polynomial(A, coefficients)
        product = P @ product
    return product


def _polynomial(A: Tensor, coefficients: Sequence[float]) -> Tensor:
    a, b, c = coefficients
    P = torch.baddbmm(A, A, A, beta=b, alpha=c)
    P.diagonal(dim1=1, dim2=2).add_(a)
    return P
