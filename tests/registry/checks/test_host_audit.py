"""Audit of the hosts of a viability test: sound, walked back, starting at zero, and without a stream."""

import pytest
import torch
from torch import nn

from composer.hosts import NamingHost, RestoringHost, StreamForm
from registry import Task, validate
from registry.catalog.attestation import verdict_words
from registry.catalog.check_names import HOST_AUDIT
from registry.catalog.figures import ControlFigure, HostAuditFigure
from registry.checks import cell_checks
from registry.checks.host_audit import HostAudits, host_audit
from registry.reports.viability_page import page, verdict_line
from registry.viability.trials import Trial, frozen_trial
from registry.viability.verdict import decided
from tests.support.cells import from_model
from tests.support.viability import SPEC, TEST, few

pytestmark = pytest.mark.usefixtures("few_matrices")

FORM = StreamForm(width=16, blocks=2)


def naming(n=40):
    images = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(n))
    return Task("odd or even", (images, torch.arange(n) % 2), (images[: n // 2], torch.arange(n // 2) % 2))


def restoring(n=20):
    images = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(n))
    return Task("denoise", (images, images), (images[: n // 2], images[: n // 2]))


def sound(cell, sample, classes):
    return NamingHost(cell, sample, classes, FORM) if classes else RestoringHost(cell, sample, FORM)


def grown(cell, sample, classes):
    """A host whose first block drowns the stream, under a terminal LayerNorm."""
    host = sound(cell, sample, classes)
    with torch.no_grad():
        for weight in host.mlp.blocks[0].parameters():
            weight.mul_(100)
    return host


def faded(cell, sample, classes):
    """A host of a large stream, so that terminal LayerNorm divides the gradient below the floor."""
    host = sound(cell, sample, classes)
    with torch.no_grad():
        host.mlp.enter.weight.mul_(1e9)
        host.mlp.enter.bias.mul_(1e9)
    return host


class Pooled(nn.Module):
    def __init__(self, cell, sample, classes):
        super().__init__()
        self.tokens, self.head = cell.tokens, nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.tokens(x).omega.mean(dim=1))


def trial(factory, task, seed=0):
    cell = from_model(SPEC, 0, "a")
    return frozen_trial(Trial(cell, "cell", TEST, few("")), task, "host", factory, seed, audited=True)


@pytest.mark.parametrize("task", [naming(), restoring()], ids=lambda task: task.name)
def test_a_sound_host_is_trustworthy_at_both_stages(task):
    figure = trial(sound, task)
    assert [(audit.stage, audit.fired) for audit in figure.audits] == [("made", ()), ("trained", ())]
    check = host_audit([figure])
    assert (check.passed, check.decides) == (True, True)
    assert check.value == max(audit.growth for audit in figure.audits)


def test_a_gradient_of_zero_before_the_first_step_tells_nothing():
    made, trained = trial(sound, restoring()).audits
    assert made.gradient == 0
    assert "(b)" not in made.reason
    assert trained.gradient > 0
    assert "(b)" in trained.reason


@pytest.mark.parametrize(("factory", "key"), [(grown, "a"), (faded, "b")])
def test_a_walked_back_host_is_named(factory, key):
    figure = trial(factory, naming())
    assert all(key in audit.fired for audit in figure.audits)
    check = host_audit([figure])
    assert check.passed is False
    assert check.reason.startswith("host, before its first step: (a) mlp.blocks.")


def test_one_walked_back_host_among_sound_ones_counts():
    sounds = [trial(sound, naming(), seed) for seed in range(3)]
    assert host_audit(sounds).passed
    assert host_audit([*sounds, trial(grown, naming())]).passed is False


def test_a_host_without_a_stream_is_not_audited_and_decides_nothing():
    figure = trial(Pooled, naming())
    assert {audit.reason for audit in figure.audits} == {"not audited: no blocks to hook"}
    check = host_audit([figure])
    assert (check.passed, check.decides, check.reason) == (None, False, "not audited: no blocks to hook")


def test_too_few_images_to_audit_are_said_to_be_so():
    audits = HostAudits(naming(4))
    audits.look(nn.Identity(), "made")
    assert audits.figures[0].reason.startswith("not audited: ")


def test_trials_of_untrained_cells_are_not_audited_and_keep_their_bytes():
    cell = from_model(SPEC, 0, "a")
    figure = frozen_trial(Trial(cell, "untrained", TEST, few("")), naming(), "host", sound, 0)
    assert figure.audits == ()
    assert b"audits" not in figure.to_bytes()


def test_the_verdict_of_a_walked_back_host():
    audit = HostAuditFigure(stage="made", growth=99.0, gradient=1.0, fired=("a",), reason="(a) too much")
    fired = host_audit([trial(sound, naming()).model_copy(update={"audits": (audit,)})])
    good, bad = (cell_checks.finite(passed) for passed in (True, False))
    rejected = ControlFigure(name="none", rejected=True, by="radius")
    assert decided([good, fired], [rejected]) == "no verdict"
    assert decided([good, bad, fired], [rejected]) == "walked back"  # a fault of the cell itself still counts
    assert "host's own gradient is walked back" in verdict_words("no verdict", [HOST_AUDIT])


@pytest.mark.slow
@pytest.mark.parametrize("factory", [sound, grown])
def test_no_trial_under_the_gradient_of_a_walked_back_host(factory):
    report = validate(from_model(SPEC, 0, "a"), profile=TEST, host=factory)
    found = report.attestation
    own = [dose for dose in found.doses if dose.subject == "cell"]
    walked_back = factory is grown
    assert report[HOST_AUDIT].passed is not walked_back
    assert bool(own) is not walked_back
    assert bool(found.returns) is not walked_back
    assert ("dosed CV" in report) is ("frozen CV" in report) is not walked_back
    if walked_back:
        verdict = found.model_copy(update={"verdict": "no verdict"})
        assert verdict_line(verdict).startswith("because a host was walked back: own, before its first step: (a)")
        assert "because a host was walked back" in page([verdict], {})
