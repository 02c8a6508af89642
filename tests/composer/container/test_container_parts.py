"""Taps, parts, dtypes and chunks of a container: the same numbers, whatever is asked for and however it is cut."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import registry
from batteries import CellSpec, PatchSVAE
from batteries.errors import InputError, NotFoundError, PolicyError
from composer import compose, wire
from composer.container.outputs import TAPS
from composer.hosts import FrozenCell
from tests.support.cells import from_model, python

LOW = CellSpec(V=16, D=8, patch_size=8, hidden=16)
HIGH = CellSpec(V=12, D=4, patch_size=4, hidden=8, cross_layers=2)
NORMS = [
    CellSpec(
        V=8,
        D=4,
        patch_size=4,
        hidden=8,
        row_norm=row_norm,
        activation=activation,
        activation_sites=sites,
        depth=depth,
        bounded_alpha=bounded,
    )
    for row_norm, activation, sites, depth, bounded in (
        ("layernorm", "relu", "all", 0, True),
        ("layernorm_unbiased", "relu", "enc_in", 1, True),
        ("row_max", "tanh", "enc_in", 2, True),
        ("scale", "silu", "all", 2, True),
        ("none", "tanh", "all", 1, False),
        ("sphere", "identity", "all", 1, True),
    )
]
READOUTS = [
    CellSpec(V=8, D=4, patch_size=4, hidden=8, readout=readout, depth=depth, cross_layers=cross_layers)
    for readout, depth, cross_layers in (
        *((name, 1, 1) for name in ("linear", "svd", "narrow", "narrow_norm", "narrow_sphere")),
        ("linear", 0, 0),
        ("none", 1, 2),
    )
]


@pytest.fixture(scope="module")
def cells():
    return [from_model(LOW, 0, "a", band="mid"), from_model(HIGH, 1, "b"), from_model(LOW, 2, "c", band="mid")]


@pytest.fixture(scope="module")
def trained():
    return registry.pull("low/johanna-64", "high/johanna-64", "low/fresnel-64", "mid/fresnel-64", "high/freckles-64")


def images(n=3, size=(16, 32), seed=0):
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(seed))


def close(found, wanted, scale):
    """Largest difference, of the wanted's own scale."""
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).abs().max()) <= scale * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("size", [(64, 64), (16, 48)])
def test_trained_cells_of_all_bands_answer_as_alone(trained, dtype, scale, size):
    x = images(3, size)
    out = compose(trained, dtype=dtype)(x.to(dtype), TAPS)
    for cell in trained:
        alone, found = PatchSVAE.from_cell(cell).to(dtype)(x.to(dtype)), out[cell.name]
        for name in TAPS:
            wanted = getattr(alone, name)
            assert getattr(found, name).dtype == dtype
            assert close(getattr(found, name), wanted, scale), (cell.name, name)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_gradients_on_images_are_the_loops(trained, dtype, scale):
    """Of the gradient's scale: a backward pass divides by gaps of eigenvalues, which magnifies a last bit."""
    weights = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=dtype)
    x, y = (images(2, (32, 32)).to(dtype).requires_grad_() for _ in range(2))
    out = compose(trained, dtype=dtype)(x)
    (out.recon * weights[:, None]).sum().backward()
    sum((PatchSVAE.from_cell(cell).to(dtype)(y).recon * weights).sum() for cell in trained).backward()
    assert float((x.grad - y.grad).abs().max()) <= scale * float(y.grad.abs().max())


@pytest.mark.parametrize("spec", NORMS + READOUTS, ids=lambda spec: f"{spec.row_norm}-{spec.readout}-{spec.depth}")
def test_every_kind_of_spec_answers_as_alone(spec):
    members = [from_model(spec, seed, f"cell-{seed}") for seed in range(3)]
    out = compose(members)(images())
    for cell in members:
        alone = PatchSVAE.from_cell(cell)(images())
        assert close(out[cell.name].recon, alone.recon, 1e-5)
        assert close(out[cell.name].omega, alone.omega, 1e-5)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(
    n=st.integers(0, 7),
    chunk=st.sampled_from([1, 5_000, 40_000, 10**9]),
    grad=st.booleans(),
    taps=st.sets(st.sampled_from(TAPS), min_size=1),
)
def test_chunks_and_taps_change_no_number(cells, n, chunk, grad, taps):
    container = compose(cells)
    x = images(n).requires_grad_(grad)
    whole = container(x, TAPS)
    container.chunk_bytes = chunk
    found = container(x, taps)
    for name in container.names:
        for tap in taps:
            wanted, have = getattr(whole[name], tap), getattr(found[name], tap)
            assert have.shape == wanted.shape
            assert have.requires_grad == grad
            assert torch.allclose(have, wanted, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def readouts():
    """Cells of every readout, of two specs of each, which no order of groups keeps together."""
    specs = [*READOUTS, *(spec.model_copy(update={"patch_size": 8}) for spec in READOUTS)]
    return [from_model(spec, seed, f"cell-{seed}") for seed, spec in enumerate(specs)]


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
@pytest.mark.parametrize("grad", [False, True])
def test_cells_of_different_readouts_share_a_container(readouts, dtype, scale, grad):
    x = images().to(dtype).requires_grad_(grad)
    out = compose(readouts, dtype=dtype)(x, TAPS)
    for cell in readouts:
        alone, found = PatchSVAE.from_cell(cell).to(dtype)(x), out[cell.name]
        assert all(close(getattr(found, tap), getattr(alone, tap), scale) for tap in TAPS), cell.spec
        assert (found.omega is found.S or torch.equal(found.omega, found.S)) == (cell.spec.readout != "svd")


@pytest.mark.parametrize("tap", ["recon", "omega", "S", "M"])
def test_gradients_through_every_readout_are_the_loops(readouts, tap):
    x, y = (images(2).double().requires_grad_() for _ in range(2))
    out = compose(readouts, dtype=torch.float64)(x, [tap])
    sum(getattr(cell, tap).square().sum() for cell in out.values()).backward()
    sum(getattr(PatchSVAE.from_cell(cell).double()(y), tap).square().sum() for cell in readouts).backward()
    assert float((x.grad - y.grad).abs().max()) <= 1e-10 * max(1.0, float(y.grad.abs().max()))


def test_omega_is_decoded_by_singular_values_alone(readouts):
    container = compose(readouts)
    for name, cell in container(images(), TAPS).items():
        assert torch.allclose(container.decode(name, cell.M, cell.grid), cell.recon, atol=1e-5)
        if container.spec(name).readout == "svd":
            assert torch.allclose(container.decode(name, cell.M, cell.grid, cell.omega), cell.recon, atol=1e-5)
            continue
        with pytest.raises(InputError, match="does not read omega") as caught:
            container.decode(name, cell.M, cell.grid, cell.omega)
        assert (caught.value.code, caught.value.where) == ("OMEGA", name)


def test_what_was_not_tapped_says_so(cells):
    container = compose(cells)
    out = container(images(), ["omega"])
    for name in ("M", "S", "recon", "patch_error"):
        with pytest.raises(PolicyError, match="tap not requested") as caught:
            getattr(out["high/b"], name)
        assert caught.value.exit_code == 6
    with pytest.raises(PolicyError, match="recon"):
        _ = out.error
    for bad in (["omega", "U"], [], "omega"):
        with pytest.raises(PolicyError, match="unknown tap") as caught:
            container(images(), bad)
        assert (caught.value.code, caught.value.exit_code) == ("NO_TAP", 6)


def test_a_part_answers_as_the_whole_over_the_same_memory(cells):
    container = compose(cells, probe=images(8))
    whole = container(images())
    part = container.cells("mid/*")
    assert part.names == ("mid/a", "mid/c")
    assert container.part(["mid/c", "high/b"]).names == ("mid/c", "high/b")
    assert {b.data_ptr() for b in part.buffers()} <= {b.data_ptr() for b in container.buffers()}
    for name, cell in part(images()).items():
        assert torch.allclose(cell.recon, whole[name].recon, atol=1e-6)
        assert torch.allclose(cell.aligned, whole[name].aligned, atol=1e-6)
    assert torch.allclose(container.cells("mid/c")(images()).recon[:, 0], whole["mid/c"].recon, atol=1e-6)
    assert set(part.lock) == set(part.names)
    odd = images(size=(20, 20))  # which a patch of the others does not divide
    assert container.cells("high/*")(odd).recon.shape == (3, 1, 3, 20, 20)
    assert "mid/a" in whole
    assert "low/x" not in whole
    part.verify()
    with pytest.raises(NotFoundError, match="no such cell"):
        container.cells("low/*")
    with pytest.raises(NotFoundError, match="low/x"):
        container.part(["low/x"])


def test_a_name_goes_before_a_pattern(cells):
    container = compose({"a*": cells[0], "ab": cells[1], "a[1]": cells[2]})
    assert container.cells("a*").names == ("a*",)
    assert container.cells("a[1]").names == ("a[1]",)
    assert FrozenCell(container, "a[1]")(images()).recon.shape == (3, 3, 16, 32)


BAD = {
    "a reference": (lambda c, x: compose("mid/a"), InputError, "CELLS"),
    "references": (lambda c, x: compose(["mid/a"]), InputError, "CELLS"),
    "a name that is none": (lambda c, x: compose({1: c[0]}), InputError, "CELLS"),
    "a probe with NaN": (lambda c, x: compose(c, probe=x * torch.nan), InputError, "NOT_FINITE"),
    "no tap": (lambda c, x: compose(c)(x, None), PolicyError, "NO_TAP"),
    "no pattern": (lambda c, x: compose(c).cells(), NotFoundError, "NO_CELL"),
    "bytes of images": (lambda c, x: compose(c)((x * 0).byte()), InputError, "IMAGE_DTYPE"),
    "complex images": (lambda c, x: compose(c)(x.to(torch.complex64)), InputError, "IMAGE_DTYPE"),
    "a cell of another name": (lambda c, x: compose(c)(x, names=["high/x"]), NotFoundError, "NO_CELL"),
    "another grid": (lambda c, x: compose(c).decode("high/b", torch.zeros(1, 8, 12, 4), (3, 3)), InputError, "MATRICES"),
    "another shape": (lambda c, x: compose(c).decode("high/b", torch.zeros(1, 8, 4, 12), (2, 4)), InputError, "MATRICES"),
    "no composition": (lambda c, x: wire({}, "wiring.toml"), InputError, "COMPOSITION"),
}


@pytest.mark.filterwarnings("ignore::batteries.images.ScaleWarning")
@pytest.mark.parametrize("attempt", BAD)
def test_bad_input_is_told_by_name(cells, attempt):
    call, kind, code = BAD[attempt]
    with pytest.raises(kind) as caught:
        call(cells, images(8))
    assert caught.value.code == code


def test_some_of_the_cells(cells):
    container = compose(cells)
    out = container(images(), names=["high/b"])
    assert list(out) == ["high/b"]
    assert torch.allclose(out["high/b"].recon, container(images())["high/b"].recon, atol=1e-6)


def test_names_of_ones_own(cells):
    container = compose({"first": cells[0], "again": cells[0]})
    out = container(images())
    assert torch.equal(out["first"].recon, out["again"].recon)
    assert container.lock["again"]["cell"] == "mid/a"


def test_the_order_is_the_callers_whatever_the_groups(cells):
    out = compose(cells)(images())
    assert torch.allclose(out.recon, torch.stack([out[cell.name].recon for cell in cells], dim=1))
    assert torch.allclose(out.error, torch.stack([cell.patch_error.mean(dim=1) for cell in out.values()], dim=1))


def test_a_cell_decodes_what_it_is_given(cells):
    container = compose(cells)
    x = images()
    out = container(x, TAPS)
    for name, cell in out.items():
        assert torch.allclose(container.decode(name, cell.M, cell.grid), cell.recon, atol=1e-5)
        assert torch.allclose(container.decode(name, cell.M, cell.grid, cell.omega), cell.recon, atol=1e-5)
        assert not torch.allclose(container.decode(name, cell.M, cell.grid, cell.omega.flip(2)), cell.recon, atol=1e-3)


def test_explain_counts_what_is_there(cells):
    container = compose(cells)
    told = container.explain((16, 32))
    assert told.parameters == sum(cell.spec.parameters for cell in cells)
    assert told.bytes == sum(buffer.numel() * 4 for buffer in container.buffers())
    assert [group.names for group in told.groups] == [("mid/a", "mid/c"), ("high/b",)]
    assert [group.patches for group in told.groups] == [8, 32]
    assert container.explain((32, 32)).flops > told.flops > sum(group.encode_flops for group in told.groups)
    assert f"{told.parameters:,} parameters" in str(told)
    assert compose(cells, dtype=torch.float64).explain().bytes == 2 * container.explain().bytes
    with pytest.raises(InputError, match="multiples of 8"):
        container.explain((16, 12))
    for bad in (64, (64,), ("a", "b"), (64.0, 64), None):
        with pytest.raises(InputError, match="invalid image size"):
            container.explain(bad)


@pytest.mark.parametrize("readout", ["svd", "linear", "none", "narrow_sphere"])
def test_flops_of_the_linear_layers_are_torchs_own_count(readout):
    from torch.utils.flop_counter import FlopCounterMode

    cell = from_model(LOW.model_copy(update={"readout": readout}), 0, "a", band="mid")
    model = PatchSVAE.from_cell(cell)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images(1, (64, 64)))
    told = compose([cell]).explain((64, 64)).flops
    assert 0.8 < counter.get_total_flops() / told < 1.05  # torch counts neither our kernels nor the eigenvalues


def test_float64_is_found_changed_by_less_than_a_float32(cells):
    container = compose(cells, dtype=torch.float64)
    container.verify()
    next(container.buffers()).data[0] += 1e-12
    with pytest.raises(Exception, match="changed"):
        container.verify()
    with pytest.raises(InputError, match="unsupported dtype"):
        compose(cells, dtype=torch.float16)


PEAK = """
import sys, torch
from pathlib import Path
from composer import compose, wire
from composer.hosts import FrozenCell
from tests.support.cells import from_model
from batteries import CellSpec

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))

container = compose([from_model(CellSpec.preset("low"), n, f"cell-{n}") for n in range(8)])
x = torch.randn(64, 3, 64, 64)
torch.set_num_threads(1)
with torch.no_grad():
    container(x[:1], ["omega"])
    for chunk in map(int, sys.argv[1:]):
        container.chunk_bytes = chunk
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        container(x, ["omega"])
        print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts peaks")
def test_the_peak_of_a_forward_is_bounded_by_the_chunk():
    done = python(PEAK, 4 * 2**20, 2**30)
    assert done.returncode == 0, done.stderr
    small, large = map(int, done.stdout.split())
    assert small < 5 * 4 * 2**20  # numbers and torch's own buffers, beside the chunk's
    assert large > 3 * small
