"""The viability test: whether a cell has content, and keeps CV and rank in a host, frozen and under its gradient.

CV alone cannot decide, since untrained cells are already on the attractor. The verdict depends on error and score against
untrained cells, row radius, rank, and whether CV, rank and content hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.data.probes import probe
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError, UnknownKeyError
from batteries.io import atomic_files
from batteries.io.home import home
from batteries.lookup import Lookup
from batteries.model.patch_svae import PatchSVAE
from batteries.text import listed
from batteries.training.rerun import Rerun
from composer.hosts.cell_hosts import HostFactory
from composer.hosts.tasks import Task, refuse_unfit
from registry.catalog.attestation import CUSTOM, Attestation, Verdict
from registry.catalog.figures import CheckFigure, ControlFigure, FrozenFigure
from registry.checks import cell_checks
from registry.checks.claims import Reference
from registry.checks.host_audit import host_audit
from registry.checks.protocol import PROFILES, Control, Profile, ViabilityProtocol
from registry.reports.verdict_card import verdict_card
from registry.reports.viability_page import Reconstruction, page
from registry.stores.store import Store
from registry.transfer.pull import load
from registry.viability import retraining, verdict
from registry.viability.controls import CONTROLS, NAMED_CHECK, OF_MODEL, control_cell, control_model
from registry.viability.reconstructions import reconstructions
from registry.viability.result_cache import ResultCache
from registry.viability.runner import NO_TRIALS, NullFigures, Progress, Runner, Trials, measurement
from registry.viability.tasks import own_hosts, own_tasks
from registry.viability.unhosted import CONTROL_SEED, finite, named_check, unhosted


@dataclass(frozen=True)
class Report(Lookup[CheckFigure]):
    """Result of a viability test: a mapping of its checks by name.

    Attributes:
        attestation: All figures, in the form that can be published.
        reconstructions: Images of the cell's own probe with their reconstructions; empty if the cell is not finite.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> report = registry.Report(attestation)
    >>> report.verdict, report.failed
    ('viable', ())
    >>> report.to_html("report.html")
    """

    attestation: Attestation
    reconstructions: tuple[Reconstruction, ...] = ()

    def __getitem__(self, name: str) -> CheckFigure:
        found = {check.name: check for check in self.checks}
        if name not in self:
            raise UnknownKeyError("no such check", code="NO_CHECK", expected=listed(list(found)), found=name)
        return found[name]

    def __iter__(self) -> Iterator[str]:
        return (check.name for check in self.checks)

    def __repr__(self) -> str:
        passed = sum(bool(check.passed) for check in self.checks)
        head = short_repr.headed(self, self.attestation.reference, f"{self.attestation.protocol}: {self.verdict}")
        failed = (f"{name}: {self[name].reason}" for name in self.failed)
        return short_repr.rows(head, [f"{passed} of {short_repr.counted(len(self), 'check')} passed", *failed])

    def _repr_html_(self) -> str:
        return verdict_card(self.attestation)

    @property
    def verdict(self) -> Verdict:
        """*viable*, *walked back*, or *no verdict* if a host's gradient is walked back or a control was not rejected."""
        return self.attestation.verdict

    @property
    def checks(self) -> tuple[CheckFigure, ...]:
        """All checks, in the order they ran."""
        return self.attestation.checks

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the deciding checks that did not pass."""
        return self.attestation.failed

    def to_html(self, path: str | Path) -> None:
        """Write the report as one page of HTML.

        Raises:
            StoreError: the file cannot be written.
        """
        atomic_files.replace(Path(path), page([self.attestation], {self.attestation.digest: self.reconstructions}).encode())


@neutral()
@torch.enable_grad()
def validate(
    target: str | Path | Cell,
    *,
    registry: str | Store | None = None,
    profile: Profile | ViabilityProtocol = "quick",
    control: Control | None = None,
    retrain: bool = False,
    photos: Sequence[str | Path] = (),
    host: HostFactory | None = None,
    task: Task | None = None,
    seed: int = 0,
    cache: Path | None = None,
    fresh: bool = False,
    progress: Progress = lambda words, done, parts: None,
) -> Report:
    """Run the viability test on a cell.

    Args:
        target: Reference, path of a cell file, or cell.
        registry: Registry in which to look up a reference; None for the default.
        profile: ``quick``, ``standard``, or a protocol of your own.
        control: Negative control of the cell's spec to test in its place; it must not be viable.
        retrain: Also run the first 1000 steps of the command in the manifest again, on generated noise, ``photos``, or the
            photographs of this package, and compare the readings; this takes minutes.
        photos: Folders or globs of the photographs that the cell was trained on, for ``retrain``.
        host: Factory of a network around a mounted cell, in place of the protocol's hosts; called with the cell, some images
            and the number of classes (0 if images are to be restored).
        task: Task for hosts, in place of the tasks of the cell's domain.
        seed: Seed of everything random but the null.
        cache: Folder of finished parts, reused after an interruption and for other cells of the spec; None for the user's
            cache folder.
        fresh: Compute every part again: those that are kept, and those of untrained cells that ship with the package.
        progress: Called with a description of the next part, the parts done and the parts in total; one call at a time, also
            from other threads than the caller's.

    Raises:
        NotFoundError: no such cell or file; with ``retrain``, training images that are neither there nor in this package
            (``NO_DATA``).
        InputError: an unknown profile or control; photographs without ``retrain`` (``USAGE``); with ``retrain``, no command
            that trains the cell (``NO_RECIPE``); a cell with other channels or input scale than the tasks' images; a host
            that is unusable, as in :func:`composer.hosts.host_training.make_host`.
        BatteriesError: errors of :func:`registry.pull` and :meth:`batteries.Cell.read`.

    >>> import registry
    >>> report = registry.validate("low/fresnel-64", control="nan")  # a control is rejected; without one, the cell is tested
    >>> report.verdict, report.failed
    ('walked back', ('finite',))
    """
    if control is not None and control not in CONTROLS:
        raise InputError("unknown control", code="CONTROL", expected=" | ".join(CONTROLS), found=control)
    if photos and not retrain:
        raise InputError("photographs of a run that is not repeated", code="USAGE", remedy="Give --retrain, too.")
    cell = load(target, registry=registry)
    rerun = retraining.prepared(cell, registry, photos) if retrain and control is None else None
    protocol = _protocol(profile, custom=host is not None or task is not None)
    own = probe(cell.manifest.own_probe)
    tasks = (task,) if task else own_tasks(own, protocol, seed)
    refuse_unfit(cell, tasks)
    hosts = {"own": host} if host else own_hosts(protocol)
    folder = None if host or task else cache or home() / "viability"
    runner = Runner(cell, protocol, own, tasks, hosts, seed, ResultCache(folder, fresh), progress, side_by_side=host is None)
    found = _controlled(runner, control) if control else _tried(runner, rerun)
    return Report(found, _shown(runner, control) if found.checks[0].passed else ())


def _tried(runner: Runner, rerun: Rerun | None) -> Attestation:
    """Test the cell itself: own probe, controls, retraining, frozen trials, and, in trustworthy hosts, doses and recovery."""
    if not finite(runner.cell):
        return verdict.attestation(runner, [cell_checks.finite(False)])
    runner.parts = runner.parts_of_a_cell + (rerun is not None)
    null = runner.null()
    runner.told("the cell on its own probe")
    own = measurement(runner.reading, runner.probe)
    found, readouts = unhosted(runner, runner.cell, PatchSVAE.from_cell(runner.cell), runner.reading, null)
    if not found[0].passed:
        return verdict.attestation(runner, found, null=null)
    runner.told("controls")
    controls = _controls(runner, null, Reference.measured(own.mse, own.axial_cv))
    if rerun is not None:
        runner.told("training again")
        found.append(retraining.retrained(runner, rerun))
    frozen = runner.frozen(runner.cell, runner.protocol.frozen_seeds, runner.tasks)
    found.append(host_audit(frozen))
    if found[-1].passed is False:
        return verdict.attestation(runner, found, controls, null=null, trials=Trials(frozen), readouts=readouts)
    trials = runner.trials(frozen)
    found += [*_hosted(runner, trials.frozen, null), *cell_checks.dosed(trials.doses, runner.protocol)]
    return verdict.attestation(runner, found, controls, null=null, trials=trials, readouts=readouts)


def _controlled(runner: Runner, control: Control) -> Attestation:
    """Test a control in the cell's place: the checks without a host, and frozen trials if its weights differ."""
    seed = runner.seed + CONTROL_SEED
    subject = control_cell(runner.cell, control, seed, runner.own_images.train[0])
    if not finite(subject):
        return verdict.attestation(runner, [cell_checks.finite(False)], control=control)
    runner.parts = 3 + len(runner.tasks) * len(runner.hosts)
    null = runner.null()
    runner.told("the control on the cell's own probe")
    model = control_model(subject, control, seed, runner.probe)
    own = measurement(runner.reading, runner.probe)
    found, readouts = unhosted(runner, subject, model, runner.read(model), null, Reference.measured(own.mse, own.axial_cv))
    trials = NO_TRIALS
    if found[0].passed and control not in OF_MODEL:  # frozen trials would be those of the cell
        trials = Trials(runner.frozen(subject, 1, runner.tasks))
        found += _hosted(runner, trials.frozen, null)
    return verdict.attestation(runner, found, null=null, trials=trials, control=control, readouts=readouts)


def _shown(runner: Runner, control: Control | None) -> tuple[Reconstruction, ...]:
    """Reconstruct a few images with the cell, or with the control in its place."""
    if control is None:
        return reconstructions(PatchSVAE.from_cell(runner.cell), runner.probe)
    seed = runner.seed + CONTROL_SEED
    subject = control_cell(runner.cell, control, seed, runner.own_images.train[0])
    return reconstructions(control_model(subject, control, seed, runner.probe), runner.probe)


def _protocol(profile: Profile | ViabilityProtocol, *, custom: bool) -> ViabilityProtocol:
    if isinstance(profile, str) and profile not in PROFILES:
        raise InputError("unknown profile", code="PROFILE", expected=" | ".join(PROFILES), found=profile)
    found = PROFILES[profile] if isinstance(profile, str) else profile
    return found.model_copy(update={"name": CUSTOM + found.name}) if custom else found


def _hosted(runner: Runner, frozen: tuple[FrozenFigure, ...], null: NullFigures) -> list[CheckFigure]:
    found = cell_checks.hosted(frozen, runner.protocol)
    return found + [cell_checks.lift(task.name, task.decides, frozen, null.frozen, runner.protocol) for task in runner.tasks]


def _controls(runner: Runner, null: NullFigures, reference: Reference) -> tuple[ControlFigure, ...]:
    """Test each control against its named check; the untrained one also against every deciding lift.

    Error and CV of a control are compared with those measured of the cell, not with those that its manifest claims: a false
    claim is a fault of the cell, and must not let a control pass.
    """
    seed, rows = runner.seed + CONTROL_SEED, []
    frozen = runner.frozen(runner.untrained(seed), 1, runner.deciding)
    for task in runner.deciding:
        lift = cell_checks.lift(task.name, True, frozen, null.frozen, runner.protocol)
        rows.append(ControlFigure(name="untrained", rejected=lift.passed is False, by=lift.name))
    calls = [partial(named_check, runner, control, named, null, reference) for control, named in NAMED_CHECK.items()]
    checks = runner.each(calls)
    for control, check in zip(NAMED_CHECK, checks, strict=True):
        rows.append(ControlFigure(name=control, rejected=check.passed is False, by=check.name))
    return tuple(rows)
