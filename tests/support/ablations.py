"""A small ablation program: four runs of four steps, two of which are one computation."""

import dataclasses
from functools import cache

import pytest

from batteries.ablation.execution import carry_out_run
from batteries.ablation.program import parse
from batteries.ablation.run_report import path_of
from batteries.ablation.runs import runs_of
from batteries.data.probes import probe

TINY = b"""
name = "tiny"
title = "Tiny"
source = "made up"
readings = 2
[base]
noise = "batteries"
batch = 2
steps = 4
[bands.high]
set = { V = 8, patch_size = 16, hidden = 8, smooth_width = 2 }
[[groups]]
id = "S"
title = "Seed"
matched = 1.0
[groups.variants]
zero = {}
one = { seed = 1 }
[groups.published.zero]
high = 0.9
[[groups]]
id = "N"
title = "Norm"
ours = true
note = "A <b>note</b>."
[groups.variants]
sphere = {}
none = { set = { row_norm = "none" } }
[groups.chosen]
none = "rows as they are"
"""


def tiny(text=TINY):
    """The program, its text, and its runs."""
    program = parse(text, where="a test")
    return program, text, runs_of(program)


def changed(old, new):
    """The text of the program with other words."""
    assert TINY.count(old) >= 1
    return TINY.replace(old, new)


@cache
def _one():
    """A report of two steps on a small probe, made once a process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("batteries.ablation.runs.probe", small_probe)
        run = tiny(changed(b"steps = 4", b"steps = 2"))[2][0]
        return carry_out_run(run, None)[0]


def small_probe(name):
    """Every eighth image of a probe."""
    whole = probe(name)
    return dataclasses.replace(whole, images=whole.images[::8], group=whole.group[::8])


def report(*, outcome="finished", cv_average="as it is", **measured):
    """A report of a real run, some of whose figures are others."""
    found = _one()
    changes = {} if cv_average == "as it is" else {"cv_average": cv_average}
    if outcome == "diverged":
        return found.model_copy(update={"outcome": "diverged", "measured": None, "cv_average": None, "trajectory": ()})
    return found.model_copy(update={"measured": found.measured.model_copy(update=measured), **changes})


def filled(folder, text=TINY, left_out=(), **reports):
    """A folder of the program with a report of every run but some, those of ``reports`` by group and variant among them."""
    _, _, runs = tiny(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.toml").write_bytes(text)
    for run in runs:
        if run.name in left_out:
            continue
        found = reports.get(f"{run.group}_{run.variant}", report())
        names = {"group": run.group, "variant": run.variant, "band": run.band, "identity": run.identity, "plan": run.plan}
        path = path_of(folder, run.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.model_copy(update=names).to_bytes())
    return folder
