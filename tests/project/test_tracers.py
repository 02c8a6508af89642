"""What follows or watches torch's operators sees them all, and gets the numbers of a plain run or one typed error."""

import io
import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from batteries import CellSpec, InputError, PatchSVAE
from batteries.engine import dispatch
from batteries.kernels import jit
from composer import Classifier, Denoiser, compose
from tests.compatibility import refused, works
from tests.support import models
from tests.support.cells import from_model

SPECS = (
    CellSpec(V=6, D=4, patch_size=4, hidden=8, heads=2),
    CellSpec(V=8, D=8, patch_size=8, hidden=6, heads=2),
    CellSpec(V=32, D=16, patch_size=8, hidden=8, heads=4),
)
BANDS = ("high", "mid", "low")
pytestmark = pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


def images(count=16):
    """Enough of them that every kernel would be taken."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))


class Tensors(nn.Module):
    """A model whose outputs are a tuple of tensors, which is all that tracers take."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        out = self.model(x)
        if hasattr(out, "groups"):
            return tuple(tensor for group in out.groups for _, tensor in sorted(group.found.items()))
        return tuple(tensor for tensor in models.tensors(out) if tensor.is_floating_point())  # a tracer's sizes are tensors too


def cells():
    return [
        from_model(spec, seed, f"cell-{seed}", band=band) for seed, (spec, band) in enumerate(zip(SPECS, BANDS, strict=True))
    ]


MODELS = {
    "container": lambda: compose(cells()),
    "PatchSVAE": lambda: PatchSVAE.from_cell(cells()[0]),
    "wired": lambda: models.model().eval(),
    "classifier": lambda: Classifier(compose(cells()), images(4), 3),
    "denoiser": lambda: Denoiser(compose(cells()), images(4)),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        return Tensors(MODELS[request.param]()).requires_grad_(False).eval()


def close(found, wanted):
    return all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max())) for a, b in zip(found, wanted, strict=True))


@pytest.mark.slow
@works("torch", "torch.jit.trace and its saved file", note="of a Denoiser only for the number of images traced")
def test_a_jit_trace(model):
    traced = torch.jit.trace(model, images(), check_trace=False)
    torch.jit.save(traced, io.BytesIO())
    if isinstance(model.model, Denoiser):
        with pytest.raises(RuntimeError, match="TorchScript interpreter"):
            traced(images(5))
    for count in (16,) if isinstance(model.model, Denoiser) else (16, 5):
        assert close(traced(images(count)), model(images(count)))


OUTPUTS = {
    "PatchSVAE": (lambda: PatchSVAE.from_cell(cells()[0]).requires_grad_(False), lambda out: out.recon),
    "tokens": (lambda: PatchSVAE.from_cell(cells()[0]).requires_grad_(False).tokens, lambda out: out.omega),
    "container": (lambda: compose(cells()), lambda out: out.recon),
    "cell of a container": (lambda: in_container(compose(cells()), "high/cell-0"), lambda out: out.recon),
    "wired": (lambda: models.model().eval(), lambda out: out["by.router"].recon),
    "relay": (lambda: in_container(models.model().eval(), "swap"), lambda out: out.recon),
    "route": (lambda: in_container(models.model().eval(), "by.error"), lambda out: out.recon),
}


def in_container(model, name):
    return lambda x: model(x)[name]


@works("torch", "make_fx, jvp, linearize and auxiliary outputs of a model itself, whose outputs are trees of tensors")
@works("torch", "vmap of a PatchSVAE itself")
@refused("torch", "vmap and jacfwd of a container or a composition itself", "AXES", note="of what returns tensors: works")
@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.slow
def test_outputs_are_trees_of_tensors(name):
    make, taken = OUTPUTS[name]
    model, (x, other, direction) = make(), (images(12)[start : start + 4, :, :16, :16] for start in (0, 4, 8))

    def tangent(x):
        return torch.func.jvp(lambda x: taken(model(x)), (x,), (direction,))[1]

    assert close([taken(make_fx(lambda x: model(x))(x)(other))], [taken(model(other))])
    assert close([taken(torch.func.jvp(model, (x,), (direction,))[1])], [tangent(x)])
    if name == "container":  # it folds constants, for seconds
        model = compose(cells()[:1])
        assert close([taken(torch.func.linearize(model, x)[1](direction))], [tangent(x)])
    _, kept = torch.func.grad(lambda x: (taken(model(x)).sum(), model(x)), has_aux=True)(x)
    assert close([taken(kept)], [taken(model(x))])
    pairs = x.unflatten(0, (2, 2))
    if name in ("PatchSVAE", "tokens", "relay"):
        assert close([taken(torch.func.vmap(model)(pairs))], [torch.stack([taken(model(pair)) for pair in pairs])])
        return
    for road in (
        lambda: torch.func.vmap(model)(pairs),
        lambda: torch.func.jacfwd(lambda size: model(size * x))(torch.ones(1)),
    ):
        with pytest.raises(InputError) as caught:
            road()
        assert caught.value.code == "AXES"


@works("torch", "torch.export of a PatchSVAE, a container, a wired model; saved and loaded", note="any number of images")
@pytest.mark.parametrize("name", ["PatchSVAE", "container", "wired"])
@pytest.mark.slow
def test_a_model_is_exported_with_its_outputs(name):
    make, taken = OUTPUTS[name]
    model, data = make(), io.BytesIO()
    shapes = ({0: torch.export.Dim("images", min=2)},)
    torch.export.save(torch.export.export(model, (images(4),), dynamic_shapes=shapes), data)
    data.seek(0)
    found = torch.export.load(data).module()(images(5))
    assert type(found) is type(model(images(5)))
    assert close([taken(found)], [taken(model(images(5)))])


@pytest.mark.slow
@works("torch", "make_fx: real, fake and pre-dispatch tracing", note="for the size that was traced")
@pytest.mark.parametrize("how", [{}, {"tracing_mode": "fake", "_allow_non_fake_inputs": True}, {"pre_dispatch": True}])
def test_make_fx(how):
    for name in ("container", "PatchSVAE") if not how else ("PatchSVAE",):
        model = Tensors(MODELS[name]()).requires_grad_(False)
        assert close(make_fx(model, **how)(images())(images()), model(images()))


@pytest.mark.slow
@works("torch", "FakeTensorMode: shapes and dtypes of outputs", note="with allow_non_fake_inputs, as the weights are real")
def test_fake_tensors(model):
    mode, wanted = FakeTensorMode(allow_non_fake_inputs=True), model(images())
    fake = mode.from_tensor(images())
    with mode:
        inside = model(fake)
    for found in (inside, model(fake)):
        assert [(type(part).__name__, part.shape, part.dtype) for part in found] == [
            ("FakeTensor", part.shape, part.dtype) for part in wanted
        ]


@refused("torch", "meta images for weights on the CPU", "DEVICE")
def test_meta_images(model):
    with pytest.raises(InputError) as caught:
        model(images().to("meta"))
    assert caught.value.code == "DEVICE"


@works("torch", "a PatchSVAE on the meta device: shapes alone")
def test_a_meta_model():
    found = PatchSVAE(SPECS[0]).to("meta")(images().to("meta"))
    assert (found.recon.device.type, found.recon.shape) == ("meta", images().shape)


@refused("torch", "torch.fx.symbolic_trace", "TRACER", note="torch.export follows; or a Tracer with cells as leaf modules")
def test_symbolic_trace():
    for name in ("container", "PatchSVAE"):
        with pytest.raises(InputError) as caught:
            torch.fx.symbolic_trace(Tensors(MODELS[name]()))
        assert caught.value.code == "TRACER"


def test_symbolic_trace_with_cells_as_leaves():
    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, PatchSVAE) or super().is_leaf_module(module, name)

    class Host(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = PatchSVAE.from_cell(cells()[0])

        def forward(self, x):
            return self.cell(x).recon * 2

    host = Host()
    traced = torch.fx.GraphModule(host, Tracer().trace(host))
    assert torch.equal(traced(images()), host(images()))


@pytest.mark.slow
def test_export():
    model = Tensors(MODELS["PatchSVAE"]()).requires_grad_(False)
    exported = torch.export.export(model, (images(),), dynamic_shapes=({0: torch.export.Dim("images", min=2)},))
    assert close(exported.module()(images(5)), model(images(5)))


@pytest.mark.slow
@works("torch", "torch.compile of a PatchSVAE: backends eager and aot_eager")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile(backend):
    model = Tensors(MODELS["PatchSVAE"]()).requires_grad_(False)
    torch._dynamo.reset()
    assert close(torch.compile(model, backend=backend)(images()), model(images()))


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Marked(torch.Tensor):
    """A subclass that keeps itself through operators."""


@works("torch", "TorchDispatchMode and TorchFunctionMode of one's own", note="each operator is seen")
@works("torch", "tensor subclasses as images")
def test_modes_and_subclasses(model):
    wanted = model(images())
    with Seen() as seen:
        assert close(model(images()), wanted)
    assert {"_linalg_eigh", "linalg_eigh"} & seen.names
    with Called():
        assert close(model(images()), wanted)
    assert close([part.as_subclass(torch.Tensor) for part in model(images().as_subclass(Marked))], wanted)


@works("torch", "FLOP counters", note="all work is counted")
def test_flops_are_those_of_the_images(model):
    counts = []
    for count in (8, 16):
        with FlopCounterMode(display=False) as counter:
            model(images(count))
        counts.append(counter.get_total_flops())
    assert counts[1] == 2 * counts[0] > 0


@works("torch", "torch.profiler", note="sees what runs: the kernels")
def test_a_profiler_changes_nothing(model):
    wanted = model(images())
    with torch.profiler.profile() as profile:
        found = model(images())
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert len(profile.key_averages())


@works("torch", "torch.utils.checkpoint, reentrant or not", note="reentrant: of what returns tensors, as torch has it")
@works("torch", "saved-tensor hooks: save_on_cpu")
def test_checkpoints_and_hooks(model):
    def loss(run):
        return sum(part.square().sum() for part in run if part.requires_grad)

    def gradient(run):
        x = images(4).requires_grad_()
        run(x).backward()
        return x.grad

    def hooked(x):
        with torch.autograd.graph.save_on_cpu():
            return loss(model(x))

    wanted = gradient(lambda x: loss(model(x)))
    for run in (
        lambda x: loss(checkpoint(model, x, use_reentrant=False)),
        lambda x: loss(checkpoint(model, x, use_reentrant=True)),
        hooked,
    ):
        assert close([gradient(run)], [wanted])


@pytest.mark.slow
@works("torch", "TensorBoard's add_graph of a PatchSVAE")
def test_add_graph(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    model = Tensors(MODELS["PatchSVAE"]()).requires_grad_(False)
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(model, images())
    assert any(path.stat().st_size > 1000 for path in tmp_path.iterdir())


@pytest.mark.slow
def test_no_kernel_is_asked_for_where_something_watches(monkeypatch):
    def never(*given):
        raise AssertionError("a kernel is asked for")

    container, x = compose(cells()), images()
    container(x)
    monkeypatch.setattr(jit.Kernels, "__call__", never)
    with pytest.raises(AssertionError, match="is asked for"):
        container(x)
    with Seen():
        container(x)
    with Called():
        container(x)
    torch.func.vmap(lambda image: container(image[None]).recon)(x)
    torch.func.jvp(lambda x: container(x).recon, (x,), (x,))


def test_what_is_plain():
    x = torch.zeros(3)
    assert dispatch.plain(x, nn.Parameter(x))
    with torch.device("cpu"), torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert dispatch.plain(x)
    negative = torch.conj(torch.zeros(3, dtype=torch.complex64)).imag
    others = (x.to("meta"), x.to_sparse(), x.cfloat(), negative, x.as_subclass(Marked), torch._efficientzerotensor(3))
    assert [dispatch.plain(other) for other in others] == [False] * len(others)
    with Seen():
        assert not dispatch.plain(x)
    with Called():
        assert not dispatch.plain(x)
    assert torch.func.vmap(lambda row: row + (dispatch.plain(row) or dispatch.plain(x)))(x[:, None]).sum() == 0
