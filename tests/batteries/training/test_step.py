"""The fast training step goes where the plain one goes; every benchmark runs."""

import pytest
import torch

from benchmarks import __main__ as benchmarks
from benchmarks.harness import smoke
from benchmarks.plain import plain
from benchmarks.step import losses


@pytest.mark.slow
@pytest.mark.parametrize(("band", "batch"), [("low", 16), ("high", 4)])
def test_twenty_steps_from_one_seed_give_the_same_losses(band, batch):
    ours, reference = (losses(way, band, batch, 20) for way in ("ours", "plain"))
    assert max(abs(a - b) for a, b in zip(ours, reference, strict=True)) < 1e-5


@pytest.mark.parametrize("band", ["low", "mid", "high"])
def test_the_plain_model_is_the_same_model(band):
    from batteries import CellSpec, untrained

    spec = CellSpec.preset(band)
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(plain(spec, 3).reconstruct(images), untrained(spec, 3)(images).recon, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("subject", benchmarks.SUBJECTS)
def test_every_benchmark_runs(subject):
    for pair in benchmarks.SUBJECTS[subject](True):
        smoke(pair)
