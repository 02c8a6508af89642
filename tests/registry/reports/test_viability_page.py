import re
import shutil
import struct
import subprocess
from base64 import b64encode
from html import escape
from html.parser import HTMLParser
from io import BytesIO
from math import log10

import pytest
from jinja2 import UndefinedError
from PIL import Image

from batteries import probe
from batteries.cell.manifest import TrainingPoint
from batteries.geometry.estimates import Estimate
from batteries.model.patch_svae import PatchSVAE
from registry.catalog.attestation import Attestation
from registry.catalog.figures import CheckFigure, ControlFigure, DoseFigure, FrozenFigure, Moment, ReadOutFigure, ReturnFigure
from registry.checks import cell_checks as checks
from registry.checks import content_checks
from registry.checks.cell_checks import Measurement
from registry.checks.content_checks import Content
from registry.checks.protocol import PROFILES
from registry.reports.charts.chart import Axis, Chart, Look, Point, Series
from registry.reports.charts.viability_charts import KEPT
from registry.reports.check_guide import GUIDES, LIFT, guide
from registry.reports.templating import TEMPLATES, render
from registry.reports.viability_page import Reconstruction, page
from registry.viability import retraining
from registry.viability.reconstructions import reconstructions
from tests.support.cells import ROOT, tiny
from tests.support.models import SPECS

ATTESTATIONS = ROOT / "manifests" / "attestations"
CHROMIUM = shutil.which("chromium")
QUIET = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars")
OFFLINE = ("disable-background-networking", "disable-component-update", "disable-sync")
PHONE = (390, 844)
HOSTILE = "<script>alert(1)</script>\"' onload=x \u202e &amp;"
EXACT = 0.20297
RATES = (1e-5, 1e-4, 1e-3, 1e-2)
TASKS = ("name the noise type", "take Gaussian noise off photographs (left halves learned, right halves judged)")
VOID = {"meta"}  # of HTML; templates close the others themselves


def check(name, passed=True, *, decides=True, value=1.003, reason="0.2143 before, 0.2149 after"):
    return CheckFigure(
        name=name,
        passed=passed,
        decides=decides,
        value=value,
        lower=None if value is None else value - 0.02,
        upper=None if value is None else value + 0.02,
        threshold="ratio and both 95% bounds in [0.85, 1.15]",
        source="published triage and measured figures of the research the cells come from",
        reason=reason,
    )


def moments(rate, seed, *, start=0.012, back=False, every=10):
    """Along a trial, the farther the larger the dose; the other way where it comes back."""
    strength = (log10(rate) + 6) / 4 * (1 + 0.1 * seed)
    found = []
    for index in range(6):
        part = (5 - index if back else index) / 5
        cv = (0.2143 if start < 0.1 else 0.2036) * (1 + 0.3 * strength * part)
        mse = start * 10 ** (1.5 * strength * part)
        found.append(Moment(step=index * every, cv=cv, cv_error=0.002, rank=15.6 - strength * part, mse=mse))
    return tuple(found)


def dose(subject, rate, seed):
    along = moments(rate, seed, start=0.012 if subject == "cell" else 0.39)
    worse = along[-1].mse / along[0].mse
    ratio = along[-1].cv / along[0].cv
    return DoseFigure(
        subject=subject,
        rate=rate,
        seed=seed,
        score=0.6 + 0.05 * seed,
        weight_change=rate * 50,
        cv=(ratio, ratio - 0.02, ratio + 0.02),
        rank=(1.01 - rate * 10, 1.0 - rate * 10, 1.02 - rate * 10),
        retention=worse if subject == "cell" else 1.2 * worse**0.5,
        kept=1 - 0.03 * (worse - 1) if subject == "cell" else -0.1 * worse,
        moments=along,
    )


def frozen(subject, task, host, seed):
    score = 0.55 if subject == "cell" else 0.15
    return FrozenFigure(
        subject=subject,
        task=task,
        host=host,
        seed=seed,
        score=score + 0.01 * seed,
        score_error=0.02,
        gradient=3.2e-5,
        cv=(1.01, 0.99, 1.03),
        rank=(1.0, 0.99, 1.01),
        unchanged=True,
    )


def full(**changes):
    made = (
        check("finite", value=None, reason="all finite"),
        check("radius", value=3.9e-8),
        check("on attractor", False, decides=False, value=1.31),
        check("frozen CV"),
        check("accuracy lift", None, decides=False, value=None),
        check("retention", False, value=8.593, reason="reconstruction error after the dose over before"),
    )
    fields = {
        "cell": "a" * 64,
        "reference": "low/fresnel-256@1.0.0",
        "D": 16,
        "attractor": EXACT,
        "probe": "photos-256",
        "protocol": "standard-1",
        "protocol_digest": "b" * 64,
        "control": None,
        "verdict": "walked back",
        "words": ("Its attractor holds in every host.", "A change of 0.1% of its weights multiplies its error by 8.6."),
        "checks": made,
        "controls": (
            ControlFigure(name="untrained", rejected=True, by="error, untrained"),
            ControlFigure(name="scale", rejected=True, by="radius"),
        ),
        "trajectory": tuple(
            TrainingPoint(step=step, mse=0.4 / (1 + step / 300), cv=0.2 + 0.02 * step / 20000, cv_standard_error=0.003)
            for step in (0, 250, 500, 1000, 2000, 4000, 8000, 14000, 20000)
        ),
        "frozen": tuple(
            frozen(subject, task, host, seed)
            for task in TASKS
            for host in ("plain", "with terminal LayerNorm")
            for subject, seeds in (("cell", 3), ("untrained", 5))
            for seed in range(seeds)
        ),
        "doses": tuple(dose(subject, rate, seed) for subject in ("cell", "untrained") for rate in RATES for seed in range(5)),
        "returns": (
            ReturnFigure(subject="cell", rate=1e-2, seed=0, limit=200, steps=40, moments=moments(1e-2, 0, back=True)),
            ReturnFigure(subject="cell", rate=1e-2, seed=1, limit=200, steps=60, moments=moments(1e-2, 1, back=True, every=15)),
            ReturnFigure(
                subject="untrained", rate=1e-2, seed=0, limit=200, steps=None, moments=moments(1e-2, 3, start=0.39, back=True)
            ),
        ),
        "reference_rate": 1e-5,
        "figures": {"untrained CV": 0.2036, "chance": 1 / 16},
        "package": "0.1.0",
        "torch": "2.6.0",
        "seed": 0,
    }
    return Attestation(**{**fields, **changes})


def test_an_attestation_is_charted_by_the_cv_that_it_rests_on():
    old = full()
    assert old.cv_name == "CV"
    assert "axial" not in page(old)
    axial = tuple(trial.model_copy(update={"axial_cv": (1.5, 1.4, 1.6)}) for trial in old.doses)
    points = tuple(p.model_copy(update={"axial_cv": 0.31, "axial_cv_standard_error": 0.001}) for p in old.trajectory)
    new = full(doses=axial, trajectory=points)
    assert new.cv_name == "axial CV"
    text = page(new)
    assert "axial CV along training" in text
    assert "1.5 (1.4 to 1.6)" in text
    assert b"axial" not in old.to_bytes()


NOTHING = {"trajectory": (), "frozen": (), "doses": (), "returns": (), "controls": (), "figures": {}}


def stopped(**changes):
    """A control that was not finite: nothing else was measured."""
    reason = "NaN or infinity: nothing else was measured"
    only = (check("finite", False, value=None, reason=reason),)
    return full(**{**NOTHING, "control": "nan", "checks": only, "words": (reason,), "attractor": None, **changes})


def hostile():
    return full(
        words=(HOSTILE,),
        checks=(check(HOSTILE, False, reason=HOSTILE),),
        controls=(ControlFigure(name=HOSTILE, rejected=False, by=HOSTILE),),
        frozen=(frozen("cell", HOSTILE, HOSTILE, 0),),
        figures={HOSTILE: 1.0},
        probe=HOSTILE,
        control=HOSTILE,
        package=HOSTILE,
        torch=HOSTILE,
    )


def viable():
    return full(verdict="viable", reference="low/johanna-64@1.2.0", checks=(check("finite"), check("retention")))


class Reader(HTMLParser):
    """Reads a page, and fails on a tag that is not closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.started, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.started.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "head" not in self.open:
            self.words.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def words_of(html):
    return " ".join(" ".join(read(html).words).split())


def refuse_outside(html):
    """Refuse a page that loads or runs anything."""
    for outside in ("http://", "https://", "url(", "@import", "<script", "<link", "<style>@"):
        assert outside not in html
    sources = [attributes["src"] for _, attributes in read(html).started if "src" in attributes]
    assert all(source.startswith("data:image/png;base64,") for source in sources)


CASES = {
    "full": lambda: [full()],
    "stopped": lambda: [stopped()],
    "hostile": lambda: [hostile()],
    "several": lambda: [viable(), full(), stopped(), hostile()],
}


@pytest.mark.parametrize("name", CASES)
def test_a_page_is_whole_and_stands_alone(name):
    html = page(CASES[name]())
    read(html)
    refuse_outside(html)
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html)
    assert page(CASES[name]()) == html


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (full, "Walked back because of retention"),
        (viable, "Viable every deciding check passed"),
        (stopped, "Walked back because of finite"),
        (lambda: full(verdict="no verdict"), "No verdict the checks prove nothing"),
        (
            lambda: full(verdict="no verdict", controls=(ControlFigure(name="scale", rejected=False, by="radius"),)),
            "No verdict because a control was not rejected: scale",
        ),
    ],
)
def test_the_verdict_comes_first(found, words):
    before = page([found()]).split("<table")[0]
    text = " ".join(re.sub("<[^>]*>", " ", before.split("</style>")[1]).split())
    assert words in text
    assert all(sentence in text for sentence in found().words)


def test_everything_is_told():
    html = page([full()])
    words = words_of(html)
    for figure in full().checks:
        assert figure.name in words
        assert figure.reason in words
    for told in (
        full().digest,
        full().cell,
        full().protocol_digest,
        "photos-256",
        "2.6.0",
        *TASKS,
        "after 40 of at most 200 steps",
    ):
        assert told in words
    for outcome in ("passed", "not passed", "reported (not passed)", "reported (not made)", "not within 200 steps"):
        assert outcome in words


def test_charts_are_told_apart_by_more_than_colour():
    started = read(page([full()])).started
    drawings = [attributes for tag, attributes in started if tag == "svg" and "role" in attributes]
    titles = [tag for tag, _ in started].count("title") - 1
    assert len(drawings) == titles == [tag for tag, _ in started].count("desc") == 4 + 2 + 2 + 2 + 4
    assert all(attributes["viewbox"].startswith("0 0 340 ") for attributes in drawings)
    words = words_of(page([full()]))
    for key in (
        "cell",
        "untrained",
        "holds: 0.85 to 1.15",
        "the dose that decides: 10⁻⁵",
        "exact attractor: 0.203",
        "cell is back",
    ):
        assert key in words


def test_what_was_not_tried_is_said():
    words = words_of(page([stopped()]))
    for told in ("No trial under a host's gradient", "No reading along training", "No trial of return", "No frozen trial"):
        assert told in words
    assert "<figure" not in page([stopped()])


def test_foreign_text_stays_text():
    html = page([hostile()])
    assert "<script" not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "default-src 'none'" in html
    assert {key for _, attributes in read(html).started for key in attributes}.isdisjoint({"onload", "style"})


def test_each_failed_check_has_its_figure_its_meaning_and_a_remedy():
    failed = check("content kept", False, value=0.5, reason="share still explained")
    found = full(checks=(check("finite"), failed, check("unknown", False), check("retention", False, decides=False)))
    words = words_of(page([found]))
    before = words[: words.index("Checks check")]
    for told in (
        "0.5 (0.48 to 0.52) , needed: ratio and both",
        failed.reason,
        *vars(guide("content kept")).values(),
        "unknown",
    ):
        assert told in before
    assert guide("retention").meaning not in words
    assert guide("unknown") is None
    assert "Failed checks" not in words_of(page([viable()]))


def names_of_checks():
    """Names of all checks that a protocol makes, and of those in the shipped attestations."""
    cell = tiny()
    null = Estimate(1.0, 0.1, 4, (1.0,))
    found = Measurement(True, 0.0, null, null, null, null, 1.0)
    protocol = PROFILES["quick"]
    made = [checks.finite(True), *checks.standing(found, cell.manifest, [1.0], protocol)]
    made += checks.hosted([frozen("cell", TASKS[0], "plain", 0)], protocol)
    made += checks.dosed([dose("cell", protocol.reference_rate, 0)], protocol)
    trials = [frozen(subject, TASKS[0], "plain", 0) for subject in ("cell", "untrained")]
    made.append(checks.lift(TASKS[0], True, trials[:1], trials[1:], protocol))
    whole = Content({"a type": 1.0}, (1.0,), 1)
    made += [*content_checks.of_content(whole, 1, protocol), content_checks.of_mirrored(null, protocol)]
    read = [ReadOutFigure(subject="cell", reads=kind, losses=(0.5, 0.6), within=0.1) for kind in ("M", "omega")]
    made += [content_checks.of_readout(one, [one, one], protocol) for one in read]
    shipped = [Attestation.from_bytes(path.read_bytes(), where=path) for path in ATTESTATIONS.rglob("*.json")]
    return {retraining.NAME, *(one.name for one in made)} | {one.name for attestation in shipped for one in attestation.checks}


def test_every_check_of_every_protocol_has_a_meaning_and_a_remedy():
    names = names_of_checks()
    assert len(names) > 15
    assert [name for name in names if guide(name) is None] == []
    assert set(GUIDES) <= {LIFT if name.startswith(LIFT) else name for name in names}
    sentences = [sentence for advice in GUIDES.values() for sentence in vars(advice).values()]
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in sentences)


def test_reconstructions_stand_beside_their_originals():
    found = full()
    shown = tuple(Reconstruction(f"{HOSTILE} {index}", b"original", b"result", 0.25) for index in range(4))
    html = page([found], {found.digest: shown})
    refuse_outside(html)
    reader = read(html)
    pictures = [attributes for tag, attributes in reader.started if tag == "img"]
    assert [picture["src"] for picture in pictures[:2]] == [
        f"data:image/png;base64,{b64encode(data).decode()}" for data in (b"original", b"result")
    ]
    assert len(pictures) == 8
    assert "<script" not in html
    assert "MSE 0.25" in " ".join(reader.words)
    assert "<img" not in page([found])


def test_reconstructions_are_of_four_images_of_the_probe():
    own = probe("noise16-64")
    model = PatchSVAE(SPECS["low"])
    found = reconstructions(model, own)
    assert found == reconstructions(model, own)
    assert [one.name for one in found] == [own.groups[k] for k in (0, 5, 10, 15)]
    for one in found:
        for data in (one.original, one.result):
            assert Image.open(BytesIO(data)).size == (64, 64)
        assert one.mse > 0


def test_every_template_is_used():
    names = {path.name for path in TEMPLATES.iterdir()}
    used = {"viability.html.j2", "alignment.html.j2", "ablation.html.j2", "diagnosis.html.j2", "verdict_card.html.j2"}
    used |= {"audit.html.j2", "inspection.html.j2", "vae.html.j2"}
    for name in names:
        used |= set(re.findall(r'(?:extends|include|from|import) "([^"]+)"', (TEMPLATES / name).read_text(encoding="utf-8")))
    assert names == used


def test_an_unknown_name_in_a_template_is_an_error():
    with pytest.raises(UndefinedError, match="undefined"):
        render("viability.html.j2")


def test_several_cells_are_summed_up_first():
    html = page([viable(), full(), stopped()])
    reader = read(html)
    targets = [attributes["href"] for tag, attributes in reader.started if tag == "a"]
    assert targets == ["#cell-1", "#cell-2", "#cell-3"]
    assert [attributes["id"] for tag, attributes in reader.started if tag == "article"] == ["cell-1", "cell-2", "cell-3"]
    assert "1 viable, 2 walked back" in html.split("<table")[0]


def far():
    return tuple(Moment(step=step, cv=0.2, cv_error=1e308, rank=1.0, mse=1e308) for step in (0, 10**399))


ODD = {
    "degenerate": {
        "attractor": None,
        "doses": (dose("cell", 1e-5, 0).model_copy(update={"cv": None}),),
        "trajectory": (TrainingPoint(step=1, mse=0.1, cv=None, cv_standard_error=None),),
    },
    "one seed": {"doses": (dose("cell", 1e-5, 0),)},
    "one dose without a moment": {"doses": (dose("cell", 1e-5, 0).model_copy(update={"moments": ()}),)},
    "nothing kept": {"doses": tuple(dose("cell", 1e-5, s).model_copy(update={"kept": k}) for s, k in enumerate((0.0, -3e4)))},
    "no error left": {"doses": (dose("cell", 1e-5, 0).model_copy(update={"retention": 0.0}),)},
    "absurd": {"doses": tuple(dose("cell", 1e-5, 0).model_copy(update={"kept": k, "retention": k}) for k in (1e308, -1e308))},
    "no rate": {"reference_rate": 0.0, "doses": (dose("cell", 1e-5, 0).model_copy(update={"rate": 0.0}),)},
    "a step of 400 digits": {
        "returns": (ReturnFigure(subject="cell", rate=1.0, seed=10**399, limit=10**399, steps=10**399, moments=far()),),
    },
    "unnamed checks": {"checks": ()},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_figures_are_drawn_within_the_chart(name):
    reader = read(page([full(**ODD[name])]))
    for tag, attributes in reader.started:
        pairs = [pair.split(",") for pair in attributes.get("points", "").split()] if tag in ("polyline", "polygon") else []
        pairs += [(attributes["cx"], attributes["cy"])] if tag == "circle" else []
        pairs += [(attributes[f"x{end}"], attributes[f"y{end}"]) for end in (1, 2)] if tag == "line" else []
        assert all(-10 <= float(x) <= 350 and -10 <= float(y) <= 250 for x, y in pairs)


def test_what_is_not_drawn_in_place_is_counted():
    assert "degenerate, not drawn: 1" in words_of(page([full(**ODD["degenerate"])]))
    assert "beyond the axis, drawn on its edge: 1" in words_of(page([full(**ODD["nothing kept"])]))


def test_the_line_of_kept_content_is_the_protocols():
    assert {profile.kept.value for profile in PROFILES.values()} == {KEPT}


@pytest.mark.parametrize(
    ("values", "log", "labels"),
    [
        ([0.0, 20000.0], False, ["0", "10,000", "20,000"]),
        ([0.84, 1.16], False, ["0.9", "1", "1.1"]),
        ([1e-5, 1e-2], True, ["10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²"]),
        ([1.0, 8.6], True, ["1", "2", "5"]),
        ([1.02, 1.9], True, ["1", "2"]),
        ([1e-3, 0.02], True, ["0.001", "0.002", "0.005", "0.01", "0.02"]),
        ([2e-5, 9e-5], True, ["2\N{MULTIPLICATION SIGN}10⁻⁵", "5\N{MULTIPLICATION SIGN}10⁻⁵"]),
        ([2.2, 2.4], True, ["2", "2.5", "3"]),
        ([-1.0, 0.0], True, ["0.75", "1", "1.25"]),
    ],
)
def test_ticks_are_round(values, log, labels):
    assert [label for _, label in Axis.over("", values, log=log).ticks] == labels


def test_an_axis_keeps_what_is_beyond_it_at_its_end():
    axis = Axis.over("kept", [0.0, 1.0, -50.0], floor=-0.25)
    assert axis.share(-50) == 0
    assert not axis.holds(-50)
    assert axis.share(1e30) == 1
    assert 0 < axis.share(-0.25) < axis.share(0.5) < axis.share(1.0) < 1


def test_a_line_needs_no_dots():
    axis = Axis.over("x", [0.0, 1.0])
    line = (Point(0.0, 0.5, 0.4, 0.6), Point(1.0, 0.5, 0.4, 0.6))
    chart = Chart("y", axis, axis, (Series("cell", Look("cell", "circle"), lines=(line,)),))
    assert len(chart.spread(line).split()) == 4
    assert chart.spread(line[:1]) == ""
    assert "cell: 2 points, 0.5 to 0.5." in chart.description


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to open the page with")


def browse(path, folder, *arguments):
    window = [f"--user-data-dir={folder / 'profile'}", f"--window-size={PHONE[0]},{PHONE[1]}"]
    command = [CHROMIUM, *(f"--{switch}" for switch in (*QUIET, *OFFLINE)), *window, *arguments, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def shown(path, folder):
    """A page as a browser has it."""
    return browse(path, folder, "--dump-dom")


@needs_chromium
def test_a_browser_shows_it(tmp_path):
    (tmp_path / "page.html").write_text(page([full()]), encoding="utf-8")
    shot = tmp_path / "page.png"
    browse(tmp_path / "page.html", tmp_path, f"--screenshot={shot}")
    data = shot.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert struct.unpack(">II", data[16:24]) == PHONE
    assert len(data) > 5000
    dumped = shown(tmp_path / "page.html", tmp_path)
    assert "Walked back" in words_of(dumped)
    assert "because of retention" in words_of(dumped)
    assert dumped.count("<figure>") == page([full()]).count("<figure>")


def framed_title(folder, html):
    """The widths of a page and of the frame it is in, as wide as a phone: a window of Chromium is never so narrow."""
    measure = "document.title = this.contentDocument.documentElement.scrollWidth + ' of ' + this.contentWindow.innerWidth"
    size = f'width="{PHONE[0]}" height="{PHONE[1]}"'
    frame = f'<iframe style="border: 0" {size} srcdoc="{escape(html)}" onload="{measure}"></iframe>'
    path = folder / "framed.html"
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><title>unread</title><body style="margin: 0">{frame}', encoding="utf-8"
    )
    return re.search("<title>([^<]*)", shown(path, folder))[1]


@needs_chromium
@pytest.mark.parametrize("name", CASES)
def test_no_page_is_wider_than_a_phone(name, tmp_path):
    assert framed_title(tmp_path, page(CASES[name]())) == f"{PHONE[0]} of {PHONE[0]}"


@needs_chromium
def test_the_measure_finds_a_page_that_is_too_wide(tmp_path):
    wide = page([stopped()]).replace("<h2>", '<h2 style="width: 600px">')
    assert framed_title(tmp_path, wide) not in ("unread", f"{PHONE[0]} of {PHONE[0]}")
