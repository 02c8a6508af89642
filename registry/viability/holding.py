"""Holding certificate: what was tried to adapt a cell in hosts, what held, and up to which dose.

It is an attestation of a protocol of its own, and judges no cell: queries of viability leave it out. A new certificate has the
trials of an earlier one, unless it repeats them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from batteries import __version__
from batteries.cell.adaptation import Adaptation, HoldFigures
from batteries.cell.cell import Cell
from batteries.errors import ConflictError, InputError
from batteries.geometry import attractor
from batteries.io import canonical_json
from composer.adaptation.adapted import Adapted
from composer.adaptation.hold import TERMS
from registry.catalog import store_keys
from registry.catalog.attestation import HOLDING, Attestation
from registry.catalog.figures import CheckFigure, DoseFigure
from registry.stores.snapshot import Snapshot
from registry.stores.store import Store
from registry.stores.verified_read import read_pinned
from registry.transfer.publish import target_store

PROTOCOL = f"{HOLDING}1"
DECISION = "docs/decisions/0046-adaptation.md"
THRESHOLD = "axial CV and rank within holds, content at least as the hold says, over all steps"


def certify(adapted: Adapted | Iterable[Adapted], earlier: Attestation | None = None) -> Attestation:
    """Certify what held of a cell in adaptations.

    Args:
        adapted: Results of :func:`composer.adapt`, all of one parent.
        earlier: Certificate of the same cell, whose trials are kept.

    Returns:
        Attestation of the parent, with a check and a dose for every trial. Its verdict is *holds* if every trial with a hold
        held over all of its steps; raw gradients are reported and do not decide.

    Raises:
        InputError: no adaptation (``ADAPTED``).
        ConflictError: adaptations, or an earlier certificate, of other cells (``OTHER_PARENT``).

    >>> import composer, registry
    >>> cell, numbers = registry.load("low/johanna-64"), composer.hosts.TaskSize(train=32, test=32)
    >>> found = composer.adapt(cell, composer.hosts.residual_host(), composer.adaptation.naming(numbers=numbers), steps=2)
    >>> certificate = registry.certify(found)
    >>> certificate.protocol, certificate.verdict, certificate.cell == cell.digest
    ('holding-1', 'holds', True)
    """
    trials = [adapted] if isinstance(adapted, Adapted) else list(adapted)
    if not trials:
        raise InputError("no adaptation to certify", code="ADAPTED", expected="results of composer.adapt")
    parent = trials[0].parent
    digests = {one.parent.digest for one in trials} | ({earlier.cell} if earlier else set())
    if digests != {parent.digest}:
        raise ConflictError("adaptations of several cells", code="OTHER_PARENT", expected=parent.digest, found=sorted(digests))
    rows = {check.name: (check, dose) for check, dose in zip(earlier.checks, earlier.doses, strict=True)} if earlier else {}
    rows |= {_name(one): (_check(one), _dose(one)) for one in trials}
    checks, doses = zip(*(rows[name] for name in sorted(rows)), strict=True)
    return _attestation(parent, checks, doses, trials[0])


def current_certificate(cell: Cell, registry: str | Store) -> Attestation | None:
    """Return the current certificate of a cell in a registry; None without one.

    >>> import registry
    >>> registry.current_certificate(registry.load("low/fresnel-64"), registry.open_store()) is None
    True
    """
    snapshot = Snapshot.take(target_store(registry))
    attested = snapshot.index.attestations.get(cell.digest, {}).get(PROTOCOL)
    if attested is None:
        return None
    key = store_keys.attestation(cell.digest, attested.sha256)
    return Attestation.from_bytes(read_pinned(snapshot.store, key, attested).data, where=key)


def _facts(one: Adapted) -> Adaptation:
    facts = one.cell.manifest.adapted
    assert facts is not None, "an adapted cell has its adaptation in its manifest"
    return facts


def _name(one: Adapted) -> str:
    """Return the name of a trial: all that was asked of it, so that no trial takes the place of another."""
    facts, batch = _facts(one), one.cell.manifest.training.batch
    steps = f"{facts.steps} steps" if facts.ended == "finished" else f"ended by the guard after {facts.steps} steps"
    return (
        f"{facts.task}: {_hold_words(facts.hold)}; {facts.optimiser} {facts.rate:g}; "
        f"host {facts.host} {facts.host_rate:g}; {steps} of {batch}; seed {facts.seed}"
    )


def _hold_words(hold: HoldFigures | None) -> str:
    if hold is None:
        return "raw"
    terms = " + ".join(f"{term} {getattr(hold, term):g}" for term in TERMS if getattr(hold, term)) or "no term"
    guard = f"guard every {hold.every}, {hold.backoffs} back-offs" if hold.guarded else "no guard"
    return f"{terms}; content {hold.content:g}; {guard}"


def _check(one: Adapted) -> CheckFigure:
    facts, faults = _facts(one), _faults(one)
    reached = f"held up to a dose of {facts.dose:.3g}" if not faults else f"a dose of {facts.dose:.3g} did not hold"
    words = [f"{reached}, weights changed by {facts.weight_change:.3g}, {facts.steps} steps, {facts.backoffs} back-offs"]
    words += faults or [f"beyond: {text}" for moment in one.moments[-1:] for text in moment.faults]
    return CheckFigure(
        name=_name(one),
        passed=not faults and one.ended == "finished",
        decides=facts.hold is not None,
        value=facts.dose,
        lower=None,
        upper=None,
        threshold=THRESHOLD,
        source=DECISION,
        reason="; ".join(words)[:2000],
    )


def _faults(one: Adapted) -> list[str]:
    """Return what does not hold of the state that was kept."""
    step = _facts(one).steps
    return next(list(moment.faults) for moment in reversed(one.moments) if moment.step == step)


def _dose(one: Adapted) -> DoseFigure:
    facts, before, after = _facts(one), one.parent.manifest.own.mse.value, one.cell.manifest.own.mse.value
    return DoseFigure(
        subject="cell",
        rate=facts.rate,
        seed=facts.seed,
        score=facts.score,
        weight_change=facts.weight_change,
        cv=None,
        axial_cv=facts.axial_cv,
        rank=facts.rank,
        retention=after / before,
        kept=facts.content,
        moments=(),
    )


def _attestation(parent: Cell, checks: Sequence[CheckFigure], doses: Sequence[DoseFigure], first: Adapted) -> Attestation:
    spec, deciding = parent.spec, [check for check in checks if check.decides]
    held = [dose for check, dose in zip(checks, doses, strict=True) if check.passed]
    tried = {"protocol": PROTOCOL, "trials": [check.name for check in checks]}
    figures = {
        "largest dose that held": max((check.value or 0.0 for check in checks if check.passed), default=0.0),
        "largest change of the weights that held": max((dose.weight_change for dose in held), default=0.0),
    }
    words = (
        f"{len(checks)} trials, {len(held)} of which held over all steps.",
        *(f"{name}: {value:.3g}." for name, value in figures.items()),
    )
    return Attestation(
        cell=parent.digest,
        reference=f"{parent.name}@{parent.version}",
        D=spec.D,
        attractor=attractor.sphere_cv(spec.D) if spec.D >= attractor.SIMPLEX else None,
        probe=parent.manifest.own_probe,
        protocol=PROTOCOL,
        protocol_digest=canonical_json.sha256(canonical_json.dump(tried)),
        control=None,
        verdict="holds" if deciding and all(check.passed for check in deciding) else "does not hold",
        words=words,
        checks=tuple(checks),
        controls=(),
        trajectory=parent.manifest.training.trajectory,
        frozen=(),
        doses=tuple(doses),
        returns=(),
        reference_rate=_facts(first).rate,
        figures=figures,
        package=__version__,
        torch=torch.__version__,
        seed=_facts(first).seed,
    )
