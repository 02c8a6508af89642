"""The 16 noise types: their statistics, their seeds, their bounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batteries.noise import NAMES, TYPES, of_types, random_batch

# mean and standard deviation after the clamp to [-4, 4], by integration or by definition
MOMENTS = {
    "gaussian": (0, 1),
    "uniform": (0, 1 / math.sqrt(3)),
    "uniform-wide": (0, 2 / math.sqrt(3)),
    "salt-and-pepper": (0, math.sqrt(4.01)),
    "sparse": (0, 0.797),
    "blocks": (0, 1),
    "gradient": (0, math.sqrt(1 / 3 * 65 / 63 + 0.25)),
    "checkerboard": (None, None),
    "exponential": (-0.0067, 0.962),
    "laplace": (0, 1.344),
    "cauchy": (0, 1.720),
}


def make(name, n=64, size=64, seed=0):
    return of_types(torch.full((n,), NAMES.index(name)), (size, size), torch.Generator().manual_seed(seed))


def test_there_are_sixteen_in_the_published_order():
    assert len(TYPES) == 16
    assert NAMES[0] == "gaussian"
    assert NAMES[5] == "brown"
    assert NAMES[13] == "cauchy"
    assert NAMES[15] == "laplace"


@pytest.mark.parametrize("name", [name for name, (mean, _) in MOMENTS.items() if mean is not None])
def test_moments(name):
    images = make(name)
    mean, sd = MOMENTS[name]
    clusters = images.mean(dim=(1, 2, 3))
    assert float(images.mean()) == pytest.approx(mean, abs=4 * float(clusters.std()) / 8 + 1e-3)
    assert float(images.std()) == pytest.approx(sd, rel=0.02)


@pytest.mark.parametrize(("name", "exponent"), [("pink", 1), ("brown", 2)])
def test_the_spectrum_falls_with_its_exponent(name, exponent):
    power = torch.fft.fft2(make(name, n=128)).abs().square().mean(dim=(0, 1))
    frequency = torch.fft.fftfreq(64)
    slope = (power[0, 24].log() - power[0, 3].log()) / (frequency[24].log() - frequency[3].log())
    assert float(slope) == pytest.approx(-2 * exponent, abs=0.35)
    assert float(make(name).std(dim=(1, 2, 3)).mean()) == pytest.approx(1, abs=0.06)


def test_structure():
    checker = make("checkerboard")
    assert float((checker.sign() - checker.sign().roll(1, -1)).abs().mean()) < 1  # neighbours mostly agree
    assert len(make("blocks", n=1)[0, 0].unique()) < 64 * 64 / 3
    assert float((make("sparse") == 0).double().mean()) == pytest.approx(0.9, abs=0.005)
    quarters = make("quadrants")
    assert set(quarters[..., 32:, 32:].unique().tolist()) == {-1.0, 1.0}
    assert quarters[..., :32, 32:].abs().max() <= 1
    assert make("poisson").min() >= -1


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**62), st.sampled_from([8, 17, 64]), st.sampled_from([1, 3]))
def test_any_batch_is_finite_bounded_and_repeatable(seed, size, channels):
    images, types = random_batch(20, (size, size), seed, channels=channels)
    again, same = random_batch(20, (size, size), seed, channels=channels)
    assert images.shape == (20, channels, size, size)
    assert torch.isfinite(images).all()
    assert images.abs().max() <= 4
    assert torch.equal(images, again)
    assert torch.equal(types, same)


def test_a_subset_of_types_stays_a_subset():
    assert set(random_batch(50, (8, 8), 0, types=(3, 7))[1].tolist()) == {3, 7}


def test_other_seeds_give_other_images():
    assert not torch.equal(random_batch(4, (8, 8), 0)[0], random_batch(4, (8, 8), 1)[0])
