"""A host with a container inside goes through torch.export and torch.compile, whole, to the same answers."""

import pytest
import torch
from torch import nn

from batteries import CellSpec
from composer import compose
from tests.compatibility import works
from tests.support.cells import from_model

LOW = CellSpec(V=8, D=8, patch_size=8, hidden=8)
HIGH = CellSpec(V=6, D=4, patch_size=4, hidden=8)


class Host(nn.Module):
    def __init__(self, container):
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.container = container
        self.head = nn.Linear(20, 4)

    def forward(self, x):
        out = self.container(self.stem(x))
        pooled = torch.cat([cell.omega.mean(dim=1) for cell in out.values()], dim=1)
        return self.head(pooled), out.error


@pytest.fixture
def host():
    torch.manual_seed(0)
    return Host(compose([from_model(LOW, 0, "a", band="mid"), from_model(HIGH, 1, "b"), from_model(LOW, 2, "c", band="mid")]))


def images(n=2):
    return torch.randn(n, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def same(found, wanted):
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, wanted, strict=True))


@pytest.mark.slow
@works("torch", "torch.export of a network with a container inside", note="any number of images")
def test_export_for_any_number_of_images(host):
    exported = torch.export.export(host.eval(), (images(),), dynamic_shapes=({0: torch.export.Dim("images", min=2)},))
    for n in (2, 5):
        assert same(exported.module()(images(n)), host(images(n)))
    assert set(exported.state_dict) == {"stem.weight", "stem.bias", "head.weight", "head.bias"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler itself does it
def test_compile_in_one_graph_with_its_backward(host):
    """``aot_eager`` takes all steps but the last, the code generation of inductor, which is torch's own and takes a minute."""
    compiled = torch.compile(host, backend="aot_eager", fullgraph=True)
    assert same(compiled(images()), host(images()))
    for run in (host, compiled):
        host.zero_grad()
        scores, errors = run(images())
        (scores.square().sum() + errors.sum()).backward()
        gradient = host.stem.weight.grad.clone()
        if run is host:
            wanted = gradient
    assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-6)
    host.container.verify()
