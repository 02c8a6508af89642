"""Schedules: within (0, 1], their ends, the same at a step however it is reached, and torch's where it has the same."""

from typing import get_args

import pytest
import torch

from batteries import CellSpec, Plan
from batteries.training.schedules import FINAL_RATE, RESTARTS, WARM_UP, Schedule, share
from tests.support.laws import given, settings, st

SCHEDULES = get_args(Schedule)
STEPS = st.integers(1, 20_000)


@settings(deadline=None)
@given(st.sampled_from(SCHEDULES), STEPS, st.data())
def test_every_step_has_a_rate_of_at_most_the_peak(schedule, steps, data):
    step = data.draw(st.integers(0, steps))
    assert 0 < FINAL_RATE * (1 - 1e-9) <= share(schedule, step, steps) <= 1
    plan = Plan(spec=CellSpec.preset("high"), size=64, steps=steps, rate=0.3, schedule=schedule)
    assert plan.rate_at(step) == 0.3 * share(schedule, step, steps)


@settings(deadline=None)
@given(st.sampled_from(SCHEDULES), STEPS)
def test_every_schedule_ends_where_it_says(schedule, steps):
    assert share(schedule, steps, steps) == pytest.approx(1.0 if schedule == "constant" else FINAL_RATE)
    assert share(schedule, 0, steps) == pytest.approx(FINAL_RATE if schedule == "onecycle" else 1.0)


@settings(deadline=None)
@given(st.sampled_from(["cosine", "linear"]), STEPS.filter(lambda steps: steps > 1), st.data())
def test_two_of_them_only_fall(schedule, steps, data):
    step = data.draw(st.integers(1, steps))
    assert share(schedule, step, steps) < share(schedule, step - 1, steps)


@settings(deadline=None)
@given(st.integers(1, 5000), st.data())
def test_restarts_repeat_a_cosine_in_equal_periods(period, data):
    step, steps = data.draw(st.integers(0, RESTARTS * period - 1)), RESTARTS * period
    assert share("restarts", step, steps) == pytest.approx(share("cosine", step % period, period))
    assert share("restarts", period * data.draw(st.integers(0, RESTARTS - 1)), steps) == 1.0


@settings(deadline=None)
@given(STEPS)
def test_a_run_too_short_for_its_periods_has_rates_all_the_same(steps):
    assert all(0 < share("restarts", step, steps) <= 1 for step in range(min(steps, 8)))


def test_one_cycle_peaks_where_its_rise_ends():
    rates = [share("onecycle", step, 1000) for step in range(1000)]
    assert rates.index(max(rates)) == int(1000 * WARM_UP)
    assert max(rates) == 1.0


@pytest.mark.parametrize("steps", [40, 100])
def test_rates_are_those_of_torchs_schedulers(steps):
    def torchs(make):
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler, found = make(optimiser), []
        for _ in range(steps):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            scheduler.step()
        return found

    schedulers = torch.optim.lr_scheduler
    wanted = {
        "cosine": torchs(lambda one: schedulers.CosineAnnealingLR(one, steps, eta_min=FINAL_RATE)),
        "linear": torchs(lambda one: schedulers.LinearLR(one, 1.0, FINAL_RATE, total_iters=steps)),
        "restarts": torchs(lambda one: schedulers.CosineAnnealingWarmRestarts(one, steps // RESTARTS, eta_min=FINAL_RATE)),
    }
    for schedule, rates in wanted.items():
        assert [share(schedule, step, steps) for step in range(steps)] == pytest.approx(rates), schedule
