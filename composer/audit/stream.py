"""Reading of a residual stream through hooks: norms of states, gradients of each sample's loss, and their direction.

Any module will do whose blocks are called one after the other, once in a pass, on one stream of constant shape. A block's
output is either the stream itself, as in torch's transformer layers, or the branch that the host adds to it, as in the hosts
here. The gradient of the loss at h_{l+1} is that at the output of block l in both cases.

Legend: B samples of a batch, L blocks; h_0 the input of the first block, h_l the stream after block l.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from batteries.errors import InputError
from batteries.images.image_batch import unjudged
from composer.hosts.evaluation import evaluated, output_of, refuse_no_module
from composer.hosts.objective import sample_losses, sample_scores
from composer.hosts.residual_mlp import Staged

Form = Literal["branch", "stream"]
Blocks = str | Sequence[nn.Module]

CLOSE = 1e-4  # difference between two states, as a share of their norm, up to which they are the same
REMEDY = "Name the blocks: audit(..., blocks='path.to.blocks')."


@dataclass(frozen=True)
class Stream:
    """Blocks of a host.

    Attributes:
        names: Name of each block in the host.
        blocks: The blocks, in the order of their calls.
        form: Meaning of a block's output; None if it is to be found from two consecutive blocks.
    """

    names: tuple[str, ...]
    blocks: tuple[nn.Module, ...]
    form: Form | None


@dataclass(frozen=True, eq=False)
class BatchReading:
    """Readings of one batch.

    Attributes:
        norms: Norms of h_0 ... h_L of every sample, (L + 1, B).
        gradients: Norms of the gradient of each sample's loss at these, (L + 1, B).
        output: Norms of that gradient at the host's output, (B,).
        direction: Mean over samples of the unit gradient at h_L, flat.
        scores: Score of every sample (B,).
    """

    norms: Tensor
    gradients: Tensor
    output: Tensor
    direction: Tensor
    scores: Tensor


def stream_of(host: nn.Module, blocks: Blocks | None = None, form: Form | None = None) -> Stream:
    """Find the blocks of a host.

    Args:
        host: Any module.
        blocks: Path of a list of modules in the host, or modules of it; by default the only ``blocks`` in the host.
        form: Meaning of a block's output; by default found when the host runs, and known for hosts of this package.

    Raises:
        InputError: no module (``HOST``), an unknown form (``FORM``), or no blocks of that name, none at all, or several lists
            of them (``NO_BLOCKS``).
    """
    refuse_no_module(host)
    if form is not None and form not in get_args(Form):
        raise InputError("unknown form of blocks", code="FORM", expected=" | ".join(get_args(Form)), found=repr(form))
    names = {module: name for name, module in host.named_modules()}
    owner: nn.Module | None = None
    if blocks is None:
        lists = {name: owned for name, owned in host.named_modules() if _is_list(getattr(owned, "blocks", None))}
        if len(lists) != 1:
            found = ", ".join(f"{name}.blocks".removeprefix(".") for name in lists) or "none"
            raise _no_blocks(host, "one list of modules named blocks", found)
        (owner,) = lists.values()
        chosen = tuple(owner.blocks)  # type: ignore[arg-type]
    elif isinstance(blocks, str):
        listed = next((module for module, name in names.items() if name == blocks), None)
        if not _is_list(listed):
            raise _no_blocks(host, "a path to a list of modules", blocks)
        chosen = tuple(listed)  # type: ignore[arg-type]
        owner = next((module for module, name in names.items() if name == blocks.rpartition(".")[0]), None)
    elif not isinstance(blocks, Iterable):
        raise _no_blocks(host, "a path, or several modules", type(blocks).__name__)
    else:
        chosen = tuple(blocks)
    if not chosen or any(block not in names for block in chosen):
        raise _no_blocks(host, "at least one module of the host", f"{len(chosen)} modules, not all of the host")
    known: Form | None = "branch" if isinstance(owner, Staged) else None
    return Stream(tuple(names[block] for block in chosen), chosen, form or known)


def read(host: nn.Module, stream: Stream, batches: Iterable[tuple[Tensor, Tensor]], spread: float) -> Iterator[BatchReading]:
    """Read batches in evaluation mode, and restore the modes of all modules.

    Args:
        host: Host.
        stream: Blocks of the host.
        batches: Inputs and targets.
        spread: Variance of the targets, if they are values.

    Raises:
        InputError: blocks that are not called once each, or whose inputs and outputs are no residual stream (``STREAM``); whose
            width changes (``WIDTH``); values that are not finite (``NOT_FINITE``); targets that do not fit (``TARGETS``).
    """
    with evaluated(host):
        for x, targets in batches:
            yield _reading(host, stream, x, targets, spread)


def _reading(host: nn.Module, stream: Stream, x: Tensor, targets: Tensor, spread: float) -> BatchReading:
    calls = _Calls(stream)
    with torch.enable_grad(), unjudged(), calls:
        fed = x.detach().clone().requires_grad_() if x.is_floating_point() else x
        output = output_of(host, fed)
        losses = sample_losses(output, targets)
        first, outputs = calls.made()
        sources = [output, first, *outputs]
        if not all(source.requires_grad for source in sources):
            raise _no_stream("a gradient from the loss to every block", "a stream cut from the loss")
        found = torch.autograd.grad(losses.sum(), sources, allow_unused=True)
        grads = [torch.zeros_like(s) if g is None else g for s, g in zip(sources, found, strict=True)]
    states = _states(stream, calls.inputs, outputs)
    if any(len(h) != len(x) for h in states):
        raise _no_stream(f"states of {len(x)} samples, one a row", f"{len(states[0])} rows")
    norms, gradients = (torch.stack([_norm(part) for part in parts]) for parts in (states, grads[1:]))
    _refuse_not_finite(stream, norms, gradients)
    last = grads[-1].flatten(1).double()
    unit = last / last.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    scores = sample_scores(output.detach(), targets, spread)
    return BatchReading(*(part.cpu() for part in (norms, gradients, _norm(grads[0]), unit.mean(dim=0), scores)))


class _Calls:
    """Inputs and outputs of the blocks in one pass."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._handles: list[Any] = []
        self._order: list[nn.Module] = []
        self._versions: list[int] = []  # of the inputs, before their blocks
        self.inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []

    def __enter__(self) -> None:
        for block in self._stream.blocks:
            self._handles.append(block.register_forward_pre_hook(self._given, with_kwargs=True))
            self._handles.append(block.register_forward_hook(self._note, with_kwargs=True))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _given(self, block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        into = _tensor_of((*given, *named.values()))
        self._versions += [] if into is None else [into._version]

    def _note(self, block: nn.Module, given: tuple[Any, ...], named: dict[str, Any], returned: Any) -> None:
        into = _tensor_of((*given, *named.values()))
        out = _tensor_of(returned) if isinstance(returned, tuple) else returned
        if into is None or not isinstance(out, Tensor):
            raise _no_stream("blocks from a tensor to a tensor", type(returned).__name__)
        self._order.append(block)
        self.inputs.append(into)
        self._outputs.append(out)

    def made(self) -> tuple[Tensor, list[Tensor]]:
        """Return the input of the first block and the outputs of all."""
        if tuple(self._order) != self._stream.blocks:
            raise _no_stream(
                "every block called once, in order", f"{len(self._order)} calls of {len(self._stream.blocks)} blocks"
            )
        for name, into, out in zip(self._stream.names, self.inputs, self._outputs, strict=True):
            if into.shape != out.shape or into.shape != self.inputs[0].shape:
                raise InputError(
                    "residual stream of changing width",
                    code="WIDTH",
                    expected=tuple(self.inputs[0].shape),
                    found=f"{tuple(into.shape)} to {tuple(out.shape)}",
                    where=name,
                    remedy="Audit the stages of constant width one by one: audit(..., blocks=...).",
                )
        for name, into, version in zip(self._stream.names, self.inputs, self._versions, strict=True):
            if into._version != version:
                raise _no_stream("a stream that no layer changes in place", "an input that was changed", name)
        return self.inputs[0], self._outputs


@torch.no_grad()
def _states(stream: Stream, inputs: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
    """Return h_0 ... h_L, after checking that every block's input is the state that the block before it left."""
    form = stream.form or _form(inputs, outputs)
    left = [x + y if form == "branch" else y for x, y in zip(inputs, outputs, strict=True)]
    for name, state, into in zip(stream.names[1:], left, inputs[1:], strict=False):
        if not _same(state, into):
            raise _no_stream(f"the stream as a {form} of the block before", "another input", name)
    return [inputs[0], *left]


def _tensor_of(values: tuple[Any, ...]) -> Tensor | None:
    """Return the first tensor among the values of a call."""
    return next((value for value in values if isinstance(value, Tensor)), None)


def _form(inputs: list[Tensor], outputs: list[Tensor]) -> Form:
    if len(inputs) == 1:
        raise _no_stream("two blocks or more, or form='branch' or 'stream'", "one block, whose output may be either")
    return "branch" if _same(inputs[0] + outputs[0], inputs[1]) else "stream"


def _same(one: Tensor, other: Tensor) -> bool:
    difference = (one.double() - other.double()).norm()
    return not difference > CLOSE * other.double().norm()  # so that NaN goes on to the check of finite values


def _norm(values: Tensor) -> Tensor:
    """Compute the norm (B,) of each sample, float64."""
    return values.detach().flatten(1).double().norm(dim=1)


def _refuse_not_finite(stream: Stream, norms: Tensor, gradients: Tensor) -> None:
    for what, values in (("stream", norms), ("gradient", gradients)):
        bad = (~values.isfinite()).any(dim=1).nonzero().flatten().tolist()
        if bad:
            where = ("the first input", *stream.names)[bad[0]]
            raise InputError(f"{what} not finite", code="NOT_FINITE", expected="finite values", where=where)
    if bool((norms.mean(dim=1) == 0).any()):
        raise _no_stream("states other than zero", "a state of norm 0 in every sample")


def _is_list(value: object) -> bool:
    return isinstance(value, nn.ModuleList | nn.Sequential) and len(value) > 0


def _no_blocks(host: nn.Module, expected: str, found: str) -> InputError:
    where = type(host).__name__
    return InputError("no blocks to hook", code="NO_BLOCKS", expected=expected, found=found, where=where, remedy=REMEDY)


def _no_stream(expected: str, found: str, where: str | None = None) -> InputError:
    return InputError("not a residual stream", code="STREAM", expected=expected, found=found, where=where)
