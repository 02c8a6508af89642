"""Unseen images: seeded, clamped, of the stated moments, and of no known type."""

import hashlib
import re
from collections import Counter
from statistics import NormalDist

import pytest
import torch

from batteries.data.english_like import WORDS, english_like
from batteries.data.unseen import CONTRASTS, LAWS, NAMES, unseen
from batteries.errors import InputError
from batteries.noise import NAMES as KNOWN


@pytest.mark.parametrize("name", NAMES)
def test_images_are_seeded_finite_and_clamped(name):
    images = unseen(name, 3, 32, seed=1)
    assert images.shape == (3, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert images.abs().max() <= 4
    assert torch.equal(images, unseen(name, 3, 32, seed=1))
    assert not torch.equal(images, unseen(name, 3, 32, seed=2))
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("name", LAWS)
def test_laws_have_mean_0_and_standard_deviation_1(name):
    images = unseen(name, 64, 64, seed=0)
    tail = {"student": 0.12, "weibull": 0.15, "lognormal": 0.04, "gumbel": 0.05, "erlang": 0.05, "geometric": 0.05}
    assert images.mean().abs() < 0.06
    assert images.std() == pytest.approx(1, abs=tail.get(name, 0.03))  # clamping takes off the tails


def test_there_are_sixteen_laws_and_none_is_known():
    assert len(LAWS) == 16
    assert not {*NAMES} & {*KNOWN}


@pytest.mark.parametrize("factor", CONTRASTS)
def test_contrasts_scale_known_noise_and_clamp_it(factor):
    bound = 4 / factor  # of z; beyond it the value is the bound
    law = NormalDist()
    variance = 1 - 2 * (1 - law.cdf(bound)) - 2 * bound * law.pdf(bound) + 2 * bound**2 * (1 - law.cdf(bound))
    assert unseen(f"contrast-{factor:g}", 8, 64, seed=0).std() == pytest.approx(factor * variance**0.5, rel=0.01)


def test_text_is_printable_bytes_in_reading_order():
    image = unseen("text", 1, 64, seed=3)[0]
    words = bytes(((image.flatten() + 1) * 127.5).round().to(torch.uint8).tolist()).decode("ascii")
    assert sum(letter.isprintable() or letter == "\n" for letter in words) == len(words)
    assert " the " in words


def test_text_is_of_any_size_and_the_same_on_any_python():
    image = unseen("text", 1, 256, seed=3)[0]
    words = bytes(((image.flatten() + 1) * 127.5).round().to(torch.uint8).tolist())
    assert words.startswith(b"The it way")
    assert hashlib.sha256(words).hexdigest() == "8703d84e69e1407a8b49b90e7fbf31991ca105ae457911b82708d354c86507ae"


def test_words_have_zipf_frequencies_in_lines_and_sentences():
    text = english_like(200_000, torch.Generator().manual_seed(0)).decode()
    counts = Counter(re.findall("[a-z]+", text.lower()))
    assert len(WORDS) == len(set(WORDS))
    whole = sum(1 / (rank + 2.7) for rank in range(1, len(WORDS) + 1))
    for rank in (1, 2, 5, 20):
        assert counts[WORDS[rank - 1]] / counts.total() == pytest.approx(1 / (rank + 2.7) / whole, rel=0.1)
    assert max(map(len, text.splitlines())) < 95
    sentences = [sentence.split() for sentence in text.split(".")[:-1]]
    assert {len(sentence) for sentence in sentences} == set(range(4, 19))
    assert all(sentence[0][0].isupper() for sentence in sentences)


def test_frequencies_are_high_in_blue_and_violet_and_neighbours_alike_in_a_random_walk():
    def alike(name):
        images = unseen(name, 16, 64, seed=0)
        return (images[..., 1:] * images[..., :-1]).mean().item()

    assert alike("violet") < alike("blue") < 0 < alike("random-walk")
    assert alike("random-walk") == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("name", "count", "size"), [("text", 1, 4097), ("text", 0, 64), ("blue", 1, 1), ("grating", 2, 0)])
def test_images_that_cannot_be_are_refused(name, count, size):
    with pytest.raises(InputError, match="IMAGE_SIZE"):
        unseen(name, count, size, seed=0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="UNSEEN"):
        unseen("pink", 1, 8, seed=0)
