"""The page of the front and its pictures, from results made by hand: nothing is trained."""

from xml.etree import ElementTree

import pytest

from batteries.geometry import attractor
from tests.support.examples import example, rows
from tests.support.front import front, jobs, named, page, pictures, put, result

panels = example("panels")
SVG = "{http://www.w3.org/2000/svg}"


def row(found, name):
    """The row of a setting, without band, optimiser and rate."""
    band, data, optimiser, rate = name.split("-")
    title = f"## {page.TITLES[data]}\n"
    table = page.report(found, page.NO_RECIPE).split(title)[1].split("\n## ")[0]
    return next(cells[3:] for cells in rows(table) if cells[:3] == (band, optimiser, rate))


def test_the_front_has_108_runs_of_108_plans():
    assert len(jobs.JOBS) == len(jobs.NAMED) == len({job.plan_digest for job in jobs.JOBS}) == 108
    job = named("high-photos-muon-0.04-3")
    assert job.command == "python examples/front.py --only high-photos-muon-0.04-3"
    plan = job.plan
    assert (plan.batch, plan.rate, plan.seed, plan.steps, plan.boost, plan.optimiser) == (16, 0.04, 3, 600, 0.5, "muon")
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
    assert row(some, "high-photos-muon-0.04") == high
    assert row(some, "mid-noise-adam-0.01") == ("0", *("-",) * 10)
    sentence = next(line for line in text.splitlines() if line.startswith("Missing, 104 of 108: "))
    assert "low-noise-adam-0.003 (3)," in sentence
    assert "high-photos-muon-0.04 (2)." in sentence
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
    first, second = named("low-photos-adam-0.001-1"), named("high-photos-muon-0.04-1")
    found = {first: result(first), second: result(second, data="1" * 64)}
    assert "did not all have the same photographs" in page.report(found, page.NO_RECIPE)


def test_a_step_is_compared_with_adam_s_of_the_same_band_and_data():
    seconds = {
        "mid-noise-adam-0.001-1": 0.04,
        "mid-noise-adam-0.01-2": 0.06,
        "mid-noise-muon-0.04-1": 0.06,
        "mid-photos-muon-0.04-1": 0.06,
    }
    found = {named(name): result(named(name), step_seconds=taken) for name, taken in seconds.items()}
    assert row(found, "mid-noise-muon-0.04")[5] == "60 (1.20)"
    assert row(found, "mid-photos-muon-0.04")[5] == "60"


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
    shaded = [group for group in root.findall(f"{SVG}g") if group.find(f"{SVG}rect[@fill='{panels.SHADE}']") is not None]
    assert len(shaded) == 7  # six panels and the key
    squares = [rect for rect in root.iter(f"{SVG}rect") if rect.get("fill") == pictures.COLOURS["adam"]]
    assert len(squares) == 2 + 1  # the key's
    triangles = [shape for shape in root.iter(f"{SVG}polygon") if shape.get("fill") == pictures.COLOURS["muon"]]
    assert len(triangles) == 2 + 1
    width, height = (float(part) for part in root.get("viewBox").split()[2:])
    assert width == 3 * pictures.Panel.width
    for line in lines_of(root):
        assert len(line) == 6
        assert all(panels.LEFT <= x <= pictures.Panel.width and 0 <= y <= height for x, y in line)


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
