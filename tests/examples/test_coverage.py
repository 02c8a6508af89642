"""The examples of coverage: run small, beside the page, and their parts on results made by hand."""

import pytest
import torch
from scipy.stats import norm

from composer.procrustes.score_document import Null
from composer.procrustes.similarity import fit
from tests.support.examples import RESULTS, example, rows

intervals, content = map(example, ("intervals", "content"))


def written(name):
    """An example's section of the page."""
    text = (RESULTS / "coverage-alignment.md").read_text().split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    assert f"`python examples/{name}.py --write`" in text
    return text


def test_the_page_has_all_settings_and_its_claims_hold():
    text = written("intervals")
    found = rows(text)
    at = [(str(one.images), str(one.width), f"{one.noise:g}") for one in intervals.settings()]
    half = len(found) // 2
    assert (found[0], found[half]) == (intervals.R2_HEAD, intervals.OTHER_HEAD)
    assert [row[:3] for row in found[1:half]] == [row[:3] for row in found[half + 1 :]] == at
    assert text.count(": yes.") == 4
    assert "NO." not in text


@pytest.mark.slow
def test_a_setting_is_measured_as_the_page_says():
    """Sixty replicates beside the page's 400: mean and shares within four standard errors."""
    setting = intervals.Setting(16, 4, 1.0)
    mine = intervals.measure(setting, replicates=60, seed=1).rows[0]
    theirs = next(row for row in rows(written("intervals")) if row[:3] == mine[:3])
    assert float(mine[3]) == pytest.approx(float(theirs[3]), abs=0.06)
    assert mine[4] == theirs[4] == "0.444"
    for one, other in zip(mine[5:], theirs[5:], strict=True):
        share = min(0.98, float(other))
        assert abs(float(one) - share) <= 4 * (share * (1 - share) / 60) ** 0.5


def test_the_error_of_a_map_on_unlimited_images_is_that_on_many():
    generator = torch.Generator().manual_seed(0)
    few, many = intervals.Setting(6, 3, 1.0), intervals.Setting(20_000, 3, 1.0)
    source, target = few.drawn(generator)
    left, total = few.r2_of(source, target)
    found, (source, target) = fit(source.flatten(0, 1), target.flatten(0, 1)), many.drawn(generator)
    assert left == pytest.approx(float((found(source) - target).square().sum(dim=2).mean()), rel=0.02)
    assert total == pytest.approx(float((found.translation - target).square().sum(dim=2).mean()), rel=0.02)
    assert many.r2_of(source, target)[0] / float(many.variance.sum()) == pytest.approx(1 - many.best, rel=0.01)


def test_a_bound_covers_what_it_holds():
    bounds = [{"now": (0.1, 0.3)}, {"now": (0.2, 0.4)}]
    found = intervals.Coverage(
        intervals.Setting(8, 4, 1.0), [0.1, 0.3], [Null(0.0, 0.1, 49, 0), Null(-0.1, 0.1, 49, 0)], [0.35, 0.35], bounds
    )
    assert found.covered("now", found.again) == 1
    assert found.covered("now", found.fitted) == 0.5
    assert found.lifts == pytest.approx([0.25, 0.25])
    assert found.between == pytest.approx((0.005 - 0.01 / 49) ** 0.5 / 0.1)


def test_content_kept_is_covered_as_the_page_says():
    theirs = {row[0]: row[1:] for row in rows(written("content"))}
    assert theirs.pop("spread") == content.HEAD[1:]
    assert list(theirs) == [f"{spread:g}" for spread in content.SPREADS]
    found = content.content(0.3, torch.Generator().manual_seed(5))
    assert found == pytest.approx([float(share) for share in theirs["0.3"]], abs=0.002)


def test_coxs_bounds_of_many_seeds_are_those_of_the_mean_of_a_lognormal():
    logs = torch.from_numpy(norm.ppf((torch.arange(2000, dtype=torch.float64) + 0.5).numpy() / 2000)) * 0.4
    low, high = content.cox_bounds(logs.exp()[None])
    assert float(low) < float((logs.var() / 2).exp()) < float(high)
    half = 2.578 * ((0.16 / 2000) + 0.16**2 / (2 * 1999)) ** 0.5
    assert float(high.log() - low.log()) / 2 == pytest.approx(half, rel=0.01)
