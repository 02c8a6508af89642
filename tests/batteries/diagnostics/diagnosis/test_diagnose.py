"""The whole diagnosis: what it is made of, that its null is kept, and what it refuses."""

import pytest
import torch

import batteries
from batteries import diagnostics
from batteries.diagnostics.diagnosis import diagnose as module
from batteries.diagnostics.diagnosis import fingerprint, resolution
from tests.support.planted_coders import SPEC


@pytest.mark.slow
def test_a_diagnosis_has_every_section_and_keeps_its_null(tmp_path, monkeypatch):
    monkeypatch.setattr(resolution, "SIDES", (36, 64))
    monkeypatch.setattr(resolution, "TILED", 2)
    monkeypatch.setattr(module, "INSPECTED", 4)
    monkeypatch.setattr(fingerprint, "TRAIN", 4)
    monkeypatch.setattr(fingerprint, "TEST", 2)
    model, said = batteries.untrained(SPEC, seed=3), []
    found = diagnostics.diagnose(model, untrained=1, folder=tmp_path, progress=lambda *told: said.append(told))
    sections = {one.figure.definition.stage for one in found.findings}
    assert sections == {"kinds", "resolution", "tiles", "survival", "compression", "fingerprint", "verdict"}
    assert [(done, parts) for _, done, parts in said] == [(place, 8) for place in range(8)]
    assert len({one.key for one in found.findings}) == len(found.findings)
    assert all(len(one.untrained) == 1 for one in found.findings)
    assert found.find("left", "known laws").linear < 1
    assert found.find("compression").figure.value == 96
    assert found.confusion.sum() == 16 * 2
    assert "at home on known laws" in repr(found)
    with pytest.raises(batteries.InputError, match="no such finding"):
        found.find("left", "nothing")
    monkeypatch.setattr(module, "_null", lambda *given: pytest.fail("computed again"))
    again = diagnostics.diagnose(model, untrained=1, folder=tmp_path)
    assert again.findings == found.findings
    assert again.verdict == found.verdict


def broken():
    model = batteries.untrained(SPEC, seed=0)
    with torch.no_grad():
        model.enc_in.weight[0, 0] = float("nan")
    return model


WRONG = {
    "channels": (lambda: batteries.untrained(SPEC.model_copy(update={"channels": 1}), 0), {}, "CHANNELS"),
    "patch": (lambda: batteries.untrained(SPEC.model_copy(update={"patch_size": 80}), 0), {"size": 80}, "PATCH"),
    "size": (lambda: batteries.untrained(SPEC, 0), {"size": 72}, "SIZE"),
    "large size": (lambda: batteries.untrained(SPEC, 0), {"size": 512}, "SIZE"),
    "no size": (lambda: batteries.untrained(SPEC, 0), {"size": 0}, "SIZE"),
    "domain": (lambda: batteries.untrained(SPEC, 0), {"home": "music"}, "DOMAIN"),
    "mix": (lambda: batteries.untrained(SPEC, 0), {"mix": "theirs"}, "NOISE_MIX"),
    "not finite": (broken, {}, "NOT_FINITE"),
    "a path": (lambda: "cell.safetensors", {}, "CELL"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_diagnosed_is_refused(case):
    make, given, code = WRONG[case]
    with pytest.raises(batteries.InputError) as caught:
        diagnostics.diagnose(make(), **given)
    assert caught.value.code == code
