"""Maps between cells as one file: saved from memory, and loaded back to the last bit.

Every map that is loaded has its ends by digest, as when it was fitted: what uses it compares them with the cells at hand.
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

WHITENING = ("before", "after")  # the tensors of a whitened map, beside those of any


def take_apart(maps: Consensus | Alignment, lock: CellOrigins) -> tuple[dict[str, Any], Arrays]:
    """What the document of maps says, and their tensors.

    Args:
        maps: With both ends by digest, as :func:`composer.align` makes them.
        lock: Version and digests of the cells by name, as ``container.lock`` has them; of more cells, if need be.

    Raises:
        InputError: a batch of maps or maps of tokens that are no cells' (``NO_ENDS``), maps of different fits (``PARTS``), or
            of cells that the lock does not have (``LOCK``).
        IntegrityError: maps that were fitted on other weights, or into another frame (``END_CHANGED``).
    """
    return _of_consensus(maps, lock) if isinstance(maps, Consensus) else _of_direct(maps, lock)


def _of_consensus(maps: Consensus, lock: CellOrigins) -> tuple[dict[str, Any], Arrays]:
    """What the document says of a consensus, and its tensors."""
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
    """What the document says of a map from a cell to another, and its tensors."""
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
    """What all maps of a file were fitted on."""
    if len(fits) != 1:
        expected, remedy = "one kind of token, grid and probe", "Align all cells at once, or save maps in files of their own."
        raise InputError("not maps of one fit", code="PARTS", expected=expected, found=len(fits), remedy=remedy)
    ((tokens, grid, probe),) = fits
    return {"tokens": tokens, "grid": grid, "probe": probe}


def _pairing(one: Alignment) -> Pairing:
    """Ends of one map."""
    if one.rotation.ndim != 2 or one.pairing is None or not one.pairing.probe:
        remedy = "Align the cells themselves with composer.align, or give the map its pairing."
        expected = "one map between cells, with both ends by digest"
        raise InputError("a map whose ends are not known", code="NO_ENDS", expected=expected, remedy=remedy)
    return one.pairing


def _tensors(lock: CellOrigins) -> dict[str, str]:
    """By name, the digest of each cell's weights."""
    if isinstance(lock, Mapping) and all(isinstance(row, Mapping) and "tensors" in row for row in lock.values()):
        return {name: row["tensors"] for name, row in lock.items()}
    raise InputError("not a lock", code="LOCK", expected="digests by cell, as container.lock has them", found=repr(lock)[:80])


def _named(name: str, lock: CellOrigins) -> NamedCell:
    """What a file says of a cell."""
    if name not in lock:
        remedy = "Give the lock of a container that has all of them: container.lock."
        raise InputError("a cell that the lock does not have", code="LOCK", found=name, remedy=remedy)
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
        determinant=int(one.determinant),  # type: ignore[arg-type]  # pydantic says which there are
        paired=int(one.paired),
        condition=None if whitening is None else tuple(whitening.condition.tolist()),
    )


def _parts(maps: Sequence[Alignment]) -> Arrays:
    """Tensors of maps, by their names in the file."""
    found: Arrays = {}
    for place, one in enumerate(maps):
        tensors = {part: getattr(one, part) for part in MAP}
        if one.whitening is not None:
            tensors |= {part: getattr(one.whitening, part) for part in WHITENING}
        found |= {f"maps.{place}.{part}": array(tensor, torch.float64) for part, tensor in tensors.items()}
    return found


@neutral()
def put_together(opened: Opened[SavedMaps]) -> Consensus | Alignment:
    """Maps of a file: a consensus, or the map from one cell to another.

    What they were fitted on is in the ``pairing`` of every map; names and versions of all cells are in the document's ``lock``.
    """
    # maps are small: they get memory of their own, and the file may go
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
