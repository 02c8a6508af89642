"""Coders whose answer is known: every section finds it."""

import math

import pytest
import torch

from batteries.diagnostics.diagnosis import fingerprint, reconstruction, resolution, survival, verdict
from batteries.diagnostics.diagnosis.kinds import kinds
from batteries.noise import NAMES
from tests.support.planted_coders import Fading, Growing, Planted, Proud


def of(findings):
    return {(one.figure.definition.key, one.figure.place): one for one in findings}


@pytest.fixture(scope="module")
def photographs():
    return next(kind for kind in kinds(32) if kind.name == "photographs")


def test_share_left_is_the_square_of_what_is_faded():
    found = reconstruction.kind_errors(Fading(part=0.5), kinds(32))
    assert len(found.left) == 40
    for name, share in found.left.items():
        assert share.value == pytest.approx(0.25, rel=1e-5), name
        assert share.standard_error == pytest.approx(0, abs=1e-6), name


def test_a_coder_that_fades_all_alike_is_a_generalist_and_one_that_does_not_a_specialist():
    alike = verdict.judge(reconstruction.kind_errors(Fading(), kinds(32)), "noise")
    assert alike.word == "generalist"
    assert [one.figure.value for one in alike.ratios[1:]] == pytest.approx([1, 1], rel=1e-5)
    proud = verdict.judge(reconstruction.kind_errors(Proud(part=0.4), kinds(32)), "noise")
    assert proud.word == "specialist"
    text = next(one for one in proud.ratios if one.figure.place == "text")
    assert text.low > 1.4
    perfect = verdict.judge(reconstruction.kind_errors(Planted(), kinds(32)), "noise")
    assert perfect.word == "undecided"
    assert all("error of 0" in one.figure.undefined for one in perfect.ratios)


def test_the_error_at_a_size_is_that_of_the_planted_law():
    found = of(resolution.by_size(Growing(), "noise", 64, largest=256))
    assert {place for _, place in found} == {"32 pixels", "128 pixels", "256 pixels"}
    for side in (32, 128, 256):
        one = found["size", f"{side} pixels"]
        assert one.figure.value == pytest.approx((side / 64) ** 2, rel=1e-4)
        assert one.low <= one.figure.value <= one.high


def test_tiles_differ_by_what_was_planted_and_their_control_does_not():
    found = of(resolution.by_tile(Growing(), "noise", 64))
    assert found["tile-omega", ""].figure.value == pytest.approx(0.1, rel=1e-6)
    assert found["tile-S", ""].figure.value == pytest.approx(0, abs=1e-12)
    assert found["tile-S", ""].figure.tolerance == resolution.ROUNDING
    step = (256 - 64) / 640  # of the brightness of whole and tiles
    assert found["tile-recon", ""].figure.value == pytest.approx(step**2 / 0.1**2, rel=1e-4)


def test_a_copy_is_as_far_from_the_clean_image_as_the_noise_makes_it(photographs):
    found = of(survival.survival(Planted(), photographs))
    for level in survival.DECIBELS:
        signal, noisy = found["signal", f"{level} dB"], found["noisy", f"{level} dB"]
        assert signal.figure.value == noisy.figure.value
        power = 10 ** (level / 10)
        assert noisy.figure.value == pytest.approx(math.sqrt(power / (1 + power)), abs=0.01)


def test_correlation_is_the_plain_one():
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = survival.correlations(images * 2, images.flip(0))
    for value, first, second in zip(found, images, images.flip(0), strict=True):
        pair = torch.stack([(one.double() - one.double().mean(dim=(1, 2), keepdim=True)).flatten() for one in (first, second)])
        assert value == pytest.approx(float(torch.corrcoef(pair)[0, 1]), rel=1e-9)
    assert survival.correlations(torch.zeros(1, 3, 4, 4), images[:1, :, :4, :4]).tolist() == [0]


def laws(images):
    """Training and test images whose law is written in them, two a law."""
    names = torch.arange(32).repeat_interleave(2)
    return lambda counts, side, mix: [(images(names), names)] * 2


def test_laws_that_are_written_in_the_images_are_read_and_others_are_not(monkeypatch):
    def written(names):
        grey = torch.zeros(len(names), 3, 16, 16)
        grey[:, 0], grey[:, 1] = (names % 8)[:, None, None].float(), (names // 8)[:, None, None].float()
        return grey

    monkeypatch.setattr(fingerprint, "_laws", laws(written))
    found = fingerprint.fingerprint(Planted(), 16)
    assert [one.figure.value for one in found.findings] == [1, 1]
    assert found.confusion.tolist() == (2 * torch.eye(16, dtype=torch.int64)).tolist()
    monkeypatch.setattr(fingerprint, "_laws", laws(lambda names: torch.zeros(len(names), 3, 16, 16)))
    named, apart = fingerprint.fingerprint(Planted(), 16).findings
    assert named.figure.value == pytest.approx(1 / len(NAMES))
    assert apart.figure.value == pytest.approx(1 / 2)
    assert named.low <= 1 / len(NAMES) <= named.high


@pytest.mark.parametrize(
    ("bounds", "word"),
    [
        ([(0.5, 1.4), (0.1, 0.2)], "generalist"),
        ([(0.5, 1.41), (0.1, 0.2)], "undecided"),
        ([(1.41, 2.0), (0.1, 0.2)], "specialist"),
        ([(None, None), (0.1, 0.2)], "undecided"),
        ([(1.4, 1.4)], "generalist"),
    ],
)
def test_the_word_follows_from_the_bounds(bounds, word):
    figure = verdict.Figure(verdict.RATIO, "x", 1.0)
    assert verdict.word_of([verdict.Finding(figure, low, high) for low, high in bounds]) == word
