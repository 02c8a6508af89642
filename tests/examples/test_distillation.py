"""The example of distillation: runs of earlier teachers stay out of the page, and the error is reached between readings."""

import dataclasses
import xml.etree.ElementTree as ET

import pytest

from tests.support.examples import example

distillation = example("distillation")


def runs():
    digests = distillation.teachers()
    return [
        distillation.Taught(band, share, seed, digests[band], tuple(1.0 / (n + 2 + seed) for n in range(24)), 1.0)
        for band in distillation.TEACHERS
        for share in distillation.SHARES
        for seed in distillation.SEEDS
    ]


def test_runs_of_earlier_teachers_are_no_part_of_the_page():
    found = runs()
    earlier = [dataclasses.replace(one, teacher="0" * 64, mse=(9.0,) * 24) for one in found]
    assert distillation.current([*earlier, *found]) == found
    assert distillation.missing(found) == []
    assert len(distillation.missing(earlier)) == len(found)
    assert distillation.report(found).count("5 of 5") > 3


def test_picture_has_a_line_for_every_run():
    drawing = ET.fromstring(distillation.picture(runs()))
    assert len(drawing.findall(".//{*}polyline")) == len(runs())


def test_images_to_an_error_are_counted_between_readings():
    every = distillation.STEPS // distillation.READINGS * distillation.BATCH
    assert distillation.images_to(0.5, [0.9, 0.7, 0.3]) == pytest.approx(2.5 * every)
    assert distillation.images_to(0.95, [0.9, 0.7]) == every
    assert distillation.images_to(0.1, [0.9, 0.7]) is None
