"""Maps between cells as one file, saved and loaded bit by bit.

Every loaded map has the digests of its ends from the fit, so that its users can compare them with their cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer.artifact.form import CellOrigins
from composer.artifact.maps.document import CellMap, CellTarget, FrameTarget, SavedMaps
from composer.artifact.model.consensus import MAP
from composer.artifact.model.document import NamedCell
from composer.procrustes.consensus import Consensus
from composer.procrustes.generalized import Frame
from composer.procrustes.provenance import Pairing, digest_of
from composer.procrustes.similarity import Alignment
from composer.procrustes.whitening import Whitening
from composer.sealed.reader import Opened
from composer.sealed.tensor_views import array, views
from composer.vocabulary import Grid, TokenKind

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

WHITENING = ("before", "after")  # tensors of a whitened map, in addition to those of any map


def take_apart(maps: Consensus | Alignment, lock: CellOrigins) -> tuple[dict[str, Any], Arrays]:
    """Return the fields of the document of maps, and their tensors.

    Args:
        maps: Maps with both ends by digest, as made by :func:`composer.align`.
        lock: Version and digests of at least these cells, by name, as in ``container.lock``.

    Raises:
        InputError: a batch of maps, or maps whose tokens are not of cells (``NO_ENDS``), maps of different fits (``PARTS``), or
            cells that the lock lacks (``LOCK``).
        IntegrityError: maps fitted on other weights, or into another frame (``END_CHANGED``).
    """
    return _of_consensus(maps, lock) if isinstance(maps, Consensus) else _of_direct(maps, lock)


def _of_consensus(maps: Consensus, lock: CellOrigins) -> tuple[dict[str, Any], Arrays]:
    """Return the fields and tensors of a consensus."""
    frame, pairings = maps.frame, [_pairing(one) for one in maps.maps]
    sources, target = _tensors(lock), digest_of(frame.tokens)
    for name, pairing in zip(maps.names, pairings, strict=True):
        pairing.check(source=sources.get(name), target=target, where=name)
    arrays = {"frame.tokens": array(frame.tokens, torch.float64), "frame.rows": array(frame.rows, torch.bool)}
    fields = {
        **_fit({(maps.kind, maps.grid, maps.probe), *(_fitted_on(one) for one in pairings)}),
        "target": FrameTarget(rows=len(frame.tokens), width=maps.width, residual=frame.residual),
        "maps": tuple(_cell_map(one, _named(name, lock)) for name, one in zip(maps.names, maps.maps, strict=True)),
        "scores": maps.scores,
    }
    return fields, arrays | _parts(maps.maps)


def _of_direct(one: Alignment, lock: CellOrigins) -> tuple[dict[str, Any], Arrays]:
    """Return the fields and tensors of a map from one cell to another."""
    pairing = _pairing(one)
    names = {digest: name for name, digest in _tensors(lock).items()}
    source, target = (_named(names.get(end, end), lock) for end in (pairing.source, pairing.target))
    fields = {
        **_fit({_fitted_on(pairing)}),
        "target": CellTarget(**target.model_dump()),
        "maps": (_cell_map(one, source),),
        "scores": (),
    }
    return fields, _parts([one])


def _fitted_on(pairing: Pairing) -> tuple[TokenKind, Grid, str]:
    return pairing.kind, pairing.grid, pairing.probe


def _fit(fits: Set[tuple[TokenKind, Grid, str]]) -> dict[str, Any]:
    """Return kind of tokens, grid and probe, which all maps of a file must share."""
    if len(fits) != 1:
        expected, remedy = "one kind of token, grid and probe", "Align all cells together, or save the maps in separate files."
        raise InputError("maps of different fits", code="PARTS", expected=expected, found=len(fits), remedy=remedy)
    ((tokens, grid, probe),) = fits
    return {"tokens": tokens, "grid": grid, "probe": probe}


def _pairing(one: Alignment) -> Pairing:
    """Return the ends of a map, which must be known."""
    if one.rotation.ndim != 2 or one.pairing is None or not one.pairing.probe:
        remedy = "Align the cells with composer.align, or set the map's pairing."
        expected = "one map between cells, with both ends by digest"
        raise InputError("map with unknown ends", code="NO_ENDS", expected=expected, remedy=remedy)
    return one.pairing


def _tensors(lock: CellOrigins) -> dict[str, str]:
    """Return the digest of each cell's weights, by name."""
    if isinstance(lock, Mapping) and all(isinstance(row, Mapping) and "tensors" in row for row in lock.values()):
        return {name: row["tensors"] for name, row in lock.items()}
    raise InputError("not a lock", code="LOCK", expected="digests by cell, as in container.lock", found=repr(lock)[:80])


def _named(name: str, lock: CellOrigins) -> NamedCell:
    """Return the entry of a cell in a document."""
    if name not in lock:
        remedy = "Pass the lock of a container with all of the cells: container.lock."
        raise InputError("cell missing from the lock", code="LOCK", found=name, remedy=remedy)
    return NamedCell(**{**lock[name], "name": name})


def _cell_map(one: Alignment, source: NamedCell) -> CellMap:
    residual, whitening = float(one.residual), one.whitening
    rows, columns = one.rotation.shape
    return CellMap(
        source=source,
        shape=(rows, columns),
        padded=one.padded,
        scale=float(one.scale),
        residual=None if residual != residual else residual,
        determinant=int(one.determinant),  # type: ignore[arg-type]  # pydantic checks the value
        paired=int(one.paired),
        condition=None if whitening is None else tuple(whitening.condition.tolist()),
    )


def _parts(maps: Sequence[Alignment]) -> Arrays:
    """Return the tensors of maps, by their names in the file."""
    found: Arrays = {}
    for place, one in enumerate(maps):
        tensors = {part: getattr(one, part) for part in MAP}
        if one.whitening is not None:
            tensors |= {part: getattr(one.whitening, part) for part in WHITENING}
        found |= {f"maps.{place}.{part}": array(tensor, torch.float64) for part, tensor in tensors.items()}
    return found


@neutral()
def put_together(opened: Opened[SavedMaps]) -> Consensus | Alignment:
    """Build the maps of a file: a consensus, or the map from one cell to another.

    The ``pairing`` of every map has the digests of its ends and images; names and versions of all cells are in the document's
    ``lock``.
    """
    # maps are small: copy them, so that the file can be closed
    said, tensors = opened.document, {name: tensor.clone() for name, tensor in views(opened).items()}
    target = said.target
    end = target.tensors if isinstance(target, CellTarget) else digest_of(tensors["frame.tokens"])
    pairing = Pairing(said.tokens, said.grid, said.probe, "", end)
    maps = tuple(_alignment(one, place, tensors, pairing) for place, one in enumerate(said.maps))
    if isinstance(target, CellTarget):
        return maps[0]
    frame = Frame(tensors["frame.tokens"], tensors["frame.rows"], target.residual)
    names = tuple(one.source.name for one in said.maps)
    return Consensus(names, maps, frame, said.scores, said.tokens, said.grid, said.probe)


def _alignment(saved: CellMap, place: int, tensors: Mapping[str, Tensor], pairing: Pairing) -> Alignment:
    rotation, centre, translation = (tensors[f"maps.{place}.{part}"] for part in MAP)
    whitening = None
    if saved.condition is not None:
        before, after = (tensors[f"maps.{place}.{part}"] for part in WHITENING)
        whitening = Whitening(before, after, torch.tensor(saved.condition, dtype=torch.float64))
    residual = torch.nan if saved.residual is None else saved.residual
    return Alignment(
        rotation=rotation,
        scale=torch.tensor(saved.scale, dtype=torch.float64),
        centre=centre,
        translation=translation,
        residual=torch.tensor(residual, dtype=torch.float64),
        determinant=torch.tensor(saved.determinant, dtype=torch.float64),
        paired=torch.tensor(saved.paired),
        padded=saved.padded,
        whitening=whitening,
        pairing=Pairing(pairing.kind, pairing.grid, pairing.probe, saved.source.tensors, pairing.target),
    )
