"""Loss of a training step and its gradient, a few images at a time on separate threads.

torch would split every operator among its threads, which wait for each other by spinning: beside other work on the same cores a
step took several times as long as on one thread. Pieces of a batch need no synchronisation. The split depends on the images
alone, and each piece has one thread of torch's, so no bit of a step depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import torch
from torch import Tensor

from batteries.engine import parallel
from batteries.model.patch_svae import PatchSVAE

PIECE_PIXELS = 16 * 64 * 64  # pixels of one piece; docs/decisions/0023-threads.md


def gradient(
    model: PatchSVAE,
    images: Tensor,
    term: Callable[[Tensor], Tensor] | None = None,
    target: Callable[[Tensor], Tensor] | None = None,
) -> tuple[float, list[Tensor], Tensor]:
    """Compute the mean squared error of reconstructions, and its gradient.

    Args:
        model: Model being trained.
        images: Images (B, channels, height, width).
        term: Differentiable function of M (1, V, D) of the first patch, whose gradient is added; it belongs to the first piece.
        target: Function from images to what their reconstructions are compared with; by default the images themselves.

    Returns:
        Error without the term, the gradient on each of the model's parameters in order, and M (1, V, D) of the first patch.
    """
    parameters = list(model.parameters())

    def share(part: Tensor, term: Callable[[Tensor], Tensor] | None) -> tuple[float, tuple[Tensor, ...], Tensor]:
        recon, M = model.reconstruction(part)
        loss = (recon - (part if target is None else target(part))).square().mean() * (len(part) / len(images))
        whole = loss if term is None else loss + term(M[:1, 0]).to(loss.dtype)
        return loss.item(), torch.autograd.grad(whole, parameters), M[:1, 0].detach().clone()

    parts = images.split(_piece(model, images))
    found = parallel.results([partial(share, part, None if index else term) for index, part in enumerate(parts)])
    losses, gradients, matrices = zip(*found, strict=True)
    return sum(losses), [reduce(torch.add, shares) for shares in zip(*gradients, strict=True)], matrices[0]


def _piece(model: PatchSVAE, images: Tensor) -> int:
    """Return the number of images of a piece; all on an accelerator, and if rows are normalised over the batch."""
    if images.device.type != "cpu" or model.spec.row_norm == "scale":
        return len(images)
    return max(1, PIECE_PIXELS // (images.shape[2] * images.shape[3]))
