"""Commands inspect and compare, their answers, tables and page."""

import io
import json
from html.parser import HTMLParser

import pytest
from rich.console import Console

import batteries
from batteries import diagnostics
from registry import reports
from registry.answers.inspection import ComparedCells, Inspected
from registry.cli import main
from registry.reports.inspections import inspection_tables
from tests.support.cells import from_model

SPEC = batteries.CellSpec.preset("low", hidden=8, smooth_width=2, V=16)


def small_probe():
    noise = batteries.probe("noise16-64")
    return batteries.Probe(noise.name, 1, "noise", noise.images[::16], noise.group[::16], noise.groups, "few")


@pytest.fixture(scope="module")
def inspections():
    models = [batteries.untrained(SPEC, seed=seed) for seed in (0, 1)]
    names = ("low/<b>one</b>", "low/two")
    return [
        diagnostics.inspect(model, small_probe(), sizes=(64, 32), name=name) for model, name in zip(models, names, strict=True)
    ]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two cells as files, and a probe of few images under the name of the whole one."""
    monkeypatch.setattr("batteries.diagnostics.inspection.probe_of", lambda name: small_probe())
    return [str(from_model(SPEC, seed, f"cell-{seed}", band="low").write(tmp_path)) for seed in (0, 1)]


def printed(parts):
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    for part in parts:
        console.print(part, markup=False)
    return console.file.getvalue()


def test_tables_fit_80_columns_and_define_every_figure(inspections):
    answer = Inspected.of(inspections[0])
    text = printed(inspection_tables.inspection(answer))
    assert max(map(len, text.splitlines())) <= 80
    assert "left out for width" not in text
    for definition in answer.definitions:
        assert definition.stage in text
        assert definition.formula.split()[0] in text
    assert "undefined" in text
    assert "fewer than 5" in " ".join(text.split())


def test_a_comparison_fits_80_columns_and_marks_with_a_star(inspections):
    answer = ComparedCells.of(diagnostics.compare(*inspections), "few", diagnostics.LEVEL)
    tables = printed(inspection_tables.comparison(answer)[2:])
    assert max(map(len, tables.splitlines())) <= 80
    assert tables.count("\n* ") == answer.marked > 0
    assert len(answer.sentences) == answer.marked


class Tags(HTMLParser):
    """Names and attributes of all tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_a_page_is_self_contained_and_escaped(inspections):
    answer = Inspected.of(inspections[0])
    text = reports.inspected_page(answer)
    tags = Tags(text).found
    assert text == reports.inspected_page(answer)
    assert not {"script", "link", "img", "b"} & {tag for tag, _ in tags}
    assert not any({"src", "href"} & attributes.keys() for _, attributes in tags)
    assert sum(tag == "svg" and "aria-hidden" not in attributes for tag, attributes in tags) >= 4
    for definition in answer.definitions:
        assert definition.title.replace("'", "&#39;") in text


def test_inspect_answers_and_writes_a_page(files, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["inspect", files[0], "--html", str(page), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert Inspected.model_validate_json(json.dumps(answer)).page == str(page)
    assert answer["sizes"][0]["images"] == 16
    assert page.read_text().startswith("<!doctype html>")


def test_compare_answers_of_two_files_and_of_a_twin(files, capsys):
    assert main(["compare", *files, "--json"]) == 0
    answer = ComparedCells.model_validate_json(capsys.readouterr().out)
    assert answer.marked == len(answer.sentences) > 0
    assert all(row.paired for row in answer.figures)
    assert main(["compare", files[0], "--untrained", "--seed", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["marked"] == 0  # the cell itself was never trained


REFUSED = {
    "nothing to compare with": ["compare", "A"],
    "one size": ["compare", "A", "--size", "64"],
    "three cells": ["compare", "A", "A", "A"],
    "a twin besides": ["compare", "A", "A", "--untrained"],
    "no multiple": ["inspect", "A", "--size", "20"],
    "too large": ["inspect", "A", "--size", "2048"],
    "unknown probe": ["inspect", "A", "--probe", "noise"],
    "no folder": ["inspect", "A", "--html", "nowhere/page.html"],
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED)
def test_bad_options_are_refused(files, capsys, words):
    assert main([files[0] if word == "A" else word for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
