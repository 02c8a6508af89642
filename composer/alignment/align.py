"""Alignment of the tokens of a container's cells, and addition of new cells to an existing alignment.

Rows are paired by image region, on the coarsest grid of the cells; with ``grid="exact"`` all cells must have the same grid.
"""

from __future__ import annotations

from collections import Counter
from typing import get_args

import torch
from torch import Tensor

from batteries.engine.torch_settings import neutral
from batteries.errors import InputError, IntegrityError
from batteries.text import listed
from composer.alignment.probe_images import ProbeImages, images_on
from composer.alignment.tokens import TAPPED, of
from composer.container.container import Container
from composer.grids import coarsest
from composer.procrustes.consensus import Consensus, consensus, joined
from composer.procrustes.provenance import digest_of
from composer.vocabulary import Grid, GridChoice, TokenKind


@neutral()
@torch.no_grad()
def align(
    container: Container,
    images: ProbeImages,
    *,
    tokens: TokenKind = "omega",
    grid: GridChoice = "coarsest",
    clusters: Tensor | None = None,
    seed: int = 0,
) -> Consensus:
    """Fit and score one map per cell into a consensus frame, on tokens paired by image region.

    Tokens of narrower cells are padded with zeros to the widest. The container is not changed: to map its omega, assign the
    result to its ``consensus``.

    Args:
        container: Cells to align.
        images: Images (B, channels, height, width) in the cells' input scale, or a probe or its name. Maps are fitted on all
            of them and scored on halves.
        tokens: Kind of tokens, see :mod:`composer.alignment.tokens`.
        grid: ``coarsest`` averages the tokens of finer cells over the regions of the coarsest grid; ``exact`` refuses them.
        clusters: Cluster labels (B,), integers: images of one cluster, such as crops of one photograph, stay in one half.
            Defaults to one cluster per image.
        seed: Seed of the split into halves and of the shuffles.

    Raises:
        InputError: unknown kind of tokens (``TOKENS``), grids that do not nest or are not equal (``GRIDS``), cells with
            different numbers of rows (``ROWS``), tokens that are constant or not finite, or fewer than four images.

    Warns:
        FewSamplesWarning: fewer rows than dimensions.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "high/fresnel-64"))
    >>> consensus = composer.align(model, batteries.probe("photos-64").images[:8])
    >>> consensus.width, consensus.grid
    (16, (4, 4))
    >>> model.consensus = consensus  # from now on the model's omega is mapped
    """
    images = images_on(container.scale, images)
    found, regions = paired(container, images, tokens, grid)
    probe, ends = digest_of(images), container.ends
    return consensus(found, kind=tokens, grid=regions, probe=probe, ends=ends, clusters=clusters, seed=seed)


@neutral()
@torch.no_grad()
def join(
    before: Consensus, container: Container, images: ProbeImages, *, clusters: Tensor | None = None, seed: int = 0
) -> Consensus:
    """Add new cells to a consensus, with one map each into its frame; the frame and the other maps stay unchanged.

    Use :func:`composer.procrustes.change` to measure how much the frame would move if it were refitted with the new cells.

    Args:
        before: Consensus to extend.
        container: New cells only.
        images: Images, or the probe, from which the frame was made.
        clusters: Cluster labels (B,), see :func:`align`.
        seed: Seed of the split into halves and of the shuffles.

    Raises:
        IntegrityError: images other than those of the frame (``OTHER_PROBE``).
        ConflictError: a name that the consensus already has (``TWICE``).
        InputError: a cell wider than the frame (``WIDER``), a grid that does not subdivide the frame's regions (``GRIDS``),
            or the errors of :func:`align`.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64", "high/fresnel-64"))
    >>> images = batteries.probe("photos-64").images[:8]
    >>> consensus = composer.align(model.cells("low/*"), images)
    >>> composer.join(consensus, model.cells("high/*"), images).names
    ('low/fresnel-64', 'low/johanna-64', 'high/fresnel-64')
    """
    images = images_on(container.scale, images)
    container.fitting(images)
    probe = digest_of(images)
    if probe != before.probe:
        raise IntegrityError(
            "probe mismatch",
            code="OTHER_PROBE",
            expected=before.probe,
            found=probe,
            remedy="Join on the same images, or align all cells again.",
        )
    found = tokens_on(before.grid, container, images, before.kind)
    _refuse_other_rows(found, before.frame.tokens.shape[0] // len(images))
    return joined(before, found, ends=container.ends, clusters=clusters, seed=seed)


@neutral()
def paired(container: Container, images: Tensor, tokens: TokenKind, grid: GridChoice) -> tuple[dict[str, Tensor], Grid]:
    """Return the tokens (B, G, width) of every cell by name, on one grid, and that grid.

    Raises:
        InputError: as in :func:`align`, except for constant tokens.
    """
    if tokens not in get_args(TokenKind):
        raise InputError("unknown kind of tokens", code="TOKENS", expected=" | ".join(get_args(TokenKind)), found=tokens)
    if grid not in get_args(GridChoice):
        raise InputError("unknown grid", code="GRIDS", expected=" | ".join(get_args(GridChoice)), found=grid)
    size = container.fitting(images).shape[2:]
    grids = {name: container.spec(name).grid(*size) for name in container.names}
    if grid == "exact":
        _refuse_other_grids(grids)
    regions = coarsest(list(grids.values()))
    found = tokens_on(regions, container, images, tokens)
    _refuse_other_rows(found, next(iter(found.values())).shape[1])
    return found, regions


def tokens_on(grid: Grid, container: Container, images: Tensor, tokens: TokenKind) -> dict[str, Tensor]:
    """Return the tokens of every cell by name, on a grid.

    Raises:
        InputError: a cell whose grid does not subdivide ``grid`` (``GRIDS``), or tokens that are not finite (``NOT_FINITE``).
    """
    found = {}
    # M is large: run one cell at a time
    images = container.fitting(images)
    parts = [container.names] if TAPPED[tokens] != "M" else [(name,) for name in container.names]
    for names in parts:
        for name, cell in container(images, (TAPPED[tokens],), names).items():
            found[name] = of(cell, tokens, grid)
    wrong = [name for name, own in found.items() if not bool(own.isfinite().all())]
    if wrong:
        remedy = "Check the images for NaN, and the weights with container.verify()."
        raise InputError("tokens not finite", code="NOT_FINITE", found=listed(wrong), where="cells", remedy=remedy)
    return found


def _refuse_other_grids(grids: dict[str, Grid]) -> None:
    """Refuse cells whose grid is not the most common one."""
    usual = Counter(grids.values()).most_common(1)[0][0]
    other = [f"{name} {rows} x {columns}" for name, (rows, columns) in grids.items() if (rows, columns) != usual]
    if other:
        raise InputError(
            "cells with different grids",
            code="GRIDS",
            expected=f"{usual[0]} x {usual[1]} patches of each",
            found=listed(other),
            remedy="Select cells of one grid with container.cells(...), or use grid='coarsest', which averages over regions.",
        )


def _refuse_other_rows(found: dict[str, Tensor], expected: int) -> None:
    """Refuse cells with more or fewer tokens per image than the others, as rows of M have where V differs."""
    other = [f"{name} {own.shape[1]}" for name, own in found.items() if own.shape[1] != expected]
    if other:
        raise InputError(
            "cells with different numbers of rows of M",
            code="ROWS",
            expected=f"{expected} rows per image",
            found=listed(other),
            remedy="Use cells of one V, or tokens='moment', which does not depend on the number of rows.",
        )
