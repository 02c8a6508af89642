"""Audit of a host's gradient: the four diagnostics of a published study of feedback alignment, on held-out batches.

Definitions. The study states thresholds and leaves these open, so that they are ours: (a) norms of the stream are means over
samples; (b) the median over samples of |g_l| / min(1, |g|), where g_l is the gradient of a sample's loss at h_l and g that at
the output, so that a task which is solved, with a small g, is not taken for a gradient that vanishes on its way; the relative
floor; (c) the mean cosine between gradients of samples of different batches, at h_L, from the mean unit gradient of each.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer.audit.baseline import Baseline, Batch, checked, digest_of, spread_of
from composer.audit.intervals import about, around, cosine_between
from composer.audit.report import AuditReport, Diagnostic, StateReading
from composer.audit.stream import BatchReading, Blocks, Form, Stream, read, stream_of
from composer.audit.thresholds import Key, Threshold, Thresholds

ENOUGH = 512  # samples from which the study takes a median
STANDARD = Thresholds()


@neutral()
def audit(
    host: nn.Module,
    batches: Iterable[Batch],
    *,
    blocks: Blocks | None = None,
    form: Form | None = None,
    baseline: Baseline | None = None,
    first: AuditReport | None = None,
    thresholds: Thresholds = STANDARD,
) -> AuditReport:
    """Audit a host with a residual stream.

    Args:
        host: Any module whose blocks share a stream of constant width, such as :class:`composer.hosts.ResidualMLP`, or a host
            that contains one. It is read in evaluation mode and not changed.
        batches: Held-out inputs and targets, three batches or more, at least 512 samples in all to be comparable with the
            source, and alike, with all classes in each. Targets are classes, or values of the shape of the output.
        blocks: Path of the blocks in the host, or the blocks; by default the only list named ``blocks`` in it.
        form: ``branch`` if a block returns what is added to the stream, ``stream`` if it returns the stream; by default found
            from two consecutive blocks.
        baseline: Scores of the host with frozen blocks; without them (d) is not measured.
        first: Audit of the host before its first step; without it (b) has no relative floor.
        thresholds: Thresholds.

    Raises:
        InputError: no module (``HOST``) or blocks (``NO_BLOCKS``); no residual stream (``STREAM``), or one of changing width
            (``WIDTH``); unusable batches (``BATCHES``) or targets (``TARGETS``); values that are not finite (``NOT_FINITE``);
            a baseline or a first audit of other data (``BASELINE``, ``FIRST``); an unknown form (``FORM``).

    >>> import torch
    >>> from composer import audit, hosts
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> report = audit.audit(host, audit.batched(torch.randn(90, 8), torch.arange(90) % 3, size=30))
    >>> [(one.key, one.fired) for one in report.diagnostics]
    [('a', False), ('b', False), ('c', False), ('d', None)]
    """
    held = checked(batches)
    data = digest_of(held)
    if baseline is not None and baseline.data != data:
        raise InputError(
            "baseline of other data",
            code="BASELINE",
            expected=f"sha256 {data[:12]}...",
            found=f"{baseline.data[:12]}...",
            remedy="Measure the baseline on the batches of the audit: Baseline.of(host, batches).",
        )
    if first is not None and first.data != data:
        remedy = "Audit the host on the same batches before its first step."
        found = f"{first.data[:12]}..."
        raise InputError(
            "first audit of other data", code="FIRST", expected=f"sha256 {data[:12]}...", found=found, remedy=remedy
        )
    stream = stream_of(host, blocks, form)
    readings = list(read(host, stream, held, spread_of(held)))
    states = _states(stream, readings)
    scores = [float(one.scores.mean()) for one in readings]
    accuracy, lower, upper = around(scores)
    samples = sum(len(targets) for _, targets in held)
    weakest = min(states, key=lambda state: state.gradient)
    relative = None if first is None else _relative(weakest.gradient, first)
    return AuditReport(
        host=type(host).__name__,
        data=data,
        batches=len(held),
        samples=samples,
        accuracy=accuracy,
        accuracy_lower=lower,
        accuracy_upper=upper,
        baseline=None if baseline is None else baseline.accuracy,
        relative=relative,
        thresholds=thresholds,
        states=states,
        diagnostics=(
            _growth(states, thresholds),
            _gradient(weakest, relative, samples, thresholds),
            _stability(readings, thresholds),
            _margin(scores, baseline, thresholds),
        ),
    )


def _states(stream: Stream, readings: list[BatchReading]) -> tuple[StateReading, ...]:
    norms = [one.norms.mean(dim=1) for one in readings]  # (L + 1,) each
    weights = torch.tensor([len(one.scores) for one in readings], dtype=torch.float64)
    whole = (torch.stack(norms) * weights[:, None]).sum(dim=0) / weights.sum()
    gradients = [_unmasked(one) for one in readings]  # (L + 1, B) each
    pooled = torch.cat(gradients, dim=1).quantile(0.5, dim=1)
    found = []
    for place, name in enumerate(("input", *stream.names)):
        growth: float | None = None
        bounds: tuple[float | None, float | None] = (None, None)
        if place:
            growth = float(whole[place] / whole[place - 1])
            bounds = about(growth, [float(norm[place] / norm[place - 1]) for norm in norms])
        gradient = float(pooled[place])
        low, high = about(gradient, [float(one[place].quantile(0.5)) for one in gradients])
        found.append(
            StateReading(
                name=name,
                norm=float(whole[place]),
                growth=growth,
                growth_lower=bounds[0],
                growth_upper=bounds[1],
                gradient=gradient,
                gradient_lower=low,
                gradient_upper=high,
            )
        )
    return tuple(found)


def _unmasked(reading: BatchReading) -> Tensor:
    """Divide the gradients by that at the output, where it is below 1; a sample without any loss to lower counts as 1."""
    at_output = reading.output.clamp_max(1.0)
    return torch.where(at_output > 0, reading.gradients / at_output, 1.0)


def _relative(gradient: float, first: AuditReport) -> float | None:
    before = first.of("b").value
    return gradient / before if before else None


def _growth(states: tuple[StateReading, ...], limits: Thresholds) -> Diagnostic:
    widest = max(states[1:], key=lambda state: state.growth or 0.0)
    value, limit = widest.growth, limits.growth
    assert value is not None
    fired = value > limit.value
    reason = f"{widest.name} multiplies the stream's norm by {value:.3g}, {'above' if fired else 'at most'} {limit.value:g}"
    bounds = (widest.growth_lower, widest.growth_upper)
    return _diagnostic("a", "largest growth of one block", value, bounds, limit, fired, widest.name, reason)


def _gradient(weakest: StateReading, relative: float | None, samples: int, limits: Thresholds) -> Diagnostic:
    value = weakest.gradient
    low, faded = value < limits.gradient.value, relative is not None and relative < limits.relative.value
    reason = f"{value:.3g} at {weakest.name}, {'below' if low else 'not below'} {limits.gradient.value:g}"
    if relative is not None:
        reason += (
            f"; {relative:.3g} times that before the first step, {'below' if faded else 'not below'} {limits.relative.value:g}"
        )
    if samples < ENOUGH:
        reason += f"; {samples} samples, fewer than {ENOUGH}"
    bounds = (weakest.gradient_lower, weakest.gradient_upper)
    limit = limits.relative if faded and not low else limits.gradient
    scale = value / relative if relative else 1.0  # the gradient before the first step, on which the relative floor rests
    edge = limit.value * (scale if limit is limits.relative else 1.0)
    shown = limit.model_copy(update={"value": edge})
    return _diagnostic("b", "gradient's norm, per sample", value, bounds, shown, low or faded, weakest.name, reason)


def _stability(readings: list[BatchReading], limits: Thresholds) -> Diagnostic:
    value, low, high = cosine_between(torch.stack([one.direction for one in readings]))
    limit = limits.stability
    fired = value > limit.value
    mode = "drift: the gradient points the same way for any input" if fired else "the gradient depends on the input"
    reason = f"{value:.3g} between samples of different batches: {mode}; does not decide"
    return _diagnostic("c", "cross-batch stability", value, (low, high), limit, fired, None, reason, decides=False)


def _margin(scores: list[float], baseline: Baseline | None, limits: Thresholds) -> Diagnostic:
    limit, name = limits.margin, "score less that of frozen blocks"
    if baseline is None:
        return _diagnostic("d", name, None, (None, None), limit, None, None, "no baseline was given")
    value, low, high = around([own - frozen for own, frozen in zip(scores, baseline.scores, strict=True)])
    fired = value < limit.value
    word = "below the baseline" if fired else "weak" if value < limits.weak else "above the baseline"
    reason = f"{baseline.accuracy + value:.3f} against {baseline.accuracy:.3f} with frozen blocks: {word}"
    return _diagnostic("d", name, value, (low, high), limit, fired, None, reason)


def _diagnostic(
    key: Key,
    name: str,
    value: float | None,
    bounds: tuple[float | None, float | None],
    limit: Threshold,
    fired: bool | None,
    where: str | None,
    reason: str,
    *,
    decides: bool = True,
) -> Diagnostic:
    low, high = bounds
    return Diagnostic(
        key=key,
        name=name,
        value=value,
        lower=low,
        upper=high,
        threshold=limit,
        fired=fired,
        clear=None if low is None or high is None else not low < limit.value < high,
        decides=decides,
        where=where,
        reason=reason,
    )
