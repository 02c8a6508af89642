"""The manual builds without a warning and has every public name and every option; its links lead somewhere."""

import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from manual import commands, names, site
from tests.project.test_public_names import GOLDEN, PUBLIC, ROOT

TUTORIALS = ["1-look", "2-train", "3-compose", "4-registry"]
OPTIONS = json.loads((GOLDEN / "options.json").read_text())


class Text(HTMLParser):
    """Words of a page."""

    def __init__(self, page):
        super().__init__()
        self.words = []
        self.feed(page)

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Sphinx's own turn into errors of the build
def test_the_manual_builds_with_every_name_and_option_and_no_broken_link(tmp_path):
    for extra in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(extra)
    assert site.build(tmp_path) == []
    found = {module: site.anchors([tmp_path / "reference" / "api" / f"{module}.html"]) for module in PUBLIC}
    wanted = {f"{module}.{name}" for module, listed in PUBLIC.items() for name in listed}
    assert wanted - {anchor.removeprefix("module-") for anchors in found.values() for anchor in anchors} == set()
    assert {f"command-{name.replace(' ', '-')}" for name in OPTIONS} <= site.anchors([tmp_path / "reference" / "commands.html"])
    words = "".join(Text((tmp_path / "reference" / "commands.html").read_text()).words)
    assert {option for options in OPTIONS.values() for option in options if option not in words and "--" in option} == set()
    assert sorted(path.stem for path in (tmp_path / "tutorials").glob("*.html")) == TUTORIALS


def test_every_option_is_in_the_section_of_its_command():
    found = commands.commands()
    assert sorted(found) == sorted(OPTIONS)
    for name, options in OPTIONS.items():
        text = commands.section(name, found[name]).replace("\\", "")
        missing = [one for one in options for option in one.split("/") if option.startswith("--") and option not in text]
        assert missing == [], name


def test_a_command_of_no_group_is_not_left_out(monkeypatch):
    monkeypatch.setattr(commands, "COMMAND_GROUPS", ("Test",))
    with pytest.raises(KeyError, match="combine"):
        commands.page()


def test_every_public_module_has_a_page():
    assert list(names.public_modules()) == sorted(PUBLIC)
    assert sorted(path.stem for path in (ROOT / "docs" / "reference" / "api").glob("*.md")) == sorted(PUBLIC)


def test_a_name_is_documented_where_it_lives_and_named_elsewhere():
    page = names.page("composer")
    assert ".. autofunction:: composer.compose" in page
    assert ".. py:class:: Hold\n\n   Same as :py:obj:`composer.adaptation.Hold`." in page
    assert ".. autoclass:: composer.adaptation.Hold" in names.page("composer.adaptation")


FINE = '<a href="b.html#here">x</a><img src="a.svg"><a href="https://example.org/page">y</a><a href="#top" id="top">z</a>'


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ('<a href="c.html">x</a>', "no such page or file: c.html"),
        ('<a href="b.html#there">x</a>', "no such anchor: b.html#there"),
        ('<a href="#there">x</a>', "no such anchor: #there"),
        ('<a href="http://example.org">x</a>', "not an HTTPS address: http://example.org"),
        ('<a href="https://nowhere">x</a>', "not an HTTPS address: https://nowhere"),
        ('<script src="https://cdn.example.org/x.js"></script>', "script loads https://cdn.example.org/x.js"),
        ('<link rel="stylesheet" href="//fonts.example.org/f.css">', "link loads //fonts.example.org/f.css"),
        ('<img src="none.png">', "no such page or file: none.png"),
    ],
)
def test_a_broken_link_is_found(tmp_path, link, fault):
    (tmp_path / "a.svg").write_text("<svg/>")
    (tmp_path / "b.html").write_text('<p id="here">x</p>')
    (tmp_path / "a.html").write_text(FINE)
    assert site.faults(tmp_path) == []
    (tmp_path / "a.html").write_text(FINE + link)
    assert site.faults(tmp_path) == [f"a.html: {fault}"]


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "concepts").glob("*.md")), ids=lambda path: path.stem)
def test_a_concept_has_a_small_picture_and_says_what_its_figures_cannot(path):
    assert f"({path.stem}.svg)" in path.read_text()
    assert "cannot say" in path.read_text()
    picture = path.with_suffix(".svg").read_bytes()
    assert len(picture) < 20_000
    assert ElementTree.fromstring(picture).find("{http://www.w3.org/2000/svg}title").text
