"""Parts of a comparison that do not depend on each other: untrained cells in groups, and pairs in chunks.

Each is a task, for this process or for an engine; a part's numbers do not depend on where it is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from batteries.cell.manifest import InputScale
from batteries.cell.spec import CellSpec
from batteries.engine.task_runner import Run, gathered
from batteries.engine.tasks import Task
from batteries.engine.torch_settings import neutral
from composer.alignment.untrained_null import seed_groups, untrained_group
from composer.container.container import Container
from composer.procrustes.score_document import Score
from composer.procrustes.scores import score
from composer.vocabulary import Grid, TokenKind

PAIRS_TOGETHER = 8  # of a task, which takes seconds

Names = tuple[str, str]
Scored = tuple[Score, tuple[Warning, ...]]


@dataclass(frozen=True, eq=False)
class Untrained:
    """Untrained cells to run.

    Attributes:
        specs: Their specs.
        count: Number of cells of each spec.
        images: Images (B, channels, height, width) in the cells' input scale.
        kind: Kind of tokens.
        grid: Rows and columns of regions.
    """

    specs: tuple[CellSpec, ...]
    count: int
    images: Tensor
    kind: TokenKind
    grid: Grid


def computed(
    run: Run, fresh: Untrained, like: Container, tokens: Mapping[str, Tensor], pairs: Sequence[Names], how: Mapping[str, Any]
) -> tuple[list[Score], dict[CellSpec, list[Tensor]]]:
    """Return the score of each pair, and the tokens of untrained cells by spec.

    Args:
        run: Function that runs tasks.
        fresh: Untrained cells.
        like: Container whose dtype, device and input scale the untrained cells take.
        tokens: Tokens (B, G, width) of each cell, by name.
        pairs: Names of source and target of each pair.
        how: Further arguments of :func:`composer.procrustes.score`.

    Raises:
        BatteriesError: first error of a part.
    """
    groups = {
        f"untrained-{place}-{seeds.start}": (spec, seeds)
        for place, spec in enumerate(fresh.specs)
        for seeds in seed_groups(spec, fresh.count)
    }
    chunks = {f"pairs-{start}": pairs[start : start + PAIRS_TOGETHER] for start in range(0, len(pairs), PAIRS_TOGETHER)}
    stack = like.groups[0].stack
    made = (stack.dtype, str(stack.device), like.scale, fresh.images, fresh.kind, fresh.grid)
    tasks = [Task(name, _untrained, (*group, *made)) for name, group in groups.items()]
    tasks += [Task(name, _scored, (_tokens_of(chunk, tokens), chunk, how)) for name, chunk in chunks.items()]
    found = gathered(run(tasks))
    draws: dict[CellSpec, list[Tensor]] = {}
    for name, (spec, _) in groups.items():
        draws.setdefault(spec, []).extend(found[name])
    return list(_warned(scored for name in chunks for scored in found[name])), draws


def _warned(found: Iterable[Scored]) -> Iterator[Score]:
    """Yield scores, and repeat the warnings that came with them."""
    for one, caught in found:
        for warning in caught:
            warnings.warn(warning, stacklevel=4)
        yield one


def _tokens_of(pairs: Sequence[Names], tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tokens[name] for name in dict.fromkeys(name for names in pairs for name in names)}


@neutral()
@torch.no_grad()
def _untrained(
    spec: CellSpec,
    seeds: range,
    dtype: torch.dtype,
    device: str,
    scale: InputScale,
    images: Tensor,
    kind: TokenKind,
    grid: Grid,
) -> list[Tensor]:
    return [own.cpu() for own in untrained_group(spec, seeds, dtype, device, scale, images, kind, grid)]


@neutral()
@torch.no_grad()
def _scored(tokens: Mapping[str, Tensor], pairs: Sequence[Names], how: Mapping[str, Any]) -> list[Scored]:
    """Score pairs, each with its warnings."""
    found = []
    for source, target in pairs:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one = score(tokens[source], tokens[target], **how)
        found.append((one, tuple(row.message for row in caught if isinstance(row.message, Warning))))
    return found
