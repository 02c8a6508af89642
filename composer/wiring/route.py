"""Routes: choice of one branch for each region of an image, by least error or by a small trainable router.

Legend: B images, G regions of the coarsest grid among the branches, K branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from batteries import short_repr
from batteries.engine import pytrees
from batteries.engine.torch_settings import PINNED, neutral
from composer import grids
from composer.container.outputs import refuse_more_axes
from composer.vocabulary import Grid

ROUTER_WIDTH = 32
FLOOR = 1e-8  # least error whose logarithm is taken
FAILED = 1.0  # input of a router in place of an error that is not finite


class Branch(Protocol):
    """Output of a branch of a route, which is a cell or a relay."""

    @property
    def recon(self) -> Tensor:
        """Reconstruction (B, channels, height, width)."""
        ...

    @property
    def patch_error(self) -> Tensor:
        """Mean squared error (B, N) of every patch."""
        ...

    @property
    def grid(self) -> Grid:
        """Rows and columns of the branch's patches."""
        ...


@dataclass(frozen=True, eq=False)
class Routed:
    """Output of a route for a batch.

    Attributes:
        names: Names of the branches.
        grid: Rows and columns of the regions.
        error: Mean squared error (B, G, K) of every branch in every region.
        weights: Share (B, G, K) of every branch: 1 for the chosen one and 0 for the others, or a softmax from a router in
            training.
        recon: Reconstruction (B, channels, height, width) assembled from the branches.
    """

    names: tuple[str, ...]
    grid: Grid
    error: Tensor
    weights: Tensor
    recon: Tensor

    __repr__ = short_repr.fields

    def to(self, dtype: torch.dtype) -> Routed:
        """Convert the tensors to another dtype."""
        return replace(self, error=self.error.to(dtype), weights=self.weights.to(dtype), recon=self.recon.to(dtype))

    @property
    def choice(self) -> Tensor:
        """Index (B, G) of the branch with the largest share of a region."""
        return self.weights.argmax(dim=2)


def _routed(error: Tensor, weights: Tensor, recon: Tensor, names: tuple[str, ...], grid: Grid) -> Routed:
    refuse_more_axes(3, error, weights)
    return Routed(names, grid, error, weights, recon)


pytrees.register(Routed, lambda made: ([made.error, made.weights, made.recon], (made.names, made.grid)), _routed)


class Router(nn.Module):
    """MLP that scores branches by their errors in a region, and by the region's mean and spread in every channel.

    Args:
        branches: Number K of branches.
        channels: Number of image channels.
    """

    @neutral()
    def __init__(self, branches: int, channels: int) -> None:
        super().__init__()
        inputs = branches + 2 * channels
        self.layers = nn.Sequential(
            nn.Linear(inputs, ROUTER_WIDTH, **PINNED), nn.GELU(), nn.Linear(ROUTER_WIDTH, branches, **PINNED)
        )

    def forward(self, error: Tensor, images: Tensor, grid: Grid) -> Tensor:
        """Score branches (B, G, K) by errors (B, G, K) and images (B, channels, height, width), in the errors' dtype."""
        regions = rearrange(images, "B c (gh p) (gw q) -> B (gh gw) c (p q)", gh=grid[0], gw=grid[1])
        finite = torch.where(error.isfinite(), error, FAILED)
        seen = [finite.clamp_min(FLOOR).log(), regions.mean(dim=3), regions.std(dim=3, correction=0)]
        # casting a module casts its router, but not the cells
        scores: Tensor = self.layers(torch.cat(seen, dim=2).to(next(self.parameters()).dtype))
        return scores.to(error)


def route(names: Sequence[str], branches: Sequence[Branch], images: Tensor, router: nn.Module | None) -> Routed:
    """Choose one branch for each region; a branch whose error there is not finite is excluded, unless all are.

    Args:
        names: Names of the branches.
        branches: Outputs of the branches for the images, on grids that divide one another.
        images: Images (B, channels, height, width).
        router: Module that scores the branches; without it, the branch with the least error is chosen. In training mode
            (``router.training``) the reconstruction is the mean of the branches weighted by the softmax of the scores, so
            that the router receives a gradient; otherwise the branch with the highest score is chosen.
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
        # not one_hot, which reads the values
        weights = (choice[..., None] == torch.arange(len(branches), device=choice.device)).to(error)
        recon = _patchwork(choice, recons, grid)
    return Routed(tuple(names), grid, error, weights, recon)


def _patchwork(choice: Tensor, recons: Sequence[Tensor], grid: Grid) -> Tensor:
    """Assemble an image from the chosen branch (B, G) of every region."""
    plane = _spread(choice, recons[0], grid)
    recon = recons[0]
    for place, branch in enumerate(recons[1:], start=1):
        recon = torch.where(plane == place, branch, recon)
    return recon


def _mixture(weights: Tensor, failed: Tensor, recons: Sequence[Tensor], grid: Grid) -> Tensor:
    """Average the branches of every region by weights (B, G, K), without those that failed there."""
    recon = torch.zeros_like(recons[0])
    for place, branch in enumerate(recons):
        there = branch.masked_fill(_spread(failed[..., place], branch, grid), 0)  # 0 times NaN is NaN
        recon = recon + _spread(weights[..., place], branch, grid) * there
    return recon


def _spread(share: Tensor, images: Tensor, grid: Grid) -> Tensor:
    """Repeat a share of every region (B, G) over its pixels: (B, 1, height, width)."""
    side = images.shape[2] // grid[0], images.shape[3] // grid[1]
    plane = rearrange(share, "B (gh gw) -> B 1 gh gw", gh=grid[0])
    return plane.repeat_interleave(side[0], dim=2).repeat_interleave(side[1], dim=3)
