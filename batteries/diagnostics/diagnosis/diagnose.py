"""The universal diagnostic: every section for a cell, and the same for untrained cells of its spec and a linear code."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from batteries import __version__, short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import Domain, NoiseMix
from batteries.cell.spec import CellSpec
from batteries.diagnostics.diagnosis import pictures, resolution, verdict
from batteries.diagnostics.diagnosis.coders import Coder, ModelCoder, linear_coder, width_of
from batteries.diagnostics.diagnosis.findings import Finding
from batteries.diagnostics.diagnosis.kinds import SIDE, kinds
from batteries.diagnostics.diagnosis.pictures import Picture, SpectrumMap
from batteries.diagnostics.diagnosis.sections import LARGEST, Setting, measured, side_of
from batteries.diagnostics.diagnosis.verdict import Verdict, Word
from batteries.diagnostics.inspection import Inspection, inspect
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.io.canonical_json import Document
from batteries.kept_documents import KeptDocuments
from batteries.model.patch_svae import PatchSVAE
from batteries.model.patch_svae import untrained as untrained_model
from batteries.noise import NAMES, refuse_unknown

UNTRAINED = 5
UNTRAINED_SEED = 4300  # of the first untrained cell; no training starts from it
LARGEST_NULL = 512  # pixels, of untrained cells but the first: attention takes 16 s at 1024
INSPECTED = 16  # images, one of each type of noise or photograph
CHANNELS = 3
OWN_PARTS = 7  # parts besides the untrained cells
FORM = 2  # of the kept figures: another number leaves those of an earlier program alone

Progress = Callable[[str, int, int], None]


class NullFigures(Document):
    """Figures of an untrained cell or of a linear code, by key and place.

    Attributes:
        values: Value by key and place; None where it is undefined.
        word: Verdict.
    """

    values: dict[str, float | None]
    word: Word


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Diagnosis of a cell.

    Attributes:
        spec: Architecture.
        setting: Images that it was measured on.
        findings: Figures of all sections, with those of untrained cells and of the linear code beside them.
        verdict: Specialist or generalist.
        untrained: Verdicts of five untrained cells of the spec.
        linear: Verdict of the linear code.
        linear_width: Number of its components.
        confusion: Test images (16, 16) of each known law, in rows, by the name that omega gives them.
        pictures: Images with their reconstructions.
        maps: Singular values over the patches of images.
        inspection: Figures along the pipeline on images of the training size.

    >>> from batteries import diagnostics
    >>> diagnostics.diagnose.__annotations__["return"]
    'Diagnosis'
    """

    spec: CellSpec
    setting: Setting
    findings: tuple[Finding, ...]
    verdict: Verdict
    untrained: tuple[Word, ...]
    linear: Word
    linear_width: int
    confusion: Tensor
    pictures: tuple[Picture, ...]
    maps: tuple[SpectrumMap, ...]
    inspection: Inspection

    def __repr__(self) -> str:
        figures = short_repr.counted(len(self.findings), "figure")
        return short_repr.headed(self, f"{self.verdict.word}, at home on {self.verdict.home}", figures)

    @property
    def laws(self) -> tuple[str, ...]:
        """Names of the rows and columns of the confusion matrix."""
        return NAMES

    def section(self, stage: str) -> tuple[Finding, ...]:
        """Return the findings of a section, such as ``resolution``."""
        return tuple(one for one in self.findings if one.figure.definition.stage == stage)

    def find(self, key: str, place: str = "") -> Finding:
        """Return the finding of a definition's key and a place.

        Raises:
            InputError: no such finding (``FINDING``).
        """
        for one in self.findings:
            if (one.figure.definition.key, one.figure.place) == (key, place):
                return one
        known = ", ".join(dict.fromkeys(one.figure.definition.key for one in self.findings))
        raise InputError("no such finding", code="FINDING", expected=f"a key of {known}, and its place", found=f"{key} {place}")


@neutral()
@torch.no_grad()
def diagnose(
    subject: Cell | PatchSVAE,
    *,
    home: Domain | None = None,
    size: int | None = None,
    mix: NoiseMix | None = None,
    untrained: int = UNTRAINED,
    folder: Path | None = None,
    fresh: bool = False,
    progress: Progress = lambda words, done, parts: None,
) -> Diagnosis:
    """Measure a cell on all kinds of images, sizes, tiles and noise, beside untrained cells and a linear code.

    Args:
        subject: Cell, or a model, whose images are on ``model.scale``.
        home: Domain that it learned; by default that of a cell's manifest, of a model noise.
        size: Side of its training images in pixels, at most 256; by default that of a cell's manifest, of a model 64.
        mix: Mix of the known noise; by default that of a cell's manifest, of a model this package's.
        untrained: Number of untrained cells to compare with.
        folder: Folder in which figures of untrained cells and linear codes are kept for other cells of the spec; None for none.
        fresh: Compute these again.
        progress: Called with a description of the next part, the parts done and the parts in total.

    Raises:
        InputError: neither a cell nor a model (``CELL``), other channels than 3 (``CHANNELS``), patches larger than 64 pixels
            (``PATCH``), a size that is no multiple of the patch size or above 256 (``SIZE``), an unknown domain (``DOMAIN``) or
            mix (``NOISE_MIX``), or weights that are not finite (``NOT_FINITE``).

    >>> import batteries
    >>> from batteries import diagnostics
    >>> model = batteries.untrained(batteries.CellSpec(V=6, D=4, patch_size=8, hidden=8, smooth_width=2), seed=0)
    >>> found = diagnostics.diagnose(model, untrained=0)
    >>> found.verdict.home, len(found.section("tiles")), found.find("compression").figure.value
    ('known laws', 3, 24.0)
    """
    if not isinstance(subject, Cell | PatchSVAE):
        raise InputError("neither a cell nor a model", code="CELL", expected="batteries.Cell", found=type(subject).__name__)
    model = PatchSVAE.from_cell(subject) if isinstance(subject, Cell) else subject
    setting = _setting(subject, home, size, mix)
    _check(model, setting)
    done, parts = itertools.count(), untrained + OWN_PARTS

    def told(words: str) -> None:
        progress(words, next(done), parts)

    told("linear code")
    kept = _Kept(KeptDocuments(folder, fresh), model, setting)
    linear = kept.linear()
    nulls = []
    for index in range(untrained):
        told(f"untrained cell {index + 1}")
        nulls.append(kept.untrained(index))
    coder, side = ModelCoder(model), side_of(model.spec)
    found, judged, confusion = measured(coder, setting, told=told)
    told("pictures")
    return Diagnosis(
        spec=model.spec,
        setting=setting,
        findings=tuple(
            replace(one, untrained=tuple(null.values.get(one.key) for null in nulls), linear=linear.values.get(one.key))
            for one in found
        ),
        verdict=judged,
        untrained=tuple(null.word for null in nulls),
        linear=linear.word,
        linear_width=width_of(model.spec),
        confusion=confusion,
        pictures=pictures.pictures(coder, kinds(side, setting.mix)),
        maps=pictures.maps(coder, min(setting.size, side), setting.mix),
        inspection=_inspection(model, setting),
    )


def _inspection(model: PatchSVAE, setting: Setting) -> Inspection:
    images, _ = resolution.wholes(setting.home, setting.size, INSPECTED, setting.mix)
    return inspect(model, images, input=model.scale)


@dataclass(frozen=True)
class _Kept:
    """Figures of untrained cells and of the linear code of a spec, each computed once for all cells of it."""

    documents: KeptDocuments
    model: PatchSVAE
    setting: Setting

    def linear(self) -> NullFigures:
        """Return the figures of the linear code."""
        return self._recall(
            "linear", {}, lambda: _null(linear_coder(self.model.spec, self.setting.home, self.setting.mix), self.setting)
        )

    def untrained(self, index: int) -> NullFigures:
        """Return the figures of an untrained cell of the model's spec and input scale."""
        seed, largest = UNTRAINED_SEED + index, LARGEST_NULL if index else LARGEST

        def make() -> NullFigures:
            null = untrained_model(self.model.spec, seed).eval()
            null.scale = self.model.scale
            return _null(ModelCoder(null), self.setting, largest)

        return self._recall("untrained", {"seed": seed, "largest": largest}, make)

    def _recall(self, coder: str, more: dict[str, int], make: Callable[[], NullFigures]) -> NullFigures:
        key = {
            **{"coder": coder, "form": FORM, "package": __version__, "torch": torch.__version__, **more},
            "spec": self.model.spec.model_dump(mode="json"),
            "scale": self.model.scale.model_dump(mode="json"),
            **asdict(self.setting),
        }
        return self.documents.recall(NullFigures, key, make)


def _null(coder: Coder, setting: Setting, largest: int = LARGEST) -> NullFigures:
    found, judged, _ = measured(coder, setting, largest)
    return NullFigures(values={one.key: one.figure.value for one in found}, word=judged.word)


def _setting(subject: Cell | PatchSVAE, home: Domain | None, size: int | None, mix: NoiseMix | None) -> Setting:
    """Return what is given, and the rest from a cell's manifest."""
    if isinstance(subject, Cell):
        training = subject.manifest.training
        known = Setting(training.data.kind, training.size, training.data.noise_mix)
    else:
        known = Setting()
    return Setting(home or known.home, known.size if size is None else size, mix or known.mix)


def _check(model: PatchSVAE, setting: Setting) -> None:
    spec, home, size = model.spec, setting.home, setting.size
    refuse_unknown(setting.mix)
    if home not in verdict.HOMES:
        raise InputError("unknown domain", code="DOMAIN", expected=" | ".join(verdict.HOMES), found=home)
    if spec.channels != CHANNELS:
        raise InputError("cell of other channels", code="CHANNELS", expected=CHANNELS, found=spec.channels)
    if spec.patch_size > SIDE:
        raise InputError(
            "patches larger than the images", code="PATCH", expected=f"at most {SIDE} pixels", found=spec.patch_size
        )
    if not 0 < size <= 256 or size % spec.patch_size:
        expected = f"a multiple of {spec.patch_size}, at most 256"
        raise InputError("training size that cannot be diagnosed", code="SIZE", expected=expected, found=size)
    if not all(bool(weights.isfinite().all()) for weights in model.parameters()):
        raise InputError("weights that are not finite", code="NOT_FINITE", expected="finite weights", found="NaN or infinity")
