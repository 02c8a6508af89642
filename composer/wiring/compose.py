"""Composition of cells into a container: grouped by spec, stacked, locked, and their tokens aligned.

Cells can share a container if they take the same images: the same channels on the same input scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import torch

from batteries.cell.cell import Cell
from batteries.cell.spec import CellSpec
from batteries.engine import parallel
from batteries.engine.torch_settings import neutral
from batteries.errors import ConflictError, InputError, PolicyError
from composer.alignment.align import align
from composer.alignment.probe_images import ProbeImages, images_on
from composer.container.container import Container
from composer.container.frozen_weights import Stack
from composer.container.spec_group import Group
from composer.procrustes.consensus import Consensus

DTYPES = (torch.float32, torch.float64)
SHOWN = 6  # names in a message


@neutral()
def compose(
    cells: Cell | Iterable[Cell] | Mapping[str, Cell],
    probe: ProbeImages | None = None,
    *,
    maps: Consensus | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Container:
    """Put cells into one frozen container, and align their omega tokens on images or by existing maps.

    Args:
        cells: Cells, one or more, of the same channels and input normalisation; specs may differ. A mapping names the cells;
            otherwise each is named ``band/name``, which must be unique.
        probe: Images (B, channels, height, width) in the cells' input scale, or a probe or its name, whose images are brought
            to it. The alignment is fitted on all of them and scored on halves. Without a probe or maps, tokens stay in each
            cell's own coordinates.
        maps: Consensus with maps for all of the cells, matched by the digests of their weights.
        seed: Seed of the alignment's halves and shuffles.
        dtype: Dtype of weights and arithmetic: float32, as cells are stored, or float64. Outputs have that of the images.

    Raises:
        InputError: nothing to compose, unsupported dtype, a probe that the cells cannot take, or both a probe and maps
            (``PROBE_AND_MAPS``).
        ConflictError: duplicate name (``TWICE``).
        PolicyError: cells with different channels or input normalisation (``MIXED_INPUT``), or maps of tokens other than
            omega (``TOKENS``).
        NotFoundError: a cell without a map in ``maps`` (``NO_MAP``).
        IntegrityError: weights that differ from those of a cell's manifest (``TENSOR_DIGEST``), or from those that its map
            was fitted on (``END_CHANGED``).

    >>> import batteries, composer, registry
    >>> cells = registry.pull("low/fresnel-64", "high/fresnel-64")
    >>> images = batteries.probe("photos-64").images[:4]
    >>> model = composer.compose(cells, probe=images)
    >>> model(images).error.shape
    torch.Size([4, 2])
    """
    named = named_cells(cells)
    parallel.run(list(named.items()), lambda pair: pair[1].refuse_other_weights(pair[0]))
    if dtype not in DTYPES:
        raise InputError("unsupported dtype of a container", code="DTYPE", expected="float32 or float64", found=dtype)
    if probe is not None and maps is not None:
        remedy = "Pass maps to use them unchanged, or a probe to align again."
        raise InputError("both probe and maps given", code="PROBE_AND_MAPS", expected="one of them", remedy=remedy)
    _refuse_mixture(named)
    specs: dict[CellSpec, list[str]] = {}
    for name, cell in named.items():
        specs.setdefault(cell.spec, []).append(name)
    groups = [Group(spec, Stack.of([named[name].weights for name in names], dtype)) for spec, names in specs.items()]
    found = {name: (group, index) for group, names in enumerate(specs.values()) for index, name in enumerate(names)}
    places = {name: found[name] for name in named}
    container = Container(groups, places, _lock(named), next(iter(named.values())).manifest.identity.input)
    if probe is not None:
        container.consensus = align(container, images_on(container.scale, probe), seed=seed)
    if maps is not None:
        container.consensus = maps.for_cells(container.ends)
    return container


def named_cells(cells: Cell | Iterable[Cell] | Mapping[str, Cell]) -> dict[str, Cell]:
    """Name cells as :func:`compose` does.

    Raises:
        InputError: no cells (``NO_CELLS``), or values that are not cells (``CELLS``).
        ConflictError: duplicate name (``TWICE``).
    """
    listed = list(cells.items()) if isinstance(cells, Mapping) else [(_name_of(cell), cell) for cell in _each(cells)]
    wrong = [repr(name)[:40] for name, cell in listed if not (isinstance(name, str) and isinstance(cell, Cell))]
    if wrong:
        raise _not_cells(", ".join(wrong[:SHOWN]))
    twice = sorted(name for name, count in Counter(name for name, _ in listed).items() if count > 1)
    if twice:
        remedy = "Omit one, or name the cells in a mapping: compose({'first': ..., 'second': ...})."
        raise ConflictError("duplicate cell", code="TWICE", found=", ".join(twice), remedy=remedy)
    if not listed:
        raise InputError("nothing to compose", code="NO_CELLS", expected="at least one cell", found="none")
    return dict(listed)


def _each(cells: Cell | Iterable[Cell]) -> list[Cell]:
    if isinstance(cells, Cell):
        return [cells]
    if isinstance(cells, str) or not isinstance(cells, Iterable):
        raise _not_cells(repr(cells)[:40])
    return list(cells)


def _name_of(cell: Cell) -> str:
    return cell.name if isinstance(cell, Cell) else repr(cell)[:40]


def _not_cells(found: str) -> InputError:
    remedy = "Get cells with registry.pull('band/name', ...)."
    return InputError("not cells", code="CELLS", expected="cells, or a mapping of names to cells", found=found, remedy=remedy)


def _lock(cells: Mapping[str, Cell]) -> dict[str, dict[str, str]]:
    return {
        name: {"cell": cell.name, "version": cell.version, "sha256": cell.digest, "tensors": cell.manifest.file.tensor_digest}
        for name, cell in cells.items()
    }


def _refuse_mixture(cells: Mapping[str, Cell]) -> None:
    (name, first), *others = cells.items()
    for other, cell in others:
        for what, mine, theirs in (
            ("channels", first.spec.channels, cell.spec.channels),
            ("input normalisation", first.manifest.identity.input, cell.manifest.identity.input),
        ):
            if mine != theirs:
                raise PolicyError(
                    f"cells with different {what}",
                    code="MIXED_INPUT",
                    expected=f"{mine} as in {name}",
                    found=theirs,
                    where=other,
                    remedy="Compose two containers, each with its own images.",
                )
