"""Experts and codebooks: what their tables count, and that their words say what the figures support."""

import dataclasses
import math

import pytest
import torch

from batteries.geometry import Codebook
from batteries.geometry.estimates import Estimate
from batteries.measurement.codebook import CodebookReading
from batteries.noise import NAMES
from tests.support.examples import example

experts, codebook = example("experts"), example("codebook")
KINDS = torch.arange(len(NAMES)).repeat_interleave(3)


def planted(own):
    """Errors of experts that are 1 on other types, and as given on their own."""
    found = torch.zeros(len(KINDS), len(NAMES), 2)
    for kind, error in enumerate(own):
        found[kind == KINDS, kind, 0] = math.log(error)
    return experts.Errors((found, KINDS), (found, KINDS))


def test_the_least_error_is_that_of_the_type():
    found = planted([0.5] * 16)
    assert found.right("least error") == len(KINDS)
    assert found.own.tolist() == pytest.approx([0.5] * 16)
    assert found.read("error") == len(KINDS)
    assert experts.confusion(found, "least error").count("1.0000 (0.4385 to 1.0000)") == 16


def test_a_relative_error_weighs_an_expert_by_its_own():
    found = planted([0.5] * 15 + [2.0])
    assert found.right("least error") == 45
    assert found.right("least relative error") == 3  # the last is at half of its own error on every other type


def test_words_follow_the_bounds():
    better = experts.Named("w", 90, (50, 60), 70, 100)
    assert better.beats == (True, True)
    assert (
        experts.sentence(better)
        == "*w*: the experts are more accurate than untrained cells, and more accurate than the generalist."
    )
    near = experts.Named("w", 65, (50, 60), None, 100)
    assert near.beats == (False, None)
    assert experts.sentence(near) == "*w*: the experts are not more accurate than untrained cells."


def reading(shift, error):
    axes = torch.tensor([[1.0, 0.0], [math.cos(math.pi / 4 + shift), math.sin(math.pi / 4 + shift)]], dtype=torch.float64)
    one = Estimate(1.0, 0.1, 20, (1.0,) * 20)
    return CodebookReading(Codebook(axes, ()), error, 0.9, one, one, dataclasses.replace(one, value=3.0))


def test_a_deviation_is_smaller_only_by_its_bounds():
    null = (reading(-0.04, 0.001), reading(0.03, 0.001))
    sure, unsure = (codebook.Row("low/x", reading(0.02, error), null, 64, 2.0) for error in (0.001, 0.01))
    assert (sure.smaller, unsure.smaller) == (True, False)
    assert sure.by_chance
    assert sure.left == pytest.approx(-1.0)
    assert "in 1 of 2 cells (low/x)" in codebook.conclusion([sure, dataclasses.replace(unsure, name="low/y")])
    assert "training does not make it smaller" in codebook.conclusion([unsure])
    assert "carry nothing" in codebook.carried([sure])
    assert "| low/x | 2 (0 of pairs)" in codebook.page([sure])
