"""Noise named by statistics of omega, and unseen laws told apart from known ones, on held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.cell.manifest import OWN_MIX, NoiseMix
from batteries.data.sources import seed_of
from batteries.data.unseen import LAWS, unseen
from batteries.diagnostics.diagnosis.coders import Coder
from batteries.diagnostics.diagnosis.findings import Finding, plain
from batteries.diagnostics.error_figures import statistics
from batteries.diagnostics.figures import Definition, estimated
from batteries.geometry import estimates
from batteries.noise import NAMES, of_types
from batteries.readout import ReadOut

STAGE = "fingerprint"
READ = "logistic regression on mean and standard deviation of omega over the patches of an image"
NAMED = Definition("named", "law named", STAGE, f"accuracy of a {READ}; chance is 1/16")
APART = Definition("apart", "known or unseen", STAGE, f"accuracy of known or unseen by a {READ}, of 32 laws; chance is 1/2")
TRAIN, TEST = 40, 20  # images of each of the 32 laws
PRINT_SEED = 41  # purpose in seed_of, distinct from others


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Names that omega gives to noise.

    Attributes:
        findings: Accuracies.
        confusion: Test images (16, 16) of each known law, in rows, by the name that they got.
    """

    findings: tuple[Finding, ...]
    confusion: Tensor

    __repr__ = short_repr.fields


def fingerprint(coder: Coder, side: int, mix: NoiseMix = OWN_MIX) -> Fingerprint:
    """Name held-out noise by the tokens of a coder.

    Args:
        coder: Coder whose tokens are read.
        side: Side of the images in pixels.
        mix: Mix of the known noise.
    """
    (train, classes), (test, truth) = (
        (statistics(coder.tokens(images)[1]), laws) for images, laws in _laws((TRAIN, TEST), side, mix)
    )
    known, asked = classes < len(NAMES), truth < len(NAMES)
    named = ReadOut.of(train[known], classes[known])(test[asked])
    wanted = truth[asked]
    confusion = torch.zeros(len(NAMES), len(NAMES), dtype=torch.int64)
    confusion.index_put_((wanted, named), torch.ones_like(wanted), accumulate=True)
    sides = (ReadOut.of(train, classes)(test) < len(NAMES)) == asked
    hits = {NAMED: named == wanted, APART: sides}
    found = [
        plain(estimated(definition, estimates.clustered_mean(right.double(), torch.arange(len(right)))))
        for definition, right in hits.items()
    ]
    return Fingerprint(tuple(found), confusion)


@lru_cache(maxsize=1)  # about a tenth of a gigabyte
def _laws(counts: tuple[int, int], side: int, mix: NoiseMix) -> list[tuple[Tensor, Tensor]]:
    """Generate images of the 32 laws and their indices, for training and for the test."""
    parts = []
    for part, count in enumerate(counts):
        types = torch.arange(len(NAMES)).repeat_interleave(count)
        generator = Generator().manual_seed(seed_of(0, part, PRINT_SEED))
        known = of_types(types, (side, side), generator, mix=mix)
        places = enumerate(LAWS, len(counts))
        new = [unseen(name, count, side, seed_of(part, place, PRINT_SEED)) for place, name in places]
        laws = torch.arange(len(NAMES) + len(LAWS)).repeat_interleave(count)
        parts.append((torch.cat([known, *new]), laws))
    return parts
