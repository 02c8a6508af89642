"""Tasks of a cell's domain, a user's own host and task, and those that are none."""

import pytest
import torch
from torch import nn

import registry
from batteries import probe
from batteries.errors import BatteriesError, InputError, NotFoundError, PolicyError
from batteries.noise import NAMES
from registry import Task, validate
from registry.stores.memory import MemoryStore
from registry.viability.tasks import own_tasks
from tests.support.cells import from_model, tiny
from tests.support.viability import SPEC, TEST

pytestmark = pytest.mark.usefixtures("few_matrices")


@pytest.mark.parametrize("name", ["noise16-64", "noise16p-64", "photos-64"])
def test_tasks_are_balanced_and_their_parts_differ(name):
    tasks = own_tasks(probe(name), TEST, 0)
    for images, targets in (part for task in tasks for part in (task.train, task.test)):
        assert images.shape == (64, 3, 64, 64)
        assert targets.shape == images.shape or len(set(targets.bincount().tolist())) == 1
    naming = tasks[-1]
    assert naming.classes == 16
    assert not torch.equal(naming.train[0][:4], naming.test[0][:4])
    assert [task.decides for task in tasks] == ([True, False] if name == "photos-64" else [True])


def test_a_task_has_the_noise_mix_of_the_own_probe():
    (ours,), (published,) = (own_tasks(probe(name), TEST, 0) for name in ("noise16-64", "noise16p-64"))
    for (images, kinds), (others, _) in ((ours.train, published.train), (ours.test, published.test)):
        pink = kinds == NAMES.index("pink")
        assert images[pink].std(dim=(2, 3)).min() > 0.1
        assert others[pink].std(dim=(2, 3)).max() < 1e-4
        assert torch.equal(images[kinds == 0], others[kinds == 0])


def images(n=8, channels=3, side=32):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(n))


def two_classes(n=8, **changes):
    return images(n, **changes), torch.arange(n) % 2


class Pooled(nn.Module):
    """A user's host: no stem, a linear read-out of omega."""

    def __init__(self, cell, sample, classes):
        super().__init__()
        self.read = cell.tokens
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.read(x).omega.mean(dim=1))


@pytest.mark.slow
def test_a_users_own_host_and_task():
    task = Task("odd or even", two_classes(40), two_classes(20))
    report = validate(from_model(SPEC, 0, "a"), profile=TEST, host=Pooled, task=task)
    assert report.attestation.protocol == "custom-test-1"
    assert {trial.task for trial in report.attestation.frozen} == {"odd or even"}
    assert "frozen gradient" in report.failed  # nothing before the cell learns
    with pytest.raises(PolicyError) as caught:
        registry.attest(report.attestation, MemoryStore())
    assert caught.value.code == "CUSTOM_PROTOCOL"


class NoCell(Pooled):
    def forward(self, x):
        return self.head(x.mean(dim=(1, 2, 3))[:, None].expand(-1, 4))


class Wide(Pooled):
    def forward(self, x):
        return super().forward(x)[:, :, None]


class Fixed(Pooled):
    def __init__(self, cell, sample, classes):
        super().__init__(cell, sample, classes)
        self.requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize(("host", "code"), [(NoCell, "HOST_UNUSED"), (Wide, "HOST_OUTPUT"), (Fixed, "HOST_FROZEN")])
def test_hosts_that_are_none(host, code):
    with pytest.raises(InputError) as caught:
        validate(from_model(SPEC, 0, "a"), profile=TEST, host=host)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert host.__name__ in str(caught.value)


def one_class():
    return Task("all the same", (images(), torch.zeros(8, dtype=torch.long)), two_classes())


def unseen_class():
    return Task("a class too many", two_classes(), (images(), torch.arange(8)))


def no_images():
    return Task("nothing", two_classes(0), two_classes())


def two_channels():
    return validate(from_model(SPEC, 0, "a"), task=Task("grey", two_classes(channels=2), two_classes(channels=2)))


def odd_size():
    return validate(from_model(SPEC, 0, "a"), task=Task("odd", two_classes(side=30), two_classes(side=30)))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (one_class, "TASK_CLASSES"),
        (unseen_class, "TASK_CLASSES"),
        (no_images, "TASK_IMAGES"),
        (two_channels, "CELL_INPUT"),
        (odd_size, "IMAGE_SIZE"),
        (lambda: validate(tiny()), "CELL_INPUT"),
        (lambda: validate(tiny(), profile="thorough"), "PROFILE"),
        (lambda: validate(tiny(), control="bogus"), "CONTROL"),
    ],
)
def test_bad_input_is_named(make, code):
    with pytest.raises(BatteriesError) as caught:
        make()
    assert caught.value.code == code
    assert caught.value.exit_code == 2


def test_bad_targets(tmp_path):
    with pytest.raises(NotFoundError, match=r"NO_INDEX|NO_CELL"):
        validate("high/nothing", registry=MemoryStore())
    with pytest.raises(NotFoundError, match="no such file"):
        validate(tmp_path / "missing.safetensors")
