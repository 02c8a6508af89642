"""Related cells: those of the same V and D whose tokens a rotation maps closest, found without comparing all pairs.

The candidates of a cell are the few cells whose images are most alike in their mean tokens: the inner products of the centred
means, which no rotation changes (linear CKA: Kornblith et al., ICML 2019). Only these are aligned, so that the work grows with
the number of cells. The residual of an alignment is the share of the variance that rotation, scale and shift leave; it is that
of the rows of the fit, and so given beside the residual of the same rows with the images exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composer import procrustes
from registry.site.contents import CellEntry
from registry.site.signatures import SETS, Shown

CANDIDATES = 12  # aligned with each cell
RELATED = 6  # shown of these
DIGITS = 4  # of a residual; later ones may differ between two computations
SHIFTS = (1, 3, 5, 7, 9, 11, 13)  # places by which images are exchanged


@dataclass(frozen=True)
class Related:
    """A cell related to another.

    Attributes:
        entry: Cell.
        residual: Share of the variance of its tokens that the other's leave, after rotation, scale and shift.
        exchanged: Mean of the same where images are exchanged.
        probe: Name of the images.
    """

    entry: CellEntry
    residual: float
    exchanged: float
    probe: Shown


@dataclass(frozen=True, eq=False)
class _Group:
    """Cells of one V and D, of tokens on the same regions, with their signatures."""

    entries: Sequence[CellEntry]
    tokens: Sequence[Mapping[Shown, Tensor]]
    places: Tensor  # of those that others may be related to


def related(tokens: Mapping[str, Mapping[Shown, Tensor]], entries: Sequence[CellEntry]) -> dict[str, list[Related]]:
    """Return the related cells of each, the closest first, by its reference.

    A cell is related to the newest versions of others, and to none of its own name.

    Args:
        tokens: Tokens (B, G, D) by reference and set of images; none of a cell that is not compared.
        entries: Cells.
    """
    groups: dict[tuple[int, ...], list[CellEntry]] = {}
    for entry in entries:
        if own := tokens[entry.reference]:
            groups.setdefault((*entry.group, next(iter(own.values())).shape[1]), []).append(entry)
    found: dict[str, list[Related]] = {entry.reference: [] for entry in entries}
    for members in groups.values():
        targets = [place for place, one in enumerate(members) if one.newest and one.yanked is None]
        group = _Group(members, [tokens[one.reference] for one in members], torch.tensor(targets, dtype=torch.long))
        signatures = {name: _signatures(group, name) for name in SETS}
        for place, entry in enumerate(members):
            found[entry.reference] = _closest(group, place, signatures)
    return found


def _signatures(group: _Group, name: Shown) -> Tensor:
    """Return the signatures (C, B B) of a group's cells, of unit length; zeros for a cell without these images."""
    rows = []
    for own in group.tokens:
        means = own[name].mean(dim=1) if name in own else torch.zeros_like(next(iter(own.values())).mean(dim=1))
        centred = means - means.mean(dim=0)
        gram = (centred @ centred.T).flatten()
        rows.append(gram / gram.norm().clamp_min(1e-300))
    return torch.stack(rows)


def _closest(group: _Group, place: int, signatures: Mapping[Shown, Tensor]) -> list[Related]:
    """Align a cell with its candidates, and return the closest."""
    own = group.tokens[place]
    others = [at for at in group.places.tolist() if group.entries[at].path != group.entries[place].path]
    if not others:
        return []
    names: list[Shown] = [
        "photos-64" if "photos-64" in own and "photos-64" in group.tokens[at] else "noise16-64" for at in others
    ]
    alike = torch.stack([signatures[name][at] @ signatures[name][place] for at, name in zip(others, names, strict=True)])
    chosen = alike.argsort(descending=True, stable=True)[:CANDIDATES].tolist()
    sources = torch.stack([own[names[n]] for n in chosen])  # (K, B, G, D)
    targets = torch.stack([group.tokens[others[n]][names[n]] for n in chosen])
    residuals = _residuals(sources, targets)
    best = residuals.round(decimals=DIGITS).argsort(stable=True)[:RELATED].tolist()
    rolled = torch.cat([sources[best].roll(shift, dims=1) for shift in SHIFTS])
    exchanged = _residuals(rolled, targets[best].repeat(len(SHIFTS), 1, 1, 1)).unflatten(0, (len(SHIFTS), -1)).mean(dim=0)
    return [
        Related(
            group.entries[others[chosen[n]]],
            round(float(residuals[n]), DIGITS),
            round(float(exchanged[k]), DIGITS),
            names[chosen[n]],
        )
        for k, n in enumerate(best)
    ]


def _residuals(sources: Tensor, targets: Tensor) -> Tensor:
    """Return the residual (K,) of the best rotation, scale and shift between paired tokens (K, B, G, D)."""
    return procrustes.fit(sources.flatten(1, 2), targets.flatten(1, 2)).residual
