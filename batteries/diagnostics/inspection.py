"""Inspection of a cell: every figure of its pipeline, for each size of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from batteries import short_repr
from batteries.cell.manifest import InputScale
from batteries.cell.spec import CellSpec
from batteries.data.probes import Probe, probe_of
from batteries.data.sources import seed_of
from batteries.diagnostics import samples
from batteries.diagnostics.activation_figures import ActivationFigures, RowFigures
from batteries.diagnostics.attention_figures import AttentionFigures
from batteries.diagnostics.error_figures import ErrorFigures, ReadoutFigures, fitted_readout, statistics
from batteries.diagnostics.figures import Figure
from batteries.diagnostics.image_sums import Gatherer, Part, Whole
from batteries.diagnostics.pipeline import Passage
from batteries.diagnostics.samples import Sample
from batteries.diagnostics.spectral_figures import SpectralFigures
from batteries.engine import parallel
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.images.image_batch import unjudged
from batteries.images.rescaling import from_input, to_input
from batteries.model.patch_svae import PatchSVAE, grid_of

READOUT_SEED = 4  # purpose in seed_of: images that the read-out is fitted to
READOUT_PATCHES = 2**18  # of all these
READOUT_IMAGES = 64  # of a group


@dataclass(frozen=True)
class Column:
    """Figures of a cell on images of one size.

    Attributes:
        size: Height and width in pixels.
        patches: Patches of an image.
        images: Number of images.
        clusters: Number of clusters of images, over which errors are estimated.
        digest: SHA-256 of the values of the images: two columns of one digest were read on the same images.
        figures: Figures in the order of the pipeline.

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("high", hidden=16), seed=0)
    >>> found = batteries.diagnostics.inspect(model, batteries.probe("noise16-64").images[:4])
    >>> found.columns[0].figure("effective-rank").value > 3
    True
    """

    size: tuple[int, int]
    patches: int
    images: int
    clusters: int
    digest: str
    figures: tuple[Figure, ...]

    __repr__ = short_repr.fields

    def figure(self, key: str, place: str = "") -> Figure:
        """Return a figure by the key of its definition and its place.

        Raises:
            InputError: no such figure (``FIGURE``).
        """
        for figure in self.figures:
            if (figure.definition.key, figure.place) == (key, place):
                return figure
        keys = " | ".join(dict.fromkeys(figure.definition.key for figure in self.figures))
        raise InputError("unknown figure", code="FIGURE", expected=keys, found=f"{key} {place}".strip())


@dataclass(frozen=True)
class Inspection:
    """Figures of a cell.

    Attributes:
        name: Name of the cell.
        spec: Spec of the cell.
        probe: Name of the probe; ``images`` if the images were given as such.
        columns: Figures for each size, in the order given.

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("high", hidden=16), seed=0)
    >>> found = batteries.diagnostics.inspect(model, batteries.probe("noise16-64").images[:4], name="twin")
    >>> found.name, found.probe, len(found.columns)
    ('twin', 'images', 1)
    """

    name: str
    spec: CellSpec
    probe: str
    columns: tuple[Column, ...]

    __repr__ = short_repr.fields

    def at(self, size: int) -> Inspection:
        """Return the inspection of images of one size alone, named with it.

        Raises:
            InputError: size that was not inspected (``SIZE``).
        """
        columns = tuple(column for column in self.columns if column.size[1] == size)
        if not columns:
            sizes = " | ".join(str(column.size[1]) for column in self.columns)
            raise InputError("size that was not inspected", code="SIZE", expected=sizes, found=size)
        return replace(self, name=f"{self.name} at {size} pixels", columns=columns)


@neutral()
@torch.no_grad()
def inspect(
    model: PatchSVAE,
    images: Probe | str | Tensor,
    *,
    sizes: Sequence[int] = (),
    name: str = "cell",
    input: InputScale | None = None,
    cluster: Tensor | None = None,
) -> Inspection:
    """Compute every figure of a cell's pipeline.

    Args:
        model: Model of the cell, in training or evaluation mode, which is kept.
        images: Probe, its name, or images (B, channels, height, width) on the probe's scale.
        sizes: Sides in pixels; by default that of the probe. Other sizes have images of the same noise types, or crops of the
            same photographs, in equal number each, and fewer if they have many patches.
        name: Name of the cell.
        input: Scale of the model's images (``cell.manifest.identity.input``); by default mean 0 and std 1. Errors are always
            on the probe's scale.
        cluster: Cluster (B,) of each image, for images given as such; by default each image is one.

    Raises:
        InputError: images that do not fit the cell (``IMAGE_SHAPE``, ``IMAGE_SIZE``); a size that is too large (``SIZE``), or
            sizes beside images given as such (``SIZE``); an unknown probe (``PROBE``, ``NO_PROBE``); no images, or clusters of
            another number (``IMAGES``); values or weights that are not finite (``NOT_FINITE``).

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("high", hidden=16), seed=0)
    >>> found = batteries.diagnostics.inspect(model, batteries.probe("noise16-64").images[:4])
    >>> figure = found.columns[0].figure("spectrum-ratio")
    >>> figure.value > 1, figure.standard_error > 0, figure.definition.formula
    (True, True, 'mean of the largest singular value / mean of the smallest')
    """
    if not all(weights.isfinite().all() for weights in model.parameters()):
        raise InputError("weights that are not finite", code="NOT_FINITE", where=name)
    if isinstance(images, Tensor):
        if sizes:
            raise InputError("sizes beside images", code="SIZE", expected="a probe, or no sizes", found=list(sizes))
        _check(images, cluster, model)
        return Inspection(name, model.spec, "images", (_column(model, samples.of_images(images, cluster), None, input),))
    probe = probe_of(images)
    chosen = tuple(sizes) or (probe.images.shape[-1],)
    for size in chosen:
        samples.patches_of(size, model.spec)  # refused before any work
    drawn = [(samples.of_probe(probe, size, model.spec), _training(probe, size, model.spec)) for size in chosen]
    return Inspection(name, model.spec, probe.name, tuple(_column(model, *pair, input) for pair in drawn))


def _check(images: Tensor, cluster: Tensor | None, model: PatchSVAE) -> None:
    grid_of(images, model.spec)
    if len(images) == 0 or (cluster is not None and cluster.shape != (len(images),)):
        shape = None if cluster is None else tuple(cluster.shape)
        found = f"{len(images)} images" if shape is None else f"{len(images)} images, and clusters of shape {shape}"
        raise InputError("images without clusters", code="IMAGES", expected="images, and a cluster of each", found=found)
    if not images.isfinite().all():
        raise InputError("images that are not finite", code="NOT_FINITE", where="images")


def _training(probe: Probe, size: int, spec: CellSpec) -> Sample:
    """Make the images that a read-out is fitted to: none of those that it names."""
    patches = samples.patches_of(size, spec) * len(probe.groups)
    most = max(1, min(READOUT_IMAGES, READOUT_PATCHES // patches))
    return samples.of_probe(probe, size, spec, most=most, seed=seed_of(0, size, READOUT_SEED))


def _column(model: PatchSVAE, sample: Sample, train: Sample | None, input: InputScale | None) -> Column:
    count, (rows, columns) = len(sample.group), model.spec.grid(*sample.size)
    readout = fitted_readout(train, lambda images: _omega_statistics(model, images, input))
    gatherers: tuple[Gatherer, ...] = (
        SpectralFigures(model.spec, count),
        AttentionFigures(model, count),
        RowFigures(count, rows * columns),
        ActivationFigures(model.spec, count, rows * columns),
        ErrorFigures(sample),
        ReadoutFigures(sample, *readout),
    )
    digest = hashlib.sha256()
    for index, images in sample.parts(model.spec):
        digest.update(images.contiguous().cpu().numpy().data)
        _run(model, index, images, input, gatherers)
    figures = tuple(figure for gatherer in gatherers for figure in gatherer.figures(sample.cluster))
    clusters = len(sample.cluster.unique())
    return Column(sample.size, rows * columns, count, clusters, digest.hexdigest(), figures)


def _run(model: PatchSVAE, index: Tensor, images: Tensor, input: InputScale | None, gatherers: Sequence[Gatherer]) -> None:
    """Run images of an index (b,), and let every gatherer take what it needs."""
    passage = Passage(model, images if input is None else to_input(images, input))
    omega = []
    for place, steps in passage.parts():
        parallel.leave_if_failed()
        part = Part(index, place, steps)
        for gatherer in gatherers:
            gatherer.take(part)
        omega.append(steps.omega)
    given = passage.recon().to(images)
    recon = given if input is None else from_input(given, input)
    whole = Whole(index, images, recon, given, torch.cat(omega, dim=1), passage.lengths, passage.layers)
    for gatherer in gatherers:
        gatherer.end(whole)


def _omega_statistics(model: PatchSVAE, sample: Sample, input: InputScale | None) -> Tensor:
    found = []
    for _, images in sample.parts(model.spec):
        with unjudged():
            found.append(statistics(model.tokens(images if input is None else to_input(images, input)).omega))
    return torch.cat(found)
