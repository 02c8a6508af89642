"""The example that scores pairs of cells: in a reduced form on shipped cells, and its claims on figures made by hand."""

from dataclasses import replace

import pytest

from composer.alignment.pairs import PairScore, Through
from composer.procrustes.scores import Null, Score
from tests.support.examples import RESULTS, example, rows

alignment = example("alignment")
SHUFFLED, UNTRAINED = Null(-0.05, 0.01, 199, 0), Null(0.0, 0.01, 399, 0)


@pytest.mark.slow
def test_it_measures_pairs_by_kind():
    ends = ("low/johanna-64-s1", "high/johanna-64-s1")
    groups = {"across bands": [ends], "LOW, seeds": [("low/johanna-64-s1", "low/johanna-64-s2")]}
    found = alignment.measure(groups, {"noise16-64": 32}, ("omega", "rows"), untrained=3)
    wanted = [("omega", "across bands"), ("omega", "LOW, seeds"), ("rows", "LOW, seeds")]
    assert [(line.kind, line.group) for line in found] == wanted
    assert not any(line.one_start for line in found[1:])
    assert all(line.swap is not None and line.swap.kind == line.kind for line in found)
    assert [row[0] for row in rows(alignment.overview(found))[1:]] == ["noise16-64"] * 3
    assert len(alignment.details(found)) == 4
    assert found[1].row[-1].startswith("("), "omega carries next to nothing for a LOW cell"


def line(group, probe, kind, r2, one_start=False, p_value=0.01, through=0.0, untrained=UNTRAINED):
    direct = Score(r2, 0.8, r2, r2, 16.0, replace(SHUFFLED, mean=r2 - 0.005 if kind == "rows" else -0.05), untrained)
    pair = PairScore("low/a", "low/b", direct, Through(r2, 0.8 - through))
    return alignment.Line(group, probe, kind, pair, p_value, one_start, None)


def figures(**changed):
    """As they were found, roughly."""
    low = {"omega": 0.02, "moment": 0.4} | changed.get("low", {})
    made = []
    for probe, high in (("noise16-64", 0.16), ("photos-64", 0.6)):
        shared = replace(UNTRAINED, mean=changed.get("shared", 0.5))
        made += [line("LOW, seeds", probe, kind, r2, untrained=shared) for kind, r2 in low.items()]
        made.append(line("HIGH, seeds", probe, "omega", changed.get("high", high)))
        made.append(line("LOW, seeds", probe, "rows", changed.get("rows", 0.1)))
        made.append(line("noise and photographs", probe, "rows", changed.get("kindred", 0.5), one_start=True))
    return made


def test_claims_hold_of_such_figures():
    assert all(alignment.claims(figures()).values())


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"low": {"omega": 0.2}}, "omega translates next to nothing"),
        ({"low": {"moment": 0.2}}, "more than a third"),
        ({"high": 0.3}, "half on photographs"),
        ({"shared": 0.1}, "untrained cells already"),
        ({"kindred": 0.3}, "more than two fifths"),
    ],
)
def test_claims_can_fail(changed, wrong):
    failed = [claim for claim, holds in alignment.claims(figures(**changed)).items() if not holds]
    assert len(failed) == 1
    assert wrong in failed[0]


def test_claims_of_single_pairs_can_fail():
    for odd, wrong in (
        (line("LOW, seeds", "noise16-64", "S", 0.1, p_value=0.2), "every pair of a band is related"),
        (line("LOW, seeds", "noise16-64", "S", 0.1, through=0.2), "the way through the frame"),
    ):
        failed = [claim for claim, holds in alignment.claims([*figures(), odd]).items() if not holds]
        assert len(failed) == 1
        assert wrong in failed[0]


def test_the_page_says_what_the_command_said():
    page = (RESULTS / "alignment.md").read_text()
    assert "{" not in page
    for claim in alignment.claims(figures()):
        assert f"- {claim}: yes." in page
