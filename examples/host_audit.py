"""Hosts that a viability test refuses: trained by direct feedback around a frozen cell, and hosts that it takes.

    python examples/host_audit.py [--seeds 20]   # writes docs/results/host-audit.md; about half an hour on one core

Every host is trained to the end of a schedule, then given to the frozen trial of `batteries validate`, whose audit accepts or
refuses it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from statistics import fmean

import torch
from pages import RESULTS, put, table, wilson
from torch import Tensor, nn

import batteries
import registry
from composer import credit
from composer.hosts import NamingHost, StreamForm
from composer.hosts.cell_hosts import HostFactory, Mounted
from registry.checks.host_audit import host_audit
from registry.viability.tasks import own_tasks
from registry.viability.trials import Trial, frozen_trial

CELLS = ("high/johanna-64", "low/fresnel-64")
RULES = ("dfa", "dfa+0.01", "bp")
PROTOCOL = registry.PROFILES["quick"]
CONTROL = (True, "dfa")  # terminal LayerNorm and rule of the hosts that must be refused; others have fewer seeds
OTHERS = 5
PLAN = credit.CreditPlan(epochs=100, batch=PROTOCOL.batch, rate=PROTOCOL.host_rate)
HEAD = """Written by `python examples/host_audit.py --seeds {seeds}`. Hosts name the images of a cell's own domain from its
omega ({width} wide, {blocks} blocks), each trained by a rule of `composer.credit` for {epochs} epochs of {train} images around
the frozen cell, and then given to the quick test. *refused*: the audit before the host's first step of the test, or after its
last, found its gradient walked back, so that the test ends in *no verdict*; with a 95% interval (Wilson). *growth*: largest
growth of one block, mean over seeds, before and after the test's {steps} steps of backpropagation; the limit is 50.
*accuracy*: after these steps, mean over seeds."""
COLUMNS = ("cell", "terminal LayerNorm", "rule", "refused", "95%", "by", "growth before", "growth after", "accuracy")


def trained(rule: str, form: StreamForm, data: tuple[Tensor, Tensor], seed: int) -> HostFactory:
    """Return the factory of a host that a credit rule trained around its cell."""

    def make(cell: Mounted, sample: Tensor, classes: int) -> nn.Module:
        host = NamingHost(cell, sample, classes, form)
        features = features_of(host, data[0])
        made = credit.rule_of(rule, host.mlp, features[:2], classes, seed)
        credit.train(host.mlp, made, (features, data[1]), PLAN, seed)
        return host

    return make


@torch.no_grad()
def features_of(host: NamingHost, images: Tensor) -> Tensor:
    """Return the features that a host reads of images."""
    return torch.cat([host.standard(host.features(part)) for part in images.split(64)])


@cache
def trial_of(reference: str) -> tuple[Trial, registry.Task]:
    """Return the trial of a cell and the naming task of its domain."""
    cell = registry.load(reference)
    own = batteries.probe(cell.manifest.own_probe)
    return Trial(cell, "cell", PROTOCOL, own), own_tasks(own, PROTOCOL, 0)[-1]


def rows(reference: str, seeds: int) -> Iterator[list[str]]:
    """Count the refused hosts of each rule and form."""
    trial, task = trial_of(reference)
    for norm in (True, False):
        form = StreamForm(PROTOCOL.width, PROTOCOL.blocks, norm)
        for rule in RULES:
            count = seeds if (norm, rule) == CONTROL else min(OTHERS, seeds)
            figures = [
                frozen_trial(trial, task, rule, trained(rule, form, task.train, seed), seed, audited=True)
                for seed in range(count)
            ]
            refused = sum(host_audit([figure]).passed is False for figure in figures)
            fired = sorted({key for figure in figures for audit in figure.audits for key in audit.fired})
            growth = [fmean(figure.audits[i].growth or 0.0 for figure in figures) for i in range(2)]
            score = fmean(figure.score for figure in figures)
            low, high = wilson(refused, count)
            print(f"{reference}, {norm}, {rule}: {refused} of {count}", flush=True)
            words = (f"{refused} of {count}", f"{low:.3f} to {high:.3f}", ", ".join(fired) or "-")
            yield [reference, "yes" if norm else "no", rule, *words, *(f"{value:.3g}" for value in (*growth, score))]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    numbers = {"width": PROTOCOL.width, "blocks": PROTOCOL.blocks, "train": PROTOCOL.train, "steps": PROTOCOL.host_steps}
    head = HEAD.format(seeds=seeds, epochs=PLAN.epochs, **numbers)
    found = [row for reference in CELLS for row in rows(reference, seeds)]
    put(RESULTS / "host-audit.md", "Hosts that a viability test refuses", "hosts", f"{head}\n\n{table(COLUMNS, found)}")


if __name__ == "__main__":
    main()
