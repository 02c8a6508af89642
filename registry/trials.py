"""A cell in a host: frozen, where only the host learns; and unfrozen, where the host's gradient reaches the cell's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import composer
from batteries import geometry
from batteries.cell import Cell
from batteries.geometry import Degenerate, Estimate
from batteries.measure import read
from batteries.model import PatchSVAE, Tokens
from batteries.probes import Probe
from registry.protocol import ViabilityProtocol
from registry.tasks import Task

Read = Callable[[Tensor], Tokens]

HEAD_WIDTH = 64


@dataclass(frozen=True)
class State:
    """A cell at one moment, on fixed images."""

    cv: Estimate | Degenerate
    rank: Estimate
    mse: float


@dataclass(frozen=True)
class FrozenTrial:
    """What came of a host that learned around a frozen cell.

    Attributes:
        accuracy: Of the host on the test images.
        unchanged: Whether the weights' digest is the same before and after.
        stem_gradient: Smallest gradient norm at the stem over all steps; NaN where one was not finite.
        before: CV and effective rank on what the stem gave the cell at the start; likewise ``after``.
    """

    accuracy: float
    unchanged: bool
    stem_gradient: float
    before: tuple[Estimate | Degenerate, Estimate]
    after: tuple[Estimate | Degenerate, Estimate]


@dataclass(frozen=True)
class UnfrozenTrial:
    """What came of a cell under its host's raw gradient.

    Attributes:
        accuracy: Of the host on the test images.
        before: The cell on its own probe; likewise ``after``.
        weight_change: norm(dW) / norm(W).
    """

    accuracy: float
    before: State
    after: State
    weight_change: float


class Host(nn.Module):
    """A small network around a cell: a residual stem on the images, a head on the mean and spread of omega.

    Args:
        read_tokens: The cell, images (B, 3, H, W) to tokens.
        sample: Images that fix the scale of the head's input.
        classes: Outputs.
    """

    def __init__(self, read_tokens: Read, sample: Tensor, classes: int) -> None:
        super().__init__()
        self._tokens = read_tokens
        self.stem = nn.Conv2d(3, 3, 3, padding=1)
        nn.init.zeros_(self.stem.weight)
        assert self.stem.bias is not None
        nn.init.zeros_(self.stem.bias)
        with torch.no_grad():
            features = self.statistics(sample)
        self.shift: Tensor
        self.spread: Tensor
        self.register_buffer("shift", features.mean(dim=0))
        self.register_buffer("spread", features.std(dim=0).clamp_min(1e-6))
        width = features.shape[1]
        self.head = nn.Sequential(nn.Linear(width, HEAD_WIDTH), nn.GELU(), nn.Linear(HEAD_WIDTH, classes))

    def fed(self, images: Tensor) -> Tensor:
        """What the stem gives the cell: the images and a learned residual."""
        return images + self.stem(images)

    def statistics(self, images: Tensor) -> Tensor:
        """Mean and standard deviation over patches of the cell's omega: (B, 2 D)."""
        omega = self._tokens(self.fed(images)).omega
        return torch.cat([omega.mean(dim=1), omega.std(dim=1)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (B, classes)."""
        scores: Tensor = self.head((self.statistics(images) - self.shift) / self.spread)
        return scores


def frozen_trial(cell: Cell, task: Task, protocol: ViabilityProtocol, seed: int) -> FrozenTrial:
    """Let a host learn a task around a frozen cell."""
    container = composer.compose([cell])
    digest = container.digest
    read_tokens = _only(container)
    host = _host(read_tokens, task, seed)
    sample = task.test[0]
    before = _rows_and_rank(read_tokens, host.fed(sample).detach())
    gradient = _learn(host, task, protocol, seed, cell_weights=())
    after = _rows_and_rank(read_tokens, host.fed(sample).detach())
    return FrozenTrial(_accuracy(host, task), container.digest == digest, gradient, before, after)


def unfrozen_trial(cell: Cell, task: Task, protocol: ViabilityProtocol, probe: Probe, seed: int) -> UnfrozenTrial:
    """Let the same host learn with the cell's own weights in reach of its gradient, at the protocol's one dose."""
    model = PatchSVAE.from_cell(cell)
    weights = list(model.parameters())
    start = nn.utils.parameters_to_vector(weights).detach().clone()
    before = _state(model, probe)
    host = _host(model.tokens, task, seed)
    _learn(host, task, protocol, seed, cell_weights=weights)
    change = nn.utils.parameters_to_vector(weights).detach() - start
    return UnfrozenTrial(_accuracy(host, task), before, _state(model, probe), float(change.norm() / start.norm()))


def _host(read_tokens: Read, task: Task, seed: int) -> Host:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Host(read_tokens, task.train[0][:: max(1, len(task.train[0]) // 128)], task.classes)


def _learn(host: Host, task: Task, protocol: ViabilityProtocol, seed: int, cell_weights: Iterable[nn.Parameter]) -> float:
    """Train a host; returns the smallest gradient norm seen at its stem."""
    cell_weights = list(cell_weights)
    steps = protocol.dose_steps if cell_weights else protocol.host_steps
    groups = [
        {"params": list(host.head.parameters()), "lr": protocol.head_rate},
        {"params": list(host.stem.parameters()), "lr": protocol.stem_rate},
    ]
    optimiser = torch.optim.Adam(groups + ([{"params": cell_weights, "lr": protocol.dose_rate}] if cell_weights else []))
    images, labels = task.train
    generator = torch.Generator().manual_seed(seed)
    smallest = torch.tensor(float("inf"))
    for _ in range(steps):
        chosen = torch.randint(len(images), (protocol.batch,), generator=generator)
        loss = F.cross_entropy(host(images[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        assert host.stem.weight.grad is not None
        norm = host.stem.weight.grad.norm()
        smallest = torch.minimum(smallest, norm if norm.isfinite() else norm * torch.nan)  # NaN stays NaN
        optimiser.step()
    return float(smallest)


@torch.no_grad()
def _accuracy(host: Host, task: Task) -> float:
    images, labels = task.test
    scores = torch.cat([host(part) for part in images.split(64)])
    return float((scores.argmax(dim=1) == labels).double().mean())


@torch.no_grad()
def _rows_and_rank(read_tokens: Read, images: Tensor) -> tuple[Estimate | Degenerate, Estimate]:
    """CV of one matrix an image, and the effective rank of all tokens."""
    matrices, ranks = [], []
    for part in images.split(64):
        found = read_tokens(part)
        matrices.append(found.M[:, found.M.shape[1] // 2])
        ranks.append(geometry.effective_rank(found.S).mean(dim=1))
    image = torch.arange(len(images))
    return geometry.cv(torch.cat(matrices), image), geometry.clustered_mean(torch.cat(ranks), image)


def _state(model: PatchSVAE, probe: Probe) -> State:
    reading = read(model, probe.images, probe.cluster)
    return State(reading.cv(), reading.effective_rank(), float(reading.mse.mean()))


def _only(container: composer.Container) -> Read:
    return lambda images: container.tokens(images)[container.names[0]]
