"""The tokens of a container's cells brought together: aligned, and new cells joined to what was aligned.

Rows pair by image region, on the coarsest grid of the cells or, with ``grid="exact"``, only where all have one grid.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

import torch
from torch import Tensor

from batteries.engine.torch_settings import neutral
from batteries.errors import InputError, IntegrityError
from batteries.io.text import listed
from composer.alignment.probe_images import ProbeImages, images_on
from composer.alignment.tokens import TAPPED, of
from composer.container.container import Container
from composer.grids import coarsest
from composer.procrustes.consensus import Consensus, consensus, joined
from composer.procrustes.provenance import digest_of
from composer.vocabulary import Grid, TokenKind

GridChoice = Literal["coarsest", "exact"]


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

    Tokens of narrower cells are padded with zeros to the widest. The container itself is left as it is: set its ``consensus``
    where its omega is to be mapped.

    Args:
        container: The cells.
        images: (B, channels, height, width) the maps are fitted on (all of them) and scored on (halves), in the cells' input
            scale; or a probe or its name.
        tokens: Which, see :mod:`composer.alignment.tokens`.
        grid: ``coarsest`` averages the tokens of finer cells over the regions of the coarsest; ``exact`` refuses them.
        clusters: (B,) integers, which images belong together, as crops of one photograph do; left out, each is by itself.
        seed: Of halves and shuffles.

    Raises:
        InputError: no such kind of token (``TOKENS``), grids that do not nest or are not one (``GRIDS``), rows of cells that
            have different numbers of them (``ROWS``), tokens that are constant or not finite, or fewer than four images.

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
    """New cells in a consensus: one map each into its frame, which stays as it is, and so do the maps of the others.

    What the frame would become if it were made again with them, :func:`composer.procrustes.change` says.

    Args:
        before: The consensus.
        container: The new cells, and no others.
        images: Those that the frame was made from, or that probe.
        clusters: As of :func:`align`.
        seed: As of :func:`align`.

    Raises:
        IntegrityError: other images (``OTHER_PROBE``).
        ConflictError: a name that the consensus has already (``TWICE``).
        InputError: a cell that is wider than the frame (``WIDER``), whose grid does not subdivide its regions (``GRIDS``), or
            as :func:`align` says.

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
            "not the images that the frame was made from",
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
    """Every cell's tokens (B, G, width), by name, on one grid, and that grid.

    Raises:
        InputError: as :func:`align`, but for tokens that are constant.
    """
    if tokens not in get_args(TokenKind):
        raise InputError("no such tokens", code="TOKENS", expected=" | ".join(get_args(TokenKind)), found=tokens)
    if grid not in get_args(GridChoice):
        raise InputError("no such grid", code="GRIDS", expected=" | ".join(get_args(GridChoice)), found=grid)
    size = container.fitting(images).shape[2:]
    grids = {name: container.spec(name).grid(*size) for name in container.names}
    if grid == "exact":
        _refuse_other_grids(grids)
    regions = coarsest(list(grids.values()))
    found = tokens_on(regions, container, images, tokens)
    _refuse_other_rows(found, next(iter(found.values())).shape[1])
    return found, regions


def tokens_on(grid: Grid, container: Container, images: Tensor, tokens: TokenKind) -> dict[str, Tensor]:
    """Every cell's tokens on a grid.

    Raises:
        InputError: a cell whose grid does not subdivide it (``GRIDS``), or tokens that are not finite (``NOT_FINITE``).
    """
    found = {}
    # matrices are large: of one cell at a time
    images = container.fitting(images)
    parts = [container.names] if TAPPED[tokens] != "M" else [(name,) for name in container.names]
    for names in parts:
        for name, cell in container(images, (TAPPED[tokens],), names).items():
            found[name] = of(cell, tokens, grid)
    wrong = [name for name, own in found.items() if not bool(own.isfinite().all())]
    if wrong:
        remedy = "Look for NaN in the images; container.verify() looks at the weights."
        raise InputError(
            "a probe on which tokens are not finite", code="NOT_FINITE", found=listed(wrong), where="cells", remedy=remedy
        )
    return found


def _refuse_other_grids(grids: dict[str, Grid]) -> None:
    """Cells whose grid is not that of most of them."""
    usual = Counter(grids.values()).most_common(1)[0][0]
    other = [f"{name} {rows} x {columns}" for name, (rows, columns) in grids.items() if (rows, columns) != usual]
    if other:
        raise InputError(
            "cells of different grids",
            code="GRIDS",
            expected=f"{usual[0]} x {usual[1]} patches of each",
            found=listed(other),
            remedy="Leave those out, container.cells(...) picks cells, or take grid='coarsest', which averages over regions.",
        )


def _refuse_other_rows(found: dict[str, Tensor], expected: int) -> None:
    """Cells that have more or fewer tokens of an image than the others, as rows of M have where V differs."""
    other = [f"{name} {own.shape[1]}" for name, own in found.items() if own.shape[1] != expected]
    if other:
        raise InputError(
            "cells whose rows of M do not pair, one by one",
            code="ROWS",
            expected=f"{expected} rows of an image",
            found=listed(other),
            remedy="Keep to cells of one V, or take tokens='moment', which is of any number of rows.",
        )
