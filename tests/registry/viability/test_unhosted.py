"""Checks that need no host: the same verdicts and figures, but for rounding, whatever computes them."""

import json
import os
import subprocess
import sys

import pytest

from batteries import threads
from batteries.kernels import jit
from batteries.model.patch_svae import PatchSVAE
from registry.viability.result_cache import ResultCache
from registry.viability.runner import Runner
from registry.viability.tasks import own_hosts, own_tasks
from registry.viability.unhosted import unhosted
from tests.support.cells import ROOT, from_model
from tests.support.kernel_cases import CASES, take_few
from tests.support.soak import SOAK
from tests.support.viability import SPEC, TEST, few

SCRIPT = """
import json, sys
import torch
import batteries, registry
from batteries.model.patch_svae import PatchSVAE
from registry.viability.result_cache import ResultCache
from registry.viability.runner import Runner
from registry.viability.tasks import own_hosts, own_tasks
from registry.viability.unhosted import unhosted

torch.set_num_threads(int(sys.argv[1]))
cell = registry.load("high/johanna-64-s1")
no_host = {"host_steps": 1, "width": 16, "blocks": 1}  # the null has hosts, which nothing here looks at
protocol = registry.PROFILES["quick"].model_copy(update=no_host)
own = batteries.probe(cell.manifest.own_probe)
tasks = own_tasks(own, protocol, 0)
runner = Runner(cell, protocol, own, tasks, own_hosts(protocol), 0, ResultCache(), lambda words, done, parts: None)
found, _ = unhosted(runner, cell, PatchSVAE.from_cell(cell), runner.reading, runner.null())
print(json.dumps({check.name: [check.passed, check.value] for check in found}))
"""


def figures(threads, **environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(threads)],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout)


def agree(plain, other):
    """The verdicts are the same, and the figures up to rounding."""
    assert {name: passed for name, (passed, _) in other.items()} == {name: passed for name, (passed, _) in plain.items()}
    for name, (_, value) in plain.items():
        if value is not None:
            assert other[name][1] == pytest.approx(value, rel=1e-3, abs=1e-6), name


@pytest.mark.slow
@pytest.mark.usefixtures("few_matrices")
def test_of_a_small_cell_on_few_images(monkeypatch):
    """Each of them starts from the same null, which has hosts."""
    pytest.importorskip("numba")
    dispatchers = [case.kernels for case in CASES]
    take_few(monkeypatch.setattr)
    own = few("noise16-64")
    tasks, cell = own_tasks(own, TEST, 0), from_model(SPEC, 0, "a")
    null = Runner(cell, TEST, own, tasks, own_hosts(TEST), 0, ResultCache(), lambda *_: None).null()

    def figures():
        for kernels in dispatchers:
            monkeypatch.setattr(kernels, "_found", {})
        runner = Runner(cell, TEST, own, tasks, own_hosts(TEST), 0, ResultCache(), lambda *_: None)
        found, _ = unhosted(runner, cell, PatchSVAE.from_cell(cell), runner.reading, null)
        used = any(kernel is not None for kernels in dispatchers for kernel in kernels._found.values())
        return used, {check.name: (check.passed, check.value) for check in found}

    with threads(1):
        used, plain = figures()
    assert used
    with threads(2):
        agree(plain, figures()[1])
    monkeypatch.setattr(jit, "_imported", lambda name: (None, ""))
    used, without = figures()
    assert not used
    agree(plain, without)


@pytest.mark.slow
@pytest.mark.skipif(not SOAK, reason="two minutes; `make soak` runs it")
def test_threads_and_kernels_change_no_verdict_and_no_figure_beyond_rounding():
    plain, *others = figures(1), figures(2), figures(1, NUMBA_DISABLE_JIT="1")
    assert plain["read-out, omega"][0] is True
    for other in others:
        agree(plain, other)
