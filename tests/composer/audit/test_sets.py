"""Audits along a training, and of many runs: first epochs, ranges of thresholds, strategies."""

import pytest
import torch

from batteries.errors import InputError
from composer import audit, credit
from tests.support.credit import CLASSES, batches, mlp, samples

THRESHOLDS = audit.Thresholds()


def report(a=1.5, b=1.0, relative=None, c=0.0, d=0.1, accuracy=0.6):
    """An audit with these values."""
    base = audit.audit(mlp(), batches(), baseline=audit.Baseline.of(mlp(), batches()))
    faded = relative is not None and relative < 1e-2
    found = {"a": (a, a > 50), "b": (b, b < 1e-7 or faded), "c": (c, c > 0.3), "d": (d, d < 0)}
    diagnostics = tuple(
        one.model_copy(update={"value": found[one.key][0], "fired": found[one.key][1]}) for one in base.diagnostics
    )
    return base.model_copy(update={"diagnostics": diagnostics, "relative": relative, "accuracy_lower": accuracy})


def test_a_watcher_names_the_first_epoch():
    watcher = audit.AuditWatcher(batches(), baseline=audit.Baseline.of(mlp(), batches()))
    host = mlp()
    for epoch in range(4):
        with torch.no_grad():
            if epoch == 2:
                host.blocks[1][3].weight.mul_(1e4)
        watcher.look(host, epoch)
    assert watcher.first == {"a": 2, "b": 2, "c": None, "d": 2}  # the terminal LayerNorm divides the gradient by the growth
    assert watcher.reports[2].of("a").where == "blocks.1"
    with pytest.raises(InputError, match="above 3"):
        watcher.look(host, 3)


def test_d_counts_from_where_it_lasts():
    held = batches()
    trained = mlp(seed=3)
    credit.train(trained, credit.FrozenBlocks(), samples(), credit.CreditPlan(epochs=10, batch=100), seed=0)
    watcher = audit.AuditWatcher(held, baseline=audit.Baseline.of(trained, held))
    host = mlp(seed=3)
    plan = credit.CreditPlan(epochs=10, batch=100)
    credit.train(host, credit.Backpropagation(), samples(), plan, 0, look=lambda epoch: watcher.look(host, epoch))
    assert watcher.reports[0].of("d").fired  # before the first step any host is below it
    assert watcher.first["d"] is None
    assert watcher.reports[10].trustworthy
    broken = audit.AuditWatcher(held, baseline=audit.Baseline.of(trained, held))
    for epoch, made in enumerate((mlp(seed=1), trained, mlp(seed=1), mlp(seed=2))):
        broken.look(made, epoch)
    assert broken.first["d"] == 2


def test_the_range_of_a_threshold_is_that_between_the_nearest_runs():
    runs = [report(a=3.0), report(a=20.0), report(a=400.0), report(a=70.0, d=-0.2)]
    found = {one.threshold: one for one in audit.sensitivity(runs, THRESHOLDS)}
    growth = found["growth"]
    assert (growth.lower, growth.upper) == (20.0, 400.0)  # the run at 70 is walked back by d as well
    assert (growth.own_lower, growth.own_upper) == (20.0, 70.0)
    assert (found["margin"].lower, found["margin"].upper) == (None, 0.1)  # no run rests on d alone
    assert (found["margin"].own_lower, found["margin"].own_upper) == (-0.2, 0.1)
    assert (found["relative"].lower, found["relative"].own_upper) == (None, None)
    assert (found["stability"].lower, found["stability"].upper) == (None, None)  # never decides


@pytest.mark.parametrize("name", ["growth", "gradient", "relative", "margin"])
def test_no_verdict_changes_inside_the_range_and_one_does_beyond(name):
    values = {"growth": "a", "gradient": "b", "relative": "relative", "margin": "d"}
    low, high = {"growth": (20.0, 80.0), "gradient": (1e-9, 1e-4), "relative": (1e-5, 0.1), "margin": (-0.1, 0.1)}[name]
    runs = [report(**{values[name]: value}) for value in (low, high)]
    (found,) = (one for one in audit.sensitivity(runs, THRESHOLDS) if one.threshold == name)
    assert (found.lower, found.upper) == (low, high)


def test_accuracy_and_a_positive_cosine_miss_what_the_audit_walks_back():
    """The run of the study: direct feedback, above chance, with a positive cosine, below its frozen baseline, exploding."""
    dfa = audit.AuditedRun(report(a=265, b=6e-4, relative=3e-4, d=-0.2, accuracy=0.17), 1 / 16, 0.15)
    bp = audit.AuditedRun(report(), 1 / 16, 1.0)
    assert audit.decisions(dfa) == {
        "accuracy": True,
        "accuracy and cosine": True,
        "accuracy and a": False,
        "accuracy and b": False,
        "accuracy and c": True,
        "accuracy and d": False,
        "all": False,
    }
    assert set(audit.decisions(bp).values()) == {True}
    found = {one.strategy: one for one in audit.utility([dfa, bp])}
    assert (found["accuracy"].accepted, found["accuracy"].missed) == (2, 1)
    assert (found["all"].accepted, found["all"].missed, found["all"].withheld) == (1, 0, 0)


def test_guessing_is_accepted_by_no_strategy():
    run = audit.AuditedRun(report(accuracy=1 / CLASSES), 1 / CLASSES, 0.5)
    assert set(audit.decisions(run).values()) == {False}
