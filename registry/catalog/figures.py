"""Figures of an attestation: checks, controls, read-outs, and trials of a cell in a host."""

from __future__ import annotations

from statistics import fmean
from typing import ClassVar, Literal

from batteries.cell.manifest import Count, Text
from batteries.io.canonical_json import Document, GrownDocument

Subject = Literal["cell", "untrained"]
TokenKind = Literal["M", "omega"]
AuditKey = Literal["a", "b"]
Stage = Literal["made", "trained"]
Ratio = tuple[float, float, float]  # after over before, and both 95% bounds


class CheckFigure(Document):
    """One check of a protocol: the measured value, its threshold and the result.

    Attributes:
        name: Name of the check within its protocol.
        passed: Result; None if the check could not be made.
        decides: Whether the verdict depends on the check; otherwise it is only reported.
        value: Measured value.
        lower: Lower bound of the interval of ``value``.
        upper: Upper bound of the interval of ``value``.
        threshold: Threshold for ``value`` or its bound, in words.
        source: Source of the threshold.
        reason: Result in words.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> [(check.name, check.passed) for check in attestation.checks][:2]
    [('finite', True), ('radius', True)]
    """

    name: Text
    passed: bool | None
    decides: bool
    value: float | None
    lower: float | None
    upper: float | None
    threshold: Text
    source: Text
    reason: Text


class ControlFigure(Document):
    """One negative control: whether it was rejected, and by which check.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> control = attestation.controls[0]
    >>> control.name, control.rejected, control.by
    ('untrained', True, 'lift, denoise')
    """

    name: Text
    rejected: bool
    by: Text


class Moment(GrownDocument):
    """Figures of a cell on its own probe at one step of a trial.

    Attributes:
        step: Step of the trial; 0 is the state before it.
        cv: Published CV; None if degenerate.
        cv_error: Standard error of ``cv``.
        rank: Effective rank.
        mse: Reconstruction error.
        axial_cv: Axial CV; None if degenerate, or from before it.
        axial_cv_error: Standard error of ``axial_cv``.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("axial_cv", "axial_cv_error")

    step: Count
    cv: float | None
    cv_error: float | None
    rank: float
    mse: float
    axial_cv: float | None = None
    axial_cv_error: float | None = None

    @property
    def deciding_cv(self) -> tuple[float | None, float | None]:
        """Axial CV with its standard error, or the published one in an attestation without it."""
        return (self.cv, self.cv_error) if self.axial_cv is None else (self.axial_cv, self.axial_cv_error)


class HeldCv(GrownDocument):
    """Ratios of the two CVs after a trial to before it.

    Attributes:
        cv: Ratio of the published CV, with both 95% bounds; None if degenerate.
        axial_cv: Ratio of the axial CV; None if degenerate, or from before it.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("axial_cv",)

    cv: Ratio | None
    axial_cv: Ratio | None = None

    @property
    def deciding_cv(self) -> Ratio | None:
        """Ratio of the axial CV, or of the published one in an attestation without it."""
        return self.cv if self.axial_cv is None else self.axial_cv


class HostAuditFigure(Document):
    """Audit of a host in a frozen trial: the two diagnostics of :func:`composer.audit.audit` that need no second training.

    Attributes:
        stage: ``made``, before the host's first step, or ``trained``, after its last.
        growth: (a) largest growth of the stream's norm over one block; None if there is no stream to read.
        gradient: (b) norm of the loss gradient, per sample, at the weakest place of the stream; None if there is none.
        fired: Diagnostics that fired.
        reason: Grounds in words, or why the host was not audited.
    """

    stage: Stage
    growth: float | None
    gradient: float | None
    fired: tuple[AuditKey, ...]
    reason: Text


class FrozenFigure(HeldCv):
    """Result of a host that learned a task around a frozen cell.

    Attributes:
        subject: ``cell``, or ``untrained`` for an untrained cell of the null.
        task: Task that the host learned.
        host: Name of the host.
        seed: Seed of the host and of the order of its images.
        score: Score on test images: accuracy, or R2 (share of variance explained) if the targets are images.
        score_error: Standard error of the score from the test images alone.
        gradient: Smallest gradient norm at the stem before the cell, over all steps; None if one was not finite.
        cv: Ratio of the published CV after to before, on the stem's output, with both 95% bounds; None if degenerate.
        axial_cv: Ratio of the axial CV, which decides; None if degenerate, or from before it.
        rank: Ratio of effective rank after to before, with both 95% bounds.
        unchanged: Whether the digest of the weights is the same before and after.
        audits: Audits of the host, before and after its training; empty for untrained cells, and from before it.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> sorted({trial.task for trial in attestation.frozen if trial.subject == "cell" and trial.unchanged})
    ['denoise', 'name the photograph']
    """

    ADDED: ClassVar[tuple[str, ...]] = (*HeldCv.ADDED, "audits")

    subject: Subject
    task: Text
    host: Text
    seed: Count
    score: float
    score_error: float
    gradient: float | None
    rank: Ratio
    unchanged: bool
    audits: tuple[HostAuditFigure, ...] = ()


class ReadOutFigure(Document):
    """Loss of a read-out of one kind of token alone, fitted in closed form.

    Attributes:
        subject: ``cell``, or ``untrained`` for an untrained cell of the null.
        reads: Kind of token that it reads.
        losses: Share of the variance of pixels that it leaves unexplained, or share of images that it names wrongly, on each
            photograph or noise type.
        within: Standard error of the mean loss from the images of each noise type; None for photographs, which are a sample
            themselves.

    >>> import registry
    >>> registry.ReadOutFigure(subject="cell", reads="omega", losses=(0.5, 0.25), within=None).loss
    0.375
    """

    subject: Subject
    reads: TokenKind
    losses: tuple[float, ...]
    within: float | None

    @property
    def loss(self) -> float:
        """Mean of the losses."""
        return fmean(self.losses)


class DoseFigure(HeldCv):
    """Result of a trial in which the host's gradient updates the cell's own weights.

    Attributes:
        subject: ``cell``, or ``untrained``.
        rate: Adam's learning rate for the cell's weights.
        seed: Seed of the host and of the order of its images.
        score: Score of the host on test images.
        weight_change: norm(dW) / norm(W).
        cv: Ratio of the published CV after to before on the cell's own probe, with both 95% bounds; None if degenerate.
        axial_cv: Ratio of the axial CV, which decides; None if degenerate, or from before it.
        rank: Ratio of effective rank after to before, with both 95% bounds.
        retention: Ratio of reconstruction error after to before.
        kept: Fraction retained of what the cell explains beyond predicting the mean.
        moments: Figures along the trial, from step 0 to the last.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> doses = [trial for trial in attestation.doses if trial.subject == "cell"]
    >>> kept = [trial.kept for trial in doses if trial.rate == attestation.reference_rate]
    >>> len(kept), sum(kept) / len(kept) > 0.9
    (12, True)
    """

    subject: Subject
    rate: float
    seed: Count
    score: float
    weight_change: float
    rank: Ratio
    retention: float
    kept: float
    moments: tuple[Moment, ...]


class ReturnFigure(Document):
    """Recovery, under reconstruction training, of a cell that a dose drove away.

    Attributes:
        subject: ``cell``, or ``untrained``.
        rate: Learning rate of the dose.
        seed: Seed of the trial.
        limit: Largest number of reconstruction steps tried.
        steps: Steps until CV and rank were within their bounds and content was kept; None if never.
        moments: Figures during recovery.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> [(trial.subject, trial.rate) for trial in attestation.returns]
    [('cell', 0.001), ('untrained', 0.001)]
    """

    subject: Subject
    rate: float
    seed: Count
    limit: Count
    steps: Count | None
    moments: tuple[Moment, ...]
