"""The reports of examples/front.py and examples/sweep.py, from results made by hand: nothing is trained or validated."""

import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from batteries.cell.manifest import TrainingPoint
from batteries.cell.spec import PRESETS
from batteries.errors import ConflictError, FormatError, PolicyError
from batteries.geometry import attractor
from registry.catalog.figures import ControlFigure
from tests.support.examples import example

SVG = "{http://www.w3.org/2000/svg}"


front, sweep = example("front"), example("sweep")


def result(job, end=(1.04, 0.5), *, diverged=None, plan=None):
    """A run whose ratio goes from 1 to that of ``end`` and whose error falls to that of ``end``."""
    exact, points = attractor.sphere_cv(PRESETS[job.band]["D"]), []
    for step in () if diverged else range(front.EVERY, front.STEPS + 1, front.EVERY):
        share = step / front.STEPS
        cv = None if end[0] is None else exact * (1 + share * (end[0] - 1))
        error = None if cv is None else 0.002
        points.append(TrainingPoint(step=step, mse=end[1] / share, cv=cv, cv_standard_error=error))
    return front.Result(plan=plan or job.plan_digest, trajectory=tuple(points), diverged=diverged)


def put(folder, results):
    folder.mkdir(exist_ok=True)
    for job, found in results.items():
        (folder / f"{job.name}.json").write_bytes(found.to_bytes())


def rows(page):
    """The cells of every row of a page's tables."""
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in page.splitlines() if line.startswith("| ")]


@pytest.fixture
def some():
    """Four results of a rate of LOW and HIGH, one of them off the attractor."""
    ends = {("low", 1): (1.0, 0.5), ("low", 2): (1.1, 0.7), ("high", 1): (1.2, 0.01), ("high", 3): (1.4, 0.02)}
    return {
        job: result(job, ends[job.band, job.seed]) for job in front.JOBS if job.rate == 3e-3 and (job.band, job.seed) in ends
    }


def test_the_front_has_27_runs_of_27_plans():
    assert len(front.JOBS) == len({job.name for job in front.JOBS}) == len({job.plan_digest for job in front.JOBS}) == 27
    job = front.JOBS[-1]
    assert (job.name, job.command) == ("high-0.01-3", "python examples/front.py --only high 0.01 3")
    assert (job.plan.batch, job.plan.rate, job.plan.seed, job.plan.steps, job.plan.boost) == (16, 0.01, 3, 1000, 0.5)
    assert {job.plan.batch for job in front.JOBS if job.band != "high"} == {32}


def test_the_table_of_the_front_and_what_is_missing(tmp_path, some):
    put(tmp_path / "runs", some)
    missing = front.write_report(tmp_path / "runs", tmp_path / "results" / "front.md")
    page = (tmp_path / "results" / "front.md").read_text()
    assert set(missing) == set(front.JOBS) - set(some)
    table = {row[:2]: row[2:] for row in rows(page)}
    assert len(table) == 2 + 9  # the head and its rule
    low = ("2", "1.5000 ± 0.3536", "1.020 ± 0.028", "2 of 2", "0.6000 ± 0.1414", "1.050 ± 0.071", "2 of 2")
    high = ("2", "0.0375 ± 0.0177", "1.120 ± 0.057", "2 of 2", "0.0150 ± 0.0071", "1.300 ± 0.141", "1 of 2")
    assert (table["low", "0.003"], table["high", "0.003"]) == (low, high)
    assert table["mid", "0.01"] == ("0", *("-",) * 6)
    sentence = next(line for line in page.splitlines() if line.startswith("Missing, 23 of 27: "))
    assert sentence.removesuffix(".").split(": ")[1].split(", ") == [job.name for job in missing]
    assert f"at most {0.002 / attractor.sphere_cv(16):.3f}" in page


def test_a_whole_front_says_so_and_one_seed_has_no_deviation(tmp_path, some):
    job = front.JOBS[0]
    assert "All 27 runs are here." in front.report({job: result(job) for job in front.JOBS}, front.NO_RECIPE)
    assert ("low", "0.001", "1", "1.2500", "1.016", "1 of 1", "0.5000", "1.040", "1 of 1") in rows(
        front.report({job: result(job)}, front.NO_RECIPE)
    )


def test_diverged_and_degenerate_runs_count_as_off_the_attractor(tmp_path):
    first, second, third = front.JOBS[:3]
    found = {first: result(first), second: result(second, diverged="step 312"), third: result(third, (None, 0.5))}
    page = front.report(found, front.NO_RECIPE)
    assert rows(page)[2][-3:] == ("0.5000 ± 0.0000", "1.040", "1 of 3")
    assert "Diverged, the loss no longer finite: low-0.001-2." in page
    assert len(list(ElementTree.fromstring(front.picture(found)).iter(f"{SVG}polyline"))) == 1


@pytest.mark.parametrize("old", ["", "# An older page without the comments\n"])
def test_a_new_page_has_a_place_for_the_recipe(tmp_path, old):
    page = tmp_path / "front.md"
    page.write_text(old)
    front.write_report(tmp_path, page)
    assert page.read_text().count(front.NO_RECIPE) == 1


def test_a_rewrite_keeps_the_recipe(tmp_path, some):
    page, words = tmp_path / "front.md", "<!-- recipe -->\nLOW at 3e-3, because \\1 of it.\n\n| a | table |\n<!-- /recipe -->"
    front.write_report(tmp_path, page)
    page.write_text(page.read_text().replace(front.NO_RECIPE, words))
    put(tmp_path, some)
    front.write_report(tmp_path, page)
    first = page.read_text()
    assert first.count(words) == first.count("<!-- recipe -->") == 1
    assert "Missing, 23 of 27" in first
    front.write_report(tmp_path, page)
    assert page.read_text() == first


@pytest.mark.parametrize("comment", ["<!-- recipe -->", "<!-- /recipe -->", "<!-- /recipe --> <!-- recipe -->"])
def test_half_a_recipe_is_not_overwritten(tmp_path, comment):
    page = tmp_path / "front.md"
    page.write_text(f"{comment}\nwritten by hand\n")
    with pytest.raises(ValueError, match="both of its comments"):
        front.write_report(tmp_path, page)
    assert [path.name for path in tmp_path.iterdir()] == ["front.md"]
    assert page.read_text() == f"{comment}\nwritten by hand\n"


def test_the_picture_is_an_svg_with_a_path_and_a_marker_for_each_run(tmp_path, some):
    front.write_report(tmp_path, tmp_path / "front.md")
    empty = ElementTree.parse(tmp_path / "front.svg").getroot()
    put(tmp_path, some)
    front.write_report(tmp_path, tmp_path / "front.md")
    root = ElementTree.parse(tmp_path / "front.svg").getroot()
    assert root.tag == f"{SVG}svg"
    assert [len(list(drawing.iter(f"{SVG}polyline"))) for drawing in (empty, root)] == [0, len(some)]
    panels = [group for group in root.findall(f"{SVG}g") if group.find(f"{SVG}rect[@fill='{front.SHADE}']") is not None]
    assert len(panels) == 4  # three panels and the key
    squares = [rect for rect in root.iter(f"{SVG}rect") if rect.get("fill") == front.COLOURS[1]]
    assert len(squares) == len(some) + 1  # the key's
    width, height = (float(part) for part in root.get("viewBox").split()[2:])
    for line in root.iter(f"{SVG}polyline"):
        places = [tuple(map(float, place.split(","))) for place in line.get("points").split()]
        assert len(places) == 5
        assert all(front.LEFT <= x <= front.WIDTH and 0 <= y <= height for x, y in places)
    assert width == 3 * front.WIDTH


def test_a_finished_run_is_read_and_one_of_another_plan_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(front.batteries, "train", lambda *_, **__: pytest.fail("trained again"))
    job = front.JOBS[0]
    put(tmp_path, {job: result(job)})
    assert front.run(job, tmp_path) == result(job)
    put(tmp_path, {job: result(job, plan="0" * 64)})
    assert front.read(job, tmp_path) is None
    (tmp_path / f"{job.name}.json").write_bytes(result(job).to_bytes()[:-20])
    with pytest.raises(FormatError, match="JSON"):
        front.read(job, tmp_path)


def test_the_outcome_of_a_run_is_kept_and_other_errors_leave_none(tmp_path, monkeypatch):
    job = front.JOBS[0]

    def ends_with(error):
        def train(*_, folder, **__):
            assert folder == tmp_path / job.name
            raise error

        monkeypatch.setattr(front.batteries, "train", train)

    for error in (ConflictError("another run", code="RUN_CHANGED"), PolicyError("refused", code="OTHER")):
        ends_with(error)
        with pytest.raises(type(error), match=error.code):
            front.run(job, tmp_path)
        assert not list(tmp_path.iterdir())
    ends_with(PolicyError("training diverged", code="DIVERGED", where="step 312"))
    assert front.run(job, tmp_path) == front.read(job, tmp_path) == result(job, diverged="step 312")


def test_the_command_line_of_the_front(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["front.py", "--folder", str(tmp_path), *arguments])
        front.main()
        return capsys.readouterr().out.splitlines()

    assert run("--jobs") == [job.command for job in front.JOBS]
    monkeypatch.setattr(front, "run", lambda job, folder: result(job))
    assert run("--only", "low", "1e-3", "2") == ["low-0.001-2: MSE 0.5000, CV / exact 1.040"]
    monkeypatch.setattr(front, "PAGE", tmp_path / "front.md")
    assert run("--report") == [f"written: {tmp_path / 'front.md'}; missing: {', '.join(job.name for job in front.JOBS)}"]
    assert len(run()) == 28
    for wrong in (("low", "0.002", "1"), ("open", "0.001", "1"), ("low", "fast", "1")):
        with pytest.raises(SystemExit, match=r"^2$"):
            run("--only", *wrong)
        assert "no such run" in capsys.readouterr().err


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
