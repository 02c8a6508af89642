"""Forecasts: what is measured once, what a divergence costs, and when the last worker is done."""

import pytest

from batteries.ablation.forecast import Cost, Forecast, forecast
from batteries.engine.task_runner import in_this_process
from tests.support.ablations import changed, small_probe, tiny


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr("batteries.ablation.runs.probe", small_probe)


def test_a_kind_is_measured_once_and_a_divergence_is_no_error():
    _, _, runs = tiny(changed(b"one = { seed = 1 }", b'one = { rate = 1e30, optimiser = "sgd", momentum = 0.0 }'))
    shown = []
    found = forecast(runs, run=in_this_process, workers=2, shown=lambda *counts: shown.append(counts))
    assert shown == [(1, 3), (2, 3), (3, 3)]
    assert found.seconds.keys() == {run.identity for run in runs}
    assert all(seconds > 0 for seconds in found.seconds.values())
    _, _, seeds = tiny()
    forecast(seeds[:2], run=in_this_process, shown=lambda *counts: shown.append(counts))
    assert shown[3:] == [(1, 1)]


def test_the_last_worker_ends_the_forecast():
    assert Forecast({"a": 3.0, "b": 1.0, "c": 1.5, "d": 1.0}, workers=2, peak_bytes=None).wall == 3.5
    assert Forecast({}, workers=2, peak_bytes=None).wall == 0


def test_a_run_costs_its_steps_its_readings_and_two_measurements():
    run = tiny()[2][0]  # four steps, read at 2 and 4
    assert Cost(step=1.0, reading=10.0, measuring=100.0, peak_bytes=None).seconds(run) == 4 + 20 + 200
