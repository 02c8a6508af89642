"""Alignment of all pairs of seeds, bands and domains, for every kind of token, on noise and on photographs.

``python examples/alignment.py [--write]`` (about ten minutes on two cores). Each pair is scored on held-out images against
shuffled images and untrained cells of the same specs, corrected for all pairs of a table; also through the consensus frame of
all cells, and by the error of the target's decoder with the mapped tokens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean
from typing import get_args

from pages import RESULTS, put, table

import batteries
import composer
import registry
from composer.alignment.pairs import PairScore
from composer.alignment.relay import RelayKind
from composer.vocabulary import TokenKind

Names = tuple[str, str]

SEEDS = ("johanna-64", "johanna-64-s1", "johanna-64-s2", "johanna-64-s3")
BANDS = ("low", "mid", "high")
GROUPS: dict[str, list[Names]] = {
    "LOW, seeds": list(combinations([f"low/{seed}" for seed in SEEDS], 2)),
    "HIGH, seeds": list(combinations([f"high/{seed}" for seed in SEEDS], 2)),
    "across bands": list(combinations([f"{band}/johanna-64" for band in BANDS], 2)),
    "noise and photographs": [
        *[(f"{band}/johanna-64", f"{band}/fresnel-64") for band in BANDS],
        ("low/johanna-64-s1", "low/fresnel-64"),  # of one start, as those of MID
    ],
}
PROBES = {"noise16-64": 4, "photos-64": 1}  # stride through the images of the probe
KINDS: tuple[TokenKind, ...] = get_args(TokenKind)
SWAPPED: tuple[RelayKind, ...] = get_args(RelayKind)
RELATED, HARDLY = 0.05, 0.1  # significance level; R2 below which a map predicts little, even if significant

WORDS = """`python examples/alignment.py --write`. One table for each kind of token and probe. *R2*: share of B's variance
that A's tokens predict on images the map was not fitted on, with a 95% interval (of R2 on as many other images, by image, or
by photograph for crops of one; docs/results/coverage-alignment.md).
*shuffled*, *untrained*: the lift of R2 over the mean of A's images in another order, and over the mean of untrained cells of
both specs. *p*: the larger of both nulls' p-values, corrected by Holm's method for the pairs of the table; there are as many
draws as it takes to get to {level}, so {level} is the least there can be. *cosine*: of predicted and true tokens, directly
and by way of the frame of all cells. *swap*: the share of what B loses with the mean in the place of its own tokens that A's
mapped ones recover; in brackets where B loses less than 2% of its error, and the share says little. `one` start: both
trainings began from one seed. Tokens of finer cells are averaged over the regions of the coarsest cell of the table."""
MEANING = """**Are any two cells of a band translatable?** *Related* they are, all of them, beyond what shuffled images and
untrained cells have in common (across bands, omega and S of noise are not, between MID and HIGH); how much is translated
depends on what is asked. *omega* (and S, which differs from it by little): at LOW, where the D singular values of a noise patch
are nearly the same for all patches, a map predicts next to nothing of another seed's omega on noise; on photographs it predicts
half of it, and a third to a half of what the decoder loses with the mean, which is less than 2% of its error. At HIGH it
is a translation: an eighth of the variance on noise, half on photographs. Of what B's decoder loses with the mean of its
omega, that of another seed recovers {noise} on noise and {photos} on photographs. It is one of magnitudes, sorted by rank: no
direction in a row space goes over. *moment* carries the right frame with the singular values and is shared most, between
seeds, bands, and cells of noise and of photographs, LOW included; but much of that on photographs two untrained cells have
already, and nothing is decoded from a moment alone, since U stays the target's. *frames*, without any magnitudes, keep most
of what moments have. *rows* do not go over between two starts: what a map predicts of them is each row's mean, the same for
every image, as the lift over shuffled images says. From one start more than two fifths of the rows' variance goes over, nearly
all of it in those means: the numbering of rows is made by the start, not found by the training.

**Against the former cells**, which Adam trained: between LOW seeds omega translates three times as much (0.022 then), moments
half as much again (0.414); between HIGH seeds omega less (0.267 on noise, 0.708 on photographs) and frames more (0.148, 0.734);
of rows of one start less (more than a half), and the way through the frame of all cells costs more."""


@dataclass(frozen=True)
class Line:
    """Scores of one pair, kind of token and probe.

    Attributes:
        group: Key of GROUPS.
        probe: Name of the probe.
        kind: Kind of token.
        pair: Scores of the pair.
        p_value: p-value, corrected for the pairs of its table.
        one_start: Whether both trainings began from one seed.
        swap: Swap score; None for tokens that cannot be decoded.
    """

    group: str
    probe: str
    kind: TokenKind
    pair: PairScore
    p_value: float
    one_start: bool
    swap: composer.alignment.Swap | None

    @property
    def related(self) -> bool:
        """True if the corrected p-value is at most RELATED."""
        return self.p_value <= RELATED

    @property
    def row(self) -> tuple[str, ...]:
        """Row of the table."""
        direct, through = self.pair.direct, self.pair.through
        return (
            f"{self.pair.source} to {self.pair.target}",
            "one" if self.one_start else "two",
            f"{direct.r2:.3f} ({direct.low:.3f} to {direct.high:.3f})",
            f"{direct.lift:.3f}",
            f"{direct.lift_over_untrained:.3f}",
            f"{self.p_value:.3f}",
            f"{direct.cosine:.3f}, {through.cosine:.3f}",
            "-" if self.swap is None else f"{self.swap.share():.3f}" if self.swap.carries else f"({self.swap.share():.3f})",
        )


def measure(
    groups: Mapping[str, Sequence[Names]] = GROUPS,
    probes: Mapping[str, int] = PROBES,
    kinds: Sequence[TokenKind] = KINDS,
    untrained: int | None = None,
) -> list[Line]:
    """Score every pair, probe and kind of token."""
    names = sorted({name for pairs in groups.values() for names in pairs for name in names})
    cells = dict(zip(names, registry.pull(*names), strict=True))
    starts = {name: cell.manifest.training.seed for name, cell in cells.items()}
    group_of = {pair: group for group, pairs in groups.items() for pair in pairs}
    found = []
    for probe, every in probes.items():
        images, clusters = (part[::every] for part in (batteries.probe(probe).images, batteries.probe(probe).cluster))
        for kind in kinds:
            for part in _comparable(list(group_of), cells, kind):
                container = composer.compose({name: cells[name] for name in names if any(name in pair for pair in part)})
                scored = composer.compare(container, images, tokens=kind, clusters=clusters, pairs=part, untrained=untrained)
                for pair, p_value in zip(scored.pairs, scored.p_values, strict=True):
                    ends = pair.source, pair.target
                    decodes = [own for own in SWAPPED if own == kind]
                    swaps = [composer.swap(container, *ends, images, tokens=own, clusters=clusters) for own in decodes]
                    one_start = starts[pair.source] == starts[pair.target]
                    found.append(Line(group_of[ends], probe, kind, pair, p_value, one_start, swaps[0] if swaps else None))
    return found


def _comparable(pairs: list[Names], cells: Mapping[str, batteries.Cell], kind: TokenKind) -> list[list[Names]]:
    """Split pairs into those scored together: rows compare only between cells of equal V."""
    if kind != "rows":
        return [pairs]
    parts: dict[int, list[Names]] = {}
    for one, other in pairs:
        if cells[one].spec.V == cells[other].spec.V:
            parts.setdefault(cells[one].spec.V, []).append((one, other))
    return list(parts.values())


def overview(found: Sequence[Line]) -> str:
    """Tabulate by group and kind the mean R2, the number of related pairs, and the mean cosines."""
    rows = []
    for probe in dict.fromkeys(line.probe for line in found):
        for group in dict.fromkeys(line.group for line in found):
            for kind in dict.fromkeys(line.kind for line in found):
                of = [line for line in found if (line.probe, line.group, line.kind) == (probe, group, kind)]
                if of:
                    rows.append((probe, group, kind, *_means(of)))
    return table(("probe", "pairs", "tokens", "R2", "over shuffled", "over untrained", "related", "cosine, through"), rows)


def _means(of: Sequence[Line]) -> tuple[str, ...]:
    direct = [line.pair.direct for line in of]
    return (
        f"{mean(one.r2 for one in direct):.3f}",
        f"{mean(one.lift for one in direct):.3f}",
        f"{mean(one.lift_over_untrained or 0.0 for one in direct):.3f}",
        f"{sum(line.related for line in of)} of {len(of)}",
        f"{mean(one.cosine for one in direct):.3f}, {mean(line.pair.through.cosine for line in of):.3f}",
    )


def details(found: Sequence[Line]) -> list[str]:
    """Format one table per probe and kind."""
    head = ("A to B", "start", "R2", "over shuffled", "over untrained", "p", "cosine, through", "swap")
    parts = []
    for probe in dict.fromkeys(line.probe for line in found):
        for kind in dict.fromkeys(line.kind for line in found):
            rows = [line.row for line in found if (line.probe, line.kind) == (probe, kind)]
            parts += [f"### {kind}, {probe}", table(head, rows)]
    return parts


def claims(found: Sequence[Line]) -> dict[str, bool]:
    """Test the claims about the tables."""

    def r2(kind: TokenKind, probe: str, group: str) -> float:
        return mean(line.pair.direct.r2 for line in found if (line.kind, line.probe, line.group) == (kind, probe, group))

    noise, photos = PROBES
    strangers = [line for line in found if line.kind == "rows" and not line.one_start]
    kindred = [line for line in found if line.kind == "rows" and line.one_start and line.group == "noise and photographs"]
    ways = [line.pair.direct.cosine - line.pair.through.cosine for line in found if line.kind != "rows"]
    moments = [line for line in found if line.kind == "moment" and line.probe == photos]
    shared = [line.pair.direct.r2 - (line.pair.direct.lift_over_untrained or 0.0) for line in moments]
    return {
        "every pair of a band is related by omega, S, moment and frames, on noise and on photographs": all(
            line.related for line in found if line.kind != "rows" and line.group != "across bands"
        ),
        f"LOW seeds on noise: omega translates next to nothing, R2 below {HARDLY}": r2("omega", noise, "LOW, seeds") < HARDLY,
        "LOW seeds on noise: the second moment translates more than a third": r2("moment", noise, "LOW, seeds") > 1 / 3,
        "HIGH seeds: omega translates an eighth of the variance on noise, half on photographs": (
            r2("omega", noise, "HIGH, seeds") > 1 / 8 and r2("omega", photos, "HIGH, seeds") > 1 / 2
        ),
        "moments of photographs: at least 0.3 of the R2 is had from untrained cells already": min(shared) > 0.3,
        "rows of two starts: less than 0.01 over shuffled images, row i of one is not row i of the other": all(
            line.pair.direct.lift < 0.01 for line in strangers
        ),
        "rows of one start, of noise and of photographs: more than two fifths of the variance": all(
            line.pair.direct.r2 > 2 / 5 for line in kindred
        ),
        "the way through the frame costs less than 0.15 of the cosine, for all but rows": max(ways) < 0.15,
    }


def meaning(found: Sequence[Line]) -> str:
    """Format what the tables mean, with the range of swap scores of omega between HIGH seeds on each probe."""
    noise, photos = (shares(found, probe) for probe in PROBES)
    return MEANING.format(noise=noise, photos=photos)


def shares(found: Sequence[Line], probe: str) -> str:
    """Format the range of swap scores of omega between HIGH seeds on a probe."""
    chosen = ("HIGH, seeds", "omega", probe)
    of = [line.swap.share() for line in found if line.swap and (line.group, line.kind, line.probe) == chosen]
    return f"{min(of):.2f} to {max(of):.2f}"


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Score pairs of cells for every kind of token.")
    parser.add_argument("--write", action="store_true", help="also write the section of docs/results/alignment.md")
    given = parser.parse_args(arguments)
    found = measure()
    claimed = claims(found)
    said = "\n".join(f"- {claim}: {'yes' if holds else 'NO'}." for claim, holds in claimed.items())
    least = min(line.p_value for line in found)
    text = "\n\n".join(
        ["## Pairs of cells", WORDS.format(level=f"{least:.3f}"), overview(found), said, meaning(found), *details(found)]
    )
    print(text)
    if given.write:
        put(RESULTS / "alignment.md", "Aligned cells, measured", "pairs", text)
    return 0 if all(claimed.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
