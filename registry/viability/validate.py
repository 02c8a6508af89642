"""The viability test: does a cell carry something, and does its attractor hold in a host, frozen and under its gradient?

A CV in its band separates nothing: untrained cells sit on the attractor already. What a verdict rests on is error and
score against untrained cells, row radius, rank, and whether CV, rank and content hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from batteries.cell.cell import Cell
from batteries.cell.manifest import InputScale
from batteries.data.probes import probe
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError, UnknownKeyError
from batteries.io import atomic_files, short_repr
from batteries.io.home import home
from batteries.io.text import listed
from batteries.lookup import Lookup
from batteries.model.patch_svae import PatchSVAE
from composer.hosts.cell_hosts import HostFactory
from registry.catalog.attestation import CUSTOM, Attestation, CheckFigure, ControlFigure, FrozenFigure, Verdict
from registry.reports.verdict_card import verdict_card
from registry.reports.viability_page import page
from registry.stores.store import Store
from registry.transfer.pull import load
from registry.viability import checks, verdict
from registry.viability.controls import CONTROLS, NAMED_CHECK, Control, control_cell, control_model
from registry.viability.host_training import own_hosts
from registry.viability.protocol import PROFILES, Profile, ViabilityProtocol
from registry.viability.result_cache import Ledger
from registry.viability.runner import Bench, NullFigures, Progress, measurement, untrained_cell
from registry.viability.tasks import Task, own_tasks

CONTROL_SEED = 100  # far from the seeds of the null


@dataclass(frozen=True)
class Report(Lookup[CheckFigure]):
    """What the viability test found: a mapping of its checks by name.

    Attributes:
        attestation: Every figure, as it can be published beside the cell.
    """

    attestation: Attestation

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
        """*viable*, *walked back*, or *no verdict* where a control was not rejected."""
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
        """Write the report as one page.

        Raises:
            StoreError: the file cannot be written.
        """
        atomic_files.replace(Path(path), page([self.attestation]).encode())


@neutral()
@torch.enable_grad()
def validate(
    target: str | Path | Cell,
    *,
    registry: str | Store | None = None,
    profile: Profile | ViabilityProtocol = "quick",
    control: Control | None = None,
    host: HostFactory | None = None,
    task: Task | None = None,
    seed: int = 0,
    ledger: Path | None = None,
    progress: Progress = lambda words, done, parts: None,
) -> Report:
    """Run the viability test on a cell.

    Args:
        target: A reference, the path of a cell file, or a cell.
        registry: Where a reference is looked up.
        profile: ``quick`` or ``standard``, or numbers of one's own.
        control: Try this negative control of the cell's spec in its place; it must be walked back.
        host: Makes a network around a mounted cell, in place of the protocol's own; from the cell, some images and the
            number of classes (0 where images are to be restored).
        task: What hosts are to learn, in place of the tasks of the cell's domain.
        seed: Of everything random but the null.
        ledger: A folder where finished parts are kept, for a test that is stopped and for other cells of the spec; the
            user's cache folder where left out.
        progress: Told in words what is being done, the parts done, and how many there are.

    Raises:
        NotFoundError: no such cell or file.
        InputError: no such profile or control; a cell that the tasks' images do not fit; a host with nothing to train, that
            does not use its cell, or whose output is not the task's.
        BatteriesError: as :func:`registry.pull` or :meth:`batteries.Cell.read`.
    """
    if control is not None and control not in CONTROLS:
        raise InputError("no such control", code="CONTROL", expected=" | ".join(CONTROLS), found=control)
    cell = load(target, registry=registry)
    protocol = _protocol(profile, custom=host is not None or task is not None)
    own = probe(cell.manifest.own_probe)
    tasks = (task,) if task else own_tasks(own.domain, protocol, seed)
    _refuse_input(cell, tasks)
    hosts = {"own": host} if host else own_hosts(protocol)
    folder = None if host or task else ledger or home() / "viability"
    bench = Bench(cell, protocol, own, tasks, hosts, seed, Ledger(folder), progress)
    return Report(_controlled(bench, control) if control else _tried(bench))


def _tried(bench: Bench) -> Attestation:
    """Cell itself, with everything beside it."""
    if not _finite(bench.cell):
        return verdict.attestation(bench, [checks.finite(False)])
    bench.parts = bench.parts_of_a_cell
    null = bench.null()
    bench.told("controls")
    controls = _controls(bench, null)
    bench.told("the cell on its own probe")
    found = _standing(bench, bench.cell, PatchSVAE.from_cell(bench.cell), null)
    if not found[0].passed:
        return verdict.attestation(bench, found, controls, null=null)
    frozen = bench.frozen(bench.cell, bench.protocol.frozen_seeds)
    found += _hosted(bench, frozen, null)
    doses = bench.doses()
    found += checks.dosed(doses, bench.protocol)
    returns = bench.way_back(bench.cell, "cell"), bench.way_back(untrained_cell(bench.cell, 0), "untrained")
    return verdict.attestation(bench, found, controls, null=null, frozen=frozen, doses=doses, returns=returns)


def _controlled(bench: Bench, control: Control) -> Attestation:
    """Control in the cell's place: the checks that need no host, and where it has weights of its own, the frozen hosts."""
    seed = bench.seed + CONTROL_SEED
    subject = control_cell(bench.cell, control, seed)
    if not _finite(subject):
        return verdict.attestation(bench, [checks.finite(False)], control=control)
    bench.parts = 3 + len(bench.tasks) * len(bench.hosts)
    null = bench.null()
    bench.told("the control on the cell's own probe")
    found = _standing(bench, subject, control_model(subject, control, seed), null)
    frozen: tuple[FrozenFigure, ...] = ()
    if found[0].passed and control != "shuffled":  # whose weights are the cell's own: a host would not notice
        frozen = bench.frozen(subject, 1)
        found += _hosted(bench, frozen, null)
    return verdict.attestation(bench, found, null=null, frozen=frozen, control=control)


def _protocol(profile: Profile | ViabilityProtocol, *, custom: bool) -> ViabilityProtocol:
    if isinstance(profile, str) and profile not in PROFILES:
        raise InputError("no such profile", code="PROFILE", expected=" | ".join(PROFILES), found=profile)
    found = PROFILES[profile] if isinstance(profile, str) else profile
    return found.model_copy(update={"name": CUSTOM + found.name}) if custom else found


def _refuse_input(cell: Cell, tasks: tuple[Task, ...]) -> None:
    """Tasks' images must have the cell's channels, be whole patches, and are not normalised further."""
    for task in tasks:
        channels = task.train[0].shape[1]
        if cell.spec.channels != channels or cell.manifest.identity.input != InputScale():
            raise InputError(
                "a cell that the task's images do not fit",
                code="CELL_INPUT",
                expected=f"{channels} channels, mean 0 and standard deviation 1 of the plain scale",
                found=f"{cell.spec.channels} channels, {cell.manifest.identity.input}",
                where=f"{cell.name}: {task.name}",
            )
        for images in (task.train[0], task.test[0]):
            cell.spec.grid(images.shape[2], images.shape[3])


def _finite(cell: Cell) -> bool:
    return all(np.isfinite(array).all() for array in cell.weights.values())


def _standing(bench: Bench, cell: Cell, model: PatchSVAE, null: NullFigures) -> list[CheckFigure]:
    found = measurement(model, bench.probe)
    if not found.finite:
        return [checks.finite(False)]
    return [checks.finite(True), *checks.standing(found, cell.manifest, null.mse, bench.protocol)]


def _hosted(bench: Bench, frozen: tuple[FrozenFigure, ...], null: NullFigures) -> list[CheckFigure]:
    found = checks.hosted(frozen, bench.protocol)
    return found + [checks.lift(task.name, task.decides, frozen, null.frozen, bench.protocol) for task in bench.tasks]


def _controls(bench: Bench, null: NullFigures) -> tuple[ControlFigure, ...]:
    """Each control against its named check; the untrained one against every deciding lift too."""
    cell, seed, rows = bench.cell, bench.seed + CONTROL_SEED, []
    fresh = untrained_cell(cell, seed)
    frozen = bench.frozen(fresh, 1)
    for task in bench.tasks:
        if task.decides:
            lift = checks.lift(task.name, True, frozen, null.frozen, bench.protocol)
            rows.append(ControlFigure(name="untrained", rejected=lift.passed is False, by=lift.name))
    for control, named in NAMED_CHECK.items():
        subject = control_cell(cell, control, seed)
        if control == "nan":
            found = [checks.finite(_finite(subject))]
        else:
            found = _standing(bench, subject, control_model(subject, control, seed), null)
        check = next((check for check in found if check.name == named), found[0])  # one that is not finite stops there
        rows.append(ControlFigure(name=control, rejected=check.passed is False, by=check.name))
    return tuple(rows)
