"""Eigenvalues and eigenvectors of many small symmetric matrices: the batched solver of :mod:`batteries.model.spectral`.

On the CPU, float64 matrices of up to 32x32 go to the kernels of :mod:`batteries.kernels.jacobi`, and of
:mod:`batteries.kernels.tridiagonal` for the eigenvalues alone of all but the narrowest, if numba is installed (the ``fast``
extra): several times as fast as batched LAPACK. Everything else, CUDA included, goes to ``torch.linalg``. The results agree to
rounding, not to the bit. The kernels' depend on the matrix alone, not on its place in the batch nor on threads; so do LAPACK's
for widths whose matrices are whole cache lines, such as 4, 8 and 16, while others may be rounded by their place in memory.

Autograd does not see these functions: :mod:`batteries.model.spectral` has its own backward pass. A matrix with a non-finite
element gives NaN among its eigenvalues, undefined vectors and never an error; the others in the batch are not affected. One
exception: ``torch.linalg.eigvalsh``, where it is used, reads a NaN that is on the diagonal alone, as in no M'M, as zero.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from batteries.kernels.jit import Kernels, share

__all__ = ["eigh", "eigvalsh", "gram_eigh", "gram_eigvalsh"]

NARROW, WIDEST = 16, 32  # above WIDEST, LAPACK's tridiagonal route does less work than Jacobi
FEW, MANY = 16, 256  # smallest batch for the kernels: up to NARROW or without vectors; wider with vectors
ALONE = 9  # width from which eigenvalues alone use the tridiagonal kernels; below it they equal Jacobi's to the bit
NANOSECONDS = 10  # time of a block of eight matrices, times D**2 (D + 8)
NANOSECONDS_ALONE = 60  # time of sixteen matrices without vectors, times D**2
_NoAnswer = torch.linalg.LinAlgError  # type: ignore[attr-defined]  # documented, and missing from torch's stubs


def eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Compute eigenvalues and eigenvectors of symmetric matrices, reading their lower triangles.

    Args:
        gram: Symmetric matrices (..., D, D), float64 for the fast route.

    Returns:
        Eigenvalues (..., D), ascending, and eigenvectors (..., D, D) as columns in that order.
    """
    kernel = _kernel(_symmetric, _symmetric, gram)
    return _solve(kernel, gram, 0.0, vectors=True) if kernel else _lapack(gram)


def eigvalsh(gram: Tensor) -> Tensor:
    """Compute the eigenvalues (..., D) alone, ascending, of symmetric matrices (..., D, D)."""
    kernel = _kernel(_symmetric, _symmetric_values, gram)
    return _values(kernel, gram, 0.0) if kernel else _lapack_values(gram)


def gram_eigh(M: Tensor, ridge: float = 0.0) -> tuple[Tensor, Tensor]:
    """Compute ``eigh(M'M + ridge I)`` in float64, without a float64 copy of M on the fast route.

    Args:
        M: Matrices (..., V, D), float32 or float64.
        ridge: Number added to the diagonal.

    Returns:
        Eigenvalues (..., D), ascending, and eigenvectors (..., D, D) as columns, in float64.
    """
    kernel = _kernel(_gram, _gram, M)
    return _solve(kernel, M, ridge, vectors=True) if kernel else _lapack(_products(M, ridge))


def gram_eigvalsh(M: Tensor, ridge: float = 0.0) -> Tensor:
    """Compute the eigenvalues of :func:`gram_eigh` alone."""
    kernel = _kernel(_gram, _gram_values, M)
    return _values(kernel, M, ridge) if kernel else _lapack_values(_products(M, ridge))


# ---- the fast route --------------------------------------------------------------------------------------------------


def _kernel(narrow: Kernels, wide: Kernels, source: Tensor) -> Any:
    """Return the compiled kernel for this input, ``narrow`` below width ALONE, or None to use torch's own routine."""
    shape = source.shape
    width = shape[-1]
    kernels, each = narrow if width < ALONE else wide, shape[-2] * width
    if not kernels.serves(source, each=each) or not 2 <= width <= WIDEST or not source.numel():
        return None
    if width > NARROW and kernels in (_symmetric, _gram) and source.numel() < MANY * each:
        return None
    return kernels(source.dtype)


def _try(kernel: Any, dtype: torch.dtype) -> None:
    _solve(kernel, torch.eye(2, dtype=dtype, device="cpu")[None], 0.0, vectors=True)


def _try_alone(kernel: Any, dtype: torch.dtype) -> None:
    _solve_alone(kernel, torch.eye(2, dtype=dtype, device="cpu")[None], 0.0)


DOUBLE, ANY = (
    (torch.float64,),
    (torch.float32, torch.float64),
)  # dtypes of symmetric matrices, and of those multiplied first
_symmetric = Kernels("batteries.kernels.jacobi", lambda module, dtype: module.solve_symmetric, _try, dtypes=DOUBLE, fewest=FEW)
_gram = Kernels("batteries.kernels.jacobi", lambda module, dtype: module.solve_gram, _try, dtypes=ANY, fewest=FEW)
_symmetric_values = Kernels(
    "batteries.kernels.tridiagonal", lambda module, dtype: module.symmetric_values, _try_alone, dtypes=DOUBLE, fewest=FEW
)
_gram_values = Kernels(
    "batteries.kernels.tridiagonal", lambda module, dtype: module.gram_values, _try_alone, dtypes=ANY, fewest=FEW
)


@lru_cache
def _pairs(width: int) -> Any:
    return _gram.module.schedule(width)


def _solve(kernel: Any, source: Tensor, ridge: float, *, vectors: bool) -> tuple[Tensor, Tensor]:
    """Run a kernel of :mod:`batteries.kernels.jacobi` on all blocks of a batch."""
    *batch, rows, width = source.shape
    flat = source.detach().reshape(-1, rows, width).contiguous()
    found = torch.empty(len(flat), width, dtype=torch.float64, device="cpu")
    frame = torch.empty(len(flat) if vectors else 0, width, width, dtype=torch.float64, device="cpu")
    run = partial(kernel, flat.numpy(), ridge, _pairs(width), found.numpy(), frame.numpy())
    share(run, -(-len(flat) // _gram.module.WIDTH), NANOSECONDS * width**2 * (width + 8))
    return found.reshape(*batch, width), frame.reshape(*batch, width, width).mT if vectors else frame


def _values(kernel: Any, source: Tensor, ridge: float) -> Tensor:
    """Compute eigenvalues alone with the kernel for this width."""
    if source.shape[-1] < ALONE:
        return _solve(kernel, source, ridge, vectors=False)[0]
    return _solve_alone(kernel, source, ridge)


def _solve_alone(kernel: Any, source: Tensor, ridge: float) -> Tensor:
    """Run a kernel of :mod:`batteries.kernels.tridiagonal` on a batch."""
    *batch, rows, width = source.shape
    flat = source.detach().reshape(-1, rows, width).contiguous()
    found = torch.empty(len(flat), width, dtype=torch.float64, device="cpu")
    run = partial(kernel, flat.numpy(), ridge, found.numpy())
    share(run, -(-len(flat) // _gram_values.module.TOGETHER), NANOSECONDS_ALONE * width**2)
    return found.reshape(*batch, width)


# ---- torch's own -----------------------------------------------------------------------------------------------------


def _products(M: Tensor, ridge: float) -> Tensor:
    wide = M.detach().double()
    gram = wide.mT @ wide
    gram.diagonal(dim1=-2, dim2=-1).add_(ridge)
    return gram


def _lapack(gram: Tensor) -> tuple[Tensor, Tensor]:
    gram = gram.detach() if gram.requires_grad else gram  # for one matrix a detach costs ten times the test
    try:
        return torch.linalg.eigh(gram)
    except _NoAnswer:
        finite, poison = _finite(gram)
        values, vectors = torch.linalg.eigh(finite)
        return values + poison[..., None], vectors + poison[..., None, None]


def _lapack_values(gram: Tensor) -> Tensor:
    gram = gram.detach() if gram.requires_grad else gram
    try:
        return torch.linalg.eigvalsh(gram)
    except _NoAnswer:
        finite, poison = _finite(gram)
        return torch.linalg.eigvalsh(finite) + poison[..., None]


def _finite(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Set non-finite matrices to zero; return the matrices and a term to add to the result, NaN for those and 0 elsewhere."""
    finite = gram.tril().isfinite().all(dim=-1).all(dim=-1)
    poison = torch.where(finite, 0.0, math.nan).to(gram.dtype)
    return torch.where(finite[..., None, None], gram, 0.0), poison
