"""Comparison of cells on a probe: scores, spectra and swaps in one answer, summarised in sentences."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import batteries
import composer
from batteries.cell.cell import Cell
from batteries.short_repr import counted
from registry.answers.alignment import Aligned, AlignedCell, PairFigure, SpectrumFigure, SwapFigure
from registry.catalog.reference import Reference
from registry.reports.figures import number

if TYPE_CHECKING:
    from torch import Tensor

    from batteries.data.probes import Probe
    from batteries.engine.task_runner import Run
    from composer.alignment.pairs import PairTable
    from composer.alignment.residual_spectrum import Spectrum
    from composer.alignment.swap import Swap
    from composer.container.cell_digests import CellDigests
    from composer.container.container import Container
    from composer.procrustes.consensus import Consensus

LEVEL = 0.05  # significance level of the tests


@dataclass(frozen=True)
class Asked:
    """Settings of a comparison of cells.

    Attributes:
        references: Exact references, by cell name.
        tokens: Kind of tokens, such as ``omega``.
        grid: ``coarsest`` or ``exact``.
        probe: Name of the probe; None for that of the cells' training data.
        untrained: Untrained cells of each spec at each end; None for as many as the number of pairs requires.
        seed: Seed of halves, shuffles and intervals.
        swap: Whether to decode each cell's tokens in every other cell.
        page: Path of the page, which needs residual spectra; None for no page.
        maps: Whether to return the maps.
        registry: Registry as given, for the command that repeats the comparison.
    """

    references: Mapping[str, Reference]
    tokens: Any
    grid: Any
    probe: str | None
    untrained: int | None
    seed: int
    swap: bool
    page: Path | None
    maps: bool
    registry: str | None


@dataclass(frozen=True)
class Compared:
    """Result of a comparison.

    Attributes:
        answer: All figures.
        maps: Maps; None if not asked for.
        lock: Digests of the cells.
    """

    answer: Aligned
    maps: Consensus | None
    lock: CellDigests


@dataclass(frozen=True)
class _Figures:
    table: PairTable
    spectra: Mapping[str, Spectrum]
    swaps: Sequence[Swap] | None
    maps: Consensus | None
    warnings: tuple[str, ...]


def compared(cells: Mapping[str, Cell], asked: Asked, run: Run | None = None) -> Compared:
    """Compare cells on a probe.

    Args:
        cells: Two or more cells, by name.
        asked: Settings of the comparison.
        run: Function that runs tasks, as :func:`composer.compare` takes it; None for its default.

    Raises:
        InputError: invalid settings, as in :func:`composer.compare`, :func:`composer.swap` and :func:`batteries.probe`.
        PolicyError: cells of different channels or input normalisation (``MIXED_INPUT``).
    """
    import torch

    container = composer.compose(cells)
    name, because = (asked.probe, "as asked") if asked.probe else _own_probe(cells.values())
    chosen = batteries.probe(name)
    images = batteries.images.to_input(chosen.images, container.scale)
    found = _figures(container, images, chosen, asked, run)
    rows = zip(found.table.pairs, found.table.p_values, found.table.related(LEVEL), strict=True)
    pairs = tuple(PairFigure.of(pair, p, related) for pair, p, related in rows)
    swaps = None if found.swaps is None else tuple(map(SwapFigure.of, found.swaps))
    answer = Aligned(
        summary=tuple(_sentences(pairs, swaps)),
        tokens=found.table.kind,
        grid=asked.grid,
        regions=found.table.grid,
        probe=name,
        probe_because=because,
        probe_digest=chosen.digest,
        images=tuple(images.shape),
        images_digest=found.table.probe,
        clusters=len(chosen.cluster.unique()),
        untrained=found.table.untrained,
        level=LEVEL,
        seed=asked.seed,
        command=_command(asked, name, found.table.untrained),
        package=version("svae-batteries"),
        torch=torch.__version__,
        cells=tuple(_cell(name, cell, asked.references[name], found.spectra.get(name)) for name, cell in cells.items()),
        pairs=pairs,
        related=sum(pair.related for pair in pairs),
        swaps=swaps,
        warnings=(*found.warnings, *_too_few(found.table.untrained, len(pairs))),
        page=None,
        path=None,
        manifest=None,
    )
    return Compared(answer, found.maps, container.lock)


def _figures(container: Container, images: Tensor, chosen: Probe, asked: Asked, run: Run | None) -> _Figures:
    """Compute scores, spectra, swaps and maps, and collect the distinct warnings."""
    how: dict[str, Any] = {"tokens": asked.tokens, "clusters": chosen.cluster, "seed": asked.seed}
    on_grid = {**how, "grid": asked.grid}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", composer.procrustes.FewSamplesWarning)
        table = composer.compare(container, images, untrained=asked.untrained, run=run, **on_grid)
        spectra = composer.spectra(container, images, **on_grid) if asked.page else {}
        ordered = permutations(container.names, 2)
        swaps = [composer.swap(container, *names, images, **how) for names in ordered] if asked.swap else None
        maps = composer.align(container, images, **on_grid) if asked.maps else None
    return _Figures(table, spectra, swaps, maps, tuple(dict.fromkeys(str(one.message) for one in caught)))


def _own_probe(cells: Iterable[Cell]) -> tuple[str, str]:
    """Choose the probe by the cells' training data, and give the reason."""
    data = [cell.manifest.training.data for cell in cells]
    learned = {one.kind for one in data}
    if learned == {"photos"}:
        return "photos-64", "all cells learned photographs"
    mixes = {one.noise_mix for one in data if one.kind == "noise"}
    if len(mixes) > 1:
        return "noise16-64", "cells learned noise of several mixes"
    name = batteries.own_probe("noise", 64, *mixes)
    return name, "all cells learned noise" if learned == {"noise"} else "some cells learned noise, some photographs"


def _cell(name: str, cell: Cell, reference: Reference, spectrum: Spectrum | None) -> AlignedCell:
    return AlignedCell(
        cell=name,
        reference=str(reference),
        version=cell.version,
        sha256=cell.digest,
        tensors=cell.manifest.file.tensor_digest,
        D=cell.spec.D,
        spectrum=None if spectrum is None else SpectrumFigure.of(spectrum),
    )


def _command(asked: Asked, probe: str, untrained: int) -> str:
    """Return the command that repeats the comparison, independent of later defaults and versions."""
    words = ["batteries", "align", *map(str, asked.references.values())]
    words += ["--tokens", asked.tokens, "--grid", asked.grid, "--probe", probe]
    words += ["--untrained", str(untrained), "--seed", str(asked.seed), *(["--swap"] if asked.swap else [])]
    words += ["--html", asked.page.name] if asked.page else []
    return shlex.join([*words, *(["--registry", asked.registry] if asked.registry else [])])


def _too_few(untrained: int, pairs: int) -> list[str]:
    """Return a warning if even the lowest possible p-value is too high for this number of pairs."""
    lowest = 1 / (1 + untrained) ** 2
    if not untrained or pairs * lowest <= LEVEL:
        return []
    of = counted(pairs, "pair")
    words = f"{untrained} untrained cells at each end give p-values of {number(lowest, 2)} or more, too high for {of}"
    return [f"{words}: {composer.alignment.untrained_for(pairs, LEVEL)} are enough"]


def _sentences(pairs: Sequence[PairFigure], swaps: Sequence[SwapFigure] | None) -> list[str]:
    """Summarise pairs and swaps in sentences."""
    related = [pair for pair in pairs if pair.related]
    verb = "are" if len(related) > 1 else "is"
    words = [
        f"{len(related) or 'None'} of {counted(len(pairs), 'pair')} {verb} related at {LEVEL:.0%} after Holm's correction."
    ]
    if related:
        lifts, over = [pair.lift for pair in related], [pair.lift_over_untrained for pair in related]
        known = [lift for lift in over if lift is not None]
        more = f"; beyond untrained cells, {_range(known)}" if known else ""
        words.append(f"Beyond shuffled pairings, they predict {_range(lifts)} of each other's variance{more}.")
    if pairs[0].untrained is None:
        words.append("Untrained cells were left out: two functions of one image agree by themselves.")
    if swaps is not None:
        words.append(_of_swaps(swaps))
    return words


def _of_swaps(swaps: Sequence[SwapFigure]) -> str:
    carried = [swap for swap in swaps if swap.carries]
    if not carried:
        return f"In none of {len(swaps)} swaps do the target's own tokens carry enough for a share to be informative."
    better = sum(swap.low is not None and swap.low > 0 for swap in carried)
    words = f"In {better} of {len(swaps)} swaps the source's tokens are of use to the target"
    none = len(swaps) - len(carried)
    return f"{words}; in {none} the target's own carry almost nothing." if none else f"{words}."


def _range(values: Sequence[float]) -> str:
    low, high = number(min(values), 3), number(max(values), 3)
    return low if low == high else f"{low} to {high}"
