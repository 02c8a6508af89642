"""Comparisons mark what differs, keep their level where nothing does, and say so in sentences."""

import math

import pytest
import torch

import batteries
from batteries import diagnostics
from batteries.diagnostics.contrasts import contrast
from batteries.geometry.estimates import HOLDS, skewed, student, student_p, unskewed
from tests.support.examples import example

PLAIN = diagnostics.Definition("x", "x", "test", "mean of x")
CV = diagnostics.Definition("cv", "CV", "test", "sd / mean", HOLDS)
SPEC = batteries.CellSpec.preset("low", hidden=16, smooth_width=4)
controls = example("inspection_controls")


def figure(values, definition=PLAIN):
    values = torch.as_tensor(values, dtype=torch.float64)
    sums = torch.stack([torch.ones_like(values), values], dim=1)
    return diagnostics.jackknifed(definition, sums, torch.arange(len(values)), lambda s: s[..., 1] / s[..., 0])


def draws(seed, n=40, mean=1.0, sd=0.1):
    return mean + sd * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def share_rejected(pair, paired, trials=400):
    found = [contrast(*pair(seed), paired=paired).p for seed in range(trials)]
    return sum(p <= 0.05 for p in found) / trials


def test_p_values_are_those_of_student():
    for df in (1, 2, 7, 40):
        assert student_p(student(0.95, df), df) == pytest.approx(0.05, abs=1e-9)
        assert student_p(-student(0.5, df), df) == pytest.approx(0.5, abs=1e-9)
    assert student_p(0.0, 5) == 1
    assert student_p(math.inf, 5) == pytest.approx(0)
    for t in (-3.0, 0.5, 4.0):
        assert skewed(unskewed(t, 0.3), 0.3) == pytest.approx(t)


@pytest.mark.parametrize("paired", [True, False], ids=["paired", "welch"])
def test_the_level_is_kept(paired):
    common = draws(9999, 40)

    def pair(seed):
        return figure(common + draws(seed, sd=0.05)), figure(common + draws(seed + 10**6, sd=0.05))

    def apart(seed):
        return figure(draws(seed, 40)), figure(draws(seed + 10**6, 25, sd=0.3))

    assert share_rejected(pair if paired else apart, paired) == pytest.approx(0.05, abs=0.033)  # three standard errors


def test_pairing_finds_what_welch_does_not():
    common = draws(0, 40, sd=1.0)
    first, second = figure(common), figure(common + 0.05 + draws(1, mean=0.0, sd=0.02))
    assert contrast(first, second, paired=True).p < 1e-4
    assert contrast(first, second, paired=False).p > 0.5
    found = contrast(first, second, paired=True)
    assert found.low < 0.05 < found.high


def test_a_margin_is_a_hypothesis():
    first = figure(draws(0, mean=1.0, sd=0.01), CV)
    within, outside = (figure(draws(1, mean=mean, sd=0.01), CV) for mean in (1.1, 1.3))
    assert contrast(first, within, paired=False).p == 1
    assert contrast(first, outside, paired=False).p < 1e-9
    edge = [
        contrast(figure(draws(s, sd=0.05), CV), figure(draws(s + 10**6, mean=1.15, sd=0.05), CV), paired=False).p
        for s in range(400)
    ]
    assert sum(p <= 0.05 for p in edge) / 400 <= 0.05


def test_exact_figures_differ_beyond_rounding_and_one_cluster_tests_nothing():
    def exact(value):
        return diagnostics.Figure(PLAIN, value=value, tolerance=1e-14)

    assert not contrast(exact(1e-15), exact(5e-15), paired=True).exceeds
    assert contrast(exact(1e-15), exact(1e-3), paired=True).exceeds
    lone = contrast(figure([1.0]), figure([2.0]), paired=True)
    assert (lone.difference, lone.p, lone.low) == (1.0, None, None)
    assert contrast(diagnostics.Figure(PLAIN, undefined="no"), exact(1.0), paired=True) is None


@pytest.fixture(scope="module")
def model():
    return batteries.untrained(SPEC, seed=0)


@pytest.fixture(scope="module")
def probe():
    whole = batteries.probe("noise16-64")
    kept = torch.arange(256).view(16, 16)[:, :8].flatten()
    return batteries.Probe(whole.name, 1, "noise", whole.images[kept], whole.group[kept], whole.groups, "small")


def test_a_cell_and_itself_differ_in_nothing(model, probe):
    images = probe.images[::8]
    found = diagnostics.inspect(model, images)
    compared = diagnostics.compare(found, diagnostics.inspect(model, images))
    assert compared.marked == compared.sentences == ()
    assert all(row.paired for row in compared.rows)
    assert {row.contrast.difference for row in compared.rows if row.contrast} == {0.0}


def test_another_decoder_marks_the_error_and_neither_cv_nor_rank(model, probe):
    other = batteries.untrained(SPEC, seed=0)
    with torch.no_grad():
        other.dec_out.weight.mul_(3)
    compared = diagnostics.compare(
        diagnostics.inspect(model, probe.images[::2], name="one"), diagnostics.inspect(other, probe.images[::2], name="other")
    )
    marked = {row.first.definition.key for row in compared.marked}
    assert {"mse", "relative-error"} <= marked
    assert not {"cv-rows", "axial-cv-rows", "effective-rank", "spectrum"} & marked
    sentence = next(words for words in compared.sentences if words.startswith("MSE"))
    assert sentence.startswith("MSE is higher in other than in one: ")
    assert "95% interval" in sentence


def test_other_layers_are_undefined_there(model, probe):
    plain = batteries.untrained(batteries.CellSpec.preset("low", hidden=16, smooth_width=4, depth=2, cross_layers=0), 0)
    images = probe.images[::8]
    compared = diagnostics.compare(diagnostics.inspect(model, images), diagnostics.inspect(plain, images))
    rows = {(row.first.definition.key, row.first.place): row for row in compared.rows}
    assert rows["cv-patches", "enc_block_1"].first.undefined
    assert rows["alpha", "layer 0, mode 0"].second.undefined
    assert not rows["alpha", "layer 0, mode 0"].marked


def test_two_sizes_of_a_cell_are_not_paired(model):
    noise = batteries.probe("noise16-64")
    few = batteries.Probe(noise.name, 1, "noise", noise.images[::16], noise.group[::16], noise.groups, "few")
    found = diagnostics.inspect(model, few, sizes=(64, 32))
    assert [column.size for column in found.columns] == [(64, 64), (32, 32)]
    compared = diagnostics.compare(found.at(64), found.at(32))
    assert compared.first == "cell at 64 pixels"
    assert not any(row.paired for row in compared.rows)
    with pytest.raises(batteries.InputError) as caught:
        diagnostics.compare(found, found.at(64))
    assert caught.value.code == "COLUMNS"


def test_halves_of_a_probe_are_stratified(probe):
    first, second = controls.halves(probe, seed=1)
    for half in (first, second):
        assert torch.equal(half.group.bincount(), torch.full((16,), 4))
    own = [set(half.images.double().mean(dim=(1, 2, 3)).tolist()) for half in (first, second)]
    assert not own[0] & own[1]


@pytest.mark.slow
def test_halves_of_pseudo_values_mark_nothing(model, probe):
    (column,) = diagnostics.inspect(model, probe).columns
    clean, _ = controls.draws_without_mark(column, probe.group, 100)
    assert clean >= 95


@pytest.mark.slow
def test_halves_of_a_probe_mark_nothing(model, probe):
    assert [controls.marked_halves(model, probe, seed) for seed in range(2)] == [[], []]


@pytest.mark.slow
def test_watcher_inspects_at_readings():
    spec = batteries.CellSpec.preset("high", patch_size=16, hidden=16, smooth_width=4)
    plan = batteries.Plan(spec=spec, size=64, steps=4, batch=8, reading_every=1)
    images = batteries.probe("noise16-64").images[::32]
    watcher = diagnostics.InspectionWatcher(images, every=2)
    watched = batteries.train(plan, batteries.NoiseSource(), "noise16-64", watchers=[watcher])
    alone = batteries.train(plan, batteries.NoiseSource(), "noise16-64")
    assert sorted(watcher.inspections) == [1, 3]
    for name, weights in watched.model.state_dict().items():
        assert torch.equal(weights, alone.model.state_dict()[name])
    first, last = (watcher.inspections[step].columns[0].figure("mse").value for step in (1, 3))
    assert first != last
    with pytest.raises(batteries.InputError, match="readings between inspections"):
        diagnostics.InspectionWatcher(images, every=0)
