"""Conversion of a model's consensus and its relays' maps to and from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from batteries.errors import InputError
from composer.artifact.model.document import Artifact, SavedFrame, SavedMap, SavedRelay
from composer.procrustes.consensus import Consensus
from composer.procrustes.generalized import Frame
from composer.procrustes.provenance import Pairing, digest_of
from composer.procrustes.similarity import Alignment
from composer.sealed.tensor_views import array

if TYPE_CHECKING:
    Arrays = dict[str, np.ndarray]

MAP = ("rotation", "centre", "translation")  # tensors of a map


def frame_of(consensus: Consensus | None) -> SavedFrame | None:
    """Return a consensus as part of a document.

    Raises:
        IntegrityError: maps into another frame (``END_CHANGED``).
        InputError: a frame with rows that no cell has (``PARTS``).
    """
    if consensus is None:
        return None
    frame, target = consensus.frame, digest_of(consensus.frame.tokens)
    for name, pairing in zip(consensus.names, consensus.pairings, strict=True):
        pairing.check(target=target, where=name)
    if not bool(frame.rows.all()):
        remedy = "Align cells on images that all of them accept."
        raise InputError("frame with rows that no cell has", code="PARTS", found=int((~frame.rows).sum()), remedy=remedy)
    return SavedFrame(
        width=consensus.width,
        rows=len(frame.rows),
        residual=frame.residual,
        grid=consensus.grid,
        probe=consensus.probe,
        maps=tuple(SavedMap(**_facts(one)) for one in consensus.maps),
        scores=consensus.scores,
    )


def arrays_of(consensus: Consensus) -> Arrays:
    """Return the tensors of a consensus, by their names in the file."""
    stacked = {f"frame.{part}": np.stack([array(getattr(one, part), torch.float64) for one in consensus.maps]) for part in MAP}
    return {"frame.tokens": array(consensus.frame.tokens, torch.float64), **stacked}


def relay_of(one: Alignment) -> SavedRelay:
    """Return a relay's map as part of a document."""
    return SavedRelay(**_facts(one), width=len(one.centre))


def consensus_of(artifact: Artifact, saved: SavedFrame, parts: Mapping[str, Tensor]) -> Consensus:
    """Build a consensus from its document and tensors."""
    tokens = parts["tokens"]
    frame = Frame(tokens, torch.ones(len(tokens), dtype=torch.bool), saved.residual)
    pairing = Pairing("omega", saved.grid, saved.probe, "", digest_of(tokens))
    maps = []
    for row, (cell, one) in enumerate(zip(artifact.cells, saved.maps, strict=True)):
        found = map_of(one, {part: parts[part][row] for part in MAP})
        padded = saved.width - artifact.groups[cell.group].D, 0
        maps.append(replace(found, padded=padded, pairing=replace(pairing, source=cell.tensors)))
    names = tuple(cell.name for cell in artifact.cells)
    return Consensus(names, tuple(maps), frame, saved.scores, "omega", saved.grid, saved.probe)


def map_of(saved: SavedMap, tensors: Mapping[str, Tensor]) -> Alignment:
    """Build a map from its document and tensors."""
    rotation, centre, translation = (tensors[part] for part in MAP)
    scale, residual, determinant = (
        torch.tensor(value, dtype=torch.float64) for value in (saved.scale, saved.residual, saved.determinant)
    )
    return Alignment(rotation, scale, centre, translation, residual, determinant, torch.tensor(saved.paired))


def _facts(one: Alignment) -> dict[str, Any]:
    whole = {"determinant": int(one.determinant), "paired": int(one.paired)}
    return {"scale": float(one.scale), "residual": float(one.residual), **whole}
