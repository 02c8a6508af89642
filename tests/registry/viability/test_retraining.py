"""``validate(retrain=True)``: the first steps of the recorded command, run again, as a check of its own."""

import pytest

import batteries
from batteries import Cell
from batteries.errors import InputError, NotFoundError
from batteries.training.recipe import Recipe
from registry import validate
from registry.viability import retraining
from registry.viability.result_cache import ResultCache
from registry.viability.runner import Runner
from tests.registry.cli.test_train_and_validate import run
from tests.support.cells import from_model
from tests.support.viability import SPEC, TEST, few

pytestmark = [pytest.mark.usefixtures("few_in_module"), pytest.mark.slow]
COMMAND = "batteries train high/tiny-64 --steps 60 --noise --batch 1 --size 32 --rows 12 --hidden 8 --set patch_size=16"


@pytest.fixture(scope="module")
def cell(few_in_module):
    """A cell of a recorded command, with a trajectory read on the few images of these tests."""
    recipe = Recipe.parse(COMMAND)
    source = recipe.source(None)
    trained = batteries.train(recipe.plan(None), source, few("noise16-64"))
    label = batteries.Label(name="tiny-64", version="1.0.0", family="tiny", license="MIT", description="")
    return batteries.package(trained, source, label, COMMAND)


def altered(cell, **training):
    facts = cell.manifest.training.model_copy(update=training)
    return Cell(cell.weights, cell.manifest.model_copy(update={"training": facts}))


def retrained(cell, cache=None, told=None):
    told = [] if told is None else told
    runner = Runner(cell, TEST, few("noise16-64"), (), {}, 0, ResultCache(cache), lambda words, done, parts: told.append(words))
    return retraining.retrained(runner, retraining.prepared(cell, None))


def test_the_first_steps_repeat(cell):
    told = []
    check = retrained(cell, told=told)
    assert (check.passed, check.decides) == (True, True)
    assert check.reason == "the first 60 steps of the recorded command repeat to the last bit; readings compared: 1"
    assert told == ["training again: step 50 of 60"]


def test_a_reading_that_differs_is_named(cell):
    (point,) = cell.manifest.training.trajectory
    check = retrained(altered(cell, trajectory=(point.model_copy(update={"mse": point.mse / 2}),)))
    assert (check.passed, check.decides) == (False, True)
    assert check.reason.startswith("the recorded command does not repeat: MSE at step 60 ")


def test_a_rounding_of_another_machine_repeats(cell):
    (point,) = cell.manifest.training.trajectory
    check = retrained(altered(cell, trajectory=(point.model_copy(update={"mse": point.mse * 1.01}),)))
    assert (check.passed, "last bit" in check.reason) == (True, False)


def test_facts_of_another_run_are_named_without_training(cell, monkeypatch):
    monkeypatch.setattr(retraining, "_run", None)
    check = retrained(altered(cell, command=COMMAND.replace("--batch 1", "--batch 2")))
    assert check.passed is False
    assert "batch of the command 1 claimed, 2 measured" in check.reason


def test_without_readings_nothing_is_compared(cell):
    check = retrained(altered(cell, trajectory=()))
    assert (check.passed, check.decides) == (None, False)
    assert "no reading in the first 60 steps" in check.reason


def test_the_readings_are_kept(cell, tmp_path, monkeypatch):
    first = retrained(cell, tmp_path)
    monkeypatch.setattr(retraining, "_run", None)
    assert retrained(cell, tmp_path) == first


def test_data_that_is_not_here_is_refused_before_the_test(cell):
    photos = altered(cell, command="batteries train high/tiny-64 --steps 60 --photos /nowhere")
    with pytest.raises(NotFoundError, match="NO_DATA"):
        validate(photos, profile=TEST, retrain=True)
    with pytest.raises(InputError, match="NO_RECIPE"):
        validate(from_model(SPEC, 0, "a"), profile=TEST, retrain=True)


def test_a_control_is_not_trained(capsys):
    code, _, err = run(capsys, "validate", "low/fresnel-64", "--control", "none", "--retrain")
    assert code == 2
    assert "control was not trained" in err


def test_photographs_without_retraining_are_refused(capsys):
    code, _, err = run(capsys, "validate", "low/fresnel-64", "--photos", ".")
    assert (code, "--retrain" in err) == (2, True)
    with pytest.raises(InputError, match="USAGE"):
        validate("low/fresnel-64", photos=["."])


def test_the_report_says_so(cell, tmp_path):
    told = []
    report = validate(cell, profile=TEST, retrain=True, cache=tmp_path, progress=lambda *row: told.append(row))
    assert report["retrained"].passed
    assert any(words.startswith("The first 60 steps of the recorded command repeat") for words in report.attestation.words)
    assert "The run was shorter than the triage step, 1000: tiers 1 and 2 not tested." in report.attestation.words
    assert "training again" in [words for words, _, _ in told]
    assert {parts for _, _, parts in told} == {max(done for _, done, _ in told) + 1}
