"""Modes of a cell: the error that each one saves, and the properties of a patch that its singular value follows.

A mode is an axis of the matrix X that the decoder receives in part, X W diag(ratio) W': of the readout ``svd`` a singular
direction of M, the largest first; of ``linear`` and ``none``, which have no decomposition, a column of X, in the order of the
weights. Singular values are those of M in all of them: only ``svd`` ties the k-th one to the k-th mode.

Letters: B images, N patches of an image, V rows of M, D modes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries import short_repr
from batteries.diagnostics.figures import Definition, Figure, jackknifed
from batteries.diagnostics.patch_properties import ModeCorrelation, correlations, patch_statistics
from batteries.diagnostics.pipeline import stages
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.model.bottleneck import Gated
from batteries.model.patch_svae import PatchSVAE, grid_of

CHUNK = 32  # images in memory at a time
ERROR = Definition("mode-error", "MSE with a changed mode", "decoder", "mean squared error of images, one mode changed")
RATIO = Definition("mode-ratio", "MSE with a changed mode, over that without change", "decoder", "changed error / whole error")


@dataclass(frozen=True)
class ModeChange:
    """Error of images whose reconstruction has one mode changed.

    Attributes:
        mode: Index of the mode, from 0.
        change: Name of the change, of :data:`CHANGES`.
        group: Group of the images; None of all images.
        error: Mean squared error.
        ratio: Ratio to the error of the same images without a change.

    >>> import batteries
    >>> from batteries import diagnostics
    >>> model = batteries.untrained(batteries.CellSpec.preset("high"), seed=0)
    >>> images, types = batteries.noise.random_batch(4, (16, 16), seed=0)
    >>> row = diagnostics.modes(model, images, types, cluster=types).changes[0]
    >>> row.mode, row.change, row.group
    (0, 'removed', None)
    """

    mode: int
    change: str
    group: int | None
    error: Figure
    ratio: Figure

    __repr__ = short_repr.fields


@dataclass(frozen=True)
class Modes:
    """Changes of error and correlations of every mode of a cell.

    Attributes:
        whole: Mean squared error without a change, by group; None stands for all images.
        changes: A row per mode, change and group.
        correlations: A row per singular value and property of a patch.

    >>> import batteries
    >>> from batteries import diagnostics
    >>> model = batteries.untrained(batteries.CellSpec.preset("high"), seed=0)
    >>> images, types = batteries.noise.random_batch(4, (16, 16), seed=0)
    >>> found = diagnostics.modes(model, images, types, cluster=types)
    >>> found.change(0, "even size").ratio.name, found.correlation(3, "contrast").mode
    ('MSE with a changed mode, over that without change, mode 1, even size', 3)
    """

    whole: Mapping[int | None, Figure]
    changes: tuple[ModeChange, ...]
    correlations: tuple[ModeCorrelation, ...]

    __repr__ = short_repr.fields

    def change(self, mode: int, change: str, group: int | None = None) -> ModeChange:
        """Return the row of a mode, change and group.

        Raises:
            InputError: no such row (``MODE``).
        """
        found = {(row.mode, row.change, row.group): row for row in self.changes}
        if (mode, change, group) not in found:
            modes, groups = 1 + max(row.mode for row in self.changes), ", ".join(map(str, self.whole))
            expected = f"a mode below {modes}, one of {', '.join(CHANGES)}, and a group of {groups}"
            raise InputError("no such mode", code="MODE", expected=expected, found=f"{mode}, {change}, {group}")
        return found[mode, change, group]

    def correlation(self, mode: int, statistic: str) -> ModeCorrelation:
        """Return the row of a singular value and property.

        Raises:
            InputError: no such row (``MODE``).
        """
        found = {(row.mode, row.statistic): row for row in self.correlations}
        if (mode, statistic) not in found:
            expected = ", ".join(dict.fromkeys(row.statistic for row in self.correlations))
            raise InputError("no such correlation", code="MODE", expected=expected, found=f"{mode}, {statistic}")
        return found[mode, statistic]


def modes(model: PatchSVAE, images: Tensor, group: Tensor, cluster: Tensor) -> Modes:
    """Measure what each mode of a cell carries: the error without it, and the correlations of its singular value.

    Each change is made to one mode of all patches, and the rest of the decoder runs as it is: ``removed`` sets its gate to 0;
    ``even gate`` gives it the mean of its gate over the patches of the image, which takes away what cross-attention tells
    patches apart by; ``even size`` gives it the mean of its size, gate times length, which for ``svd`` is its omega.

    Args:
        model: Model of the cell.
        images: Images (B, channels, height, width) on the model's own scale.
        group: Group (B,) of each image, whole numbers, such as its noise type.
        cluster: Cluster (B,) of each image for standard errors.

    Raises:
        InputError: images that do not fit the cell, or groups or clusters that are not one per image (``LENGTH``).

    >>> import batteries
    >>> from batteries import diagnostics
    >>> model = batteries.untrained(batteries.CellSpec.preset("high"), seed=0)
    >>> images, types = batteries.noise.random_batch(4, (16, 16), seed=0)
    >>> found = diagnostics.modes(model, images, types, cluster=types)
    >>> found.change(3, "removed").ratio.name
    'MSE with a changed mode, over that without change, mode 4, removed'
    >>> found.correlation(0, "contrast").images
    4
    """
    grid_of(images, model.spec)
    for name, given in (("group", group), ("cluster", cluster)):
        if given.shape != images.shape[:1]:
            shape = f"({len(images)},)"
            raise InputError(f"not one {name} per image", code="LENGTH", expected=shape, found=str(tuple(given.shape)))
    parts = [_errors(model, chunk) for chunk in images.split(CHUNK)]
    whole, changed = (torch.cat([part[index] for part in parts]) for index in (0, 1))  # (B,), (B, D, changes)
    S = torch.cat([part[2] for part in parts])  # (B, N, D)
    statistics = patch_statistics(images, model.spec.patch_size)
    groups = [None, *sorted(set(group.tolist()))]
    chosen = {one: torch.ones_like(whole, dtype=torch.bool) if one is None else group.cpu() == one for one in groups}
    return Modes(
        {one: _mean(whole[rows], cluster.cpu()[rows], _place("all modes", one)) for one, rows in chosen.items()},
        tuple(
            _changed(whole[rows], changed[rows, mode, index], cluster.cpu()[rows], mode, name, one)
            for mode in range(model.spec.D)
            for index, name in enumerate(CHANGES)
            for one, rows in chosen.items()
        ),
        correlations(S, statistics, cluster),
    )


def _removed(gate: Tensor, length: Tensor) -> Tensor:
    return torch.zeros_like(gate)


def _even_gate(gate: Tensor, length: Tensor) -> Tensor:
    return gate.mean(dim=-1, keepdim=True).expand_as(gate)


def _even_size(gate: Tensor, length: Tensor) -> Tensor:
    size = (gate * length).mean(dim=-1, keepdim=True)
    return torch.where(length > 0, size / length.clamp_min(torch.finfo(length.dtype).tiny), gate)


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of a gate (B, N), given the length of its axis in X
    "removed": _removed,
    "even gate": _even_gate,
    "even size": _even_size,
}


@neutral()
@torch.no_grad()
def _errors(model: PatchSVAE, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the error of each image (B,), that with each mode changed (B, D, changes), and S (B, N, D)."""
    found, grid = stages(model, images), grid_of(images, model.spec)
    gated = found.gated
    rows = [
        [_mse(model.decode_matrices(_with(gated, mode, change, found.lengths), grid), images) for change in CHANGES.values()]
        for mode in range(model.spec.D)
    ]
    changed = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)
    return _mse(found.recon, images), changed, found.S.cpu()


def _with(gated: Gated, mode: int, change: Callable[[Tensor, Tensor], Tensor], lengths: Tensor) -> Tensor:
    """Return the matrices (B, N, V, D) that the decoder receives with the gate of one mode changed."""
    ratio = gated.ratio.clone()
    ratio[..., mode] = change(ratio[..., mode], lengths[..., mode].to(ratio.dtype))
    return gated._replace(ratio=ratio).matrices()


def _mse(recon: Tensor, images: Tensor) -> Tensor:
    return (recon.double() - images.to(recon.device).double()).square().mean(dim=(1, 2, 3)).cpu()


def _mean(values: Tensor, cluster: Tensor, place: str) -> Figure:
    return jackknifed(ERROR, torch.stack([torch.ones_like(values), values], dim=1), cluster, _ratio, place)


def _changed(whole: Tensor, changed: Tensor, cluster: Tensor, mode: int, name: str, group: int | None) -> ModeChange:
    place = _place(f"mode {mode + 1}, {name}", group)
    ratio = jackknifed(RATIO, torch.stack([whole, changed], dim=1), cluster, _ratio, place)
    return ModeChange(mode, name, group, _mean(changed, cluster, place), ratio)


def _ratio(sums: Tensor) -> Tensor:
    return sums[..., 1] / sums[..., 0]


def _place(words: str, group: int | None) -> str:
    return words if group is None else f"{words}, group {group}"
