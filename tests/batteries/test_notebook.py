"""A cell and a report as a notebook shows them: escaped, in one piece, on light and dark pages, and never a traceback."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import registry
from batteries import notebook
from batteries.cell.cell import Cell
from batteries.cell.manifest import Manifest
from batteries.data import probes
from registry.catalog.attestation import Attestation
from tests.support.cells import attestation, filled, python, tiny, with_axial

HOSTILE = "<script>alert('1')</script>\"' onerror=x <img src=http://evil> \u202e\x1b[31m"
EMPTY = {"img"}


class Page(HTMLParser):
    """The elements of some markup, each closed by its own end."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)

    @property
    def pictures(self):
        return [attributes for tag, attributes in self.elements if tag == "img"]


def checked(markup):
    """A page that loads nothing, runs nothing and paints no text and no paper."""
    page = Page(markup)
    assert {tag for tag, _ in page.elements} <= {
        "div",
        "span",
        "strong",
        "img",
        "table",
        "tr",
        "th",
        "td",
        "details",
        "summary",
    }
    for _, attributes in page.elements:
        assert set(attributes) <= {"style", "alt", "src"}
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        style = attributes.get("style", "")
        assert "url(" not in style
        assert set(re.findall(r"(?<![\w-])(?:background|color): ([^;]+)", style)) <= {"transparent", "inherit"}
    return page


@pytest.fixture(scope="module")
def cell():
    return registry.load("high/johanna-64", registry="embedded")


def test_a_cell_has_figures_and_its_originals_above_its_reconstructions(cell):
    page = checked(cell._repr_html_())
    assert [one["alt"].split()[0] for one in page.pictures] == ["original"] * 6 + ["reconstruction"] * 6
    for fact in (
        "high/johanna-64",
        str(cell.version),
        "40,703 parameters",
        f"{cell.manifest.own.cv.value:.4f}",
        f"{cell.manifest.own.mse.value:.4g}",
        "noise16-64",
        "Apache-2.0",
        cell.digest,
    ):
        assert fact in page.text, fact
    decoded = [base64.b64decode(one["src"].partition(",")[2]) for one in page.pictures]
    arrays = [np.asarray(Image.open(io.BytesIO(data)), dtype=float) for data in decoded]
    assert {array.shape for array in arrays} == {(64, 64, 3)}
    errors = [np.abs(one - other).mean() for one, other in zip(arrays[:6], arrays[6:], strict=True)]
    assert max(errors) < 12  # of 255: it reconstructs its own noise
    assert np.abs(arrays[0] - arrays[7]).mean() > 3 * max(errors)


def test_a_cell_is_shown_twice_alike(cell):
    assert cell._repr_html_() == cell._repr_html_()


def test_pictures_are_small_even_of_large_images():
    page = checked(registry.load("low/fresnel-256", registry="embedded")._repr_html_())
    sizes = {Image.open(io.BytesIO(base64.b64decode(one["src"].partition(",")[2]))).size for one in page.pictures}
    assert sizes == {(128, 128)}
    assert "Images of photos-256" in page.text


@pytest.mark.parametrize("missing", ["folder", "photographs", "probe", "channels"])
def test_a_card_without_pictures(monkeypatch, tmp_path, missing):
    cell = tiny() if missing == "channels" else registry.load("high/fresnel-64", registry="embedded")
    probes.probe.cache_clear()
    if missing == "folder":
        monkeypatch.setattr(probes.resources, "files", lambda package: tmp_path / "gone")
    if missing == "photographs":
        monkeypatch.setattr(probes, "photographs", tuple)
    if missing == "probe":
        measured = cell.manifest.model_copy(update={"own_probe": "mine", "measured": {"mine": cell.manifest.own}})
        cell = Cell(cell.weights, measured)
    page = checked(cell._repr_html_())
    probes.probe.cache_clear()
    assert page.pictures == []
    assert "No pictures" in page.text
    assert repr(cell).startswith("Cell(")


def test_what_a_stranger_wrote_is_text():
    cell = tiny(description=HOSTILE)
    page = checked(cell._repr_html_())
    assert "<script>alert('1')</script>\"' onerror=x <img src=http://evil>" in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_a_yanked_cell_says_so():
    store = filled(tiny())
    registry.yank("high/tiny@1.0.0", "wrong <b>data</b>", store)
    with pytest.warns(registry.YankedWarning):
        (cell,) = registry.pull("high/tiny@1.0.0", registry=store)
    assert "yanked: wrong <b>data</b>" in checked(cell._repr_html_()).text


def test_a_cell_says_which_cvs_it_has():
    assert "CV (published)" in notebook.cell_card(tiny())
    assert "CV (axial)" not in notebook.cell_card(tiny())
    assert "0.9876, 1.070 of the attractor" in notebook.cell_card(with_axial(tiny(), 0.9876))


def test_a_degenerate_cell():
    assert "degenerate: flat rows" in checked(tiny(cv=None)._repr_html_()).text


REPORTS = {
    "viable": ("viable: every deciding check passed", "#2e9e5b"),
    "walked back": ("walked back because of: finite", "#d64545"),
    "no verdict": ("no verdict: a control was not rejected", "#888888"),
}


def report(verdict="viable", **update):
    found = attestation(tiny(), verdict=verdict)
    if verdict == "walked back":
        update["checks"] = (found.checks[0].model_copy(update={"passed": False}),)
    return registry.Report(Attestation.model_validate({**dict(found.__dict__), **update}))


@pytest.mark.parametrize("verdict", REPORTS)
def test_a_report_has_its_verdict_in_words_and_every_check(verdict):
    words, colour = REPORTS[verdict]
    markup = report(verdict)._repr_html_()
    page = checked(markup)
    assert words in page.text
    assert f"border-left: .35rem solid {colour}" in markup
    for word in ("high/tiny@1.0.0, quick-1", "made by hand.", "finite", "all values are finite", "1 of 1 controls rejected"):
        assert word in page.text, word
    assert f"{int(verdict != 'walked back')} of 1 deciding checks passed" in page.text


def test_a_report_is_escaped():
    found = attestation(tiny())
    check = found.checks[0].model_copy(update={"name": HOSTILE, "reason": HOSTILE, "threshold": HOSTILE})
    page = checked(report(checks=(check,), words=(HOSTILE,), control=HOSTILE)._repr_html_())
    assert page.text.count("<script>alert('1')</script>") == 5
    assert "\u202e" not in page.text


def test_checks_that_were_not_made_and_that_do_not_decide():
    check = attestation(tiny()).checks[0].model_copy(update={"passed": None, "decides": False})
    assert "not made (reported only)" in checked(report(checks=(check,))._repr_html_()).text


@pytest.mark.slow
def test_no_notebook_is_needed_and_a_prompt_loads_no_torch():
    code = """
import sys
from tests.support.cells import tiny
cell = tiny()
assert repr(cell).startswith("Cell(high/tiny")
assert "torch" not in sys.modules, "torch is loaded"
assert "<strong>high/tiny</strong>" in cell._repr_html_()
assert "IPython" not in sys.modules
"""
    ran = python(code)
    assert ran.returncode == 0, ran.stderr


def test_manifests_are_escaped_by_the_card_and_not_by_the_document():
    assert isinstance(tiny(description=HOSTILE).manifest, Manifest)
    assert notebook.cell_card(tiny(description="a & b")).count("a &amp; b") == 1
