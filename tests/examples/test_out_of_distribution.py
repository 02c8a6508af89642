"""The example of images outside the training: its ratios, its kinds, and a page that is the one in docs/results."""

import math
import xml.etree.ElementTree as ET

import pytest
import torch

from batteries.geometry import clustered_mean
from tests.support.examples import RESULTS, example, rows

ood = example("out_of_distribution")


def estimate(values):
    return clustered_mean(torch.tensor(values), torch.arange(len(values)))


def test_a_ratio_has_bounds_of_both_errors():
    value, low, high = ood.ratio(estimate([2.0, 4.0, 3.0]), estimate([1.0, 1.5, 0.5]))
    assert value == pytest.approx(3)
    assert low * high == pytest.approx(value**2)
    relative = math.hypot(1 / math.sqrt(3) / 3, 0.5 / math.sqrt(3))
    assert high == pytest.approx(3 * math.exp(4.3027 * relative), rel=1e-3)  # Student's quantile for 2 degrees of freedom


def test_the_spread_between_strata_is_no_error_of_their_mean():
    types = torch.arange(4).repeat_interleave(200)
    values = torch.randn(800, generator=torch.Generator().manual_seed(0)) + 100 * types
    found = ood.stratified_mean(values, types)
    assert found.value == pytest.approx(150, abs=0.1)
    assert found.standard_error == pytest.approx(1 / math.sqrt(800), rel=0.1)
    assert found.freedom == pytest.approx(796, rel=0.05)
    single = torch.where(types == 2, values, 100.0 * types)
    assert ood.stratified_mean(single, types).freedom == pytest.approx(199)


def test_the_linear_code_leaves_what_its_components_miss():
    spec = ood.CellSpec.preset("low")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    code = ood.LinearCode(torch.zeros(768, dtype=torch.float64), torch.eye(768, dtype=torch.float64), "none")
    errors = ood.linear_errors(code, spec)(images)
    kept = torch.zeros(3, 16, 16).flatten()
    kept[: ood.COMPONENTS] = 1
    wanted = (images.square() * (1 - kept.view(3, 16, 16).repeat(1, 2, 2))).mean(dim=(1, 2, 3))
    assert torch.allclose(errors.float(), wanted, rtol=1e-5)


@pytest.mark.slow
def test_the_page_has_every_kind_and_its_figures(monkeypatch):
    page = (RESULTS / "out-of-distribution.md").read_text()
    written = {row[0]: row for row in rows(page)}
    made = ood.kinds()
    assert made.keys() <= written.keys()
    some = {name: made[name] for name in ("known noise", "ternary", "photographs")}
    found = ood.measure(some)
    for one in found:
        assert one.kind in made
        assert f"{one.left['low/johanna-64']:.3g}" == next(row for row in rows(page) if row[0] == one.kind)[3]
    assert len(ood.ratios(found, "low/johanna-64")) == 2
    made_picture = ET.fromstring(ood.picture(found))
    assert len(made_picture.findall(".//{*}polyline")) == 2 * 3 + 3 * 4  # ratios of three cells; shares of these and PCA
