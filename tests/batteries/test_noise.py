"""The 16 noise types: their statistics, their seeds, their bounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batteries.errors import InputError
from batteries.noise import MIXES, NAMES, TYPES, of_types, random_batch

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


DIFFERENT = {"pink", "brown", "gradient", "mixture", "quadrants"}  # types that the published mix makes in another way


def make(name, n=64, size=64, seed=0, mix="batteries"):
    return of_types(torch.full((n,), NAMES.index(name)), (size, size), torch.Generator().manual_seed(seed), mix=mix)


def test_there_are_sixteen_in_the_published_order():
    assert len(NAMES) == 16
    assert {tuple(types) for types in TYPES.values()} == {NAMES}
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


def test_this_packages_mix_is_what_it_was():
    images, types = random_batch(64, (24, 32), 5)
    assert types[:8].tolist() == [3, 14, 15, 13, 6, 6, 0, 9]
    assert float(images.double().sum()) == pytest.approx(1045.28352, abs=1e-3)
    assert float(images.double().square().sum()) == pytest.approx(171739.22907, abs=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_the_mixes_share_all_but_five_types(name):
    assert torch.equal(make(name, n=4), make(name, n=4, mix="published")) == (name not in DIFFERENT)


@pytest.mark.parametrize("size", [17, 64])
@pytest.mark.parametrize("name", ["pink", "brown"])
def test_published_coloured_noise_is_constant_colours(name, size):
    images = make(name, size=size, mix="published")
    assert images.std(dim=(2, 3)).max() < 1e-4
    assert images.mean(dim=(2, 3)).std(dim=1, correction=0).mean() == pytest.approx(
        1, abs=0.05
    )  # each image was divided by its deviation
    assert images.abs().max() <= 4


def test_the_pink_quarter_of_published_quadrants_is_at_the_clamp():
    quarters = make("quadrants", mix="published")
    pink = quarters[..., 32:, :32]
    assert set(pink.unique().tolist()) == {-4.0, 4.0}
    assert not pink.std(dim=(2, 3)).any()
    ours = make("quadrants")
    for rows, columns in ((slice(32), slice(32)), (slice(32), slice(32, 64)), (slice(32, 64), slice(32, 64))):
        assert torch.equal(quarters[..., rows, columns], ours[..., rows, columns])


def test_published_planes_run_from_minus_two_to_two():
    twice, once = make("gradient", mix="published"), make("gradient")
    plane = twice - once  # the noise is the same
    assert plane.abs().amax(dim=(1, 2, 3)).max() == pytest.approx(2**0.5, rel=0.02)  # along a diagonal
    assert float(twice.std()) == pytest.approx(math.sqrt(4 / 3 * 65 / 63 + 0.25), rel=0.02)


def test_the_published_mixture_is_never_near_either_of_its_two():
    spread = make("mixture", n=256, mix="published").std(dim=(1, 2, 3))
    bounds = [math.hypot(weight, (1 - weight) / math.sqrt(3)) for weight in (0.25, 0.2, 0.8)]  # least at 1/4
    assert spread.min() > 0.98 * bounds[0]
    assert spread.max() < 1.02 * bounds[2]
    assert make("mixture", n=256).std(dim=(1, 2, 3)).max() > 0.95


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_is_repeatable_finite_and_bounded(mix):
    images, types = random_batch(40, (16, 24), 3, channels=2, mix=mix)
    assert torch.equal(images, random_batch(40, (16, 24), 3, channels=2, mix=mix)[0])
    assert torch.equal(types, random_batch(40, (16, 24), 3)[1])
    assert torch.isfinite(images).all()
    assert images.abs().max() <= 4


def test_another_mix_is_refused():
    with pytest.raises(InputError, match=r"expected batteries \| published, got pink") as caught:
        random_batch(2, (8, 8), 0, mix="pink")
    assert caught.value.code == "NOISE_MIX"
