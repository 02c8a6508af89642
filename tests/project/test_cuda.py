"""On a GPU: what could differ there does not. `make gpu` runs these; elsewhere all but the last are skipped."""

import pytest
import torch

from batteries import CellSpec, InputError, PatchSVAE, untrained
from benchmarks import gpu
from composer import Classifier, Denoiser, compose
from tests.support import models
from tests.support.cells import from_model

SPECS = (CellSpec(V=8, D=8, patch_size=8, hidden=8), CellSpec(V=6, D=4, patch_size=4, hidden=8))


def images(count=4):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def container(dtype=torch.float32):
    cells = [from_model(SPECS[0], 0, "a", band="mid"), from_model(SPECS[1], 1, "b"), from_model(SPECS[0], 2, "c", band="mid")]
    return compose(cells, images(8), dtype=dtype)


def close(found, wanted, scale=1e-4):
    return torch.allclose(found.cpu(), wanted, rtol=scale, atol=scale * float(wanted.abs().max()))


@pytest.mark.cuda
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
def test_a_container_there_answers_as_here(dtype, scale):
    here, there = container(dtype), container(dtype).to("cuda")
    x = images().to(dtype)
    found, wanted = there(x.cuda()), here(x)
    assert found.recon.device.type == "cuda"
    assert close(found.recon, wanted.recon, scale)
    assert close(found.error, wanted.error, scale)
    assert all(close(a, b, scale) for a, b in zip(found.omega, wanted.omega, strict=True))
    assert there.digest == here.digest
    there.verify()


@pytest.mark.cuda
def test_gradients_there_are_those_here():
    x, y = images().double().requires_grad_(), images().double().cuda().requires_grad_()
    for given, made in ((x, container(torch.float64)), (y, container(torch.float64).to("cuda"))):
        (first,) = torch.autograd.grad(made(given).recon.square().sum(), given, create_graph=True)
        first.square().sum().backward()
    assert close(y.grad, x.grad, 1e-8)


@pytest.mark.cuda
def test_a_step_of_training_there_is_one_here():
    weights = []
    for device in ("cpu", "cuda"):
        model = untrained(SPECS[0], 0).double().to(device)
        optimiser, x = torch.optim.SGD(model.parameters(), lr=1e-2), images().double().to(device)
        (model(x).recon - x).square().mean().backward()
        optimiser.step()
        weights.append([value.detach() for value in model.parameters()])
    assert all(close(there, here, 1e-9) for here, there in zip(*weights, strict=True))


@pytest.mark.cuda
def test_two_devices_are_refused():
    for run in (lambda: container()(images().cuda()), lambda: untrained(SPECS[0], 0)(images().cuda())):
        with pytest.raises(InputError) as caught:
            run()
        assert caught.value.code == "DEVICE"


@pytest.mark.cuda
@pytest.mark.parametrize("make", [lambda c, x: Classifier(c, x, 3), lambda c, x: Denoiser(c, x)], ids=["names", "restores"])
def test_hosts_are_where_their_sample_is(make):
    x = images(6).cuda()
    host = make(container().to("cuda"), x)
    host(x).square().sum().backward()
    assert all(value.device.type == "cuda" for value in host.state_dict().values() if torch.is_tensor(value) and value.ndim)


@pytest.mark.cuda
def test_a_wired_model_there_answers_as_here():
    x = images()
    here, there = models.model(torch.float64).eval(), models.model(torch.float64).eval().to("cuda")
    found, wanted = there(x.double().cuda()).output, here(x.double()).output
    pairs = zip(models.tensors(found), models.tensors(wanted), strict=True)
    assert all(close(a, b, 1e-6) for a, b in pairs)


@pytest.mark.cuda
def test_autocast_there_leaves_cells_alone():
    cell, x = PatchSVAE.from_cell(from_model(SPECS[0], 0, "a", band="mid")).to("cuda"), images().cuda()
    plain = cell(x).recon
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert torch.equal(cell(x).recon, plain)


@pytest.mark.cuda
def test_a_default_device_changes_nothing_that_is_made():
    wanted = untrained(SPECS[0], 3).state_dict()
    with torch.device("cuda"):
        found = untrained(SPECS[0], 3).state_dict()
    assert all(torch.equal(value, wanted[name]) and value.device.type == "cpu" for name, value in found.items())


@pytest.mark.cuda
def test_no_generator_there_is_reset():
    torch.cuda.manual_seed(5)
    before = torch.cuda.get_rng_state()
    untrained(SPECS[0], 3)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_the_short_benchmark_runs_on_the_cpu_too(capsys, monkeypatch):
    for pair in gpu.pairs("cpu", 2)[1:]:
        assert pair.ours() > 0
        assert pair.reference() > 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main()
    assert capsys.readouterr().out == "benchmarks.gpu: no GPU available to torch\n"
