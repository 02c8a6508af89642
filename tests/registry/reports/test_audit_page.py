"""The page of an audit: verdict, four panels, numbers; of one audit and of those along a training."""

import pytest
import torch

from batteries.errors import InputError
from composer import audit
from registry import reports
from tests.registry.reports.test_viability_page import HOSTILE, read, refuse_outside, words_of
from tests.support.credit import batches, mlp


@pytest.fixture(scope="module")
def along():
    watcher = audit.AuditWatcher(batches(), baseline=audit.Baseline.of(mlp(), batches()))
    host = mlp()
    for epoch in (0, 5, 10):
        watcher.look(host, epoch)
        with torch.no_grad():
            host.blocks[1][3].weight.mul_(300)
    return watcher.reports


def test_a_page_has_the_verdict_the_panels_and_every_reason(along):
    page = reports.audit_page(along[10])
    refuse_outside(page)
    words = words_of(page)
    assert along[10].verdict in words
    assert page.count("<figure>") == 4
    for one in along[10].diagnostics:
        assert one.reason in words
        assert one.threshold.source in words
    assert "blocks.1" in words
    assert along[10].data in words


def test_the_page_of_a_training_is_that_of_its_last_audit(along):
    page = reports.audit_page(along)
    refuse_outside(page)
    assert "After epoch 10; 3 audits along the training." in words_of(page)
    assert page.count('class="line"') >= 4
    assert reports.audit_page(along) == page


def test_an_audit_without_a_baseline_says_so():
    words = words_of(reports.audit_page(audit.audit(mlp(), batches())))
    assert "no baseline was given" in words
    assert "trustworthy" in words


def test_a_hostile_name_is_text(along):
    page = reports.audit_page(along[0].model_copy(update={"host": HOSTILE}))
    refuse_outside(page)
    assert HOSTILE not in page
    read(page)


def test_no_audit_is_a_typed_error():
    with pytest.raises(InputError, match="NO_AUDIT"):
        reports.audit_page({})
