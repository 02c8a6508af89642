"""Networks around one cell: a stem before it, so that gradients pass through the cell, and an MLP after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol
from weakref import WeakSet

import torch
from einops import rearrange
from torch import Tensor, nn

from batteries.errors import InputError
from batteries.images.image_batch import unjudged  # what a stem feeds is the host's to choose
from batteries.model.patch_svae import Output, Tokens
from composer.container.container import Container
from composer.container.outputs import TAPS, CellOutput
from composer.hosts.residual_mlp import ResidualMLP, Stemmed, StreamForm

FORM = StreamForm()


class Mounted(Protocol):
    """Cell interface of a host: a :class:`batteries.PatchSVAE`, or one cell of a container.

    >>> import batteries, composer, registry
    >>> def features(cell: composer.hosts.Mounted, images):
    ...     return cell.tokens(images).omega.mean(dim=1)
    >>> cell, images = registry.load("low/fresnel-64"), batteries.probe("photos-64").images[:4]
    >>> features(batteries.PatchSVAE.from_cell(cell), images).shape
    torch.Size([4, 16])
    >>> features(composer.hosts.FrozenCell(composer.compose(cell)), images).shape
    torch.Size([4, 16])
    """

    def tokens(self, images: Tensor) -> Tokens:
        """Encode images (B, channels, height, width) to M, S and omega."""
        ...

    def __call__(self, images: Tensor) -> Output | CellOutput:
        """Encode and reconstruct images."""
        ...


class Model(Protocol):
    """Model interface of a host: a container, or a composition, of which only the cells are used."""

    @property
    def container(self) -> Container:
        """Cells of the model."""
        ...


class FrozenCell:
    """One cell of a model, to be mounted in a host; no optimiser sees its weights.

    Args:
        container: Container with the cell, or a composition, whose nodes are ignored.
        name: Name of the cell; defaults to the first.

    Raises:
        InputError: not a model (``MODEL``), or a model without cells (``NO_CELLS``).
        NotFoundError: unknown cell (``NO_CELL``).

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> cell = composer.hosts.FrozenCell(model, "high/fresnel-64")
    >>> cell.tokens(batteries.probe("photos-64").images[:4]).omega.shape
    torch.Size([4, 256, 4])
    """

    def __init__(self, container: Model, name: str | None = None) -> None:
        cells = cells_of(container)
        self.name = name or cells.names[0]
        self.container = cells.part([self.name])
        self._hosts: WeakSet[nn.Module] = WeakSet()

    @property
    def hosts(self) -> int:
        """Number of hosts of this module that have the cell mounted."""
        return len(self._hosts)

    def mounted_in(self, host: nn.Module) -> None:
        """Note a host that has the cell mounted."""
        self._hosts.add(host)

    def __repr__(self) -> str:
        return f"FrozenCell({self.name!r})"

    def tokens(self, images: Tensor) -> Tokens:
        """Encode images to M, S and omega."""
        return self.container.tokens(images)[self.name]

    def __call__(self, images: Tensor) -> CellOutput:
        """Encode and reconstruct images."""
        return self.container(images, TAPS)[self.name]


class _Host(Stemmed):
    """Network around a cell, and frozen cells beside it, none of which is a submodule."""

    def __init__(self, cell: Mounted, sample: Tensor, beside: Sequence[Mounted] = ()) -> None:
        super().__init__(sample.shape[1])
        self._mounted = (cell, *beside)  # in a tuple, so that torch does not register them as submodules
        for one in self._mounted:
            if isinstance(one, FrozenCell):
                one.mounted_in(self)
        self.scale_by(sample)

    @property
    def cell(self) -> Mounted:
        """Mounted cell."""
        return self._mounted[0]

    @property
    def cells(self) -> tuple[Mounted, ...]:
        """Mounted cell, and those beside it."""
        return self._mounted


class NamingHost(_Host):
    """Classifier of images by the mean and standard deviation over patches of the cell's omega.

    Args:
        cell: Mounted cell; not a submodule, so the caller manages its weights.
        sample: Images (B, channels, height, width) that fix the scale of the features.
        classes: Number of classes.
        form: Form of the MLP.
        beside: Cells beside it that the host reads too, such as frozen ones of a container.

    >>> import batteries, composer, registry
    >>> cell = composer.hosts.FrozenCell(composer.compose(registry.load("low/fresnel-64")))
    >>> images = batteries.probe("photos-64").images[:4]
    >>> host = composer.hosts.NamingHost(cell, images, classes=16, form=composer.hosts.StreamForm(width=32, blocks=1))
    >>> host(images).shape
    torch.Size([4, 16])
    """

    def __init__(self, cell: Mounted, sample: Tensor, classes: int, form: StreamForm, beside: Sequence[Mounted] = ()) -> None:
        super().__init__(cell, sample, beside)
        self.mlp = ResidualMLP(len(self.shift), classes, form).to(sample.device)

    def features(self, images: Tensor) -> Tensor:
        """Return mean and standard deviation of omega over patches, (B, 2 D), of each cell after the other."""
        fed = self.fed(images)
        tokens = [cell.tokens(fed).omega for cell in self.cells]
        return torch.cat([part for omega in tokens for part in (omega.mean(dim=1), omega.std(dim=1))], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores (B, classes)."""
        scores: Tensor = self.mlp(self.standard(self.features(images)))
        return scores


class RestoringHost(_Host):
    """Restorer of images: the cell's reconstruction plus a correction of every patch from the rows of its M.

    Args:
        cell: Mounted cell.
        sample: Images (B, channels, height, width) that fix the scale of the features.
        form: Form of the MLP.
        beside: Cells beside it whose rows the correction reads too, such as frozen ones of a container.

    Raises:
        InputError: cells beside it with other patches (``GRIDS``).

    >>> import batteries, composer, registry
    >>> cell = composer.hosts.FrozenCell(composer.compose(registry.load("low/fresnel-64")))
    >>> images = batteries.probe("photos-64").images[:4]
    >>> host = composer.hosts.RestoringHost(cell, images, form=composer.hosts.StreamForm(width=32, blocks=1))
    >>> host(images).shape
    torch.Size([4, 3, 64, 64])
    """

    def __init__(self, cell: Mounted, sample: Tensor, form: StreamForm, beside: Sequence[Mounted] = ()) -> None:
        super().__init__(cell, sample, beside)
        with torch.no_grad(), unjudged():
            patches = self.cell(sample[:1]).M.shape[1]
        self.mlp = ResidualMLP(len(self.shift), sample[0].numel() // patches, form).to(sample.device)
        self.mlp.start_at_zero()

    def features(self, images: Tensor) -> Tensor:
        """Return the rows of M of every patch, (B, N, V D), of each cell after the other."""
        fed = self.fed(images)
        with unjudged():
            return self._rows(fed, self.cell.tokens(fed).M)

    def forward(self, images: Tensor) -> Tensor:
        """Restore images (B, channels, height, width)."""
        fed = self.fed(images)
        with unjudged():
            out = self.cell(fed)
            rows_of_all = self._rows(fed, out.M)
        correction = self.mlp(self.standard(rows_of_all))  # (B, N, P)
        side = math.isqrt(correction.shape[2] // images.shape[1])
        rows = images.shape[2] // side
        correction = rearrange(correction, "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=rows, p=side, q=side, C=images.shape[1])
        restored: Tensor = out.recon + correction
        return restored

    def _rows(self, fed: Tensor, M: Tensor) -> Tensor:
        """Join M (B, N, V, D) of the cell with those of the cells beside it."""
        matrices = [M, *(cell.tokens(fed).M for cell in self.cells[1:])]
        patches = [one.shape[1] for one in matrices]
        if len(set(patches)) > 1:
            raise InputError(
                "cells of other patches", code="GRIDS", expected=f"{patches[0]} patches of an image", found=patches
            )
        return torch.cat([one.flatten(2) for one in matrices], dim=2)


def cells_of(model: Model) -> Container:
    """Return the cells of a model, at least one."""
    found = getattr(model, "container", None)
    if not isinstance(found, Container):
        remedy = "Pass the result of composer.compose, wire or load."
        raise InputError("not a model", code="MODEL", found=type(model).__name__, remedy=remedy)
    if not found.names:
        raise InputError("container without cells", code="NO_CELLS", expected="at least one cell", found="none")
    return found


HostFactory = Callable[[Mounted, Tensor, int], nn.Module]  # a mounted cell, a sample of images, classes (0: restore)
