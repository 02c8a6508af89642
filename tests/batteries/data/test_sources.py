"""Where training batches come from: the same for the same seed, and told truly in the manifest."""

import itertools
from dataclasses import replace

import pytest
import torch
from PIL import Image

from batteries import InputError, MixedSource, NoiseSource, PhotoSource, read_photos
from batteries.noise import random_batch


@pytest.fixture
def photographs(tmp_path):
    for index in range(2):
        channels = [Image.effect_noise((100, 90), 40 + index) for _ in range(3)]
        Image.merge("RGB", channels).save(tmp_path / f"{index}.png")
    return PhotoSource(read_photos(tmp_path), "CC0-1.0", "made here")


@pytest.mark.parametrize(("share", "noisy"), [(0.25, 4), (0.5, 8), (0.0, 0), (0.03, 0)])
def test_a_mixture_is_photographs_and_then_noise(photographs, share, noisy):
    batch = MixedSource(photographs, share).batch(7, 16, 32)
    assert batch.shape == (16, 3, 32, 32)
    assert torch.equal(batch[: 16 - noisy], photographs.batch(7, 16 - noisy, 32))
    assert torch.equal(batch[16 - noisy :], random_batch(noisy, (32, 32), 7)[0])


def test_a_mixture_says_what_it_is(photographs):
    mixed, other = MixedSource(photographs, 0.25), MixedSource(photographs, 0.5)
    assert mixed.facts.kind == "photos"
    assert "25% generated noise" in mixed.facts.description
    assert len({mixed.facts.digest, other.facts.digest, photographs.facts.digest}) == 3
    assert mixed.facts.license == "CC0-1.0"


def test_baselines_are_fitted_on_the_cells_own_domain(photographs):
    assert MixedSource(photographs, 0.25).domain is photographs
    assert photographs.domain is photographs
    assert NoiseSource().domain == NoiseSource()


def test_the_published_mix_is_another_source():
    ours, published = NoiseSource(), NoiseSource(mix="published")
    assert ours.facts.digest != published.facts.digest
    assert "published mix" in published.facts.description
    assert (ours.facts.noise_mix, published.facts.noise_mix) == ("batteries", "published")
    assert "noise_mix" not in ours.facts.to_bytes().decode()  # as in manifests of before
    assert torch.equal(published.batch(3, 8, 16), random_batch(8, (16, 16), 3, mix="published")[0])
    assert published.domain is published


def test_a_source_of_some_types_is_recorded_and_made_again():
    source = NoiseSource((5, 4), "published")
    assert source.facts.noise_types == ("brown", "pink")
    assert NoiseSource.recorded(source.facts) == source
    assert NoiseSource.recorded(NoiseSource().facts) == NoiseSource()
    assert "noise_types" not in NoiseSource().facts.to_bytes().decode()  # as in manifests of before
    assert torch.equal(source.batch(3, 8, 16), random_batch(8, (16, 16), 3, types=(5, 4), mix="published")[0])


@pytest.mark.parametrize("types", [(), (16,), (-1,), (4, 4)])
def test_types_that_are_none_are_refused(types):
    with pytest.raises(InputError, match="NOISE_TYPE"):
        NoiseSource(types)


def test_another_mix_is_refused():
    with pytest.raises(InputError, match=r"expected batteries \| published, got pink") as caught:
        NoiseSource(mix="pink")
    assert caught.value.code == "NOISE_MIX"


def test_augmented_crops_are_the_crops_turned_negated_and_with_permuted_channels(photographs):
    plain, varied = photographs.batch(3, 40, 16), replace(photographs, augment=True).batch(3, 40, 16)
    seen = set()
    for one, other in zip(plain, varied, strict=True):
        ways = {
            (sign, turns, order): sign * one[list(order)].rot90(turns, (1, 2))
            for sign in (1, -1)
            for turns in range(4)
            for order in itertools.permutations(range(3))
        }
        found = [way for way, image in ways.items() if torch.equal(image, other)]
        assert found
        seen.add(found[0])
    assert len(seen) > 15
    assert torch.equal(varied, replace(photographs, augment=True).batch(3, 40, 16))


def test_augmented_noise_is_the_noise_turned_by_quarter_turns():
    plain, varied = NoiseSource((10,)), NoiseSource((10,), augment=True)
    pairs = zip(plain.batch(3, 40, 16), varied.batch(3, 40, 16), strict=True)
    found = [next(k for k in range(4) if torch.equal(one.rot90(k, (1, 2)), other)) for one, other in pairs]
    assert set(found) == set(range(4))
    assert torch.equal(varied.batch(3, 40, 16), varied.batch(3, 40, 16))


def test_augmentation_of_noise_is_in_the_facts_and_not_in_the_domain():
    source, plain = NoiseSource((10,), augment=True), NoiseSource((10,))
    assert source.facts.digest != plain.facts.digest
    assert source.facts.description == "generated noise: checkerboard; images turned"
    assert source.domain == plain == NoiseSource.recorded(source.facts)


def test_augmentation_is_in_the_facts_and_not_in_the_domain(photographs):
    source, plain = replace(photographs, augment=True), photographs
    assert source.facts.digest != plain.facts.digest
    assert "turned, negated" in source.facts.description
    assert source.domain == plain == MixedSource(source, 0.1).domain
    assert MixedSource(source, 0.1).facts.digest != MixedSource(plain, 0.1).facts.digest
