"""Bottleneck of the sectors of one spec, and its inverse: linear maps around one GELU.

    x = rows of M, and the logarithms of their lengths before normalisation
    mu, log sigma = Linear(GELU(Linear(x)));   z = mu + sigma * eps
    rows = Linear(z), normalised;   magnitude = Linear(z), beside them;   the decoder receives magnitude * rows

Since GELU(a) - GELU(-a) = a, a layer of twice the width can start as an exact linear map: :meth:`Bottleneck.start`.
Legend: C sectors of a spec, B images, N patches of an image, V rows, D width, Z numbers of a code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from batteries import short_repr
from batteries.cell.spec import CellSpec
from batteries.engine.torch_settings import PINNED
from batteries.model import spectral
from composer.vae.sectors import Rows

SMALLEST, LARGEST = -7.0, 3.0  # log sigma, so that no width vanishes or overflows
FLOOR = 1e-3  # smallest variance of an axis that is scaled to 1, relative to the largest
SIGMA_START = 0.1  # width of a code at the start, where the codes of the start's images have variance 1


@dataclass(frozen=True, eq=False)
class Code:
    """Normal law of the code of each patch: mean and log standard deviation (C, B, N, Z).

    >>> import torch
    >>> from composer.vae import Code
    >>> code = Code(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
    >>> code.divergence().tolist()
    [[[[0.0, 0.0]]]]
    """

    mu: Tensor
    log_sigma: Tensor

    __repr__ = short_repr.fields

    def draw(self, generator: Generator | None) -> Tensor:
        """Draw z = mu + sigma * eps, differentiable in both."""
        eps = torch.randn(self.mu.shape, generator=generator, **PINNED).to(self.mu)
        return self.mu + self.log_sigma.exp() * eps

    def divergence(self) -> Tensor:
        """Compute the Kullback-Leibler divergence from N(0, 1) of each number (C, B, N, Z), in nats."""
        return (self.mu.square() + (2 * self.log_sigma).exp() - 1) / 2 - self.log_sigma


class StackedLinear(nn.Module):
    """Linear maps (C, n, inputs) -> (C, n, outputs), one per sector, with normal weights of variance 1 / inputs at the start.

    Args:
        count: Sectors C.
        inputs: Numbers read.
        outputs: Numbers returned.
        generator: Source of the weights.
    """

    def __init__(self, count: int, inputs: int, outputs: int, generator: Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(bound * torch.randn(count, outputs, inputs, generator=generator, **PINNED))
        self.bias = nn.Parameter(torch.zeros(count, outputs, **PINNED))

    def forward(self, x: Tensor) -> Tensor:
        """Map (C, n, inputs) to (C, n, outputs)."""
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class Bottleneck(nn.Module):
    """Bottlenecks of the sectors of one spec.

    Args:
        spec: Spec of the sectors.
        count: Sectors C.
        width: Numbers Z of a code.
        generator: Source of the weights.
    """

    def __init__(self, spec: CellSpec, count: int, width: int, generator: Generator) -> None:
        super().__init__()
        self.spec, self.width = spec, width
        self.narrow = StackedLinear(count, spec.V * (spec.D + 1), 2 * width, generator)
        self.mu = StackedLinear(count, 2 * width, width, generator)
        self.log_sigma = StackedLinear(count, 2 * width, width, generator)
        self.rows = StackedLinear(count, width, spec.V * spec.D, generator)
        self.magnitude = StackedLinear(count, width, spec.V, generator)
        with torch.no_grad():
            self.log_sigma.weight.zero_()
            self.log_sigma.bias.fill_(math.log(SIGMA_START))
            self.magnitude.weight.zero_()
            self.magnitude.bias.fill_(1.0)

    def __repr__(self) -> str:
        return f"Bottleneck({len(self.mu.bias)} of {self.spec.V} x {self.spec.D} to {self.width})"

    def code(self, given: Rows) -> Code:
        """Compute the law of the code of rows."""
        x = torch.cat([given.M.flatten(3), given.lengths], dim=-1)
        hidden = F.gelu(self.narrow(rearrange(x, "C B N x -> C (B N) x")))
        mu, log_sigma = (part.unflatten(1, given.M.shape[1:3]) for part in (self.mu(hidden), self.log_sigma(hidden)))
        return Code(mu, log_sigma.clamp(SMALLEST, LARGEST))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Compute rows of unit length (C, B, N, V, D) and their magnitudes (C, B, N, V, 1) of codes (C, B, N, Z)."""
        flat = rearrange(z, "C B N Z -> C (B N) Z")
        raw = rearrange(self.rows(flat), "C (B N) (V D) -> C B N V D", N=z.shape[2], D=self.spec.D)
        magnitude = self.magnitude(flat).unflatten(1, z.shape[1:3])
        return spectral.unit_rows(raw), magnitude[..., None]

    @torch.no_grad()
    def start(self, place: int, matrices: Tensor) -> None:
        """Start a sector on the principal axes of matrices (n, V, D), whose codes then have variance 1.

        The hidden layer computes every axis and its negative, so that the map from rows to mu is linear at the start.

        Args:
            place: Index of the sector.
            matrices: Matrices of its own images.
        """
        x = matrices.flatten(1).double()
        mean = x.mean(dim=0)
        values, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / max(1, len(x) - 1))
        count = min(self.width, len(values))
        values, axes = values.flip(0)[:count], axes.flip(1)[:, :count]
        values = values.clamp_min(FLOOR * values[0] + FLOOR**4)
        read, back = (axes / values.sqrt()).T, axes * values.sqrt()  # (count, V D), (V D, count)
        self.narrow.weight[place].zero_()
        self.narrow.bias[place].zero_()
        self.narrow.weight[place, :count, : len(mean)] = read.float()
        self.narrow.bias[place, :count] = -(read @ mean).float()
        self.narrow.weight[place, self.width : self.width + count] = -self.narrow.weight[place, :count]
        self.narrow.bias[place, self.width : self.width + count] = -self.narrow.bias[place, :count]
        one = torch.eye(self.width, **PINNED)
        self.mu.weight[place] = torch.cat([one, -one], dim=1)
        self.mu.bias[place].zero_()
        scale = 1 / (back.square().mean() * self.width).sqrt()  # lengths are normalised away; a step turns long rows little
        self.rows.weight[place].zero_()
        self.rows.weight[place, :, :count] = (scale * back).float()
        self.rows.bias[place] = (scale * mean).float()
