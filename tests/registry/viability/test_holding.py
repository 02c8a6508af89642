"""Certificates of what held: trials of one parent, raw gradients that decide nothing, and no effect on queries of viability."""

import dataclasses

import pytest

import composer
import registry
from batteries import ConflictError, InputError
from batteries.training.schedules import share
from composer import Hold
from composer.adaptation import naming
from registry.transfer.query import row_of
from tests.support.adaptation import HOST, LITTLE, Destroyer, first_class, small_cell
from tests.support.viability import measure_little, one_of_a_group


@pytest.fixture(scope="module")
def parent():
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch.setattr)
        patch.setattr("composer.adaptation.adapting.probe", one_of_a_group)
        patch.setattr("composer.adaptation.adapted.probe", one_of_a_group)
        patch.setattr("composer.adaptation.domains.probe", one_of_a_group)
        yield small_cell()


@pytest.fixture(scope="module")
def trials(parent):
    guard = Hold(reconstruction=0, cv=0, anchor=0, every=1, backoffs=0)
    tries = ((HOST, naming(numbers=LITTLE), Hold(every=4), 1e-4), (HOST, naming(numbers=LITTLE), None, 1e-4))
    tries += ((Destroyer, first_class(naming(numbers=LITTLE)), guard, 3e-3),)
    numbers = {"optimiser": "adam", "steps": 4, "batch": 4}
    return [composer.adapt(parent, host, task, hold=hold, rate=rate, **numbers) for host, task, hold, rate in tries]


@pytest.mark.slow
def test_a_certificate_says_what_was_tried_and_what_held(parent, trials):
    held, raw, destroyed = trials
    assert destroyed.ended == "guard"
    good = registry.certify([held, raw])
    assert (good.verdict, good.failed, good.cell) == ("holds", (), parent.digest)
    found = registry.certify(destroyed, good)
    assert found.verdict == "does not hold"
    assert len(found.checks) == 3
    assert len(found.failed) == 1
    assert found.figures["largest dose that held"] == pytest.approx(1e-4 * sum(share("cosine", step, 4) for step in range(4)))
    (check,) = [check for check in found.checks if check.name in found.failed]
    assert "beyond: " in check.reason
    assert registry.Attestation.from_bytes(found.to_bytes(), where="here") == found
    assert registry.certify([destroyed, raw, held]).checks == found.checks


@pytest.mark.slow
def test_an_easier_trial_takes_the_place_of_no_other(parent, trials):
    """Fewer steps, or a lower bound of content, are a trial of their own: the one that did not hold stays."""
    easy = [Hold(every=4), Hold(every=4, content=0.5)]
    tries = [composer.adapt(parent, HOST, naming(numbers=LITTLE), hold=hold, rate=1e-4, steps=2, batch=4) for hold in easy]
    found = registry.certify(tries, registry.certify(trials))
    assert len(found.checks) == len(trials) + len(easy)
    assert found.verdict == "does not hold"
    assert registry.certify(trials[0], found).checks == found.checks  # a repetition


@pytest.mark.slow
def test_a_certificate_makes_no_cell_viable(parent, trials):
    store = registry.MemoryStore()
    registry.publish(parent, store)
    registry.attest(registry.certify(trials[0]), store)
    (located,) = registry.find(parent.name, registry=store)
    assert [one.verdict for one in located.attestations.values()] == ["holds"]
    row = row_of(located)
    assert (row["viable"], row["verdict"]) == (False, None)
    assert all(finding.ok for finding in registry.verify_store(store))


@pytest.mark.slow
def test_certificates_are_of_one_parent(trials):
    other = dataclasses.replace(trials[0], parent=trials[0].cell)
    with pytest.raises(ConflictError, match="OTHER_PARENT"):
        registry.certify([trials[0], other])
    with pytest.raises(ConflictError, match="OTHER_PARENT"):
        registry.certify(other, registry.certify(trials[0]))


def test_nothing_tried_is_no_certificate():
    with pytest.raises(InputError, match="ADAPTED"):
        registry.certify([])
