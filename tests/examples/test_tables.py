"""The report of examples/sweep.py, from results made by hand: nothing is validated."""

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from batteries.errors import FormatError
from registry.catalog.figures import ControlFigure
from tests.support.examples import example, rows

sweep = example("sweep")


@pytest.mark.parametrize(
    ("count", "of", "bounds"),
    [(20, 20, (0.8316, 1)), (19, 20, (0.7513, 0.9987)), (0, 20, (0, 0.1684)), (1, 1, (0.025, 1)), (0, 1, (0, 0.975))],
)
def test_known_bounds_of_a_share(count, of, bounds):
    assert sweep.clopper_pearson(count, of) == pytest.approx(bounds, abs=5e-5)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_bounds_of_a_share_are_scipy_s(share):
    wanted = binomtest(*share).proportion_ci(confidence_level=0.95, method="exact")
    assert sweep.clopper_pearson(*share) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


CONTROLS = (("untrained", "error, untrained"), ("scrambled", "error, claimed"), ("untrained", "lift, name the noise type"))


def line(reference="low/a@1.0.0", seed=0, verdict="viable", failed=(), *, spared=(), other=None, protocol=None):
    """A line; ``spared`` are controls not rejected, ``other`` stands in place of scrambled's own check."""
    checks = [(name, other if other and name == "scrambled" else by) for name, by in CONTROLS]
    return sweep.Line(
        reference=reference,
        cell=("a" if "low/" in reference else "b") * 64,
        seed=seed,
        verdict=verdict,
        failed=failed,
        controls=tuple(ControlFigure(name=name, rejected=(name, by) not in spared, by=by) for name, by in checks),
        protocol_digest=protocol or sweep.PROTOCOL.digest,
    )


@pytest.fixture
def lines(tmp_path):
    found = []
    for seed in reversed(range(20)):  # not a spacing apart: the tables take what there is
        failed = ("retention",) if seed % 2 else ("retention", "dose, CV")
        spared = CONTROLS[2:] if seed == 7 else ()
        verdict = "no verdict" if spared else "walked back" if seed else "viable"
        other = "finite" if seed == 3 else None
        found.append(line("high/b@1.0.0", seed, verdict, failed if seed else (), spared=spared, other=other))
        found.append(line(seed=seed))
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(b"".join(one.to_bytes() for one in found))
    return path


def test_lines_are_kept_whole_and_read_in_order(lines):
    found = sweep.read(lines)
    assert [(one.reference, one.seed) for one in found] == [
        (name, s) for name in ("high/b@1.0.0", "low/a@1.0.0") for s in range(20)
    ]
    assert len(lines.read_bytes().splitlines()) == 40
    sweep.append(line(seed=99, protocol="0" * 64), lines)
    assert sweep.read(lines) == found
    assert sweep.read(lines.with_name("none.jsonl")) == []
    lines.write_bytes(lines.read_bytes()[:-9])
    with pytest.raises(FormatError, match="JSON"):
        sweep.read(lines)


def test_the_tables_of_the_sweep(lines):
    found = sweep.section(sweep.read(lines))
    failed = "retention (19); dose, CV (9); no verdict, a control was not rejected (1)"
    assert rows(found)[2:4] == [
        ("high/b@1.0.0", f"`{'b' * 12}`", "1 of 20", "0.0013 to 0.2487", failed),
        ("low/a@1.0.0", f"`{'a' * 12}`", "20 of 20", "0.8316 to 1.0000", "none"),
    ]
    controls = {(row[0].split("/")[0], row[2], row[3]): row[4:] for row in rows(found)[6:]}
    assert controls["low", "scrambled", "error, claimed"] == ("20 of 20", "0.8316 to 1.0000")
    assert controls["high", "scrambled", "error, claimed"] == ("19 of 20", "0.7513 to 0.9987")
    assert controls["high", "scrambled", "finite"][0] == "1 of 20"
    assert controls["high", "untrained", "lift, name the noise type"][0] == "19 of 20"
    assert controls["low", "rank-one", "rank"] == ("0 of 20", "0.0000 to 0.1684")
    assert ("low", "scrambled", "finite") not in controls


@pytest.mark.slow
def test_the_sweep_keeps_what_stands_outside_its_comments(tmp_path, lines):
    page = tmp_path / "docs" / "viability.md"
    sweep.write_report(lines, page)
    made = page.read_text()
    assert made.startswith("# Viability\n\n<!-- sweep -->\n")
    assert made.endswith("\n<!-- /sweep -->\n")
    page.write_text(f"# Ours\n\nwritten \\1 before\n\n{made.split('# Viability')[1]}\nwritten after\n")
    before = page.read_text()
    sweep.write_report(lines, page)
    assert page.read_text() == before
    sweep.append(line(seed=20), lines)
    sweep.write_report(lines, page)
    assert ("low/a@1.0.0", f"`{'a' * 12}`", "21 of 21", "0.8389 to 1.0000", "none") in rows(page.read_text())
    assert page.read_text().startswith("# Ours\n\nwritten \\1 before\n\n")
    assert page.read_text().endswith("\nwritten after\n")


def test_each_seed_without_a_line_is_tried_once(tmp_path, monkeypatch, capsys):
    tried, path = [], tmp_path / "sweep" / "verdicts.jsonl"
    monkeypatch.setattr(
        sweep.registry, "load", lambda reference: SimpleNamespace(name="low/a", version="1.0.0", digest="a" * 64)
    )
    monkeypatch.setattr(
        sweep.registry, "validate", lambda cell, *, profile, seed: tried.append((cell.name, profile, seed)) or seed
    )
    monkeypatch.setattr(sweep, "line_of", lambda seed: line(seed=seed))
    monkeypatch.setattr(sweep, "LINES", path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sweep.py", *arguments])
        sweep.main()
        return capsys.readouterr().out.splitlines()

    far = sweep.SPACING
    assert far >= sweep.PROTOCOL.reference_seeds
    sweep.append(line(seed=far), path)
    wanted = "viable: every deciding check passed"
    assert run("verdicts", "low/a", "--seeds", "3") == [f"low/a@1.0.0, seed {seed}: {wanted}" for seed in (0, 2 * far)]
    assert run("verdicts", "low/a", "--seeds", "3") == []
    assert tried == [("low/a", "quick", 0), ("low/a", "quick", 2 * far)]
    assert [one.seed for one in sweep.read(path)] == [0, far, 2 * far]
    short, *table = run("controls", "low/a", "--seeds", "5")
    assert short == "low/a@1.0.0: no line for 2 of 5 seeds; `verdicts` makes them"
    assert rows("\n".join(table))[2][2:5] == ("untrained", "error, untrained", "3 of 3")
    assert rows("\n".join(run("controls", "low/a", "--seeds", "2")))[2][4] == "2 of 2"


def test_a_page_without_the_section_gets_one_and_half_a_section_is_refused(tmp_path, lines):
    page = tmp_path / "viability.md"
    page.write_text("# Ours\n\nby hand\n")
    sweep.write_report(lines, page)
    assert page.read_text().startswith("# Ours\n\nby hand\n\n<!-- sweep -->\n")
    page.write_text("<!-- sweep -->\nby hand\n")
    with pytest.raises(ValueError, match="both of its comments"):
        sweep.write_report(lines, page)
    assert page.read_text() == "<!-- sweep -->\nby hand\n"
