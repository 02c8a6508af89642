"""Hosts around a whole container: what they read, that they learn, that the cells do not, what their state keeps."""

import math

import pytest
import torch
from torch.nn import functional as F

from batteries import CellSpec
from batteries.errors import BatteriesError, IntegrityError
from composer import Classifier, Denoiser, compose
from composer.container.extra_state import decoded
from composer.hosts import StreamForm, features
from composer.hosts.features import FLOOR, SIDE, TAPPED
from tests.support.cells import from_model

LOW = CellSpec(V=16, D=8, patch_size=8, hidden=16)
HIGH = CellSpec(V=12, D=4, patch_size=4, hidden=8)
ODD = CellSpec(V=12, D=8, patch_size=6, hidden=8)
FORM = StreamForm(width=32, blocks=1)
READS = tuple(TAPPED)


@pytest.fixture(scope="module")
def cells():
    low = [from_model(LOW, seed, f"low{seed}", band="mid") for seed in (0, 1)]
    return [low[0], from_model(HIGH, 2, "high"), low[1]]


@pytest.fixture
def container(cells):
    return compose(cells)


def images(n=6, size=(16, 32), seed=0, channels=3):
    return torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(seed))


def host(kind, container, reads="omega", sample=None, seed=0):
    sample = images() if sample is None else sample
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(container, sample, 5, reads, FORM) if kind == "names" else Denoiser(container, sample, reads, FORM)


EVERY = [(kind, reads) for kind in ("names", "restores") for reads in READS]
every = pytest.mark.parametrize(("kind", "reads"), EVERY)


def regions(planes, rows, columns):
    """(..., height, width) as (..., rows columns, p, q)."""
    cut = planes.unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1))
    return cut.movedim(-2, -3).flatten(-4, -3)


@every
def test_shapes(container, kind, reads):
    made = host(kind, container, reads)
    assert made(images(3)).shape == ((3, 5) if kind == "names" else (3, 3, 16, 32))
    assert made(images(2, (8, 24))).shape == ((2, 5) if kind == "names" else (2, 3, 8, 24))
    features = made.features(images(3))
    channels_on_a_grid = 3 * SIDE**2
    of_image = {"omega": 2 * (8 + 8 + 4), "signature": 2 * 3, "recon": 3 * channels_on_a_grid}
    of_region = {"omega": 8 + 8 + 4, "signature": 3, "recon": 3 * channels_on_a_grid}
    assert features.shape == ((3, of_image[reads]) if kind == "names" else (3, 8, of_region[reads]))


def test_what_is_read_of_an_image_is_every_cells_own(container):
    x = images(3)
    out = container(x)
    low = [out["mid/low0"], out["mid/low1"]]
    ordered = [*low, out["high/high"]]  # by group
    omega = [torch.cat([cell.omega.mean(dim=1), cell.omega.std(dim=1, correction=0)], dim=1) for cell in ordered]
    assert torch.allclose(features.of_image("omega", out, x), torch.cat(omega, dim=1), atol=1e-6)
    errors = [torch.stack([cell.patch_error.mean(dim=1), cell.patch_error.std(dim=1, correction=0)], dim=1) for cell in ordered]
    assert torch.allclose(features.of_image("signature", out, x), torch.cat(errors, dim=1).log(), atol=1e-5)
    energy = [regions((x - cell.recon).square(), SIDE, SIDE).mean(dim=(-1, -2)).flatten(1) for cell in ordered]
    assert torch.allclose(features.of_image("recon", out, x), torch.cat(energy, dim=1).log(), atol=1e-4)


def test_what_is_read_of_a_region_lies_in_it(container):
    x = images(3)
    out = container(x)
    ordered = [out["mid/low0"], out["mid/low1"], out["high/high"]]
    within = [0, 1, 8, 9]  # patches of the first region on the finer grid
    omega = features.of_region("omega", out, x, (2, 4))
    assert torch.allclose(omega[:, 0, 16:], ordered[2].omega[:, within].mean(dim=1), atol=1e-6)
    assert torch.equal(omega[..., 8:16], ordered[1].omega)
    signature = features.of_region("signature", out, x, (2, 4))
    assert torch.allclose(signature[:, 0, 2], ordered[2].patch_error[:, within].mean(dim=1).log(), atol=1e-5)
    missing = regions(x - ordered[1].recon, 2, 4)  # (B, channels, G, p, q)
    wanted = regions(missing, SIDE, SIDE).mean(dim=(-1, -2)).transpose(1, 2).flatten(2)
    found = features.of_region("recon", out, x, (2, 4))[..., 3 * SIDE**2 : 6 * SIDE**2]
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_perfect_cell_reads_as_the_floor(container):
    out = container(images(2))
    perfect = features.of_image("signature", out, images(2)).clone()
    for group in out.groups:
        group.found["patch_error"].zero_()
    found = features.of_image("signature", out, images(2))
    assert found.shape == perfect.shape
    assert torch.allclose(found, torch.tensor(math.log(FLOOR)))


def test_the_sample_fixes_the_scale(container):
    for kind, reads in EVERY:
        made = host(kind, container, reads)
        standard = made.standard(made.features(images())).flatten(0, -2)
        assert torch.allclose(standard.mean(dim=0), torch.zeros(()), atol=1e-3)
        assert torch.allclose(standard.std(dim=0), torch.ones(()), atol=1e-3)


@pytest.mark.parametrize("reads", READS)
def test_a_denoiser_starts_as_the_mean_of_the_reconstructions(container, reads):
    x = images(3)
    assert torch.allclose(host("restores", container, reads)(x), container(x).recon.mean(dim=1), atol=1e-6)


def test_a_denoisers_shares_belong_to_their_cells_and_regions(container):
    made, x = host("restores", container), images(3)
    with torch.no_grad():
        made.mlp.leave.bias[:3] = torch.tensor([0.0, 100.0, 0.0])  # by group: the second is mid/low1
        assert torch.allclose(made(x), container(x)["mid/low1"].recon, atol=1e-5)
        made.mlp.leave.bias[:3] = torch.tensor([0.0, 0.0, 100.0])
        made.mlp.leave.bias[3] = 7.0  # the first pixel of every region's first channel
    more = (made(x) - container(x)["high/high"].recon).round()
    assert more[:, 0, ::8, ::8].unique().tolist() == [7]
    assert more.sum() == 7 * 3 * 8


def learn(made, x, y, steps=50, rate=3e-3):
    """The first loss and the last; what is kept at each step is every parameter's gradient."""
    optimiser = torch.optim.Adam(made.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(made(x), y) if y.dtype == torch.int64 else F.mse_loss(made(x), y)
        optimiser.zero_grad()
        loss.backward()
        assert made.stem.weight.grad.isfinite().all()
        assert made.stem.weight.grad.norm() > 0
        optimiser.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


@pytest.mark.slow
@every
def test_it_learns_and_the_cells_do_not(container, kind, reads):
    labels = torch.arange(24) % 3
    x = images(24, (16, 16)) * torch.tensor([0.5, 1.0, 2.0])[labels][:, None, None, None]
    clean = F.avg_pool2d(x, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    made, digest = host(kind, container, reads, sample=x), container.digest
    first, last = learn(made, x, labels if kind == "names" else clean)
    assert last < 0.7 * first
    assert made.stem.weight.norm() > 0  # it began at zero
    assert container.digest == digest
    container.verify()


def test_the_container_is_a_part_without_parameters(container):
    for kind in ("names", "restores"):
        made = host(kind, container)
        assert made.container is container
        assert {name.split(".")[0] for name, _ in made.named_parameters()} == {"stem", "mlp"}
        assert made.train().double()(images(2)).dtype == torch.float64
        container.verify()


@every
def test_the_state_has_the_lock_and_not_the_weights_and_loads_again(cells, container, kind, reads):
    one, two = host(kind, container, reads), host(kind, compose(cells), reads, sample=images(seed=9), seed=9)
    state = one.state_dict()
    assert {name.split(".")[0] for name, value in state.items() if isinstance(value, torch.Tensor)} == {
        *("stem", "mlp", "shift", "spread", "container", "_extra_state")
    }
    assert decoded(state["container._extra_state"], where="")["lock"] == container.lock
    assert decoded(state["_extra_state"], where="") == {"reads": reads, "cells": ["mid/low0", "mid/low1", "high/high"]}
    with torch.no_grad():
        one.mlp.leave.weight.add_(torch.randn(one.mlp.leave.weight.shape, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(two(images(2)), one(images(2)))
    two.load_state_dict(one.state_dict())
    assert torch.equal(two(images(2)), one(images(2)))


def test_a_saved_file_loads_as_data(container, tmp_path):
    torch.save(host("names", container).state_dict(), tmp_path / "host.pt")
    host("names", container, seed=4).load_state_dict(torch.load(tmp_path / "host.pt", weights_only=True))


def changed(cells):
    """The same names, another cell behind one of them."""
    return compose({"mid/low0": cells[0], "high/high": cells[1], "mid/low1": from_model(LOW, 7, "low1", band="mid")})


@pytest.mark.parametrize("kind", ["names", "restores"])
@pytest.mark.parametrize(
    ("other", "reads", "code"),
    [
        (changed, "omega", "LOCK_MISMATCH"),
        (lambda cells: compose(cells[:2]), "omega", "OTHER_HOST"),
        (lambda cells: compose([cells[2], cells[1], cells[0]]), "omega", "OTHER_HOST"),
        (lambda cells: compose(cells), "signature", "OTHER_HOST"),
    ],
    ids=["another cell", "fewer cells", "another order", "another reading"],
)
def test_a_state_of_another_host_is_refused(cells, container, kind, other, reads, code):
    state = host(kind, container).state_dict()
    with pytest.raises(IntegrityError) as caught:
        host(kind, other(cells), reads).load_state_dict(state)
    assert (caught.value.code, caught.value.exit_code) == (code, 4)


def test_around_some_cells_of_a_container(container):
    part = container.cells("mid/*")
    made = host("restores", part)
    assert decoded(made.get_extra_state(), where="")["cells"] == ["mid/low0", "mid/low1"]
    assert torch.allclose(made(images(2)), part(images(2)).recon.mean(dim=1), atol=1e-6)
    assert {buffer.data_ptr() for buffer in part.buffers()} == {buffer.data_ptr() for buffer in container.buffers()}


@pytest.mark.slow
@every
def test_around_cells_in_float64(cells, kind, reads):
    made = host(kind, compose(cells, dtype=torch.float64), reads)
    assert made(images(2)).dtype == torch.float32
    learn(made, images(4), torch.arange(4) if kind == "names" else images(4), steps=2)


def test_one_seed_gives_one_host(container):
    for kind in ("names", "restores"):
        one, again = host(kind, container, seed=5).state_dict(), host(kind, container, seed=5).state_dict()
        assert all(torch.equal(value, again[name]) for name, value in one.items() if isinstance(value, torch.Tensor))


BAD = [
    ("no such reading", lambda c: Classifier(c, images(), 5, "rows"), "READS", "omega | signature | recon, got 'rows'"),
    ("nor for a denoiser", lambda c: Denoiser(c, images(), ["omega"]), "READS", "got ['omega']"),
    ("no cells", lambda c: Classifier(c.part([]), images(), 5), "NO_CELLS", "without cells"),
    ("one class", lambda c: Classifier(c, images(), 1), "CLASSES", "got 1"),
    ("no batch", lambda c: Classifier(c, images()[0], 5), "IMAGE_SHAPE", "(3, 16, 32)"),
    ("an array", lambda c: Denoiser(c, images().numpy()), "IMAGE_SHAPE", "ndarray"),
    ("grey images", lambda c: Denoiser(c, images(channels=1)), "IMAGE_SHAPE", "(6, 1, 16, 32)"),
    ("images that the patch does not divide", lambda c: Classifier(c, images(size=(12, 16)), 5), "IMAGE_SIZE", "12 x 16"),
    ("one image", lambda c: Classifier(c, images(1), 5), "FEW_IMAGES", "got 1"),
    ("no image", lambda c: Denoiser(c, images(0)), "FEW_IMAGES", "got 0"),
    ("other images later", lambda c: host("names", c)(images(channels=1)), "IMAGE_SHAPE", "(6, 1, 16, 32)"),
    ("another size later", lambda c: host("restores", c)(images(size=(12, 16))), "IMAGE_SIZE", "12 x 16"),
]


@pytest.mark.parametrize(("attempt", "code", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input(container, attempt, code, words):
    with pytest.raises(BatteriesError) as caught:
        attempt(container)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert words in str(caught.value)


def test_grids_that_do_not_nest_can_be_named_by_and_not_restored(cells):
    odd = compose([cells[0], from_model(ODD, 5, "odd", band="mid")])
    assert Classifier(odd, images(size=(24, 24)), 5, form=FORM)(images(2, (24, 24))).shape == (2, 5)
    with pytest.raises(BatteriesError, match="do not nest") as caught:
        Denoiser(odd, images(size=(24, 24)))
    assert (caught.value.code, caught.value.exit_code) == ("GRIDS", 2)
