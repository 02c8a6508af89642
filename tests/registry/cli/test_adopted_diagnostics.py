"""Commands inspect and diagnose on a public checkpoint that was adopted, and on another input scale."""

from functools import partial

import pytest

from batteries import diagnostics
from batteries.cell.input_scale import IMAGENET
from batteries.diagnostics.diagnosis import fingerprint, resolution
from registry.answers.diagnosis import DiagnoseAnswer
from registry.answers.inspection import Inspected
from tests.support.checkpoints import adopt, saved, state
from tests.support.commands import answered


@pytest.fixture
def cell(tmp_path):
    """An adopted cell, and its file."""
    found = adopt(saved(tmp_path, {"model_state_dict": state()}), input=IMAGENET)
    return found, found.write(tmp_path)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Few sizes and images, and no untrained cells."""
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(resolution, "SIDES", (36, 64))
    monkeypatch.setattr(resolution, "TILED", 2)
    monkeypatch.setattr(fingerprint, "TRAIN", 4)
    monkeypatch.setattr(fingerprint, "TEST", 2)
    monkeypatch.setattr(diagnostics, "diagnose", partial(diagnostics.diagnose, untrained=0))


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_an_adopted_cell_is_inspected_and_diagnosed(cell, capsys, tmp_path):
    adopted, path = cell
    own = adopted.manifest.own
    (size,) = answered(capsys, Inspected, "inspect", path).sizes
    figures = {(one.key, one.place): one.value for one in size.figures}
    assert figures["mse", ""] == pytest.approx(own.mse.value, rel=1e-5)
    assert figures["axial-cv-rows", ""] == pytest.approx(own.axial_cv.value, rel=1e-9)
    assert figures["attention-change", "layer 0"] > 0
    found = answered(capsys, DiagnoseAnswer, "diagnose", path, "--html", tmp_path / "page.html")
    assert (found.home, found.size, found.reference) == ("noise", 64, "high/mine-64@1.0.0")
    assert all(one.value is not None for one in found.section("kinds"))
    assert "CV along the pipeline" in (tmp_path / "page.html").read_text()
