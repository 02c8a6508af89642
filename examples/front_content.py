"""Content of a run's tokens: spread of S, read-outs of M and of omega, worth of omega, and swaps between seeds.

Legend: B images, N patches, D width.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import safetensors
import torch
from front_jobs import SIZE, Content, Job, Result, Setting, Share, Store
from run_training import losses, untrained_losses

import batteries
import composer
import registry
from batteries.cell import weights_file
from batteries.cell.cell import file_facts
from batteries.data.probes import Probe
from batteries.model.patch_svae import PatchSVAE, arrays_of
from batteries.training import checkpoint
from composer.alignment import Swap
from registry.viability.tasks import Task, own_tasks

PROTOCOL = registry.PROFILES["quick"]
UNTRAINED = 2  # untrained cells of the null
EVERY_IMAGE = {"noise": 4, "photos": 1}  # stride through the probe's images in swaps; noise has one image per cluster
CHECKPOINT = "checkpoint.safetensors"
OWN = "model."  # before the names of weights in a checkpoint


def content_of(job: Job, model: PatchSVAE, folder: Path) -> Content:
    """Measure the content of a trained model.

    Args:
        job: Job that trained it.
        model: Trained model.
        folder: Folder of the file with the losses of untrained cells, which all runs of a band and kind of data share.
    """
    cell = _cell(job.setting, arrays_of(model))
    return Content(
        spread=_spread(model, probe_of(job.setting)),
        losses=losses(model, _task(job.setting)),
        untrained=untrained_losses(
            job.plan.spec, _task(job.setting), UNTRAINED, folder / f"untrained-{job.setting.band}-{job.setting.data}.json"
        ),
        worth=_swapped(job.setting, cell, cell).worth,
    )


def probe_of(setting: Setting) -> Probe:
    """Return the own probe of a setting's cells."""
    return batteries.probe(batteries.own_probe(setting.data, SIZE))


def add_shares(setting: Setting, store: Store) -> None:
    """Add to the results of a setting the swap scores that are missing and whose cells have their weights here."""
    for job in setting.jobs:
        result = store.read(job)
        found = result and _with_shares(job, result, store)
        if found != result:
            store.write(job, found)


def _with_shares(job: Job, result: Result, store: Store) -> Result:
    known = {share.source for share in result.shares}
    others = [other for other in job.setting.jobs if other.seed < job.seed and other.seed not in known]
    shares = [share for other in others if (share := _share(other, job, store.folder)) is not None]
    if not shares:
        return result
    return result.model_copy(update={"shares": tuple(sorted((*result.shares, *shares), key=lambda share: share.source))})


def _share(source: Job, target: Job, folder: Path) -> Share | None:
    """Score a swap; None if the weights of one are not here."""
    weights = [_final_weights(job, folder / job.name / CHECKPOINT) for job in (source, target)]
    if not all(weights):
        return None
    swap = _swapped(target.setting, *(_cell(target.setting, found) for found in weights))
    share = swap.share()
    low, high = swap.bounds
    return Share(
        source=source.seed,
        worth=swap.worth,
        share=None if math.isnan(share) else share,
        bounds=(low, high) if math.isfinite(high - low) else None,
    )


def _final_weights(job: Job, path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a checkpoint; none if it is missing or not of the last step."""
    if not path.exists():
        return {}
    with safetensors.safe_open(path, framework="numpy") as opened:
        if json.loads(opened.metadata()[checkpoint.KEY])["step"] < job.plan.steps:
            return {}
        return {name.removeprefix(OWN): opened.get_tensor(name) for name in opened.keys() if name.startswith(OWN)}  # noqa: SIM118


def _cell(setting: Setting, weights: dict[str, np.ndarray]) -> batteries.Cell:
    """Make a cell of weights for a container, which does not read its figures: those are of another cell of the band."""
    manifest = registry.load(f"{setting.band}/johanna-64").manifest
    facts = file_facts(weights_file.write(weights), weights)
    return batteries.Cell(weights, manifest.model_copy(update={"spec": setting.jobs[0].plan.spec, "file": facts}))


def _spread(model: PatchSVAE, probe: Probe) -> float:
    with torch.no_grad():
        S = model.tokens(probe.images).S.flatten(0, 1).double()  # (B N, D)
    return float((S.std(dim=0) / S.mean(dim=0)).mean())


def _task(setting: Setting) -> Task:
    return next(task for task in own_tasks(probe_of(setting), PROTOCOL, 0) if not task.restores)


def _swapped(setting: Setting, source: batteries.Cell, target: batteries.Cell) -> Swap:
    probe, every = probe_of(setting), EVERY_IMAGE[setting.data]
    model = composer.compose({"source": source, "target": target})
    return composer.swap(model, "source", "target", probe.images[::every], clusters=probe.cluster[::every])
