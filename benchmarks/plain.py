"""Reference implementation of a cell in plain autograd, for the benchmarks of training and encoding.

U, S and V' come from torch.linalg.eigh with its own backward pass, the boundary smoothing is two convolutions, and the rest is
the model's own.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from batteries import CellSpec, PatchSVAE, untrained
from batteries.model.spectral import EIGENVALUE_FLOOR, RIDGE, SINGULAR_FLOOR


class PlainSVAE(PatchSVAE):
    """PatchSVAE with the spectral stage and boundary smoothing left to autograd."""

    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, C, height, width)."""
        M, grid = self._matrices(images)
        gated = self._gated(M) if self.spec.readout == "svd" else self.bottleneck.gated(M, self).matrices()
        h = self.act(self.dec_in(rearrange(gated, "B N V D -> B N (V D)")))
        for block in self.dec_blocks:
            h = h + block(h)
        p = self.spec.patch_size
        y = rearrange(self.dec_out(h), "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=grid[0], gw=grid[1], p=p, q=p)
        return y + self.boundary_smooth.net(y)

    def _gated(self, M: Tensor) -> Tensor:
        """Compute U diag(omega) V'."""
        wide = M.double()
        gram = wide.mT @ wide + RIDGE * torch.eye(self.spec.D, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(gram)
        S = values.flip(-1).clamp_min(EIGENVALUE_FLOOR).sqrt()
        W = vectors.flip(-1)
        U = wide @ W / S.clamp_min(SINGULAR_FLOOR)[..., None, :]
        omega = S.to(M.dtype) * self.factors(S.to(M.dtype))
        return (U.to(M.dtype) * omega[..., None, :]) @ W.mT.to(M.dtype)


def plain(spec: CellSpec, seed: int) -> PlainSVAE:
    """Make a plain model with the weights of ``untrained(spec, seed)``."""
    model = PlainSVAE(spec)
    model.load_state_dict(untrained(spec, seed).state_dict())
    return model


def plain_step(model: PlainSVAE, optimiser: torch.optim.Optimizer, images: Tensor) -> float:
    """Take one training step as a plain loop would."""
    loss = (model.reconstruct(images) - images).square().mean()
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()
