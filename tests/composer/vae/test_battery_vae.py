"""Battery VAE: sectors compute what their cells do, codes go there and back, weights adjudicate, nothing is nan."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from batteries import CellSpec, ConflictError, InputError, IntegrityError, PatchSVAE, PolicyError
from composer import BatteryVAE
from composer.vae import Code, shapes
from composer.vae.arrays import spread, weighed
from composer.vae.bottleneck import LARGEST, SMALLEST
from tests.support import vaes
from tests.support.cells import from_model
from tests.support.vaes import COARSE, FINE, cells, images


@pytest.fixture(scope="module")
def made():
    return vaes.vae()


def part_of(vae, name):
    """The part of a sector, and its index there."""
    return next((part, part.names.index(name)) for part in vae.parts if name in part.names)


@pytest.mark.parametrize("name", vaes.SPECS)
def test_a_sector_encodes_and_decodes_as_its_cell(made, name):
    model, x = PatchSVAE.from_cell(cells()[name]), images()
    part, place = part_of(made, name)
    with torch.no_grad():
        M = part.sectors.encode(x).M[place]
        torch.testing.assert_close(M, model.tokens(x).M, rtol=0, atol=1e-5)
        decoded = part.sectors.decode(M.expand(len(part.names), *M.shape), part.spec.grid(16, 16))[place]
        torch.testing.assert_close(decoded, model.decode_matrices(M, part.spec.grid(16, 16)), rtol=0, atol=1e-5)


def test_the_matrix_of_a_linear_readout_is_in_the_decoder():
    spec = FINE.model_copy(update={"readout": "linear"})
    linear = from_model(spec, 5, "linear")
    vae = BatteryVAE.from_cells({"linear": linear, "other": cells()["fine-a"]}, bottleneck=4)
    model, x = PatchSVAE.from_cell(linear), images()
    part, place = part_of(vae, "linear")
    with torch.no_grad():
        M = model.tokens(x).M
        decoded = part.sectors.decode(M[None], spec.grid(16, 16))[place]
        expected = model.decode_matrices(model.transformed(M), spec.grid(16, 16))
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)


def test_codes_as_wide_as_a_matrix_start_as_the_identity():
    vae = vaes.vae(bottleneck=FINE.V * FINE.D)
    x = images(8, 64, seed=3)
    with torch.no_grad():
        out, codes = vae(x), vae.encode(x)
        rows = vae.decode([code.mu for code in codes], (64, 64)).rows
    for part, M, back, code in zip(vae.parts, out.M, rows, codes, strict=True):
        assert float((M - back).square().sum(dim=-1).mean()) < 2e-3, part
        assert 0.2 < float(code.mu.var()) < 2  # scaled to the prior


def test_rows_are_of_unit_length_and_the_magnitude_is_beside_them(made):
    with torch.no_grad():
        z = made.prior(2, torch.Generator().manual_seed(0), (16, 16))
        for part, own in zip(made.parts, z, strict=True):
            rows, magnitude = part.bottleneck.inverse(100 * own)
            torch.testing.assert_close(rows.norm(dim=-1), torch.ones_like(rows[..., 0]))
            assert torch.equal(magnitude, torch.ones_like(magnitude))  # at the start
            torch.testing.assert_close(part.arrays.rows.norm(dim=-1), torch.ones_like(part.arrays.rows[..., 0]))


def test_the_magnitude_reaches_the_decoder(made):
    other = vaes.vae()
    with torch.no_grad():
        for part in other.parts:
            part.bottleneck.magnitude.bias.fill_(2.0)
        z = made.prior(1, torch.Generator().manual_seed(0), (16, 16))
        assert not torch.allclose(made.decode(z, (16, 16)).images, other.decode(z, (16, 16)).images)


def test_weights_add_up_to_one_on_a_grid_that_all_patches_divide(made):
    with torch.no_grad():
        decoded = made.decode([code.mu for code in made.encode(images())], (16, 16))
    assert decoded.grid == (4, 4)
    assert decoded.weights.shape == (3, 16, 3)
    torch.testing.assert_close(decoded.weights.sum(dim=-1), torch.ones(3, 16))
    single = torch.cat(decoded.single)  # (S, B, channels, height, width)
    low, high = single.amin(dim=0), single.amax(dim=0)
    assert bool(((decoded.images >= low - 1e-5) & (decoded.images <= high + 1e-5)).all())


def test_a_sector_that_has_all_the_weight_speaks_alone(made):
    vae = vaes.vae()
    with torch.no_grad():
        part, place = part_of(vae, "fine-b")
        part.arrays.reference[place] = -1e4
        decoded = vae.decode([code.mu for code in vae.encode(images())], (16, 16))
        alone = torch.cat(decoded.single)[vae.names.index("fine-b")]
    torch.testing.assert_close(decoded.images, alone, rtol=0, atol=1e-6)


def test_the_weighing_of_images_is_by_region():
    weights = torch.zeros(1, 4, 2)
    weights[0, :, 0] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    weights[0, :, 1] = 1 - weights[0, :, 0]
    two = [torch.stack([torch.full((1, 1, 4, 4), 5.0), torch.full((1, 1, 4, 4), 7.0)])]
    found = weighed(two, weights, (2, 2))[0, 0]
    assert found[::2, ::2].tolist() == [[5.0, 7.0], [7.0, 5.0]]
    coarse = torch.arange(2.0).view(1, 2, 1)
    assert spread(coarse, (1, 2), (2, 4)).flatten().tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_arrays_start_on_mean_configurations_in_the_consensus_frame():
    given = {
        name: torch.randn(3, spec.V, spec.D, generator=torch.Generator().manual_seed(1)) for name, spec in vaes.SPECS.items()
    }
    vae = BatteryVAE.from_cells(cells(), bottleneck=4, arrays=given)
    assert vae.arrays == 3
    for name, array in given.items():
        part, place = part_of(vae, name)
        rotation = part.arrays.maps[place]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(part.spec.D), rtol=0, atol=1e-5)
        expected = torch.nn.functional.normalize(array, dim=-1) @ rotation
        torch.testing.assert_close(part.arrays.rows[place], expected, rtol=0, atol=1e-5)


def test_the_maps_bring_turned_configurations_together():
    """Two cells of one V and D whose arrays differ by a rotation have the same arrays in the frame."""
    both = {"fine-a": FINE, "fine-b": FINE}
    array = torch.nn.functional.normalize(torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(2)), dim=-1)
    rotation, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)))
    given = {"fine-a": array, "fine-b": array @ rotation}
    vae = BatteryVAE.from_cells({name: cells()[name] for name in both}, bottleneck=4, arrays=given)
    first, second = vae.parts[0].arrays.rows
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


def test_samples_are_determined_by_their_generator_and_interpolations_by_their_ends(made):
    first, second = (made.sample(2, torch.Generator().manual_seed(4), (16, 24)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (2, 3, 16, 24)
    pair = images(2)
    line = made.interpolate(*pair, steps=5)
    ends = made.reconstruct(pair)
    torch.testing.assert_close(line[[0, -1]], ends, rtol=0, atol=1e-5)


def test_heavy_tails_are_finite(made):
    generator = torch.Generator().manual_seed(0)
    cauchy = torch.empty(4, 3, 16, 16).cauchy_(generator=generator).clamp(-1e12, 1e12)
    out = made(torch.cat([cauchy, torch.zeros(1, 3, 16, 16), 1e18 * torch.ones(1, 3, 16, 16)]), generator)
    assert all(bool(tensor.isfinite().all()) for tensor in (out.decoded.images, *out.M, *(c.divergence() for c in out.codes)))
    out.decoded.images.square().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in vaes.vae().parameters() if p.grad is not None)
    made.zero_grad()


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(SMALLEST, LARGEST))
def test_a_divergence_is_that_of_two_normal_laws(mu, log_sigma):
    code = Code(torch.tensor(mu, dtype=torch.float64), torch.tensor(log_sigma, dtype=torch.float64))
    laws = torch.distributions.Normal(code.mu, code.log_sigma.exp()), torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(code.divergence(), torch.distributions.kl_divergence(*laws).double(), rtol=1e-4, atol=1e-6)
    assert code.divergence() >= -1e-12


def test_most_is_linear_and_the_shapes_are_those_of_the_model(made):
    assert {name.removeprefix("_parts.0."): tuple(p.shape) for name, p in made.named_parameters() if "parts.0" in name} == (
        shapes.part_shapes(FINE, 2, 8, 2)
    )
    published = BatteryVAE.untrained({name: CellSpec.preset(name) for name in ("low", "mid", "high")}, bottleneck=16)
    cost = published.cost()
    assert cost.parameters == sum(p.numel() for p in published.parameters())
    assert min(cost.linear) >= 0.95


@pytest.mark.slow
def test_the_counted_multiply_adds_are_those_that_torch_counts(made):
    x = images(1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        made.decode([code.mu for code in made.encode(x)], (16, 16))
    rows = counter.get_flop_counts()["Global"]
    counted = sum(flops for operator, flops in rows.items() if "convolution" not in str(operator)) / 2
    smoothing = sum(2 * 9 * 3 * 4 * 16 * 16 for _ in made.names)
    assert made.cost((16, 16)).linear_multiply_adds - smoothing == counted


def other_width(name="fine-b"):
    return {**{key: torch.ones(2, spec.V, spec.D) for key, spec in vaes.SPECS.items()}, name: torch.ones(2, FINE.V, 3)}


GRAY = FINE.model_copy(update={"channels": 1})
BARE = FINE.model_copy(update={"row_norm": "none"})
BAD = {
    "one sector": (lambda: BatteryVAE.from_cells([cells()["coarse"]]), InputError, "ONE_SECTOR"),
    "no cell": (lambda: BatteryVAE.from_cells([]), InputError, "NO_CELLS"),
    "no cells": (lambda: BatteryVAE.from_cells("low/fresnel-64"), InputError, "CELLS"),
    "a name twice": (lambda: BatteryVAE.from_cells([cells()["coarse"]] * 2), ConflictError, "TWICE"),
    "a cell twice": (
        lambda: BatteryVAE.from_cells({"a": cells()["coarse"], "b": cells()["coarse"], "c": cells()["fine-a"]}),
        ConflictError,
        "TWICE",
    ),
    "mixed channels": (
        lambda: BatteryVAE.from_cells({"gray": from_model(GRAY, 1, "gray"), "fine": cells()["fine-a"]}),
        PolicyError,
        "MIXED_INPUT",
    ),
    "mixed channels, untrained": (lambda: BatteryVAE.untrained({"a": FINE, "b": GRAY}), InputError, "CHANNELS"),
    "rows not on the sphere": (
        lambda: BatteryVAE.from_cells({"bare": from_model(BARE, 1, "bare"), "fine": cells()["fine-a"]}, bottleneck=4),
        InputError,
        "ROW_NORM",
    ),
    "an array of another D": (lambda: BatteryVAE.from_cells(cells(), bottleneck=4, arrays=other_width()), InputError, "ARRAYS"),
    "an array of no sector": (
        lambda: BatteryVAE.from_cells(cells(), bottleneck=4, arrays={"nobody": torch.ones(2, 12, 4)}),
        InputError,
        "ARRAYS",
    ),
    "no arrays": (lambda: BatteryVAE.from_cells(cells(), bottleneck=4, arrays=0), InputError, "ARRAYS"),
    "more arrays than any memory holds": (
        lambda: BatteryVAE.from_cells(cells(), bottleneck=4, arrays=10**9),
        InputError,
        "ARRAYS",
    ),
    "more arrays than a file holds": (lambda: BatteryVAE.from_cells(cells(), bottleneck=4, arrays=4097), InputError, "ARRAYS"),
    "codes of no numbers": (lambda: BatteryVAE.from_cells(cells(), bottleneck=0), InputError, "WIDTH"),
    "codes wider than a matrix": (lambda: BatteryVAE.from_cells(cells(), bottleneck=49), InputError, "WIDTH"),
    "codes of another shape": (lambda: vaes.vae().decode([torch.zeros(2, 1, 16, 8)] * 2, (16, 16)), InputError, "CODES"),
    "a size between patches": (lambda: vaes.vae().sample(1, size=(12, 16)), InputError, "IMAGE_SIZE"),
    "gray images": (lambda: vaes.vae().encode(torch.zeros(1, 1, 16, 16)), InputError, "IMAGE_SHAPE"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_model_is_made_of_is_refused(case):
    attempt, kind, code = BAD[case]
    with pytest.raises(kind) as caught:
        attempt()
    assert caught.value.code == code


def test_a_parent_that_changed_since_is_found(made):
    made.check_parents(cells())
    changed = {**cells(), "coarse": from_model(COARSE, 77, "coarse")}
    for now in (changed, {name: cell for name, cell in cells().items() if name != "coarse"}):
        with pytest.raises(IntegrityError) as caught:
            made.check_parents(now)
        assert caught.value.code == "PARENT_CHANGED"
        assert "coarse" in caught.value.found


def test_an_untrained_model_has_no_parents_and_starts_on_images_if_it_is_given_some():
    bare = BatteryVAE.untrained(vaes.SPECS, bottleneck=8)
    assert bare.lock == {}
    x = images(8, 64)
    begun = BatteryVAE.untrained(vaes.SPECS, bottleneck=8, images=x)
    assert torch.equal(bare.parts[0].sectors.weight("enc_in.weight"), begun.parts[0].sectors.weight("enc_in.weight"))
    assert not torch.equal(bare.parts[0].bottleneck.rows.weight, begun.parts[0].bottleneck.rows.weight)
