"""Programs: what the published one consists of, how options merge, and what is refused."""

import itertools
from collections import Counter

import pytest

from batteries.ablation import program as programs
from batteries.ablation.program import parse, read_program
from batteries.ablation.runs import distinct, even_spacing, runs_of
from batteries.errors import BatteriesError, FormatError, InputError, NotFoundError
from tests.support.ablations import TINY, changed, tiny

PUBLISHED = {"A": 15, "B": 18, "C": 12, "D": 15, "E": 12, "F": 15, "G": 12, "I": 12, "J": 5, "K": 12, "L": 12, "M": 9}
MANY_BANDS = b"".join(b"[bands.b%d]\n" % n for n in range(1600))
STEPS = {"low": 1000, "mid": 1000, "high": 100}


@pytest.fixture(scope="module")
def published():
    program, _ = read_program("published")
    return program, runs_of(program)


def test_the_published_program_has_149_runs_in_12_groups(published):
    program, runs = published
    counts = Counter(run.group for run in runs)
    theirs = {group.id: counts[group.id] for group in program.groups if not group.ours}
    assert theirs == PUBLISHED
    assert sum(theirs.values()) == 149
    assert len({run.name for run in runs}) == len(runs)
    assert {run.group for run in runs} - PUBLISHED.keys() == {"F-enc-in", "G-row-max", "N"}


def test_every_run_of_the_published_program_is_a_plan_of_the_trainer(published):
    _, runs = published
    for run in runs:
        assert run.plan.steps == STEPS[run.band]
        assert run.plan.reading_every * 4 == run.plan.steps
        assert run.source.facts.noise_mix == ("batteries" if run.group == "N" else "published")
    plans = {run.name: run.plan for run in runs}
    usual = plans["A/seed-0/low"]
    assert (usual.optimiser, usual.rate, usual.schedule, usual.batch, usual.boost) == ("adam", 1e-4, "cosine", 128, 0.5)
    assert [plans[f"K/b{n}/mid"].batch for n in (32, 128, 512, 1024)] == [32, 128, 512, 1024]
    assert [plans[f"M/{name}/high"].momentum for name in ("r01-m90", "r05-m95", "r10-m99")] == [0.9, 0.95, 0.99]
    assert {plans[f"F/{name}/low"].spec.activation for name in ("gelu", "relu", "silu", "tanh", "identity")} == {
        *("gelu", "relu", "silu", "tanh", "identity")
    }
    assert plans["F-enc-in/tanh/low"].spec.activation_sites == "enc_in"
    assert plans["I/unbounded/low"].spec.bounded_alpha is False
    assert plans["E/penalty/low"].hand == "penalty"


def test_the_usual_run_of_every_group_is_computed_once(published):
    _, runs = published
    same = distinct(runs)
    usual = {f"{name}/low" for name in ("A/seed-0", "B/all", "C/adam", "D/cosine", "E/full", "F/gelu", "G/sphere")}
    usual |= {f"{name}/low" for name in ("I/one", "J/v64-h64", "K/b128", "L/orthogonal")}
    assert {run.name for run in max(same.values(), key=len)} == usual
    assert sum(map(len, same.values())) == len(runs)


@pytest.mark.parametrize("name", programs.names())
def test_every_program_that_ships_is_one(name):
    program, text = read_program(name)
    assert program.name == name
    assert parse(text, where=name) == program
    assert runs_of(program)


def test_later_tables_win_and_fields_of_a_spec_are_merged():
    program, _, runs = tiny(changed(b"one = { seed = 1 }", b"one = { seed = 1, steps = 6, set = { hidden = 12 } }"))
    one = next(run for run in runs if run.variant == "one")
    assert (one.plan.seed, one.plan.steps, one.plan.batch) == (1, 6, 2)
    assert (one.plan.spec.hidden, one.plan.spec.V) == (12, 8)
    assert program.options_of(program.groups[0], "zero", "high")["set"]["hidden"] == 8


def test_a_command_trains_the_cell_of_a_run():
    from batteries.training.recipe import Recipe

    with_switch = changed(b"one = { seed = 1 }", b"one = { fixed_batch = true }")
    for run in [*tiny()[2], *tiny(with_switch)[2]]:
        assert Recipe.parse(run.command) == run.recipe
    for name in programs.names():
        for run in runs_of(read_program(name)[0]):
            assert Recipe.parse(run.command) == run.recipe


def test_runs_share_their_photographs(tmp_path, monkeypatch):
    from batteries.ablation import runs as module

    read = []

    monkeypatch.setattr(module, "read_photos", lambda *places: read.append(places) or places)
    monkeypatch.setattr("batteries.training.recipe.Recipe.source", lambda recipe, photos: photos)
    text = changed(b'noise = "batteries"', f'photos = ["{tmp_path}"]'.encode())
    module._photographs.cache_clear()
    assert [run.source for run in [*tiny(text)[2], *tiny(text)[2]]] == [(str(tmp_path),)] * 8
    assert read == [(str(tmp_path),)]
    module._photographs.cache_clear()


def test_groups_and_bands_are_chosen():
    program, _, _ = tiny()
    assert [run.name for run in runs_of(program, groups=("N",))] == ["N/sphere/high", "N/none/high"]
    assert runs_of(program, bands=("high",)) == runs_of(program)
    for chosen, code in (({"groups": ("S", "Z")}, "NO_GROUP"), ({"bands": ("low",)}, "NO_BAND")):
        with pytest.raises(InputError) as caught:
            runs_of(program, **chosen)
        assert caught.value.code == code
        assert caught.value.found in ("Z", "low")


def test_groups_without_the_chosen_bands_are_refused():
    program, _ = read_program("published")
    with pytest.raises(InputError, match="NO_BAND") as caught:
        runs_of(program, groups=("J",), bands=("high",))
    assert caught.value.expected == "low"
    assert len(runs_of(program, groups=("J", "A"), bands=("high",))) == 5


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (b"name = ", "TOML", ""),
        (b"\xff", "TOML", "utf-8"),
        (b'name = "x"', "PROGRAM", "title"),
        (b"a = " + b"[" * 50_000, "TOO_DEEP", ""),
        (changed(b'id = "N"', b'id = "s"'), "PROGRAM", "case"),
        (changed(b"\none = {", b"\nZERO = {"), "PROGRAM", "variant twice"),
        (changed(b'title = "Norm"', b'title = "Norm"\nbands = ["high", "high"]'), "PROGRAM", "band twice"),
        (changed(b'id = "N"', b'id = "S"'), "PROGRAM", "twice"),
        (changed(b'id = "N"', b'id = "../N"'), "PROGRAM", "groups.1.id"),
        (changed(b"\none = {", b'\n"a/b" = {'), "PROGRAM", "variants"),
        (changed(b"high = 0.9", b"low = 0.9"), "PROGRAM", "no band"),
        (changed(b"[groups.published.zero]", b"[groups.published.two]"), "PROGRAM", "not a variant"),
        (changed(b"one = { seed = 1 }", b'one = { start = "low/x" }'), "PROGRAM", "cannot have: start"),
        (changed(b"one = { seed = 1 }", b'one = { set = "D=32" }'), "PROGRAM", "table of fields"),
        (changed(b"readings = 2", b"readings = 0"), "PROGRAM", "readings"),
        (changed(b'source = "made up"', b"colour = 1"), "PROGRAM", "colour"),
        (changed(b"[bands.high]", MANY_BANDS + b"[bands.high]"), "PROGRAM", "6,404 runs, more than 4,096"),
    ],
)
def test_bad_programs_are_refused_by_name(text, code, words):
    with pytest.raises(FormatError) as caught:
        parse(text, where="a test")
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "a test" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"one = { seed = 1 }", b"one = { speed = 1 }", "PROGRAM"),
        (b"one = { seed = 1 }", b'one = { optimiser = "magic" }', "USAGE"),
        (b"one = { seed = 1 }", b"one = { set = { D = 1 } }", "SPEC"),
        (b"one = { seed = 1 }", b"one = { set = { D = 0x" + b"f" * 6000 + b" } }", "SPEC"),
        (b"one = { seed = 1 }", b"one = { set = { colour = 1 } }", "SPEC"),
        (b"one = { seed = 1 }", b"one = { size = 60 }", "IMAGE_SIZE"),
        (b"one = { seed = 1 }", b'one = { types = "mauve" }', "NOISE_TYPE"),
        (b"one = { seed = 1 }", b"one = { momentum = 0.9 }", "USAGE"),
        (b"one = { seed = 1 }", b"one = { steps = 0 }", "USAGE"),
    ],
)
def test_a_variant_that_the_trainer_refuses_is_named(old, new, code):
    with pytest.raises(BatteriesError) as caught:
        tiny(changed(old, new))
    assert caught.value.code == code
    assert "S/one/high" in str(caught.value)


def test_a_program_that_is_not_there():
    for place, code in (("nothing", "NO_PROGRAM"), ("nothing.toml", "NO_FILE")):
        with pytest.raises(NotFoundError) as caught:
            read_program(place)
        assert caught.value.code == code
        assert "nothing" in str(caught.value)


def test_a_file_is_a_program_of_any_place(tmp_path):
    (tmp_path / "mine.toml").write_bytes(TINY)
    program, text = read_program(str(tmp_path / "mine.toml"))
    assert (program.name, text) == ("tiny", TINY)


@pytest.mark.parametrize("readings", [1, 2, 4, 7, 20])
@pytest.mark.parametrize("steps", [1, 3, 7, 10, 97, 100, 240, 1000, 1009])
def test_readings_are_evenly_spaced_and_end_with_the_run(steps, readings):
    every = even_spacing(steps, readings)
    at = sorted({*range(every, steps + 1, every), steps})
    gaps = [later - earlier for earlier, later in itertools.pairwise([0, *at])]
    assert at[-1] == steps
    assert min(gaps) > 0
    if steps % readings == 0:
        assert (len(at), len(set(gaps))) == (readings, 1)
    if steps > readings**2:
        assert abs(len(at) - readings) <= 1
    least = min(_last_share(steps, other) for other in range(1, steps + 1) if -(-steps // other) == len(at))
    assert _last_share(steps, every) == least


def _last_share(steps, every):
    """By how much of the others the last gap is shorter."""
    return 1 - (steps - (-(-steps // every) - 1) * every) / every


def test_a_run_reads_and_saves_at_the_same_steps():
    text = changed(b"readings = 2", b"readings = 3").replace(b"steps = 4", b"steps = 10")
    plan = tiny(text)[2][0].plan
    assert (plan.reading_every, plan.checkpoint_every) == (5, 5)  # 5, 10, and not 3, 6, 9, 10


def test_the_norm_of_the_public_code_is_a_group_of_ours(published):
    _, runs = published
    norms = {run.variant: run.plan.spec.row_norm for run in runs if run.group == "G-row-max"}
    assert norms == {"row-max": "row_max"}


@pytest.mark.parametrize("seed", [2**64, 2**70, -1])
def test_a_seed_that_no_generator_takes_is_refused_with_its_run(seed):
    with pytest.raises(InputError, match="seed") as caught:
        tiny(changed(b"one = { seed = 1 }", b"one = { seed = %d }" % seed))
    assert caught.value.where == "S/one/high of tiny"


def test_the_read_out_rounds_say_what_is_ours():
    program, _ = read_program("readout-rounds")
    first, *others = program.groups
    assert not first.ours
    assert all(group.ours for group in others)
    assert first.chosen.keys() == first.variants.keys() - {"discipline-long"}
