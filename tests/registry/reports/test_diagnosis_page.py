"""The page of a diagnosis: whole, alone, no wider than a phone, with every section, picture and figure in it."""

import re
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import pytest
import torch
from PIL import Image

from batteries.diagnostics.diagnosis.pictures import Picture
from registry.answers.diagnosis import DiagnoseAnswer
from registry.reports.charts import diagnosis_charts
from registry.reports.charts.png import heat_png, png
from registry.reports.diagnosis.diagnosis_page import diagnosis_page
from tests.registry.reports.test_viability_page import (
    HOSTILE,
    PHONE,
    framed_title,
    needs_chromium,
    read,
    refuse_outside,
    words_of,
)
from tests.support.diagnoses import by_hand

CASES = {
    "generalist": by_hand,
    "shared": lambda: by_hand("specialist", "specialist"),
    "undecided": lambda: by_hand("undecided"),
}


def page(found, reference="low/mine-64@1.0.0"):
    return diagnosis_page(DiagnoseAnswer.of(reference, "0" * 64, found), found)


@pytest.mark.parametrize("name", CASES)
def test_a_page_is_whole_and_stands_alone(name):
    found = CASES[name]()
    html = page(found)
    read(html)
    refuse_outside(html)
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html)
    assert page(found) == html
    words = words_of(html)
    for one in found.findings:
        assert one.figure.definition.title in words
    assert found.verdict.word.capitalize() in words


def test_a_shared_verdict_has_no_colour_and_says_so():
    assert '<p class="verdict good">' in page(by_hand())
    assert "The same verdict has PCA-8: no, it is specialist." in words_of(page(by_hand()))
    shared = by_hand("generalist", "generalist")
    assert '<p class="verdict none">' in page(shared)
    assert "The same verdict has PCA-8: yes. Of 2 untrained cells: 0. A verdict" in words_of(page(shared))


def test_every_kind_has_its_row_with_untrained_cells_and_the_linear_code():
    answer = DiagnoseAnswer.of("a", "0" * 64, by_hand())
    chart = diagnosis_charts.errors(answer)
    assert len(chart.rows) == 40
    row = chart.rows[0]
    assert [look.style for look, _ in chart.marks(row)] == ["untrained", "linear", "cell"]
    assert row.words == "known laws: 1, 1 to 1, untrained 1, linear 0.9"
    places = [chart.across(row.value) for row in chart.rows[:5]]
    assert places == sorted(places, reverse=True)
    steps = torch.tensor(places).diff()
    assert torch.allclose(steps, steps[:1].expand(4))  # powers of ten are evenly apart


def test_the_pipeline_is_charted_as_in_an_inspection():
    words = words_of(page(by_hand()))
    for title in ("CV of simplices of five patches", "Coefficient of variation", "Kurtosis of the decoder"):
        assert title in words
    assert "On 8 images of the training size" in words


def test_pictures_are_images_and_maps_run_from_dark_to_light():
    html = page(by_hand())
    images = [Image.open(BytesIO(b64decode(data))) for data in re.findall(r"data:image/png;base64,([^\"]+)", html)]
    assert [image.size for image in images] == [(32, 32)] * 3 + [(4, 4)] * 2
    heat = Image.open(BytesIO(heat_png(torch.tensor([[0.0, 1.0, 2.0]]))))
    assert [heat.getpixel((x, 0)) for x in range(3)] == [(68, 1, 84), (33, 145, 140), (253, 231, 37)]
    flat = Image.open(BytesIO(heat_png(torch.ones(2, 2))))
    assert flat.getpixel((0, 0)) == (68, 1, 84)
    assert Image.open(BytesIO(png(torch.full((3, 1, 1), 2.0)))).getpixel((0, 0)) == (255, 255, 255)


def test_foreign_text_stays_text():
    found = by_hand()
    hostile = replace(found, pictures=(Picture(HOSTILE, found.pictures[0].image, found.pictures[0].recon),))
    html = page(hostile, HOSTILE)
    assert "<script>alert" not in html
    read(html)


@needs_chromium
@pytest.mark.parametrize("name", ["generalist", "shared"])
def test_no_page_is_wider_than_a_phone(name, tmp_path):
    assert framed_title(tmp_path, page(CASES[name]())) == f"{PHONE[0]} of {PHONE[0]}"
