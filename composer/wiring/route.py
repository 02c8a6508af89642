"""Routes: for each region of an image, one branch of several, by its error or by a small trainable router.

Legend: B images, G regions of the coarsest grid among the branches, K branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from batteries.engine import pytrees
from batteries.engine.torch_settings import PINNED, neutral
from batteries.io import short_repr
from composer import grids
from composer.container.outputs import refuse_more_axes
from composer.vocabulary import Grid

ROUTER_WIDTH = 32
FLOOR = 1e-8  # of an error, before its logarithm
FAILED = 1.0  # what a router reads in the place of an error that is not finite


class Branch(Protocol):
    """What can be routed to: the output of a cell or of a relay."""

    @property
    def recon(self) -> Tensor:
        """(B, channels, height, width)."""
        ...

    @property
    def patch_error(self) -> Tensor:
        """(B, N)."""
        ...

    @property
    def grid(self) -> Grid:
        """Rows and columns of its patches."""
        ...


@dataclass(frozen=True, eq=False)
class Routed:
    """What a route makes of a batch.

    Attributes:
        names: Of the branches.
        grid: Rows and columns of the regions.
        error: (B, G, K) mean squared error of every branch in every region.
        weights: (B, G, K) share of every branch: one of them 1, or, from a router that is being trained, between 0 and 1.
        recon: (B, channels, height, width) put together from the branches.
    """

    names: tuple[str, ...]
    grid: Grid
    error: Tensor
    weights: Tensor
    recon: Tensor

    __repr__ = short_repr.fields

    def to(self, dtype: torch.dtype) -> Routed:
        """The same in another dtype."""
        return replace(self, error=self.error.to(dtype), weights=self.weights.to(dtype), recon=self.recon.to(dtype))

    @property
    def choice(self) -> Tensor:
        """(B, G) place of the branch that has the most of a region."""
        return self.weights.argmax(dim=2)


def _routed(error: Tensor, weights: Tensor, recon: Tensor, names: tuple[str, ...], grid: Grid) -> Routed:
    refuse_more_axes(3, error, weights)
    return Routed(names, grid, error, weights, recon)


pytrees.register(Routed, lambda made: ([made.error, made.weights, made.recon], (made.names, made.grid)), _routed)


class Router(nn.Module):
    """Scores branches by their errors in a region, and by the region's mean and spread in every channel.

    Args:
        branches: K.
        channels: Of the images.
    """

    @neutral()
    def __init__(self, branches: int, channels: int) -> None:
        super().__init__()
        inputs = branches + 2 * channels
        self.layers = nn.Sequential(
            nn.Linear(inputs, ROUTER_WIDTH, **PINNED), nn.GELU(), nn.Linear(ROUTER_WIDTH, branches, **PINNED)
        )

    def forward(self, error: Tensor, images: Tensor, grid: Grid) -> Tensor:
        """Errors (B, G, K) and images (B, channels, height, width) to scores (B, G, K), in the dtype of the errors."""
        regions = rearrange(images, "B c (gh p) (gw q) -> B (gh gw) c (p q)", gh=grid[0], gw=grid[1])
        finite = torch.where(error.isfinite(), error, FAILED)
        seen = [finite.clamp_min(FLOOR).log(), regions.mean(dim=3), regions.std(dim=3, correction=0)]
        # a module that is cast takes its router along, and not the cells
        scores: Tensor = self.layers(torch.cat(seen, dim=2).to(next(self.parameters()).dtype))
        return scores.to(error)


def route(names: Sequence[str], branches: Sequence[Branch], images: Tensor, router: nn.Module | None) -> Routed:
    """One branch for each region. A branch whose error there is not finite has no share of it, unless all fail.

    Args:
        names: Of the branches.
        branches: Their outputs for the images; grids that divide one another.
        images: (B, channels, height, width).
        router: Scores them; left out, the least error has the region. While it is being trained (``router.training``), the
            reconstruction is the branches' mean by the softmax of its scores, so that its loss has a gradient; else the
            branch of the highest score.
    """
    grid = grids.coarsest([branch.grid for branch in branches])
    error = torch.cat([grids.pool(branch.patch_error[..., None], branch.grid, grid) for branch in branches], dim=2)
    failed = ~error.isfinite()
    failed = failed & ~failed.all(dim=2, keepdim=True)
    scores = (-error if router is None else router(error, images, grid)).masked_fill(failed, -torch.inf)
    recons = [branch.recon for branch in branches]
    if router is not None and router.training:
        weights = scores.softmax(dim=2)
        recon = _mixture(weights, failed, recons, grid)
    else:
        choice = scores.argmax(dim=2)
        # not one_hot, which looks at the values
        weights = (choice[..., None] == torch.arange(len(branches), device=choice.device)).to(error)
        recon = _patchwork(choice, recons, grid)
    return Routed(tuple(names), grid, error, weights, recon)


def _patchwork(choice: Tensor, recons: Sequence[Tensor], grid: Grid) -> Tensor:
    """Every region from the branch that was chosen, by its place (B, G)."""
    plane = _spread(choice, recons[0], grid)
    recon = recons[0]
    for place, branch in enumerate(recons[1:], start=1):
        recon = torch.where(plane == place, branch, recon)
    return recon


def _mixture(weights: Tensor, failed: Tensor, recons: Sequence[Tensor], grid: Grid) -> Tensor:
    """Every region as the branches' mean by their weights (B, G, K), without what failed there."""
    recon = torch.zeros_like(recons[0])
    for place, branch in enumerate(recons):
        there = branch.masked_fill(_spread(failed[..., place], branch, grid), 0)  # 0 times NaN is NaN
        recon = recon + _spread(weights[..., place], branch, grid) * there
    return recon


def _spread(share: Tensor, images: Tensor, grid: Grid) -> Tensor:
    """Share of every region (B, G) over its pixels: (B, 1, height, width)."""
    side = images.shape[2] // grid[0], images.shape[3] // grid[1]
    plane = rearrange(share, "B (gh gw) -> B 1 gh gw", gh=grid[0])
    return plane.repeat_interleave(side[0], dim=2).repeat_interleave(side[1], dim=3)
