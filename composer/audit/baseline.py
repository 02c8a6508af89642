"""Held-out batches and their digest, and the baseline of a host whose blocks are frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean

import torch
from torch import Tensor, nn

from batteries.cell.manifest import Sha256
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.images.image_batch import unjudged
from batteries.io.canonical_json import Document
from composer.audit.stream import Blocks, stream_of
from composer.hosts.evaluation import evaluated, output_of
from composer.hosts.objective import sample_scores

Batch = tuple[Tensor, Tensor]
FEWEST_BATCHES = 3  # from which cosines between batches have a jackknife error


class Baseline(Document):
    """Scores of the same host with its blocks frozen as they were made, on the batches of an audit.

    Attributes:
        scores: Mean score of each batch.
        data: SHA-256 of inputs and targets.

    >>> import torch
    >>> from composer import audit, hosts
    >>> host, x, y = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2)), torch.randn(90, 8), torch.arange(90) % 3
    >>> batches = audit.batched(x, y, size=30)
    >>> with audit.frozen_blocks(host):
    ...     pass  # the training of the host
    >>> baseline = audit.Baseline.of(host, batches)
    >>> audit.audit(host, batches, baseline=baseline).of("d").value
    0.0
    """

    scores: tuple[float, ...]
    data: Sha256

    @classmethod
    @neutral()
    def of(cls, host: nn.Module, batches: Iterable[Batch]) -> Baseline:
        """Score a host that was trained with frozen blocks.

        Args:
            host: Host.
            batches: Inputs and targets, those of the audit.

        Raises:
            InputError: no module (``HOST``), unusable batches (``BATCHES``), targets that do not fit (``TARGETS``), an output
                that is not finite (``NOT_FINITE``).
        """
        held = checked(batches)
        spread = spread_of(held)
        with evaluated(host), torch.no_grad(), unjudged():
            scores = tuple(_score(host, x, targets, spread) for x, targets in held)
        return cls(scores=scores, data=digest_of(held))

    @property
    def accuracy(self) -> float:
        """Mean score over batches."""
        return fmean(self.scores)


@contextmanager
def frozen_blocks(host: nn.Module, blocks: Blocks | None = None) -> Iterator[None]:
    """Keep the weights of a host's blocks from learning inside of a ``with``: gradients pass through, none is stored.

    Args:
        host: Host.
        blocks: Blocks, as in :func:`composer.audit.audit`.

    Raises:
        InputError: no blocks (``NO_BLOCKS``).

    >>> from composer import audit, hosts
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> with audit.frozen_blocks(host):
    ...     sum(p.requires_grad for p in host.parameters()), len(list(host.parameters()))
    (6, 18)
    """
    weights = [p for block in stream_of(host, blocks).blocks for p in block.parameters()]
    before = [p.requires_grad for p in weights]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight, wanted in zip(weights, before, strict=True):
            weight.requires_grad_(wanted)


def batched(inputs: Tensor, targets: Tensor, size: int = 128) -> list[Batch]:
    """Split held-out samples into batches of a size; the last may be smaller.

    Args:
        inputs: Inputs (n, ...).
        targets: Targets (n, ...).
        size: Samples of a batch.

    Raises:
        InputError: numbers that do not match, or a size below 1 (``BATCHES``).

    >>> import torch
    >>> from composer import audit
    >>> [len(y) for _, y in audit.batched(torch.zeros(300, 8), torch.zeros(300).long())]
    [128, 128, 44]
    """
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets) or size < 1:
        found = f"{tuple(inputs.shape)} and {tuple(targets.shape)}, batches of {size}"
        raise InputError("unusable batches", code="BATCHES", expected="one target a sample, a size of 1 or more", found=found)
    return list(zip(inputs.split(size), targets.split(size), strict=True))


def checked(batches: Iterable[Batch]) -> list[Batch]:
    """Return batches as a list.

    Raises:
        InputError: fewer than three batches, or one that is no pair of tensors of one length, or empty; batches that differ in
            more than their number of samples (``BATCHES``).
    """
    held = list(batches) if isinstance(batches, Iterable) else []
    good = all(isinstance(pair, tuple | list) and len(pair) == 2 and _matched(*pair) for pair in held)
    if len(held) < FEWEST_BATCHES or not good:
        expected = f"{FEWEST_BATCHES} or more pairs of inputs and targets"
        raise InputError("unusable batches", code="BATCHES", expected=expected, found=f"{len(held)} batches")
    forms = {tuple((tuple(part.shape[1:]), part.dtype) for part in pair) for pair in held}
    if len(forms) > 1:
        found = "; ".join(" and ".join(f"{shape} {dtype}" for shape, dtype in form) for form in sorted(forms, key=str))
        raise InputError("batches differ", code="BATCHES", expected="samples of one shape and dtype", found=found)
    return [(_usable(x), _usable(targets)) for x, targets in held]


def digest_of(batches: Sequence[Batch]) -> str:
    """Return the SHA-256 of the shapes, dtypes and bytes of batches."""
    digest = hashlib.sha256()
    for part in (tensor for pair in batches for tensor in pair):
        flat = part.detach().cpu().contiguous()
        digest.update(f"{tuple(flat.shape)} {flat.dtype}".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.ndim else flat.numpy().tobytes())
    return digest.hexdigest()


def spread_of(batches: Sequence[Batch]) -> float:
    """Return the variance of targets that are values; 1 for classes."""
    if not batches[0][1].is_floating_point():
        return 1.0
    values = torch.cat([targets.flatten().double() for _, targets in batches])
    return max(float(values.var(correction=0)), torch.finfo(torch.float64).tiny)


def _score(host: nn.Module, x: Tensor, targets: Tensor, spread: float) -> float:
    output = output_of(host, x)
    scores = sample_scores(output, targets, spread)
    if not (output.isfinite().all() and scores.isfinite().all()):
        raise InputError("output not finite", code="NOT_FINITE", expected="finite values", where=type(host).__name__)
    return float(scores.mean())


def _usable(values: Tensor) -> Tensor:
    return values.clone() if values.is_inference() else values  # those of inference mode take no part in a gradient


def _matched(x: object, targets: object) -> bool:
    return isinstance(x, Tensor) and isinstance(targets, Tensor) and x.ndim > 0 < targets.ndim and 0 < len(x) == len(targets)
