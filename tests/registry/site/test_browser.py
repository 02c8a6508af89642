"""The site in a real browser: sort, filter, open a cell, follow a relation, by keys alone, at two widths, in both themes."""

import json
import struct

import pytest

from registry.site.building import build_site
from tests.support.cells import attestation, from_model, tiny
from tests.support.chromium import CHROMIUM, Chromium
from tests.support.models import FINE, WIDE
from tests.support.sites import HOSTILE, renamed, store_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to open the site with")]

WINDOWS = [(width, height, scheme) for width, height in ((1400, 1000), (390, 844)) for scheme in ("light", "dark")]
NAMES = """[...document.querySelectorAll("#catalogue tbody tr:not([hidden])")].map((row) => row.dataset.name)"""
FOCUS = (
    """(() => { const one = document.activeElement; return [one.tagName, one.textContent.trim().slice(0, 40), one.id] })()"""
)
CONTRASTS = """(() => {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const found = rgba(getComputedStyle(one).backgroundColor);
      if (found[3] === 255) return found;
    }
    return rgba("Canvas");
  };
  const low = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.textContent.trim() || !node.checkVisibility() || node.closest("script, style, title, desc")) continue;
    const style = getComputedStyle(node), colour = node.closest("svg") ? style.fill : style.color;
    const [one, two] = [light(rgba(colour)), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) low.push([text.textContent.trim().slice(0, 30), node.className, ratio]);
  }
  return low;
})()"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of cells that are compared, of one that is yanked, and of one whose maker is hostile."""
    cells = [from_model(FINE, seed, f"fine-{seed}") for seed in range(3)]
    cells += [from_model(WIDE, 9, "wide", band="mid"), tiny("tiny", "1.0.0"), tiny("tiny", "1.1.0", seed=1)]
    cells.append(renamed(tiny("hostile", seed=2), description=HOSTILE.replace("\0", ""), license="<b>none</b>"))
    reports = [attestation(cells[0]), attestation(cells[1], verdict="walked back")]
    folder = tmp_path_factory.mktemp("site") / "below" / "a path"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BATTERIES_HOME", str(tmp_path_factory.mktemp("home")))
        build_site(folder, store_of(cells, attestations=reports, yanked={"high/tiny@1.0.0": "wrong <data>"}))
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def front(site, browser):
    """Open the front page, with a state or none."""

    def opened(state="", **window):
        browser.open(f"{(site / 'index.html').as_uri()}{state}", **window)
        return browser

    yield opened
    assert browser.console == []
    assert browser.requests == []


def test_cells_are_sorted_by_a_button_of_the_head(front):
    browser = front()
    names = browser.run(NAMES)
    assert names == sorted(names)
    assert len(names) == 6
    press = "document.querySelector('th[data-key=size] button').click()"
    sizes = """[...document.querySelectorAll("#catalogue tbody tr:not([hidden])")].map((row) => +row.dataset.size)"""
    browser.run(press)
    assert browser.run(sizes) == sorted(browser.run(sizes))
    assert browser.run("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "ascending"
    browser.run(press)
    assert browser.run(sizes) == sorted(browser.run(sizes), reverse=True)
    assert browser.run("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "descending"
    assert browser.run("location.hash") == "#sort=-size"


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ("#band=mid", ["mid/wide@1.0.0"]),
        ("#q=FINE-2", ["high/fine-2@1.0.0"]),
        ("#verdict=viable", ["high/fine-0@1.0.0"]),
        ("#d=8&size_max=1000", ["mid/wide@1.0.0"]),
        ("#size_max=3&all=1&q=TINY", ["high/tiny@1.0.0", "high/tiny@1.1.0"]),
        ("#mse_max=0.1", []),
        ("#ratio_min=0.99&ratio_max=1.01&q=fine&sort=-name", ["high/fine-2@1.0.0", "high/fine-1@1.0.0", "high/fine-0@1.0.0"]),
        ("#license=%3Cb%3Enone%3C%2Fb%3E", ["high/hostile@1.0.0"]),
        ("#q=alert(1)", ["high/hostile@1.0.0"]),
        ("#sort=nonsense&band=nonsense&other=1", []),
    ],
)
def test_the_state_of_the_filters_is_in_the_address(front, state, names):
    browser = front(state)
    if "nonsense" in state:
        assert len(browser.run(NAMES)) == 6
        return
    found = browser.run(NAMES)
    assert found == names
    assert browser.run("document.getElementById('none').hidden") is bool(names)
    assert browser.run("document.getElementById('count').textContent").startswith(f"{len(names)} of ")
    shown = "[...document.querySelectorAll('#chart a:not([data-off])')].map((dot) => dot.getAttribute('href'))"
    assert len(browser.run(shown)) == len(names)


def test_a_filter_that_is_typed_is_kept_in_the_address_and_over_the_way_back(front):
    browser = front()
    browser.run("document.querySelector('[name=q]').focus()")
    for key in "wide":
        browser.press(key)
    assert browser.run(NAMES) == ["mid/wide@1.0.0"]
    assert browser.run("location.hash") == "#q=wide"
    browser.load(lambda: browser.run("document.querySelector('#catalogue tr:not([hidden]) th a').click()"))
    assert browser.run("document.title") == "mid/wide@1.0.0"
    browser.load(lambda: browser.run("history.back()"))
    assert browser.run(NAMES) == ["mid/wide@1.0.0"]
    browser.run("document.querySelector('button[type=reset]').click()")
    assert len(browser.run("new Promise((done) => setTimeout(done, 20)).then(() => " + NAMES + ")")) == 6
    assert browser.run("location.hash") == ""


def test_a_cell_is_opened_and_a_relation_followed_by_keys_alone(front):
    browser = front()
    browser.press("Tab")
    assert browser.run(FOCUS)[1] == "Skip to the content"
    browser.press("Enter")
    assert browser.run("document.activeElement.id") == "main"
    browser.press("Tab")  # the link to the JSON
    browser.press("Tab")
    assert browser.run("document.activeElement.classList.contains('dot')")
    first = browser.run("document.activeElement.id")
    assert "MSE" in browser.run("document.getElementById('readout').textContent")
    outline = (
        "(() => { const mark = document.activeElement.querySelector('path'); return getComputedStyle(mark).strokeWidth })()"
    )
    assert browser.run(outline) == "4px"
    hover = "document.querySelector('{}').dispatchEvent(new MouseEvent('mouseover', {{bubbles: true}}))"
    browser.run(hover.format(".legend svg"))  # is no point
    browser.run(hover.format("#dot-3 path"))
    assert browser.run("document.getElementById('readout').textContent").startswith("high/hostile@1.0.0: MSE 0.25")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.id") != first
    browser.press("Tab")  # all points are one stop
    assert not browser.run("document.activeElement.classList.contains('dot')")
    browser.press("Tab", shift=True)
    browser.load(lambda: browser.press("Enter"))
    assert browser.run("document.title").startswith(("high/", "mid/"))
    browser.load(lambda: browser.run("location.href = '../../index.html#q=fine-0'"))
    for _ in range(40):
        browser.press("Tab")
        if browser.run("Boolean(document.activeElement.closest('tbody'))"):
            break
    browser.load(lambda: browser.press("Enter"))
    assert browser.run("document.title") == "high/fine-0@1.0.0"
    assert browser.run("document.querySelectorAll('.pair img').length") == 8
    assert browser.run("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    for _ in range(60):
        browser.press("Tab")
        if browser.run("Boolean(document.activeElement.closest('#related tbody'))"):
            break
    style = (
        "(() => { const found = getComputedStyle(document.activeElement); return [found.outlineStyle, found.outlineWidth] })()"
    )
    assert browser.run(style) == ["solid", "3px"]
    browser.load(lambda: browser.press("Enter"))
    assert browser.run("document.title").startswith("high/fine-")
    assert browser.run("document.title") != "high/fine-0@1.0.0"


@pytest.mark.parametrize(("width", "height", "scheme"), WINDOWS)
def test_pages_fit_and_can_be_read(front, site, width, height, scheme):
    for page in ("index.html", "high/fine-0/1.0.0.html", "high/tiny/1.0.0.html", "high/hostile/1.0.0.html"):
        browser = front(f"/../{page}", width=width, height=height, scheme=scheme)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), page
        assert browser.run(CONTRASTS) == [], page
        assert browser.run("getComputedStyle(document.body).colorScheme") is not None
        dark = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 26)"
        assert dark is (scheme == "dark")
    data = browser.screenshot()
    assert struct.unpack(">II", data[16:24]) == (width, height)


def test_the_theme_is_chosen_by_a_button_and_kept(front):
    browser = front(scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(paper)
    assert browser.run("document.getElementById('theme').textContent") == "Theme: system"
    press = "document.getElementById('theme').click(), document.getElementById('theme').textContent"
    assert [browser.run(press), browser.run(press)] == ["Theme: light", "Theme: dark"]
    assert browser.run(paper) != light
    browser = front("/../high/tiny/1.1.0.html", scheme="light")
    assert browser.run(paper) != light
    assert browser.run(press) == "Theme: system"
    assert browser.run(paper) == light


def test_a_hostile_description_is_text(front):
    browser = front("/../high/hostile/1.0.0.html")
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert "<script>alert(1)</script>" in browser.run("document.querySelector('.description').textContent")
    assert browser.run("document.querySelector('.description').children.length") == 1
    raw = json.loads(browser.run("document.getElementById('raw').textContent"))
    assert raw["identity"]["description"] == HOSTILE.replace("\0", "")


def test_without_scripts_it_is_a_plain_table_of_the_newest_versions(site, browser):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open((site / "index.html").as_uri())
        document = browser.call("DOM.getDocument", depth=0)["root"]["nodeId"]

        def shown(selector):
            nodes = browser.call("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"]
            return len(nodes)

        assert shown("#catalogue tbody tr:not([hidden])") == 6
        assert shown("#filters[hidden]") == shown("#theme[hidden]") == 1
        assert shown("th button") == 0
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
