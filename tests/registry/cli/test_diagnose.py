"""``batteries diagnose``: table, answer, page, and what it refuses; tests/batteries/diagnostics/diagnosis has the figures."""

import json

import pytest

import registry
from batteries import diagnostics
from batteries.cell.spec import CellSpec
from registry.answers.diagnosis import DiagnoseAnswer
from registry.cli import main
from tests.support.cells import from_model
from tests.support.diagnoses import by_hand


@pytest.fixture
def given(monkeypatch, tmp_path):
    """What the command asks for; it gets a diagnosis made by hand."""
    asked = []

    def diagnose(cell, *, folder, fresh, progress):
        asked.append((cell.name, folder, fresh))
        progress("linear code", 0, 12)
        return by_hand()

    monkeypatch.setattr(diagnostics, "diagnose", diagnose)
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    return asked


def test_the_table_has_every_section_in_80_columns(given, capsys, tmp_path):
    assert main(["diagnose", "low/fresnel-64", "--fresh"]) == 0
    out, err = capsys.readouterr()
    assert given == [("low/fresnel-64", tmp_path / "home" / "diagnostics", True)]
    for told in ("error over home", "share left", "contrast-4", "distance of omega", "law named", "0.7000 ± 0.0100"):
        assert told in out
    assert "arcsine" not in out
    assert "low/fresnel-64@3.2.0: generalist; PCA-8: specialist" in err
    assert max(map(len, out.splitlines())) <= 80


def test_the_answer_has_every_figure_and_the_page_is_written(given, capsys, tmp_path):
    assert main(["diagnose", "low/fresnel-64", "--json", "--html", str(tmp_path / "page.html")]) == 0
    out = capsys.readouterr().out
    answer = DiagnoseAnswer.model_validate_json(out)
    assert json.loads(out) == answer.model_dump(mode="json")
    assert len(answer.figures) == len(by_hand().findings)
    assert answer.sha256 == registry.load("low/fresnel-64").digest
    assert (answer.verdict, answer.linear, answer.bound, answer.home) == ("generalist", "specialist", 1.4, "noise")
    lost = answer.of_key("lost")[0]
    assert (lost.value, lost.undefined) == (None, "not finite on these images")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["low/missing-64"], 3, "NO_CELL"),
        (["low/fresnel-64", "--html", "no/folder/page.html"], 2, "NO_FOLDER"),
        (["no.safetensors"], 3, "NO_FILE"),
        (["low/fresnel-64", "--threads", "0"], 2, ""),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(given, arguments, code, said, capsys):
    assert main(["diagnose", *arguments]) == code
    assert said in capsys.readouterr().err
    assert not given


def test_a_cell_of_other_channels_is_a_typed_error(tmp_path, capsys):
    spec = CellSpec(V=6, D=4, patch_size=4, hidden=8, depth=1, cross_layers=1, smooth_width=2, channels=1)
    path = from_model(spec, 0, "grey").write(tmp_path)
    assert main(["diagnose", str(path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["code"] == "CHANNELS"
    assert "Traceback" not in err
