"""What align answers under ``--json``, and what its table and its page are made of; its schema is in ``docs/schema``, too."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal, Self

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from batteries.cell.manifest import Count, Positive, Sha256
from composer.artifact.maps.manifest import MapsManifest
from composer.procrustes.score_document import Null
from composer.vocabulary import TokenKind
from registry.answers.answer import Answer
from registry.catalog.release import ExactVersion

if TYPE_CHECKING:
    from composer.alignment.pairs import PairScore
    from composer.alignment.residual_spectrum import Spectrum
    from composer.alignment.swap import Swap


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class NullFigure(Null):
    """R2 of pairs that are known not to belong together: mean and standard deviation, draws, and how many are as high."""

    p: float

    @classmethod
    def of(cls, null: Null) -> Self:
        """Null with its p-value."""
        return cls(**asdict(null), p=null.p_value)


class PairFigure(Answer):
    """Two cells, each pair once: a map turned round is the way back.

    Attributes:
        source: The cell that comes first.
        target: The cell that its tokens predict.
        r2: Held out: share of the target's variance.
        low: Lower 95% bound of r2, over images or photographs.
        high: Upper 95% bound of it.
        cosine: Held out, less the mean.
        samples_per_dimension: Rows of the smaller fit over the wider width.
        shuffled: R2 under pairings shuffled by image.
        untrained: R2 of pairs of untrained cells; None where there were none.
        lift: ``r2`` over the mean of shuffled pairings.
        lift_over_untrained: ``r2`` over the mean of untrained pairs.
        p: The larger of the nulls' p-values, corrected for the number of pairs by Holm's method.
        related: Whether ``p`` is at most the level.
        through_r2: By way of the consensus frame; it suffers from the way back, which stretches.
        through_cosine: By way of the consensus frame: the one to compare with ``cosine``.
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
        """Pair of a table, with its corrected p-value and what that says."""
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
        """95% bounds of the lift: those of r2, over the same mean."""
        return self.low - self.shuffled.mean, self.high - self.shuffled.mean


class SwapFigure(Answer):
    """One cell's tokens, mapped, in the place of another's, by the images that come out.

    Attributes:
        source: Whose tokens they are.
        target: The cell that decodes.
        own: Mean squared error with the target's own tokens.
        mapped: With the source's, mapped.
        mean: With the mean of its own.
        shuffled: With the source's, of another image.
        share: What of the cost of the mean the mapped ones recover; None where the mean costs nothing.
        low: Lower 95% bound of it; None where the cost of the mean may be nothing.
        high: Upper 95% bound of it.
        carries: Whether the mean costs enough for a share of that to say something.
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
        """What came of a swap."""
        share, bounds = swap.share(), swap.bounds
        low, high = bounds if all(map(math.isfinite, bounds)) else (None, None)
        errors = {name: swap.error(name) for name in swap.errors}
        known = share if math.isfinite(share) else None
        return cls(source=swap.source, target=swap.target, **errors, share=known, low=low, high=high, carries=swap.carries)


class SpectrumFigure(Answer):
    """What a cell's map into the consensus of the others leaves over, axis by axis, held out.

    Attributes:
        variance: Share of the consensus' variance on each of its axes, falling.
        left: Share of that which is left over; above 1 where the mean would have done better.
        beyond: What the map puts where the consensus has nothing, as a share of all variance.
    """

    variance: tuple[float, ...]
    left: tuple[float, ...]
    beyond: float

    @classmethod
    def of(cls, spectrum: Spectrum) -> Self:
        """Spectrum's numbers."""
        return cls(variance=tuple(spectrum.variance.tolist()), left=tuple(spectrum.left.tolist()), beyond=spectrum.beyond)


class AlignedCell(Answer):
    """A cell that was aligned.

    Attributes:
        cell: Its name, ``band/name``.
        reference: Exact, as it was found.
        version: Exact.
        sha256: Of its file.
        tensors: SHA-256 of its weights, by which maps know it.
        D: Width.
        spectrum: None where no page was asked for.
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
        summary: What was found, in sentences, the first of which says how many pairs are related.
        tokens: Which.
        grid: ``coarsest``, or ``exact``.
        regions: Rows and columns of the regions of an image on which tokens were paired.
        probe: Its name.
        probe_because: Why that one.
        probe_digest: SHA-256 of its recipe and its photographs.
        images: Shape of the batch.
        images_digest: SHA-256 of the images on the cells' input scale, as maps have it.
        clusters: How many images, or photographs, there are to be shuffled.
        untrained: Untrained cells of each spec at each end.
        level: Of the tests.
        seed: Of halves, shuffles and intervals.
        command: What does this again.
        package: Version of this package.
        torch: Version of torch.
        cells: In the order given.
        pairs: Each once.
        related: How many of them are.
        swaps: Every cell in the place of every other; None where that was not asked for.
        warnings: What a reader should know of the figures.
        page: Where the page is, if one was asked for.
        path: Where the maps are, if they were to be written; their manifest is beside them.
        manifest: What that says.
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
