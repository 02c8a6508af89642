"""Battery VAE: many cells implanted as the start of one trainable model.

Legend: C sectors of a spec, S sectors in all, B images, N patches of an image, V rows, D width, Z numbers of a code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import InputScale
from batteries.cell.spec import CellSpec
from batteries.data.sources import seed_of
from batteries.engine.torch_settings import PINNED, neutral
from batteries.images.image_batch import check_batch, judge_scale
from batteries.model.inputs import taken
from batteries.model.patch_svae import untrained
from composer.container.cell_digests import CellDigests
from composer.container.container import Container
from composer.vae import refusals, spec_part, start
from composer.vae.arrays import Arrays, spread, weighed
from composer.vae.bottleneck import Bottleneck, Code
from composer.vae.reading_document import TrainedRun
from composer.vae.sectors import Rows, Sectors
from composer.vae.shapes import Cost, cost
from composer.vae.spec_part import SpecPart
from composer.vocabulary import Grid
from composer.wiring.compose import compose, named_cells

SIZE = (64, 64)  # height and width of images that are not said
SHARPNESS = 8.0  # of the attention over arrays, at the start
UNTRAINED = 22  # purpose of seeds


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images decoded from codes.

    Attributes:
        images: Images (B, channels, height, width).
        weights: Weight (B, N, S) of every sector in every region, on ``grid``; they add up to 1.
        grid: Rows and columns of the regions.
        rows: Unit rows (C, B, N, V, D) that the inverse makes of the codes, by spec.
        single: Images (C, B, channels, height, width) of the single sectors, by spec.

    >>> import registry
    >>> from composer import BatteryVAE
    >>> vae = BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> decoded = vae.decode(vae.prior(count=1))
    >>> decoded.images.shape, decoded.weights.shape, decoded.grid
    (torch.Size([1, 3, 64, 64]), torch.Size([1, 256, 2]), (16, 16))
    """

    images: Tensor
    weights: Tensor
    grid: Grid
    rows: tuple[Tensor, ...]
    single: tuple[Tensor, ...]

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class VaeOutput:
    """Result of a pass with drawn codes.

    Attributes:
        decoded: Images of the drawn codes, with the weights of the sectors.
        codes: Law of the codes (C, B, N, Z), by spec.
        M: Matrices (C, B, N, V, D) of the encoders, by spec.

    >>> import batteries, registry
    >>> from composer import BatteryVAE
    >>> vae = BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> out = vae(batteries.probe("photos-64").images[:1])
    >>> out.codes[0].mu.shape, out.M[0].shape
    (torch.Size([2, 1, 256, 8]), torch.Size([2, 1, 256, 32, 4]))
    """

    decoded: Decoded
    codes: tuple[Code, ...]
    M: tuple[Tensor, ...]

    __repr__ = short_repr.fields


class BatteryVAE(nn.Module):
    """Variational autoencoder whose sectors start on the weights of cells.

    A patch has one code for each sector. Every sector decodes its own, and the embedding arrays weigh the sectors' images by
    region. All parts are trainable; no pass calls an eigensolver, or computes in float64. Made by :meth:`from_cells`, or
    :meth:`untrained`; trained by :func:`composer.vae.train`; saved by :func:`composer.save`.

    Args:
        specs: Spec of each sector, by name.
        weights: Weights ``(C, *shape)`` by tensor name, for the names of each spec in order.
        lock: Version and digests of the parents, by sector; empty without parents.
        scale: Input scale of the images.
        bottleneck: Numbers Z of a code of a patch and sector.
        arrays: Embedding arrays of each sector.
        seed: Seed of all that does not start on the cells.

    Attributes:
        names: Names of the sectors, spec by spec.
        lock: Version and digests of the parents, by sector.
        scale: Input scale of the images.
        history: Records of its trainings.

    Raises:
        InputError: fewer than two sectors (``ONE_SECTOR``), a code of no numbers or of more than a matrix has (``WIDTH``), no
            arrays (``ARRAYS``), or cells whose rows are not on the sphere (``ROW_NORM``).

    >>> import batteries, registry
    >>> from composer import BatteryVAE
    >>> vae = BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> vae
    BatteryVAE(2 sectors, codes of 8, 2 arrays a sector, 90,347 parameters)
    >>> vae.reconstruct(batteries.probe("photos-64").images[:2]).shape
    torch.Size([2, 3, 64, 64])
    """

    @neutral()
    def __init__(
        self,
        specs: Mapping[str, CellSpec],
        weights: Mapping[CellSpec, Mapping[str, Tensor]],
        *,
        lock: CellDigests,
        scale: InputScale,
        bottleneck: int,
        arrays: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        by_spec: dict[CellSpec, list[str]] = {}
        for name, spec in specs.items():
            by_spec.setdefault(spec, []).append(name)
        refusals.check_shape(specs, bottleneck, arrays)
        generator = torch.Generator().manual_seed(seed)
        self.names = tuple(name for names in by_spec.values() for name in names)
        self.lock = {name: dict(lock[name]) for name in self.names if name in lock}
        self.scale = scale
        self.history: tuple[TrainedRun, ...] = ()
        parts = []
        for spec, names in by_spec.items():
            narrow = Bottleneck(spec, len(names), bottleneck, generator)
            table = Arrays(spec, len(names), arrays, generator)
            parts.append(SpecPart(tuple(names), Sectors(spec, weights[spec]), narrow, table))
        self._parts = nn.ModuleList(parts)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS), **PINNED))

    @classmethod
    def from_cells(
        cls,
        cells: Iterable[Cell] | Mapping[str, Cell],
        *,
        bottleneck: int = 32,
        arrays: int | Mapping[str, Tensor] = 2,
        seed: int = 0,
    ) -> BatteryVAE:
        """Implant cells: their encoders and decoders become sectors, and the rest starts on their own statistics.

        On images of a cell's own domain, its bottleneck starts on the principal axes of its matrices, and its arrays on mean
        configurations of these, mapped into the consensus of all sectors of its V and D.

        Args:
            cells: Cells, two or more, of the same channels and input normalisation; specs may differ. A mapping names them.
            bottleneck: Numbers of a code of a patch and sector.
            arrays: Number of embedding arrays of each sector, or the arrays (K, V, D) of every sector, by name.
            seed: Seed of the images, and of the order of chance.

        Raises:
            InputError: fewer than two cells (``ONE_SECTOR``), a width of codes that does not fit (``WIDTH``), arrays of other
                V or D, or not of every sector (``ARRAYS``), or cells whose rows are not on the sphere (``ROW_NORM``).
            ConflictError: a name, or the same weights, twice (``TWICE``).
            PolicyError: cells with different channels or input normalisation (``MIXED_INPUT``).
            IntegrityError: weights that differ from those of a cell's manifest (``TENSOR_DIGEST``).

        >>> import registry
        >>> from composer import BatteryVAE
        >>> vae = BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
        >>> vae.names, vae.sample(2).shape
        (('high/fresnel-64', 'high/johanna-64'), torch.Size([2, 3, 64, 64]))
        """
        named = named_cells(cells)
        container = compose(named)
        refusals.check_parents(container.ends)
        specs, weights = _taken(container)
        given = None if isinstance(arrays, int) else refusals.checked_arrays(arrays, specs)
        K = arrays if isinstance(arrays, int) else len(next(iter(arrays.values())))
        found = cls(specs, weights, lock=container.lock, scale=container.scale, bottleneck=bottleneck, arrays=K, seed=seed)
        found._begin(start.own_images(named, seed), given)
        return found

    @classmethod
    @neutral()
    def untrained(
        cls,
        specs: Mapping[str, CellSpec],
        *,
        bottleneck: int = 32,
        arrays: int = 2,
        seed: int = 0,
        images: Tensor | None = None,
    ) -> BatteryVAE:
        """Make a model without parents, whose sectors are untrained cells, and all else is random: the null of implanting.

        Args:
            specs: Spec of each sector, by name.
            bottleneck: Numbers of a code of a patch and sector.
            arrays: Embedding arrays of each sector.
            seed: Seed of all weights.
            images: Images that bottlenecks and arrays start on the statistics of, as those of cells do; by default these are
                random too.

        Raises:
            InputError: as :meth:`from_cells`; or sectors of different channels (``CHANNELS``).
        """
        refusals.check_channels(specs)
        stacked: dict[CellSpec, list[Mapping[str, Tensor]]] = {}
        for index, spec in enumerate(specs.values()):
            stacked.setdefault(spec, []).append(dict(untrained(spec, seed_of(seed, index, UNTRAINED)).named_parameters()))
        weights = {spec: {name: torch.stack([one[name] for one in ones]) for name in ones[0]} for spec, ones in stacked.items()}
        channels = next(iter(specs.values())).channels
        scale = InputScale(mean=(0.0,) * channels, std=(1.0,) * channels)
        found = cls(specs, weights, lock={}, scale=scale, bottleneck=bottleneck, arrays=arrays, seed=seed)
        if images is not None:
            found._begin({found.names: images}, None)
        return found

    def __repr__(self) -> str:
        sizes = f"{len(self.names)} sectors, codes of {self.width}, {self.arrays} arrays a sector"
        return f"BatteryVAE({sizes}, {sum(p.numel() for p in self.parameters()):,} parameters)"

    @property
    def parts(self) -> tuple[SpecPart, ...]:
        """Parts of the model, one for each spec."""
        return tuple(part for part in self._parts if isinstance(part, SpecPart))

    @property
    def specs(self) -> dict[str, CellSpec]:
        """Spec of each sector, by name."""
        return {name: part.spec for part in self.parts for name in part.names}

    @property
    def width(self) -> int:
        """Numbers Z of a code of a patch and sector."""
        return self.parts[0].bottleneck.width

    @property
    def arrays(self) -> int:
        """Embedding arrays K of each sector."""
        return self.parts[0].arrays.points.shape[1]

    def cost(self, size: tuple[int, int] = SIZE) -> Cost:
        """Count parameters, and multiply-adds of one image of a size, and how many of both are in linear maps.

        Raises:
            InputError: a size that is not a multiple of every patch size.
        """
        return cost({part.spec: len(part.names) for part in self.parts}, self.width, self.arrays, size)

    def forward(self, images: Tensor, generator: Generator | None = None) -> VaeOutput:
        """Encode images (B, channels, height, width), draw their codes, and decode these.

        Args:
            images: Images in the parents' input scale.
            generator: Source of the draws; by default torch's global one.

        Raises:
            InputError: not a batch of images (``IMAGE_SHAPE``, ``IMAGE_DTYPE``), other channels, or sides that are not
                multiples of every patch size.
        """
        rows = self._rows(images)
        codes = tuple(part.bottleneck.code(own) for part, own in zip(self.parts, rows, strict=True))
        size = images.shape[2], images.shape[3]
        decoded = self.decode([code.draw(generator) for code in codes], size)
        return VaeOutput(decoded, codes, tuple(own.M for own in rows))

    def encode(self, images: Tensor) -> tuple[Code, ...]:
        """Encode images (B, channels, height, width) to the laws of their codes (C, B, N, Z), by spec.

        Raises:
            InputError: as :meth:`forward`.
        """
        return tuple(part.bottleneck.code(own) for part, own in zip(self.parts, self._rows(images), strict=True))

    def decode(self, codes: Sequence[Tensor], size: tuple[int, int] = SIZE) -> Decoded:
        """Decode codes (C, B, N, Z), by spec, to images of a size.

        Args:
            codes: Codes of the sectors of each spec, in the order of :attr:`names`.
            size: Height and width of the images.

        Raises:
            InputError: codes of other shapes (``CODES``), or a size that is not a multiple of every patch size.
        """
        grids = [part.spec.grid(*size) for part in self.parts]
        shapes = [(len(part.names), math.prod(grid), self.width) for part, grid in zip(self.parts, grids, strict=True)]
        refusals.check_codes(codes, shapes)
        found = [part.decode(z, grid) for part, z, grid in zip(self.parts, codes, grids, strict=True)]
        rows, single = (tuple(column) for column in zip(*found, strict=True))
        weights, fine = self._weights(rows, grids)
        return Decoded(weighed(single, weights, fine), weights, fine, rows, single)

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstruct images (B, channels, height, width) from the means of their codes."""
        codes = [code.mu for code in self.encode(images)]
        return self.decode(codes, (images.shape[2], images.shape[3])).images.to(images.dtype)

    @torch.no_grad()
    def sample(self, count: int, generator: Generator | None = None, size: tuple[int, int] = SIZE) -> Tensor:
        """Decode codes drawn from N(0, 1), each patch and sector for itself: images (count, channels, height, width)."""
        return self.decode(self.prior(count, generator, size), size).images

    def prior(self, count: int, generator: Generator | None = None, size: tuple[int, int] = SIZE) -> list[Tensor]:
        """Draw codes (C, count, N, Z) from N(0, 1), by spec."""
        shapes = [(len(part.names), count, math.prod(part.spec.grid(*size)), self.width) for part in self.parts]
        device = self.log_sharpness.device
        return [torch.randn(shape, generator=generator, **PINNED).to(device) for shape in shapes]

    @torch.no_grad()
    def interpolate(self, first: Tensor, last: Tensor, steps: int = 8) -> Tensor:
        """Decode codes on the line between those of two images (channels, height, width): (steps, channels, height, width)."""
        pair = torch.stack([first, last])
        shares = torch.linspace(0, 1, steps, **PINNED).to(self.log_sharpness.device)[None, :, None, None]
        codes = [code.mu[:, :1].lerp(code.mu[:, 1:], shares) for code in self.encode(pair)]
        return self.decode(codes, (pair.shape[2], pair.shape[3])).images

    def check_parents(self, cells: Iterable[Cell] | Mapping[str, Cell]) -> None:
        """Compare the parents with cells of now.

        Raises:
            IntegrityError: a parent that is missing, or whose weights changed since (``PARENT_CHANGED``).
        """
        refusals.check_unchanged(self.lock, {name: c.manifest.file.tensor_digest for name, c in named_cells(cells).items()})

    def _begin(self, images: Mapping[tuple[str, ...], Tensor], given: Mapping[str, Tensor] | None) -> None:
        """Start on images, by the names of the sectors whose own domain they are of, and on given arrays."""
        start.begin(self.parts, images, given)
        start.settle(self.parts, self.log_sharpness, images)

    def _rows(self, images: Tensor) -> list[Rows]:
        """Check images, convert them to the model's dtype and device, and encode them in every part."""
        check_batch(images, self.parts[0].spec.channels)
        for part in self.parts:
            part.spec.grid(images.shape[2], images.shape[3])
        judge_scale(images, self.scale)
        own = taken(images, self.log_sharpness.dtype, self.log_sharpness.device)
        return [part.sectors.encode(own) for part in self.parts]

    def _weights(self, rows: Sequence[Tensor], grids: Sequence[Grid]) -> tuple[Tensor, Grid]:
        """Attend over all arrays: weights (B, N, S) of the sectors on the coarsest grid that all of the grids divide."""
        fine = math.lcm(*(grid[0] for grid in grids)), math.lcm(*(grid[1] for grid in grids))
        found = spec_part.cosines(self.parts, rows, grids)
        sharpness = self.log_sharpness.exp()
        scores = [sharpness * own - part.arrays.reference for part, own in zip(self.parts, found, strict=True)]
        whole = torch.cat([spread(own, grid, fine) for own, grid in zip(scores, grids, strict=True)], dim=2)  # (B, N, S, K)
        return whole.flatten(2).softmax(dim=-1).unflatten(2, whole.shape[2:]).sum(dim=-1), fine


def _taken(container: Container) -> tuple[dict[str, CellSpec], dict[CellSpec, Mapping[str, Tensor]]]:
    """Return the spec of each cell, and the weights of the cells of each spec."""
    specs: dict[str, CellSpec] = {}
    weights: dict[CellSpec, Mapping[str, Tensor]] = {}
    for group, names in container.members():
        weights[group.spec] = group.stack.chosen([container.place(name)[1] for name in names])
        specs |= dict.fromkeys(names, group.spec)
    return specs, weights
