"""All sections of a diagnosis, of any coder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from batteries.cell.manifest import OWN_MIX, Domain, NoiseMix
from batteries.cell.spec import CellSpec
from batteries.diagnostics.diagnosis import fingerprint, reconstruction, resolution, survival, verdict
from batteries.diagnostics.diagnosis.coders import Coder, LinearCoder
from batteries.diagnostics.diagnosis.findings import Finding
from batteries.diagnostics.diagnosis.kinds import SIDE, kinds
from batteries.diagnostics.diagnosis.verdict import Verdict

LARGEST = 1024  # pixels


@dataclass(frozen=True)
class Setting:
    """Images of a diagnosis.

    Attributes:
        home: Domain that the cell learned.
        size: Side of its training images in pixels.
        mix: Mix of the known noise.
    """

    home: Domain = "noise"
    size: int = SIDE
    mix: NoiseMix = OWN_MIX


def measured(
    coder: Coder,
    setting: Setting,
    largest: int = LARGEST,
    told: Callable[[str], None] = lambda words: None,
) -> tuple[list[Finding], Verdict, Tensor]:
    """Measure all sections of a coder: findings, verdict and confusion matrix."""
    home, size, mix = setting.home, setting.size, setting.mix
    side = side_of(coder.spec)
    images = kinds(side, mix)
    told("kinds of images")
    errors = reconstruction.kind_errors(coder, images)
    judged = verdict.judge(errors, home)
    told("sizes")
    by_size = resolution.by_size(coder, home, size, mix, largest)
    told("tiles")
    by_tile = resolution.by_tile(coder, home, min(size, side), mix)
    told("signal in noise")
    survived = survival.survival(coder, next(kind for kind in images if kind.name == "photographs"))
    counted = survival.linear_compression(coder.spec) if isinstance(coder, LinearCoder) else survival.compression(coder.spec)
    told("fingerprints of noise")
    named = fingerprint.fingerprint(coder, side, mix)
    findings = [
        *errors.findings,
        *by_size,
        *by_tile,
        *survived,
        *counted,
        *named.findings,
        *judged.ratios,
        verdict.published(errors),
    ]
    return findings, judged, named.confusion


def side_of(spec: CellSpec) -> int:
    """Return the side of images of all kinds: the largest multiple of the patch size up to 64 pixels."""
    return SIDE // spec.patch_size * spec.patch_size
