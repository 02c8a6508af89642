"""The named probes: the same everywhere, balanced, and bound to their digests."""

import hashlib
import subprocess
import sys

import pytest
import torch

from batteries.data.probes import PROBES, own_probe, photographs, probe
from batteries.errors import InputError
from batteries.noise import NAMES


@pytest.mark.parametrize(
    ("name", "count", "size", "groups"),
    [("noise16-64", 256, 64, 16), ("noise16p-64", 256, 64, 16), ("photos-64", 96, 64, 16), ("photos-256", 32, 256, 16)],
)
def test_shape_and_balance(name, count, size, groups):
    found = probe(name)
    assert found.images.shape == (count, 3, size, size)
    assert found.group.bincount().tolist() == [count // groups] * groups
    assert len(found.groups) == groups


def test_photographs_are_in_range_and_ship_with_the_package():
    assert len(photographs()) == 16
    assert probe("photos-256").images.abs().max() <= 1


@pytest.mark.slow
def test_another_process_draws_the_same_images():
    code = (
        "import hashlib; from batteries.data.probes import PROBES, probe\n"
        "for p in map(probe, PROBES): print(p.digest, hashlib.sha256(p.images.numpy().tobytes()).hexdigest())"
    )
    here = [f"{one.digest} {hashlib.sha256(one.images.numpy().tobytes()).hexdigest()}" for one in map(probe, PROBES)]
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert there == here


def test_crops_of_one_photograph_differ():
    images = probe("photos-64").images
    assert not torch.equal(images[0], images[1])


def test_the_own_probe_of_a_cell():
    assert own_probe("noise", 64) == "noise16-64"
    assert own_probe("noise", 64, "published") == "noise16p-64"
    with pytest.raises(InputError, match="unknown noise mix"):
        own_probe("noise", 64, "another")
    assert own_probe("photos", 64) == own_probe("photos", 64, "published") == "photos-64"
    assert own_probe("photos", 256) == "photos-256"


def test_the_noise_probes_are_of_their_mixes():
    ours, published = probe("noise16-64"), probe("noise16p-64")
    assert (ours.noise_mix, published.noise_mix) == ("batteries", "published")
    assert ours != published
    pink = published.images[published.group == published.groups.index("pink")]
    assert pink.std(dim=(2, 3)).max() < 1e-4
    gaussian = [one.images[one.group == 0] for one in (ours, published)]
    assert torch.equal(*gaussian)  # types that the mixes share are the same images


@pytest.mark.parametrize(
    ("name", "per_type"),
    [("noise16-64:pink", 256), ("noise16p-64:pink+brown", 128), ("noise16-64:gaussian+poisson+laplace", 86)],
)
def test_a_probe_of_some_types(name, per_type):
    found, whole = probe(name), probe(name.partition(":")[0])
    assert found.groups == tuple(name.partition(":")[2].split("+"))
    assert found.group.bincount().tolist() == [per_type] * len(found.groups)
    assert (found.noise_mix, found.domain) == (whole.noise_mix, "noise")
    assert found != whole
    same = (found.images[:1] == whole.images).flatten(1).all(dim=1)
    assert not same.any()  # images of its own


def test_probes_of_other_types_share_no_random_numbers():
    first, second = (probe(f"noise16-64:{name}").images[0].flatten() for name in ("gaussian", "laplace"))
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.05


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("noise16-64:", "NOISE_TYPE", "unknown noise type"),
        ("noise16-64:mauve", "NOISE_TYPE", "got mauve"),
        ("noise16-64:pink+pink", "NOISE_TYPE", "duplicate noise type"),
        ("noise16-64:brown+pink", "NO_PROBE", r"expected noise16-64:pink\+brown"),
        ("noise16p-64:" + "+".join(NAMES), "NO_PROBE", "expected noise16p-64,"),
        ("photos-64:chelsea", "NO_PROBE", "unknown probe"),
    ],
)
def test_no_probe_of_such_types(name, code, words):
    with pytest.raises(InputError, match=words) as caught:
        probe(name)
    assert caught.value.code == code


def test_the_own_probe_of_some_types():
    assert own_probe("noise", 64, noise_types=["brown", "pink"]) == "noise16-64:pink+brown"
    assert own_probe("noise", 64, "published", NAMES[::-1]) == "noise16p-64"
    with pytest.raises(InputError, match="NOISE_TYPE"):
        own_probe("noise", 64, noise_types=["mauve"])


def test_an_unknown_probe():
    with pytest.raises(InputError, match=r"noise16-64 \| noise16p-64 \| photos-64 \| photos-256") as caught:
        probe("cats-32")
    assert (caught.value.code, caught.value.exit_code) == ("NO_PROBE", 2)
