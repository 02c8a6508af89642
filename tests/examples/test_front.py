"""The front: its report from results made by hand, its store, and one tiny run with real content figures."""

import shutil
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

import batteries
from batteries.cell.manifest import TrainingPoint
from batteries.cell.spec import PRESETS
from batteries.errors import ConflictError, FormatError, NotFoundError, PolicyError
from batteries.geometry import attractor
from batteries.model.patch_svae import arrays_of
from batteries.packaging.package import UNTRAINED_SEED
from registry.viability.readouts import read_outs
from registry.viability.tasks import own_tasks
from tests.support.examples import example, rows

front = example("front")
jobs, content, page, pictures = (sys.modules[f"front_{name}"] for name in ("jobs", "content", "page", "pictures"))

SVG = "{http://www.w3.org/2000/svg}"
LOSSES = jobs.Losses(M=0.4, omega=0.5), jobs.Losses(M=0.5, omega=0.8)
CONTENT = jobs.Content(spread=0.02, losses=LOSSES[0], untrained=LOSSES[1], worth=1.5)


def named(name):
    return jobs.NAMED[name]


def result(job, end=(1.04, 0.5), **fields):
    """A run whose ratio goes from 1 to that of ``end`` and whose error falls to that of ``end``."""
    exact, points = attractor.sphere_cv(PRESETS[job.setting.band]["D"]), []
    for step in () if fields.get("diverged") else range(jobs.EVERY, jobs.STEPS + 1, jobs.EVERY):
        share = step / jobs.STEPS
        cv = None if end[0] is None else exact * (1 + share * (end[0] - 1))
        error = None if cv is None else 0.002
        points.append(TrainingPoint(step=step, mse=end[1] / share, cv=cv, cv_standard_error=error))
    own = {"name": job.name, "plan": job.plan_digest, "data": "0" * 64, "trajectory": tuple(points)}
    return jobs.Result(**own | fields)


@pytest.fixture
def store(tmp_path):
    return jobs.Store(tmp_path / "runs", tmp_path / "results" / "front.jsonl")


def put(store, results):
    for job, found in results.items():
        store.write(job, found)


@pytest.fixture
def some():
    """Two results each of a setting of LOW and HIGH, one of them off the attractor."""
    return {
        named("low-noise-adam-0.003-1"): result(named("low-noise-adam-0.003-1"), (1.0, 0.5), step_seconds=0.05),
        named("low-noise-adam-0.003-2"): result(named("low-noise-adam-0.003-2"), (1.1, 0.7), content=CONTENT),
        named("high-photos-muon-0.02-1"): result(named("high-photos-muon-0.02-1"), (1.2, 0.01)),
        named("high-photos-muon-0.02-3"): result(named("high-photos-muon-0.02-3"), (1.4, 0.02)),
    }


def row(found, name):
    """The row of a setting, without band, optimiser and rate."""
    band, data, optimiser, rate = name.split("-")
    title = f"## {page.TITLES[data]}\n"
    table = page.report(found, page.NO_RECIPE).split(title)[1].split("\n## ")[0]
    return next(cells[3:] for cells in rows(table) if cells[:3] == (band, optimiser, rate))


def test_the_front_has_108_runs_of_108_plans():
    assert len(jobs.JOBS) == len(jobs.NAMED) == len({job.plan_digest for job in jobs.JOBS}) == 108
    job = named("high-photos-muon-0.02-3")
    assert job.command == "python examples/front.py --only high-photos-muon-0.02-3"
    plan = job.plan
    assert (plan.batch, plan.rate, plan.seed, plan.steps, plan.boost, plan.optimiser) == (16, 0.02, 3, 600, 0.5, "muon")
    assert {job.plan.batch for job in jobs.JOBS if job.setting.band != "high"} == {32}


def test_the_tables_of_the_front_and_what_is_missing(store, tmp_path, some):
    put(store, some)
    missing = front.write_report(store, tmp_path / "front.md")
    text = (tmp_path / "front.md").read_text()
    assert set(missing) == set(jobs.JOBS) - set(some)
    tables = [cells for cells in rows(text) if len(cells) == len(page.COLUMNS)]
    assert len(tables) == 2 * (2 + 18)  # each with its head and its rule
    low = (
        "2",
        "1.200 ± 0.283",
        "0.6000 ± 0.1414",
        "1.050 ± 0.071",
        "2 of 2",
        "50 (1.00)",
        "0.625",
        "0.800",
        "0.0200",
        "1.500",
        "-",
    )
    high = ("2", "0.03000 ± 0.01414", "0.01500 ± 0.00707", "1.300 ± 0.141", "1 of 2", *("-",) * 6)
    assert row(some, "low-noise-adam-0.003") == low
    assert row(some, "high-photos-muon-0.02") == high
    assert row(some, "mid-noise-adam-0.01") == ("0", *("-",) * 10)
    sentence = next(line for line in text.splitlines() if line.startswith("Missing, 104 of 108: "))
    assert "low-noise-adam-0.003 (3)," in sentence
    assert "high-photos-muon-0.02 (2)." in sentence
    assert "mid-noise-adam-0.01," in sentence
    assert f"at most {0.002 / attractor.sphere_cv(16):.3f}" in text


def test_a_whole_front_says_so_and_one_seed_has_no_deviation():
    text = page.report({job: result(job) for job in jobs.JOBS}, page.NO_RECIPE)
    assert "All 108 runs are here." in text
    assert "did not all have the same photographs" not in text
    assert row({named("low-noise-adam-0.001-1"): result(named("low-noise-adam-0.001-1"))}, "low-noise-adam-0.001")[:5] == (
        *("1", "1.000", "0.5000", "1.040"),
        "1 of 1",
    )


def test_diverged_and_degenerate_runs_count_as_off_the_attractor():
    first, second, third = (named(f"low-noise-adam-0.001-{seed}") for seed in jobs.SEEDS)
    found = {first: result(first), second: result(second, diverged="step 312"), third: result(third, (None, 0.5))}
    assert row(found, "low-noise-adam-0.001")[2:5] == ("0.5000 ± 0.0000", "1.040", "1 of 3")
    assert "Diverged, the loss no longer finite: low-noise-adam-0.001 (2)." in page.report(found, page.NO_RECIPE)
    assert len(list(ElementTree.fromstring(pictures.front(found)).iter(f"{SVG}polyline"))) == 1


def test_runs_on_different_photographs_are_told():
    first, second = named("low-photos-adam-0.001-1"), named("high-photos-muon-0.02-1")
    found = {first: result(first), second: result(second, data="1" * 64)}
    assert "did not all have the same photographs" in page.report(found, page.NO_RECIPE)


def test_a_step_is_compared_with_adam_s_of_the_same_band_and_data():
    seconds = {
        "mid-noise-adam-0.001-1": 0.04,
        "mid-noise-adam-0.01-2": 0.06,
        "mid-noise-muon-0.02-1": 0.06,
        "mid-photos-muon-0.02-1": 0.06,
    }
    found = {named(name): result(named(name), step_seconds=taken) for name, taken in seconds.items()}
    assert row(found, "mid-noise-muon-0.02")[5] == "60 (1.20)"
    assert row(found, "mid-photos-muon-0.02")[5] == "60"


def test_a_swap_share_is_the_mean_over_pairs_whose_omega_carries_something():
    first, second = named("high-noise-muon-0.01-2"), named("high-noise-muon-0.01-3")
    carrying = jobs.Share(source=1, worth=1.5, share=0.8, bounds=(0.7, 0.85))
    other, idle = (
        carrying.model_copy(update={"share": 0.6, "bounds": (0.5, 0.75)}),
        carrying.model_copy(update={"worth": 1.001}),
    )
    found = {first: result(first, shares=(carrying,)), second: result(second, shares=(other, idle))}
    assert row(found, "high-noise-muon-0.01")[-1] == "0.700 (0.500 to 0.850)"
    unbounded = other.model_copy(update={"bounds": None})
    assert row(found | {second: result(second, shares=(unbounded,))}, "high-noise-muon-0.01")[-1] == "0.700"
    assert row({second: result(second, shares=(idle,))}, "high-noise-muon-0.01")[-1] == "-"


def ends(settings):
    """Results of all seeds of settings, each with its end."""
    found = {setting: [job for job in jobs.JOBS if job.setting.name == setting] for setting in settings}
    return {job: result(job, settings[name], step_seconds=0.1) for name, own in found.items() for job in own}


def test_the_best_rate_has_all_its_runs_here_and_on_the_attractor():
    found = ends({"low-noise-adam-0.001": (1.0, 0.9), "low-noise-adam-0.003": (1.1, 0.8), "low-noise-adam-0.01": (1.3, 0.7)})
    assert jobs.best("low", "noise", "adam", found).rate == 3e-3
    del found[named("low-noise-adam-0.003-2")]
    assert jobs.best("low", "noise", "adam", found).rate == 1e-3
    found[named("low-noise-adam-0.001-1")] = result(named("low-noise-adam-0.001-1"), diverged="step 5")
    assert jobs.best("low", "noise", "adam", found) is None
    assert jobs.best("low", "photos", "adam", found) is None


def test_samples_and_time_to_adam_s_error():
    found = ends({"low-noise-adam-0.001": (1.0, 0.9), "low-noise-muon-0.01": (1.0, 0.45), "high-noise-adam-0.01": (1.0, 0.9)})
    found |= {
        job: one.model_copy(update={"step_seconds": 0.12}) for job, one in found.items() if job.setting.optimiser == "muon"
    }
    table = {cells[:2]: cells[2:] for cells in rows(page.report(found, page.NO_RECIPE)) if len(cells) == len(page.BEST_COLUMNS)}
    assert table["noise", "low"] == ("0.001", "0.9000 ± 0.0000", "0.01", "0.4500 ± 0.0000", "300", "60%")
    assert table["noise", "high"] == ("0.01", "0.9000 ± 0.0000", "-", "-", "-", "-")
    worse = found | {job: result(job, (1.0, 0.95)) for job in found if job.setting.optimiser == "muon"}
    assert page._best_row("low", "noise", worse)[-2:] == ["not reached", "-"]


def lines_of(svg):
    """The points of every line of a picture."""
    return [[tuple(map(float, at.split(","))) for at in one.get("points").split()] for one in svg.iter(f"{SVG}polyline")]


def test_the_second_picture_has_the_best_rates_along_samples_and_time():
    found = ends({"low-noise-adam-0.001": (1.0, 0.9), "low-noise-adam-0.003": (1.0, 0.8), "low-noise-muon-0.01": (1.0, 0.45)})
    svg = ElementTree.fromstring(pictures.samples(found))
    assert len(lines_of(svg)) == 2 * 6  # samples and time of three seeds each of the best rates
    assert len([words for words in svg.iter(f"{SVG}text") if words.text == "low, noise: adam 0.003, muon 0.01"]) == 2
    untimed = {job: one.model_copy(update={"step_seconds": None}) for job, one in found.items()}
    assert len(lines_of(ElementTree.fromstring(pictures.samples(untimed)))) == 6


def test_the_picture_has_a_path_and_a_marker_for_each_run(some):
    empty, root = (ElementTree.fromstring(pictures.front(found)) for found in ({}, some))
    assert root.tag == f"{SVG}svg"
    assert [len(lines_of(drawing)) for drawing in (empty, root)] == [0, len(some)]
    shaded = [group for group in root.findall(f"{SVG}g") if group.find(f"{SVG}rect[@fill='{pictures.SHADE}']") is not None]
    assert len(shaded) == 7  # six panels and the key
    squares = [rect for rect in root.iter(f"{SVG}rect") if rect.get("fill") == pictures.COLOURS["adam"]]
    assert len(squares) == 2 + 1  # the key's
    triangles = [shape for shape in root.iter(f"{SVG}polygon") if shape.get("fill") == pictures.COLOURS["muon"]]
    assert len(triangles) == 2 + 1
    width, height = (float(part) for part in root.get("viewBox").split()[2:])
    assert width == 3 * pictures.Panel.width
    for line in lines_of(root):
        assert len(line) == 6
        assert all(pictures.LEFT <= x <= pictures.Panel.width and 0 <= y <= height for x, y in line)


@pytest.mark.parametrize("old", ["", "# An older page without the comments\n"])
def test_a_new_page_has_a_place_for_the_recipe(tmp_path, old):
    (tmp_path / "front.md").write_text(old)
    page.write({}, tmp_path / "front.md")
    assert (tmp_path / "front.md").read_text().count(page.NO_RECIPE) == 1


def test_a_rewrite_keeps_the_recipe(tmp_path, some):
    at, words = tmp_path / "front.md", "<!-- recipe -->\nLOW at 3e-3, because \\1 of it.\n\n| a | table |\n<!-- /recipe -->"
    page.write({}, at)
    at.write_text(at.read_text().replace(page.NO_RECIPE, words))
    page.write(some, at)
    first = at.read_text()
    assert first.count(words) == first.count("<!-- recipe -->") == 1
    assert "Missing, 104 of 108" in first
    page.write(some, at)
    assert at.read_text() == first


@pytest.mark.parametrize("comment", ["<!-- recipe -->", "<!-- /recipe -->", "<!-- /recipe --> <!-- recipe -->"])
def test_half_a_recipe_is_not_overwritten(tmp_path, comment):
    at = tmp_path / "front.md"
    at.write_text(f"{comment}\nwritten by hand\n")
    with pytest.raises(ValueError, match="both of its comments"):
        page.write({}, at)
    assert [path.name for path in tmp_path.iterdir()] == ["front.md"]
    assert at.read_text() == f"{comment}\nwritten by hand\n"


def test_a_finished_run_is_read_and_one_of_another_plan_is_not(store, monkeypatch):
    monkeypatch.setattr(front.batteries, "train", lambda *_, **__: pytest.fail("trained again"))
    job, other = jobs.JOBS[:2]
    put(store, {job: result(job)})
    assert front.run(job, store) == result(job)
    put(store, {job: result(job, plan="0" * 64), other: result(job)})
    assert store.read(job) is store.read(other) is None
    store.path(job).write_bytes(result(job).to_bytes()[:-20])
    with pytest.raises(FormatError, match="JSON"):
        store.read(job)


def test_kept_results_outlast_the_runs_and_own_files_come_first(store, tmp_path, some, monkeypatch):
    monkeypatch.setattr(front.batteries, "train", lambda *_, **__: pytest.fail("trained again"))
    put(store, some)
    front.write_report(store, tmp_path / "front.md")
    text, lines = (tmp_path / "front.md").read_bytes(), store.kept.read_bytes()
    assert lines == b"".join(some[job].to_bytes() for job in jobs.JOBS if job in some)
    shutil.rmtree(store.folder)
    assert store.all() == some
    assert [front.run(job, store) for job in some] == [*some.values()]
    newer, added = next(iter(some)), named("mid-photos-adam-0.01-2")
    front.write_report(store, tmp_path / "front.md")
    assert ((tmp_path / "front.md").read_bytes(), store.kept.read_bytes()) == (text, lines)
    put(store, {newer: result(newer, (1.0, 0.1)), added: result(added)})
    assert store.all() == some | {newer: result(newer, (1.0, 0.1)), added: result(added)}
    front.write_report(store, tmp_path / "front.md")
    assert len(store.kept.read_bytes().splitlines()) == len(some) + 1


def test_kept_lines_of_other_plans_are_ignored_and_damaged_ones_refused(store):
    job, other = jobs.JOBS[:2]
    store.keep({job: result(job, plan="0" * 64), other: result(other)})
    assert store.all() == {other: result(other)}
    assert store.read(job) is None
    store.kept.write_bytes(store.kept.read_bytes()[:-20])
    with pytest.raises(FormatError, match="JSON"):
        store.all()


def test_the_outcome_of_a_run_is_kept_and_other_errors_leave_none(store, monkeypatch):
    job = jobs.JOBS[0]

    def ends_with(error):
        def train(*_, folder, **__):
            assert folder == store.folder / job.name
            raise error

        monkeypatch.setattr(front.batteries, "train", train)

    for error in (ConflictError("another run", code="RUN_CHANGED"), PolicyError("refused", code="OTHER")):
        ends_with(error)
        with pytest.raises(type(error), match=error.code):
            front.run(job, store)
        assert store.all() == {}
    ends_with(PolicyError("training diverged", code="DIVERGED", where="step 312"))
    known = batteries.NoiseSource().facts.digest
    assert front.run(job, store) == store.read(job) == result(job, diverged="step 312", data=known)


def test_steps_are_timed_without_readings(monkeypatch):
    times = iter([10.0, 11.0, 13.0, 20.0, 21.5])
    monkeypatch.setattr(front.time, "process_time", lambda: next(times))
    clock = front.Clock()
    clock.stepped(1, 0.5)
    clock.stepped(2, 0.5)
    clock.stepped(3, 0.5)
    clock.read(None)
    clock.stepped(4, 0.5)
    assert clock.seconds == [1.0, 2.0, 1.5]


def test_photographs_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(front, "_held_at", lambda place: "mate" not in place.parts)
    with pytest.raises(
        NotFoundError, match=r"no photographs to train on in /usr/share/backgrounds/mate/nature:.*NO_PHOTOGRAPHS"
    ) as raised:
        front.source_of.__wrapped__("photos")
    assert "Debian packages mate-backgrounds" in raised.value.remedy


def test_a_place_holds_photographs(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "none").mkdir()
    assert front._held_at(tmp_path)
    assert front._held_at(tmp_path / "[a-b].jpg")
    assert not any(
        map(front._held_at, (tmp_path / "none", tmp_path / "*.png", tmp_path / "missing" / "*.jpg", tmp_path / "missing"))
    )


TINY = batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4)


def tiny_plan(job):
    settings = {"steps": 4, "batch": 4, "reading_every": 2, "checkpoint_every": 2, "optimiser": job.setting.optimiser}
    return batteries.Plan(spec=TINY, size=64, rate=job.setting.rate, seed=job.seed, **settings)


@pytest.fixture
def tiny(monkeypatch):
    """Runs of four steps of a tiny cell, and few images for the read-outs."""
    monkeypatch.setattr(jobs.Job, "plan", property(tiny_plan))
    monkeypatch.setattr(content, "PROTOCOL", content.PROTOCOL.model_copy(update={"name": "mine-1", "train": 64, "test": 32}))


def test_a_run_resumes_and_its_content_is_that_of_its_weights(store, tiny):
    first, second = named("high-noise-muon-0.02-1"), named("high-noise-muon-0.02-2")
    probe, source = batteries.probe("noise16-64"), batteries.NoiseSource()
    batteries.train(second.plan, source, probe, folder=store.folder / second.name, until=2)
    whole = batteries.train(second.plan, source, probe)
    found = [front.run(job, store) for job in (second, first)]
    assert found == [store.read(second).model_copy(update={"shares": ()}), store.read(first)]
    assert found[0].trajectory == tuple(whole.trajectory)
    assert all(one.step_seconds > 0 for one in found)

    own, S = found[0].content, whole.model.tokens(probe.images).S.detach().numpy().reshape(-1, TINY.D).astype(float)
    assert own.spread == pytest.approx((S.std(axis=0) / S.mean(axis=0)).mean(), rel=1e-4)
    (task,) = own_tasks("noise", content.PROTOCOL, 0)
    rows, omega = read_outs(whole.model, task, "cell")
    assert own.losses == jobs.Losses(M=rows.loss, omega=omega.loss)
    nulls = [read_outs(batteries.untrained(TINY, UNTRAINED_SEED + seed).eval(), task, "untrained") for seed in range(2)]
    assert own.untrained == jobs.Losses(
        **{one[0].reads: np.mean([figure.loss for figure in one]) for one in zip(*nulls, strict=True)}
    )
    assert found[1].content.untrained == own.untrained

    weights = content._final_weights(second, store.folder / second.name / content.CHECKPOINT)
    assert all(np.array_equal(weights[name], array) for name, array in arrays_of(whole.model).items())
    (share,) = store.read(second).shares  # its partner came last
    assert (share.source, store.read(first).shares) == (1, ())
    assert share.worth == own.worth


def test_swaps_take_final_weights_only(store, tiny, tmp_path):
    first, second = named("high-noise-adam-0.01-1"), named("high-noise-adam-0.01-2")
    put(store, {job: result(job, (1.0, 0.5)) for job in (first, second)})
    probe, source = batteries.probe("noise16-64"), batteries.NoiseSource()
    for job, until in ((first, 4), (second, 2)):
        batteries.train(job.plan, source, probe, folder=store.folder / job.name, until=until)
    content.add_shares(first.setting, store)
    assert store.read(second).shares == ()
    batteries.train(second.plan, source, probe, folder=store.folder / second.name)
    front.write_report(store, tmp_path / "front.md")  # makes the missing one
    assert [share.source for share in store.read(second).shares] == [1]
    assert b'"source":1' in store.kept.read_bytes()


def test_the_command_line_of_the_front(store, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["front.py", "--folder", str(store.folder), *arguments])
        front.main()
        return capsys.readouterr().out.splitlines()

    assert run("--jobs") == [job.command for job in jobs.JOBS]
    monkeypatch.setattr(front, "run", lambda job, store: result(job, content=CONTENT))
    assert run("--only", "low-noise-adam-0.001-2") == ["low-noise-adam-0.001-2: MSE 0.5, CV / exact 1.040, worth of omega 1.5"]
    monkeypatch.setattr(front, "PAGE", tmp_path / "front.md")
    assert run("--report") == [f"written: {tmp_path / 'front.md'}; missing: {', '.join(jobs.NAMED)}"]
    assert {path.name for path in tmp_path.iterdir()} == {"front.md", "front.svg", "front-samples.svg", "front.jsonl"}
    assert len(run()) == 109
    for wrong in ("low-noise-adam-0.002-1", "open-noise-adam-0.001-1", "low", "low-noise-adam-1e-3-1"):
        with pytest.raises(SystemExit, match=r"^2$"):
            run("--only", wrong)
        assert f"no such run: {wrong}" in capsys.readouterr().err


def test_an_error_of_a_run_ends_the_command(store, monkeypatch, capsys):
    def refuse(job, store):
        raise NotFoundError("no photographs to train on", code="NO_PHOTOGRAPHS", remedy="Install them.")

    monkeypatch.setattr(front, "run", refuse)
    monkeypatch.setattr(sys, "argv", ["front.py", "--folder", str(store.folder), "--only", "low-photos-adam-0.001-1"])
    with pytest.raises(SystemExit, match=r"^3$"):
        front.main()
    assert capsys.readouterr().err == "no photographs to train on [NO_PHOTOGRAPHS]\n  Install them.\n"
