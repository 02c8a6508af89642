"""Replay of a cell's measurements on the probes of its manifest, and the figures that changed. Imports torch.

Its tolerances are those of :mod:`batteries.measurement.differences`. Smaller changes cannot be told from rounding. In the
cells trained on photographs attention has so little effect that permuting its tensors moves the errors by 1e-8 to 1e-6 only.
The biases of its keys cancel in the softmax.

Trajectory and triage cannot be measured again, but are compared with each other and with the finished cell. Linear codes are
fitted again if the training data was generated; otherwise they are claims of the maker.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from batteries.cell.cell import Cell
from batteries.cell.manifest import DataSource, Manifest, Measured
from batteries.cell.spec import CellSpec
from batteries.data.probes import Probe, probe
from batteries.data.sources import NoiseSource
from batteries.errors import InputError
from batteries.io.canonical_json import fields_of
from batteries.measurement import differences
from batteries.measurement.baselines import baselines
from batteries.measurement.differences import Difference
from batteries.measurement.measure import measure
from batteries.model.patch_svae import PatchSVAE, untrained
from batteries.noise import NAMES
from batteries.packaging.package import UNTRAINED_SEED, linear_code


def measure_again(cell: Cell, *, exact: bool) -> Iterator[tuple[str, list[str]]]:
    """Measure a cell on every probe of its manifest that this package has with the same digest; the cell's own first.

    Every measured figure is compared: value, standard error, ratio, flags and band, and those of the untrained cell of the same
    spec and seed.

    Args:
        cell: Cell to measure.
        exact: Whether to allow no tolerance at all.

    Yields:
        Name of each probe, with the figures that differ by more than the tolerance, in words.

    >>> import registry
    >>> name, differences = next(registry.measure_again(registry.load("mid/fresnel-64"), exact=False))
    >>> name, differences
    ('photos-64', [])
    """
    model, manifest = PatchSVAE.from_cell(cell), cell.manifest
    strange = unknown_probes(manifest)
    for name in sorted(claims(manifest), key=lambda name: name != manifest.own_probe):
        if name not in strange:
            yield name, [str(one) for one in _differences(model, manifest, probe(name), exact)]


def claims(manifest: Manifest) -> dict[str, list[Measured]]:
    """Return the figures of a manifest by probe: of the cell, and of the untrained one."""
    found: dict[str, list[Measured]] = {}
    for name, measured in [*manifest.measured.items(), *manifest.untrained.items()]:
        found.setdefault(name, []).append(measured)
    return found


def unknown_probes(manifest: Manifest) -> list[str]:
    """Return names of probes that this package lacks, or has with another digest, or that do not fit the cell."""
    return [
        name for name, figures in claims(manifest).items() if not all(_is_ours(name, one, manifest.spec) for one in figures)
    ]


def _is_ours(name: str, figures: Measured, spec: CellSpec) -> bool:
    try:
        found = probe(name)
    except InputError:
        return False
    return found.digest == figures.probe_digest and found.images.shape[1] == spec.channels


def _differences(model: PatchSVAE, manifest: Manifest, on: Probe, exact: bool) -> Iterator[Difference]:
    input, spec = manifest.identity.input, manifest.spec
    if (wanted := manifest.measured.get(on.name)) is not None:
        try:
            found = measure(model, on, input=input, like=wanted)
        except ValidationError as error:  # figures are finite
            yield Difference("figures", "finite", fields_of(error), "none")
            return
        yield from differences.differences(wanted, found, spec, exact=exact)
        if on.name == manifest.own_probe:
            yield from _claim_differences(manifest, found, on, exact)
    if (wanted := manifest.untrained.get(on.name)) is not None:
        null = measure(untrained(spec, (manifest.training.seed or 0) + UNTRAINED_SEED), on, input=input, like=wanted)
        for one in differences.differences(wanted, null, spec, exact=exact):
            yield Difference(f"untrained {one.figure}", one.claimed, one.measured, one.tolerance)


def _claim_differences(manifest: Manifest, found: Measured, on: Probe, exact: bool) -> Iterator[Difference]:
    """Yield what in the history and the linear codes contradicts the rest."""
    yield from differences.history_differences(manifest)
    yield from differences.last_reading_differences(manifest, found.cv, found.axial_cv or found.cv, found.mse.value)
    training, claimed = manifest.training, manifest.own.baselines
    if training.data.kind == on.domain == "noise" and training.data.noise_mix != on.noise_mix:
        yield Difference("noise mix of the own probe", on.noise_mix, training.data.noise_mix, "none")
    null = manifest.untrained.get(on.name)
    if null is not None and null.baselines != claimed:
        yield Difference("baselines of the untrained cell", null.baselines, claimed, "none")
    yield from _type_differences(training.data, on)
    source = _generated(training.data)
    if source is not None and claimed is not None and training.seed is not None:
        code = linear_code(manifest.spec, training.size, training.seed, source)
        yield from differences.baseline_differences(claimed, baselines(code, on.images, manifest.spec), exact=exact)


def _type_differences(data: DataSource, on: Probe) -> Iterator[Difference]:
    """Compare the noise types of the training data with those of the own probe."""
    types = data.noise_types or NAMES
    if data.kind == on.domain == "noise" and sorted(types) != sorted(on.groups):
        yield Difference("noise types of the own probe", ", ".join(on.groups), ", ".join(types), "none")


def _generated(data: DataSource) -> NoiseSource | None:
    """Return the generator of the training data; None if they are others."""
    try:
        source = NoiseSource.recorded(data)
    except InputError:  # types of no name, which the own probe contradicts
        return None
    return source if source.facts.digest == data.digest else None
