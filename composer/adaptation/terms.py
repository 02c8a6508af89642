"""Terms of a hold: reconstruction, Cayley-Menger volumes and anchor, on images of the cell's own domain.

Letters: B images, N patches, V rows, D width, n matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from batteries.data.sources import Source, seed_of
from batteries.geometry import simplex_cv
from batteries.geometry.simplex_cv import Degenerate
from batteries.model.patch_svae import PatchSVAE
from composer.adaptation.hold import Hold

OWN, PATCH, SIMPLICES = 11, 12, 13  # purposes of seeds
DRAWS = 50  # simplices of each matrix
MATRICES = 64  # matrices of a step
PATCHES, IMAGES = 2048, 16  # most patches and images of a step


@dataclass(frozen=True)
class Terms:
    """Terms of one adaptation.

    Attributes:
        hold: Weights.
        source: Images of the own domain.
        size: Side of these images.
        parent: Model before the adaptation, for the anchor.
        explained: Variance that the cell explained before, beyond predicting the mean.
        axial_cv: Axial CV before; None where it is degenerate, and the term then left out.
        seed: Seed of images, patches and simplices.
    """

    hold: Hold
    source: Source
    size: int
    parent: PatchSVAE
    explained: float
    axial_cv: float | None
    seed: int

    @property
    def any(self) -> bool:
        """True if a term has a weight."""
        return bool(self.hold.reconstruction or self.hold.anchor or (self.hold.cv and self.axial_cv is not None))

    def loss(self, model: PatchSVAE, step: int) -> Tensor:
        """Compute the weighted sum of the terms, differentiable in the model's weights."""
        rows, columns = model.spec.grid(self.size, self.size)
        count = max(1, min(IMAGES, PATCHES // (rows * columns)))
        images = self.source.batch(seed_of(self.seed, step, OWN), count, self.size)
        total = torch.zeros(())
        if self.hold.reconstruction:
            recon, M = model.reconstruction(images)
            total = total + self.hold.reconstruction * (recon - images).square().mean() / self.explained
        else:
            M = model.tokens(images).M
        if self.hold.cv and self.axial_cv is not None:
            total = total + self.hold.cv * self._volumes(M, self.axial_cv, step)
        if self.hold.anchor:
            with torch.no_grad():
                place = self.parent.tokens(images).M
            total = total + self.hold.anchor * (M - place).square().sum(dim=-1).mean()
        return total

    def _volumes(self, M: Tensor, before: float, step: int) -> Tensor:
        """Compute (axial CV / axial CV before - 1)^2 on some of the matrices M (B, N, V, D); 0 for degenerate rows."""
        matrices = M.flatten(0, 1)
        generator = Generator().manual_seed(seed_of(self.seed, step, PATCH))
        chosen = torch.randperm(len(matrices), generator=generator)[:MATRICES]
        seed = seed_of(self.seed, step, SIMPLICES)
        found = simplex_cv.differentiable_cv(matrices[chosen], draws=DRAWS, seed=seed, axial=True)
        if isinstance(found, Degenerate):
            return M.new_zeros(())
        return (found.mean() / before - 1).square().to(M.dtype)
