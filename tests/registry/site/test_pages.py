"""Everything that a page says equals the manifest, and no text of a manifest is anything but text."""

import json
from base64 import b64encode
from hashlib import sha256

import pytest

from batteries.cell.cell import Cell
from batteries.cell.manifest import CvFigure, Manifest
from batteries.errors import FormatError
from batteries.geometry.attractor import sphere_cv
from batteries.text import plain
from registry.catalog.figures import CheckFigure
from registry.site.cell_page import CellView, cell_page, exact_cv, parents_of, spectrum_chart
from registry.site.front_page import COLUMNS, UNTESTED, front_page
from registry.site.related import Related
from registry.site.site_templates import TEMPLATES, rough, shown
from registry.site.usage import cell_code, commands, pull_commands
from tests.support.cells import attestation, tiny, with_axial
from tests.support.laws import given, settings, st
from tests.support.sites import HOSTILE, NOTHING, Page, contents_of, differences, renamed
from tests.support.soak import many

CONTROLS = "\u202e\u2066\u0000\u200b\ud83d"
ESSENTIAL = [  # of every page
    ["identity", "description"],
    ["identity", "license"],
    ["measured", "noise16-64", "mse", "value"],
    ["measured", "noise16-64", "cv", "value"],
    ["measured", "noise16-64", "spectrum"],
    ["measured", "noise16-64", "mse_by_group", "gaussian"],
    ["untrained", "noise16-64", "mse", "value"],
    ["spec", "V"],
    ["spec", "parameters"],
    ["file", "size"],
    ["file", "sha256"],
    ["training", "command"],
    ["training", "data", "description"],
    ["training", "seed"],
]


def page_of(cell, *others, **more):
    contents = contents_of(cell, *others, **more)
    entry = contents.by_reference[f"{cell.name}@{cell.version}"]
    view = CellView(entry, contents.versions[entry.path], parents=parents_of(entry.manifest, contents))
    return cell_page(contents, view, contents.attestations(entry), ())


def changed(cell, **parts):
    """A cell whose manifest says other things."""
    return Cell(cell.weights, cell.manifest.model_copy(update=parts))


def test_every_field_of_a_page_is_that_of_the_manifest():
    for cell in (tiny(), with_axial(tiny(), 0.9), tiny(cv=None)):
        html = page_of(cell)
        assert list(differences(html, cell.manifest)) == []
        paths = [path for path, _, _ in Page(html).fields]
        missing = [path for path in ESSENTIAL if path not in paths]
        assert missing == ([] if isinstance(cell.manifest.own.cv, CvFigure) else [["measured", "noise16-64", "cv", "value"]])
        assert json.loads(Page(html).raw) == cell.manifest.model_dump(mode="json")


def test_a_wrong_figure_on_a_page_would_be_seen():
    cell = tiny()
    html = page_of(cell)
    assert '<data value="0.25">0.25</data>' in html
    for wrong in ('<data value="0.26">0.25</data>', '<data value="0.25">0.26</data>'):
        assert list(differences(html.replace('<data value="0.25">0.25</data>', wrong), cell.manifest))
    assert list(differences(html.replace("made by hand", "made by hnad"), cell.manifest))


TEXTS = st.text(max_size=60) | st.sampled_from([HOSTILE, "x" * 2000, "", "\n\t", "‮" * 50])
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**62)


@st.composite
def manifests(draw):
    """Manifests of a tiny cell with any texts, figures and groups that the schema allows."""
    cell = with_axial(tiny(), draw(st.floats(0.001, 9))) if draw(st.booleans()) else tiny()
    base = cell.manifest
    safe = TEXTS.filter(lambda text: text.encode(errors="ignore").decode() == text)
    estimated = base.own.mse.model_copy(update={"value": draw(FLOATS), "standard_error": draw(st.none() | FLOATS)})
    groups = draw(st.dictionaries(safe, FLOATS, max_size=3))
    spectrum = tuple(draw(st.lists(FLOATS, max_size=5)))
    own = base.own.model_copy(update={"mse": estimated, "mse_by_group": groups, "spectrum": spectrum})
    data = base.training.data.model_copy(update={"description": draw(safe), "source": draw(safe), "license": draw(safe)})
    training = base.training.model_copy(
        update={
            "data": data,
            "command": draw(safe),
            "optimiser": draw(safe),
            "seed": draw(st.none() | COUNTS),
            "torch": draw(safe),
        }
    )
    identity = base.identity.model_copy(update={"description": draw(safe), "license": draw(safe)})
    probe = draw(st.sampled_from(["noise16-64", "noise16-64:pink", HOSTILE.replace("\0", ""), "a/b.c"]))
    changes = {"identity": identity, "training": training, "own_probe": probe, "measured": {probe: own}}
    return Cell(cell.weights, base.model_copy(update=changes))


@pytest.mark.slow
@settings(max_examples=many(25, 1000), deadline=None)
@given(manifests())
def test_whatever_a_manifest_says_its_pages_say_the_same_and_no_more(cell):
    Manifest.from_bytes(cell.manifest.to_bytes(), where="the law")
    html = page_of(cell)
    page, plainest = Page(html), Page(page_of(tiny()))
    assert list(differences(html, cell.manifest)) == []
    assert json.loads(page.raw) == cell.manifest.model_dump(mode="json")
    assert page.count("script") == plainest.count("script") == 2
    assert page.count("style") == 1
    assert page.count("img") == 0
    contents = contents_of(cell)
    front = Page(front_page(contents, "index.html"))
    (row,) = [row for row in front.rows if "data-name" in row]
    summary = contents.cells[0].located.cell_release.summary
    assert float(row["data-mse"]) == summary.mse == cell.manifest.own.mse.value
    assert row["data-license"] == plain(summary.license)
    assert float(row["data-ratio"]) == cell.manifest.own.deciding_cv.ratio


def test_markup_in_every_text_is_text():
    base = tiny()
    hostile = HOSTILE.replace("\0", "")
    data = base.manifest.training.data.model_copy(update={"description": hostile, "source": hostile, "license": hostile})
    training = base.manifest.training.model_copy(update={"data": data, "command": hostile, "optimiser": hostile})
    probe = base.manifest.measured["noise16-64"].model_copy(update={"probe": hostile})
    cell = changed(
        renamed(base, description=hostile, license=hostile),
        training=training,
        own_probe=hostile,
        measured={hostile: probe},
    )
    check = attestation(cell).checks[0]
    told = {"name": hostile, "passed": False, "threshold": hostile, "source": hostile, "reason": hostile}
    failed = CheckFigure(**{**check.model_dump(), **told})
    report = attestation(cell, verdict="walked back").model_copy(update={"words": (hostile,), "checks": (failed,)})
    more = {
        "attestations": [report],
        "yanked": {f"{cell.name}@{cell.version}": hostile.replace("\u202e", "").replace("\u2066", "")},
    }
    for html in (page_of(cell, **more), front_page(contents_of(cell, **more), "index.html")):
        page = Page(html)
        assert page.count("script") == 2
        assert page.count("img") == 0
        assert not any(name.startswith("on") for _, given in page.tags for name in given)
        assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in page.text
        assert "{{ 7 * 7 }}" in page.text
        assert "مرحبا 😈" in page.text
        assert not set(CONTROLS) & set(html)


def test_a_description_may_be_as_long_as_a_manifest_allows_and_no_longer():
    longest = "😈" * 2000  # 8 kB
    cell = renamed(tiny(), description=longest)
    assert longest in Page(page_of(cell)).text
    assert len(front_page(contents_of(cell), "index.html")) < len(front_page(contents_of(tiny()), "index.html")) + 1000
    words = renamed(tiny(), description="x" * 10_000).manifest.to_bytes()
    with pytest.raises(FormatError, match="description"):
        Manifest.from_bytes(words, where="")


def test_a_page_may_run_and_load_what_is_in_it_and_nothing_else():
    for html in (page_of(tiny()), front_page(contents_of(tiny()), "index.html")):
        page = Page(html)
        policy = next(given["content"] for tag, given in page.tags if given.get("http-equiv") == "Content-Security-Policy")
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert "unsafe" not in policy
        for tag, rule in (("script", "script-src"), ("style", "style-src")):
            texts = [part.split(f"</{tag}>")[0] for part in html.split(f"<{tag}>")[1:]]
            found = {f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts}
            assert found == set(rules[rule].split())
        assert "style=" not in html.split("</style>")[1]
        assert not any("src" in given or tag in ("iframe", "object", "base") for tag, given in page.tags)


def test_yanked_and_older_versions_say_so_and_lead_to_the_others():
    versions = [tiny(version=version, seed=n) for n, version in enumerate(("1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0"))]
    more = {"yanked": {"high/tiny@1.1.0": "wrong data", "high/tiny@2.0.0": "worse"}}
    page = Page(page_of(versions[1], *[one for one in versions if one is not versions[1]], **more))
    assert "Yanked. wrong data" in page.text
    assert "There is a newer version: high/tiny@1.0.0" in page.text  # the newest that is neither yanked nor a prerelease
    assert {"1.0.0.html", "2.0.0-rc.1.html", "2.0.0.html"} <= set(page.links)
    front = Page(front_page(contents_of(*versions, **more), "index.html"))
    rows = {row["data-name"]: row for row in front.rows if "data-name" in row}
    assert [name for name, row in rows.items() if "data-older" not in row] == ["high/tiny@1.0.0"]
    assert all(("hidden" in row) == ("data-older" in row) for row in rows.values())
    assert [name for name, row in rows.items() if row.get("class") == "yanked"] == ["high/tiny@1.1.0", "high/tiny@2.0.0"]


def test_the_front_page_is_a_table_of_the_figures_of_the_index():
    cells = [tiny("a"), tiny("b", seed=1, band="low", cv=0.2), tiny("c", seed=2, cv=None)]
    contents = contents_of(*cells, attestations=[attestation(cells[0])])
    page = Page(front_page(contents, "index.html"))
    rows = {row["data-name"]: row for row in page.rows if "data-name" in row}
    for entry in contents.cells:
        row, release = rows[entry.reference], entry.located.cell_release
        assert (row["data-band"], row["data-d"]) == (entry.manifest.identity.band, str(release.summary.D))
        assert float(row["data-mse"]) == release.summary.mse
        assert row.get("data-ratio") == (None if release.summary.ratio is None else repr(release.summary.ratio))
        assert int(row["data-size"]) == release.blob.size
        assert row["data-verdict"] == ("viable" if entry.path == "high/a" else UNTESTED)
    keys = [given["data-key"] for tag, given in page.tags if tag == "th" and "data-key" in given]
    assert keys == [key for key, _ in COLUMNS]
    dots = [given for tag, given in page.tags if tag == "a" and given.get("class", "").startswith("dot ")]
    assert [dot["href"] for dot in dots] == ["high/a/1.0.0.html", "low/b/1.0.0.html"]  # the third has no CV
    assert "filled" in dots[0]["class"]
    assert "filled" not in dots[1]["class"]
    assert "Without a point, for a CV that is degenerate or an error of 0: 1." in page.text


def test_an_empty_registry_has_a_front_page():
    assert "The registry has no cells." in Page(front_page(contents_of(), "index.html")).text


def test_parents_are_those_that_the_manifest_names():
    parent = tiny("a", "1.0.0")
    training = tiny("b", seed=1).manifest.training
    command = "batteries train high/b --start high/a@1.0.0 --teacher high/gone@2.0.0"
    child = changed(tiny("b", seed=1), training=training.model_copy(update={"command": command}))
    contents = contents_of(parent, child)
    found = parents_of(child.manifest, contents)
    assert [(one.role, one.reference, one.entry and one.entry.reference) for one in found] == [
        ("trained on from", "high/a@1.0.0", "high/a@1.0.0"),
        ("taught by", "high/gone@2.0.0", None),
    ]
    broken = changed(child, training=training.model_copy(update={"command": "train 'unclosed"}))
    assert parents_of(broken.manifest, contents) == []


def test_exact_cv_and_spectrum():
    manifest = tiny().manifest
    assert exact_cv(manifest) == sphere_cv(4)
    assert exact_cv(manifest.model_copy(update={"spec": manifest.spec.model_copy(update={"D": 3})})) is None
    series = spectrum_chart(manifest).series
    assert [(one.name, [dot.y for dot in one.dots]) for one in series] == [
        ("untrained", [2.0, 1.0, 0.5, 0.25]),
        ("this cell", [2.0, 1.0, 0.5, 0.25]),
    ]


def test_related_cells_are_links_with_their_residuals():
    cells = [tiny("a"), tiny("b", seed=1)]
    contents = contents_of(*cells)
    one, other = contents.cells
    html = cell_page(contents, CellView(one, contents.versions["high/a"], [Related(other, 0.25, 0.75, "noise16-64")]), [], ())
    page = Page(html)
    assert "../b/1.0.0.html" in page.links
    assert '<td data-label="residual"><data value="0.25">0.25</data>' in html
    assert "registry.pull(&#34;high/a@1.0.0&#34;, &#34;high/b@1.0.0&#34;, registry=" in html


def test_commands_are_quoted_for_the_shell_and_for_python():
    contents = contents_of(tiny())
    entry, address = contents.cells[0], '/tmp/it\'s "here"; $(x)'
    assert commands(entry, address).splitlines()[0].endswith("""--registry '/tmp/it'"'"'s "here"; $(x)'""")
    assert f"registry={address!r}" in cell_code(entry, [], address)
    assert "--registry" not in commands(entry, "embedded")
    assert "images = ..." in cell_code(entry, [], "embedded")  # one channel
    assert "batteries pull high/tiny --out cells --registry" in pull_commands(contents)
    hostile = changed(tiny(), own_probe='noise16-64:"; import os', measured={'noise16-64:"; import os': tiny().manifest.own})
    spec = hostile.manifest.spec.model_copy(update={"channels": 3})
    colour = entry.__class__(entry.located, True, hostile.manifest.model_copy(update={"spec": spec}))
    code = cell_code(colour, [], "embedded")
    assert r'batteries.probe("noise16-64:\"; import os").images' in code
    compile(code, "the code", "exec")


def test_values():
    assert shown(()) == shown("") == shown(None) == NOTHING
    assert shown((0.5, 2)) == '<data value="0.5">0.5</data>, <data value="2">2</data>'
    assert shown("a<b") == "<bdi>a&lt;b</bdi>"
    assert rough(0.0) == '<data value="0.0">0</data>'


def test_every_template_of_the_site_is_used():
    used = {"cell.html.j2", "front.html.j2", "packed.html.j2", "site.css.j2", "theme.js", "controls.js", "catalogue.js"}
    used |= {"site.html.j2", "scatter.html.j2", "site_parts.html.j2"}
    assert {path.name for path in TEMPLATES.iterdir()} == used
    texts = "".join(path.read_text(encoding="utf-8") for path in TEMPLATES.iterdir())
    assert all(f'"{name}"' in texts for name in ("site.html.j2", "scatter.html.j2", "site_parts.html.j2"))
