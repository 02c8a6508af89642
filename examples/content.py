"""Coverage of the interval of the content that a cell keeps under its host's gradient, where the share lost is skewed.

python examples/content.py           # prints the table; exit code 1 if the claim fails
python examples/content.py --write   # also writes its section of docs/results/coverage-alignment.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

import torch
from pages import RESULTS, put, table
from torch import Generator, Tensor

import registry
from batteries.geometry.estimates import student

SEEDS = registry.PROFILES["standard"].reference_seeds
TRIALS = 100_000
SPREADS = (0.1, 0.2, 0.3, 0.5, 1.0)
CLAIMED = {0.3: 0.02}  # most lower bounds above the mean, at about the largest spread of the cells that ship

HEAD = ("spread", "t covers", "t above", "Cox covers", "Cox above")
WORDS = """`python examples/content.py --write`: `content kept` is the mean over {seeds} seeds, with its lower 99% bound by
Student's t. Here the share lost is lognormal, with {trials} trials for each *spread*, the standard deviation of its logarithm.
*above*: the lower bound is above the true mean, nominally in 0.005, and a cell passes that keeps too little. The seeds of
the {cells} cells that ship have spreads of {least:.2f} to {most:.2f}, {within} of them up to 0.3. *Cox*: bounds of the mean
of a lognormal share, which cover better as long as the shares are lognormal. They would change the verdict of {changed} of
these cells, so the protocols keep Student's t, whose 99% is 98% up to a spread of 0.3, and less beyond."""


def content(spread: float, generator: Generator) -> tuple[float, ...]:
    """Return how often 99% bounds of the mean share lost hold it and lie below it, by Student's t and by Cox's method.

    Args:
        spread: Standard deviation of the logarithm of the share lost.
        generator: Random generator.
    """
    lost = (spread * torch.randn(TRIALS, SEEDS, generator=generator, dtype=torch.float64) - spread**2 / 2).exp()  # with mean 1
    found = []
    for low, high in (student_bounds(lost), cox_bounds(lost)):
        found += [float(((low <= 1) & (high >= 1)).double().mean()), float((high < 1).double().mean())]
    return tuple(found)


def student_bounds(lost: Tensor) -> tuple[Tensor, Tensor]:
    """Return 99% bounds of the mean of each row of shares (..., seeds)."""
    half = student(0.99, lost.shape[-1] - 1) * lost.std(dim=-1) / lost.shape[-1] ** 0.5
    return lost.mean(dim=-1) - half, lost.mean(dim=-1) + half


def cox_bounds(lost: Tensor) -> tuple[Tensor, Tensor]:
    """Return 99% bounds of the mean of each row of lognormal shares (..., seeds) (Olsson, J. Statist. Education 13, 2005)."""
    count, variance = lost.shape[-1], lost.log().var(dim=-1)
    half = student(0.99, count - 1) * (variance / count + variance.square() / (2 * (count - 1))).sqrt()
    middle = lost.log().mean(dim=-1) + variance / 2
    return (middle - half).exp(), (middle + half).exp()


def shipped() -> tuple[Tensor, float]:
    """Return the shares lost (cells, seeds) at the reference dose in the attestations that ship, and the most that may be."""
    store, found = registry.open_store(), []
    for key in store.keys("attestations"):
        one = registry.Attestation.from_bytes(store.read(key, limit=2**22), where=key)
        found.append([1 - trial.kept for trial in one.doses if trial.subject == "cell" and trial.rate == one.reference_rate])
    return torch.tensor(found, dtype=torch.float64), 1 - registry.PROFILES["standard"].kept.value


def section(kept: Mapping[float, tuple[float, ...]]) -> str:
    """Format the section of the page."""
    lost, most = shipped()
    changed = int(((student_bounds(lost)[1] <= most) != (cox_bounds(lost)[1] <= most)).sum())
    spreads = lost.log().std(dim=1)
    ends = {"least": float(spreads.min()), "most": float(spreads.max()), "within": int((spreads <= 0.3).sum())}
    words = WORDS.format(seeds=SEEDS, trials=TRIALS, cells=len(lost), changed=changed, **ends)
    rows = [(f"{spread:g}", *(f"{share:.4f}" for share in own)) for spread, own in kept.items()]
    return "\n\n".join(["## Content kept", words, table(HEAD, rows)])


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Measure the coverage of the interval of the content kept.")
    parser.add_argument("--write", action="store_true", help="also write its section of docs/results/coverage-alignment.md")
    given = parser.parse_args(words)
    generator = Generator().manual_seed(0)
    kept = {spread: content(spread, generator) for spread in SPREADS}
    print(section(kept))
    if given.write:
        put(RESULTS / "coverage-alignment.md", "Coverage of intervals, simulated", "content", section(kept))
    return 0 if all(kept[spread][1] <= most for spread, most in CLAIMED.items()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
