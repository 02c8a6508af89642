"""Untrained cells in place of a container's own: the similarity that two functions of one image have without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from batteries.cell import weights_file
from batteries.cell.manifest import InputScale
from batteries.cell.spec import CellSpec
from batteries.model.patch_svae import arrays_of, untrained
from batteries.packaging.package import UNTRAINED_SEED
from composer.alignment.align import tokens_on
from composer.container.container import Container
from composer.container.frozen_weights import Stack
from composer.container.spec_group import Group
from composer.procrustes.held_out import Split, r2_of, rows_of
from composer.procrustes.score_document import Null
from composer.procrustes.scores import TIE
from composer.vocabulary import Grid, TokenKind

TOGETHER = 2**22  # weights of cells run at a time: 16 MiB
CHUNK = 2**22  # numbers in the sums of pairs scored at a time: 32 MiB


def seed_groups(spec: CellSpec, count: int) -> list[range]:
    """Return the seeds of ``count`` untrained cells of a spec, in groups that are run at a time."""
    at_a_time = max(1, TOGETHER // spec.parameters)
    return [range(start, min(start + at_a_time, count)) for start in range(0, count, at_a_time)]


def untrained_group(
    spec: CellSpec,
    seeds: range,
    dtype: torch.dtype,
    device: torch.device | str,
    scale: InputScale,
    images: Tensor,
    tokens: TokenKind,
    grid: Grid,
) -> list[Tensor]:
    """Compute tokens (B, G, width) of untrained cells of a spec, from seeds that no training starts from.

    Args:
        spec: Spec of the untrained cells.
        seeds: Seeds of the cells, from 0.
        dtype: Type of their weights.
        device: Device that they run on.
        scale: Input scale of the cells.
        images: Images (B, channels, height, width) in that scale.
        tokens: Kind of tokens, see :mod:`composer.alignment.tokens`.
        grid: Rows and columns of regions.
    """
    weights = {f"untrained-{seed}": arrays_of(untrained(spec, UNTRAINED_SEED + seed)) for seed in seeds}
    group = Group(spec, Stack.of(list(weights.values()), dtype).to(device))
    lock = {name: {"tensors": weights_file.tensor_digest(arrays)} for name, arrays in weights.items()}
    cells = Container([group], {name: (0, place) for place, name in enumerate(weights)}, lock, scale)
    return list(tokens_on(grid, cells, images, tokens).values())


def untrained_nulls(
    tokens: Mapping[str, Tensor],
    specs: Mapping[str, CellSpec],
    draws: Mapping[CellSpec, Sequence[Tensor]],
    split: Split,
    pairs: Sequence[tuple[str, str]],
) -> list[Null]:
    """Compare each pair's R2 with that of pairs with an untrained cell at one end or both, see :mod:`composer.alignment.pairs`.

    Args:
        tokens: Tokens (B, G, width) of each cell, by name.
        specs: Spec of each cell, by name.
        draws: Tokens of 2 U untrained cells of each spec: the first U take a source's place, the others a target's.
        split: Halves of the images.
        pairs: Names of source and target of each pair.
    """
    own = {name: _rows(values, split) for name, values in tokens.items()}
    fresh = {spec: [_rows(values, split) for values in drawn] for spec, drawn in draws.items()}
    found: dict[tuple[str, str], Null] = {}
    by_specs: dict[tuple[CellSpec, CellSpec], list[tuple[str, str]]] = {}
    for source, target in pairs:
        by_specs.setdefault((specs[source], specs[target]), []).append((source, target))
    for (first, second), members in by_specs.items():
        count = len(fresh[first]) // 2
        sources, targets = (list(dict.fromkeys(names)) for names in zip(*members, strict=True))
        rows = [*fresh[first][:count], *(own[name] for name in sources)]
        columns = [*fresh[second][count:], *(own[name] for name in targets)]
        table = crossed(rows, columns, split)
        for source, target in members:
            row, column = count + sources.index(source), count + targets.index(target)
            found[source, target] = _null(table, row, column, count)
    return [found[names] for names in pairs]


def crossed(sources: Sequence[Tensor], targets: Sequence[Tensor], split: Split) -> Tensor:
    """Return held-out R2 (I, J) of I sources and J targets, each (B, G, its own W) from ``rows_of``."""
    found = torch.empty(len(sources), len(targets), dtype=torch.float64)
    for rows, columns in product(_by_width(sources), _by_width(targets)):
        y = torch.stack([targets[place] for place in columns])  # (J, B, G, W)
        widths = sources[rows[0]].shape[-1], y.shape[-1]
        for some in torch.tensor(rows).split(max(1, CHUNK // (2 * len(columns) * widths[0] * widths[1]))):
            x = torch.stack([sources[place] for place in some.tolist()])
            halves = [
                torch.einsum("inw,jnv->ijwv", x[:, half].flatten(1, 2), y[:, half].flatten(1, 2)) for half in split.halves
            ]
            sums = torch.stack(halves, dim=2)  # (I, J, 2, W, W)
            found[some[:, None], torch.tensor(columns)] = r2_of(sums.flatten(0, 1)).view(sums.shape[:2])
    return found


def _rows(tokens: Tensor, split: Split) -> Tensor:
    """Return tokens (B, G, width) in the order of the split, with the columns that their sums need."""
    return rows_of(tokens.double()[split.images], torch.ones(tokens.shape[:2], dtype=torch.bool))


def _by_width(rows: Sequence[Tensor]) -> list[list[int]]:
    places: dict[int, list[int]] = {}
    for place, own in enumerate(rows):
        places.setdefault(own.shape[-1], []).append(place)
    return list(places.values())


def _null(table: Tensor, row: int, column: int, count: int) -> Null:
    """Compare an entry with those of the ``count`` first rows and columns, and its own row and column crossed with these."""
    observed, untrained = float(table[row, column]), table[:count, :count]
    others = torch.cat([untrained.flatten(), table[row, :count], table[:count, column]])
    sd = float(untrained.std()) if count > 1 else 0.0
    return Null(float(untrained.mean()), sd, len(others), int((others >= observed - TIE).sum()))
