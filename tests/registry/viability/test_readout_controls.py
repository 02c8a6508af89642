"""Cells of every readout under the viability test: their nulls are their own, and controls change what they say they change."""

import numpy as np
import pytest
import torch

from batteries import CellSpec, PatchSVAE, probe
from registry.checks.protocol import PROFILES
from registry.viability.controls import control_cell, untrained_cell
from registry.viability.runner import NullFigures, Runner
from registry.viability.tasks import own_tasks
from tests.support.cells import from_model

SPEC = CellSpec(V=12, D=4, patch_size=16, hidden=8)
READOUTS = ["svd", "linear", "none", "narrow_sphere"]


def cell_of(readout):
    return from_model(SPEC.model_copy(update={"readout": readout}), 0, f"cell-{readout}")


class Keys:
    """A cache that keeps nothing but the keys it was asked for."""

    def __init__(self):
        self.asked = []

    def recall(self, kind, key, make):
        self.asked.append((kind, key))


def test_every_readout_has_a_null_of_its_own():
    own, cache = probe("noise16-64"), Keys()
    for readout in READOUTS:
        protocol = PROFILES["quick"]
        tasks = own_tasks(own, protocol, 0)
        Runner(cell_of(readout), protocol, own, tasks, {}, 0, cache, lambda *_: None).null()
    assert [kind for kind, _ in cache.asked] == [NullFigures] * 4
    assert [key["spec"].get("readout") for _, key in cache.asked] == [None, "linear", "none", "narrow_sphere"]
    assert {"readout"}.isdisjoint(cache.asked[0][1]["spec"])


@pytest.mark.parametrize("readout", READOUTS)
def test_controls_are_of_the_same_readout(readout):
    cell, images = cell_of(readout), probe("noise16-64").images[::8]
    assert untrained_cell(cell, 0).spec == cell.spec
    for control in ("random-encoder", "constant-S", "rank-one", "scrambled"):
        made = control_cell(cell, control, 0, images)
        assert made.spec == cell.spec
        assert made.weights.keys() == cell.weights.keys()
        made.refuse_other_weights(control)
    constant = control_cell(cell, "constant-S", 0, images)
    with torch.no_grad():
        S = PatchSVAE.from_cell(constant).tokens(images).S.flatten(0, 1)
    assert float(S.std(dim=0).max()) < 1e-5
    changed = {name for name in cell.weights if not np.array_equal(cell.weights[name], constant.weights[name])}
    assert changed == {"enc_out.weight", "enc_out.bias", "dec_in.weight", "dec_in.bias"}
