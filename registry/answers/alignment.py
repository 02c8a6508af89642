"""Answer of align under ``--json``, also the source of its table and page; its schema is exported to ``docs/schema``."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal, Self

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from batteries.cell.manifest import Count, Positive, Sha256
from composer.artifact.maps.manifest import MapsManifest
from composer.procrustes.score_document import Null, lift_bounds
from composer.vocabulary import TokenKind
from registry.answers.answer import Answer
from registry.catalog.release import ExactVersion

if TYPE_CHECKING:
    from composer.alignment.pairs import PairScore
    from composer.alignment.residual_spectrum import Spectrum
    from composer.alignment.swap import Swap


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class NullFigure(Null):
    """Null distribution of R2, from pairs known to be unrelated, with its p-value."""

    p: float

    @classmethod
    def of(cls, null: Null) -> Self:
        """Return the figure of a null, with its p-value."""
        return cls(**asdict(null), p=null.p_value)


class PairFigure(Answer):
    """Scores of a pair of cells. Each pair appears once, because the map back is the inverse.

    Attributes:
        source: Cell that comes first.
        target: Cell whose tokens are predicted from the source's.
        r2: Held-out share of the target's variance explained.
        low: Lower 95% bound of the mean of ``r2`` over other sets of as many images or photographs, with maps fitted anew.
        high: Upper 95% bound of the same.
        cosine: Held-out mean cosine, after subtracting the mean.
        samples_per_dimension: Rows of the smaller fit divided by the larger width.
        shuffled: R2 under pairings shuffled by image.
        untrained: R2 of pairs of untrained cells; None if there were none.
        lift: Difference of ``r2`` and the mean of shuffled pairings.
        lift_over_untrained: Difference of ``r2`` and the mean of untrained pairs.
        p: Larger p-value of the two nulls, corrected for the number of pairs by Holm's method.
        related: Whether ``p`` is at most the level.
        through_r2: R2 by way of the consensus frame; reduced by the map back, which stretches.
        through_cosine: Cosine by way of the consensus frame, comparable with ``cosine``.
    """

    source: str
    target: str
    r2: float
    low: float
    high: float
    cosine: float
    samples_per_dimension: float
    shuffled: NullFigure
    untrained: NullFigure | None
    lift: float
    lift_over_untrained: float | None
    p: float
    related: bool
    through_r2: float
    through_cosine: float

    @classmethod
    def of(cls, pair: PairScore, p: float, related: bool) -> Self:
        """Return the figures of a pair, with its corrected p-value and whether it is related."""
        direct = pair.direct
        return cls(
            source=pair.source,
            target=pair.target,
            r2=direct.r2,
            low=direct.low,
            high=direct.high,
            cosine=direct.cosine,
            samples_per_dimension=direct.samples_per_dimension,
            shuffled=NullFigure.of(direct.shuffled),
            untrained=None if direct.untrained is None else NullFigure.of(direct.untrained),
            lift=direct.lift,
            lift_over_untrained=direct.lift_over_untrained,
            p=p,
            related=related,
            through_r2=pair.through.r2,
            through_cosine=pair.through.cosine,
        )

    @property
    def lift_bounds(self) -> tuple[float, float]:
        """95% bounds of the lift, see :attr:`composer.procrustes.Score.lift_bounds`."""
        return lift_bounds(self.r2, self.low, self.high, self.shuffled)


class SwapFigure(Answer):
    """Errors of a cell that decodes another cell's mapped tokens in place of its own.

    Attributes:
        source: Cell whose tokens are used.
        target: Cell that decodes.
        own: Mean squared error with the target's own tokens.
        mapped: Mean squared error with the source's tokens, mapped.
        mean: Mean squared error with the mean of the target's own tokens.
        shuffled: Mean squared error with the source's mapped tokens of another image.
        share: Share of the cost of the mean that mapped tokens recover; None if the mean costs nothing.
        low: Lower 95% bound of ``share``; None if the cost of the mean may be zero.
        high: Upper 95% bound of ``share``; None if the cost of the mean may be zero.
        carries: Whether the mean costs enough for ``share`` to be meaningful.
    """

    source: str
    target: str
    own: float
    mapped: float
    mean: float
    shuffled: float
    share: float | None
    low: float | None
    high: float | None
    carries: bool

    @classmethod
    def of(cls, swap: Swap) -> Self:
        """Return the figures of a swap."""
        share, bounds = swap.share(), swap.bounds
        low, high = bounds if all(map(math.isfinite, bounds)) else (None, None)
        errors = {name: swap.error(name) for name in swap.errors}
        known = share if math.isfinite(share) else None
        return cls(source=swap.source, target=swap.target, **errors, share=known, low=low, high=high, carries=swap.carries)


class SpectrumFigure(Answer):
    """Held-out residual of a cell's map into the consensus of the others, by axis.

    Attributes:
        variance: Share of the consensus' variance on each of its axes, in descending order.
        left: Share of each axis' variance left over; above 1 if the mean would have done better.
        beyond: Variance that the map puts outside the consensus, as a share of all variance.
    """

    variance: tuple[float, ...]
    left: tuple[float, ...]
    beyond: float

    @classmethod
    def of(cls, spectrum: Spectrum) -> Self:
        """Return the figures of a spectrum."""
        return cls(variance=tuple(spectrum.variance.tolist()), left=tuple(spectrum.left.tolist()), beyond=spectrum.beyond)


class AlignedCell(Answer):
    """A cell that was aligned.

    Attributes:
        cell: Name of the cell, ``band/name``.
        reference: Exact reference, as found.
        version: Exact version.
        sha256: SHA-256 of the file.
        tensors: SHA-256 of the weights, by which maps identify the cell.
        D: Width.
        spectrum: Residual spectrum; None if no page was requested.
    """

    cell: str
    reference: str
    version: ExactVersion
    sha256: Sha256
    tensors: Sha256
    D: Positive
    spectrum: SpectrumFigure | None


class Aligned(Answer):
    """Answer of ``batteries align``.

    Attributes:
        summary: Findings in sentences; the first gives the number of related pairs.
        tokens: Kind of tokens.
        grid: ``coarsest``, or ``exact``.
        regions: Rows and columns of the regions of an image on which tokens were paired.
        probe: Name of the probe.
        probe_because: Reason for the choice of the probe.
        probe_digest: SHA-256 of the probe's recipe and photographs.
        images: Shape of the batch.
        images_digest: SHA-256 of the images on the cells' input scale, as recorded in maps.
        clusters: Number of images, or photographs, that are shuffled.
        untrained: Number of untrained cells of each spec, as source and as target.
        level: Significance level of the tests.
        seed: Seed of halves, shuffles and intervals.
        command: Command that repeats the alignment.
        package: Version of this package.
        torch: Version of torch.
        cells: Cells in the order given.
        pairs: Scores of all pairs, each once.
        related: Number of related pairs.
        swaps: Swaps of every cell with every other; None if not requested.
        warnings: Cautions about the figures.
        page: Path of the page, if requested.
        path: Path of the maps, if written; their manifest is beside them.
        manifest: Manifest of the maps, if written.
    """

    summary: tuple[str, ...]
    tokens: TokenKind
    grid: Literal["coarsest", "exact"]
    regions: tuple[Positive, Positive]
    probe: str
    probe_because: str
    probe_digest: Sha256
    images: tuple[Positive, ...]
    images_digest: Sha256
    clusters: Positive
    untrained: Count
    level: float
    seed: Count
    command: str
    package: str
    torch: str
    cells: tuple[AlignedCell, ...]
    pairs: tuple[PairFigure, ...]
    related: Count
    swaps: tuple[SwapFigure, ...] | None
    warnings: tuple[str, ...]
    page: str | None
    path: str | None
    manifest: MapsManifest | None


ALIGNING: dict[str, type[Answer]] = {"align": Aligned}
