"""Training of hosts around a cell: construction, checks, a plain training loop, and scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from batteries.engine import parallel
from batteries.engine.torch_settings import own_draws
from batteries.errors import InputError
from batteries.geometry import estimates
from batteries.geometry.estimates import Estimate
from batteries.images.image_batch import unjudged
from batteries.model.patch_svae import Output, Tokens
from batteries.training.schedules import Schedule, share
from composer.container.outputs import CellOutput
from composer.hosts.cell_hosts import FORM, FrozenCell, HostFactory, Model, Mounted, NamingHost, RestoringHost, cells_of
from composer.hosts.residual_mlp import StreamForm
from composer.hosts.tasks import Task

SAMPLE = 128  # training images that set the scale of a host's features


class Watched:
    """A mounted cell that records its last input and the norm of the gradient at it."""

    def __init__(self, cell: Mounted) -> None:
        self._cell = cell
        self.fed: Tensor | None = None
        self.gradient: Tensor | None = None

    def tokens(self, images: Tensor) -> Tokens:
        """Return the cell's tokens of images."""
        return self._cell.tokens(self._note(images))

    def __call__(self, images: Tensor) -> Output | CellOutput:
        """Run the cell on images."""
        return self._cell(self._note(images))

    @property
    def last(self) -> Tensor:
        """Last input from the host."""
        assert self.fed is not None, "make_host refuses a host that does not use its cell"
        return self.fed

    def _note(self, images: Tensor) -> Tensor:
        self.fed, self.gradient = images.detach(), None
        if images.requires_grad:
            images.register_hook(self._keep)
        return images

    def _keep(self, gradient: Tensor) -> None:
        self.gradient = gradient.norm()


def residual_host(form: StreamForm = FORM, beside: Model | None = None) -> HostFactory:
    """Return the factory of a residual MLP: a classifier for tasks with classes, else a restorer.

    Args:
        form: Form of the MLP.
        beside: Container whose cells, frozen, the host reads beside the mounted one.

    >>> import batteries, composer, registry
    >>> frozen = composer.compose(registry.load("low/fresnel-64"))
    >>> cell, images = batteries.PatchSVAE.from_cell(registry.load("low/johanna-64")), batteries.probe("photos-64").images[:4]
    >>> composer.hosts.residual_host(beside=frozen)(cell, images, 16)(images).shape
    torch.Size([4, 16])
    """
    frozen = () if beside is None else tuple(FrozenCell(beside, name) for name in cells_of(beside).names)
    return lambda cell, sample, classes: (
        NamingHost(cell, sample, classes, form, frozen) if classes else RestoringHost(cell, sample, form, frozen)
    )


@unjudged()
def make_host(factory: HostFactory, cell: Watched, task: Task, seed: int) -> nn.Module:
    """Make a seeded host and check it.

    Raises:
        InputError: a host without trainable weights (``HOST_FROZEN``), that does not use its cell (``HOST_UNUSED``), or with
            another output than the task's (``HOST_OUTPUT``).
    """
    images, targets = task.train
    with own_draws(seed):
        host = factory(cell, images[:: max(1, len(images) // SAMPLE)], task.classes)
    if not any(p.requires_grad for p in host.parameters()):
        raise InputError("host has nothing to train", code="HOST_FROZEN", found=type(host).__name__, where=task.name)
    cell.fed = None
    with torch.no_grad():
        shape = tuple(host(images[:2]).shape)
    if cell.fed is None:
        raise InputError("host does not use its cell", code="HOST_UNUSED", found=type(host).__name__, where=task.name)
    wanted = tuple(targets[:2].shape) if task.restores else (len(images[:2]), task.classes)
    if shape != wanted:
        raise InputError(
            "host output has the wrong shape",
            code="HOST_OUTPUT",
            expected=wanted,
            found=shape,
            where=f"{type(host).__name__}: {task.name}",
        )
    return host


@unjudged()
def learn(
    host: nn.Module,
    task: Task,
    seed: int,
    watched: Watched,
    *,
    steps: int,
    batch: int,
    rate: float,
    schedule: Schedule = "constant",
    cell: Iterable[dict[str, object]] = (),
    look: Callable[[int], None] = lambda _: None,
) -> float | None:
    """Train a host and return the smallest gradient norm at the input that it feeds the cell.

    A gradient that is not finite ends the training before it changes a weight; None is then returned.
    """
    own = {"params": [p for p in host.parameters() if p.requires_grad], "lr": rate}
    optimiser = torch.optim.Adam([own, *cell])
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: share(schedule, step, steps))
    images, targets = task.train
    generator = torch.Generator().manual_seed(seed)
    smallest = float("inf")
    for step in range(1, steps + 1):
        parallel.leave_if_failed()
        chosen = torch.randint(len(images), (batch,), generator=generator)
        loss = task_loss(host(images[chosen]), targets[chosen])
        optimiser.zero_grad()
        loss.backward()
        reached = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        if not nn.utils.get_total_norm(reached).isfinite():
            return None
        smallest = min(smallest, float(watched.gradient) if watched.gradient is not None else 0.0)
        optimiser.step()
        rates.step()
        look(step)
    return smallest


def task_loss(output: Tensor, targets: Tensor) -> Tensor:
    """Compute the loss of a host's output: cross-entropy of classes, or the mean squared error of images."""
    return F.mse_loss(output, targets) if targets.is_floating_point() else F.cross_entropy(output, targets)


@unjudged()
@torch.no_grad()
def score(host: nn.Module, task: Task, watched: Watched) -> tuple[Estimate, Tensor]:
    """Return the accuracy, or R2 if images are restored, with the task's clustering; and the inputs fed to the cell."""
    images, targets = task.test
    outputs, inputs = [], []
    for part in images.split(64):
        outputs.append(host(part))
        inputs.append(watched.last)
    out = torch.cat(outputs)
    if task.restores:
        spread = (targets - targets.mean()).square().mean()
        each = 1 - (out - targets).square().flatten(1).mean(dim=1) / spread
    else:
        each = (out.argmax(dim=1) == targets).double()
    cluster = torch.arange(len(images)) if task.cluster is None else task.cluster
    return estimates.clustered_mean(each.double(), cluster), torch.cat(inputs)
