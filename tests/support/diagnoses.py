"""A diagnosis made by hand of a few figures, with pictures."""

import torch

from batteries.diagnostics import Column, Definition, Diagnosis, Figure, Finding, Inspection, Verdict
from batteries.diagnostics.activation_figures import KURTOSIS, PATCHES, VARIATION
from batteries.diagnostics.diagnosis import fingerprint, reconstruction, resolution, survival
from batteries.diagnostics.diagnosis.kinds import kinds
from batteries.diagnostics.diagnosis.pictures import Picture, SpectrumMap
from batteries.diagnostics.diagnosis.sections import Setting
from batteries.diagnostics.diagnosis.verdict import RATIO
from tests.support.planted_coders import SPEC


def finding(definition, value, place="", error=0.01, untrained=(1.0, None), linear=0.9):
    figure = Figure(definition, place, value, error)
    return Finding(figure, value - 2 * error, value + 2 * error, untrained, linear)


def column(size):
    """Figures along the pipeline, of which one is undefined."""
    stages = ("enc_in", "M", "dec_in")
    figures = [Figure(defined, place, 0.5 + i, 0.1) for defined in (PATCHES, VARIATION) for i, place in enumerate(stages)]
    figures += [Figure(PATCHES, "dec_block_0", undefined="flat"), Figure(KURTOSIS, "dec_in", 3.0, 0.2)]
    return Column((size, size), 16, 8, 8, "0" * 64, tuple(figures))


def by_hand(word="generalist", linear="specialist", size=64):
    """A diagnosis, of whose figures the noisy image and one CV are undefined."""
    names = ["known laws", "unseen laws", *(kind.name for kind in kinds(32))]
    ratios = tuple(finding(RATIO, 0.5, place) for place in ("unseen laws", "photographs", "text"))
    lost = Definition("lost", "a lost figure", "compression", "0 / 0")
    found = [
        *(finding(reconstruction.LEFT, 10.0 ** -(i % 5), name, 1e-6) for i, name in enumerate(names)),
        *(finding(reconstruction.SPECTRUM, 3.0 - mode, f"text, mode {mode}", linear=None) for mode in (1, 2)),
        finding(reconstruction.CV, 0.2, "text", linear=None),
        Finding(Figure(reconstruction.CV, "gradients", undefined="all simplices are flat")),
        *(finding(resolution.SIZE, 1.0, f"{side} pixels") for side in (36, 1024)),
        finding(resolution.OMEGA, 0.01),
        Finding(Figure(resolution.S, value=0.0, tolerance=1e-5), None, None, (0.0, 0.0), 0.0),
        finding(resolution.RECON, 0.001),
        *(finding(definition, 0.9, f"{level} dB") for level in (20, -10) for definition in (survival.SIGNAL, survival.NOISY)),
        Finding(Figure(survival.RATIO, value=12.0), None, None, (12.0, 12.0), 12.0),
        Finding(Figure(lost, undefined="not finite on these images")),
        finding(fingerprint.NAMED, 0.7),
        finding(fingerprint.APART, 0.8),
        *ratios,
    ]
    image = torch.linspace(-1, 1, 3 * 32 * 32).view(3, 32, 32)
    return Diagnosis(
        spec=SPEC,
        setting=Setting("noise", size),
        findings=tuple(found),
        verdict=Verdict(word, "known laws", ratios),
        untrained=("specialist", "specialist"),
        linear=linear,
        linear_width=8,
        confusion=torch.eye(16, dtype=torch.int64) * 20 + 1,
        pictures=(Picture("text", image, image * 0.9),),
        inspection=Inspection("cell", SPEC, "images", (column(size),)),
        maps=(SpectrumMap("photograph", image, torch.rand(16, 4, 4, generator=torch.Generator().manual_seed(0))),),
    )
