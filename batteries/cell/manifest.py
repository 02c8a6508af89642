"""Manifest of a cell: identity, architecture, training, and measurements made at packaging. Does not import torch.

A manifest is canonical JSON; a published one never changes. Verdicts about a cell are attestations, kept apart from it.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator
from semver import Version

from batteries import short_repr
from batteries.cell.adaptation import Adaptation
from batteries.cell.field_types import MAX_BLOB as MAX_BLOB
from batteries.cell.field_types import Count as Count
from batteries.cell.field_types import Positive as Positive
from batteries.cell.field_types import Sha256 as Sha256
from batteries.cell.field_types import Size as Size
from batteries.cell.field_types import Text as Text
from batteries.cell.spec import CellSpec
from batteries.io.canonical_json import Document, GrownDocument, load_document

MAX_MANIFEST = 64 * 2**10
MAX_TRAJECTORY = 256  # readings: about 30 KiB of a manifest

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
NAME_FORM = "1 to 64 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends"
RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}
BANDS = ("low", "mid", "high", "open", "off")
CLAIMED = "claimed by the maker"  # label of what cannot be measured again: training data, trajectory, triage, linear codes

Band = Literal["low", "mid", "high", "open", "off"]
Domain = Literal["noise", "photos"]
NoiseMix = Literal["batteries", "published"]  # docs/noise.md
OWN_MIX: NoiseMix = "batteries"


def _plain_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"a name is {NAME_FORM}")
    return name


def _semantic(version: str) -> str:
    if len(version) > 64 or version != version.lower() or not Version.is_valid(version):
        raise ValueError("a version is semantic, in lower case: MAJOR.MINOR.PATCH")
    return version


Name = Annotated[str, AfterValidator(_plain_name)]
SemanticVersion = Annotated[str, AfterValidator(_semantic)]
Family = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class InputScale(Document):
    """Input normalisation of a cell: (x - mean) / std of photographs x = pixel / 127.5 - 1, or of noise as generated.

    Callers apply it to images (:func:`batteries.images.to_input`) and undo it on reconstructions
    (:func:`batteries.images.from_input`). The viability test of this version refuses any scale but mean 0 and std 1.

    >>> import batteries, registry
    >>> registry.load("low/fresnel-64").manifest.identity.input == batteries.InputScale()
    True
    >>> batteries.InputScale(mean=(0.1, 0.1, 0.1), std=(0.5, 0.5, 0.5)).std
    (0.5, 0.5, 0.5)
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (1.0, 1.0, 1.0)


class Identity(Document):
    """Name, version and description of a cell. ``band`` is measured: publishing refuses a band that the CV contradicts."""

    band: Band
    name: Name
    version: SemanticVersion
    family: Family
    resolution: Positive
    input: InputScale
    license: Text
    description: Text


class FileFacts(Document):
    """Weights file: located by ``sha256``, bounded by ``size``; ``tensor_digest`` is independent of the file format."""

    size: Size
    sha256: Sha256
    tensor_digest: Sha256


class Estimated(Document):
    """Mean with its standard error (None for a single image)."""

    value: float
    standard_error: float | None


class CvFigure(GrownDocument, Estimated):
    """CV of pentachoron volumes over a probe, its ratio to the exact attractor, and the on-attractor flag.

    ``corrected`` tells that the bias from the finite number of rows was removed; it is left out of the file where false.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("corrected",)

    matrices: Positive
    images: Positive
    draws: Positive
    seed: Count
    ratio: float
    on_attractor: bool
    corrected: bool = False


class DegenerateFigure(Document):
    """Reason why there is no CV: the simplices are flat."""

    degenerate: Text


class HeldFigure(Document):
    """Ratio of the axial CV to that at an earlier step, with 95% bounds: the second flag."""

    since_step: Count
    ratio: float
    lower: float
    upper: float
    holds: bool


class Baselines(Document):
    """Reference MSEs: of predicting the mean, and of the best linear codes fitted on training images.

    ``pca_k`` is min(hidden, V(D-1), patch dimension); where it equals the patch dimension there is no bottleneck
    (``bottleneck`` false) and ``pca_width`` (D components) is the better reference.
    """

    mean: float
    pca_k: Positive
    pca: float
    pca_width: float
    bottleneck: bool
    fitted_on: Text


class Measured(GrownDocument):
    """Figures of one cell on one probe.

    ``cv`` is the published CV. ``axial_cv`` does not depend on the signs of rows, and band and flags rest on it; manifests from
    before it lack it, and theirs rest on ``cv``: :attr:`deciding_cv`.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("axial_cv",)

    probe: str
    probe_version: Positive
    probe_digest: Sha256
    cv: CvFigure | DegenerateFigure
    band: Band | None
    held: HeldFigure | None
    mse: Estimated
    mse_by_group: dict[str, float]
    baselines: Baselines | None
    effective_rank: Estimated
    spectrum: tuple[float, ...]
    radius_error: float
    axial_cv: CvFigure | DegenerateFigure | None = None

    @property
    def deciding_cv(self) -> CvFigure | DegenerateFigure:
        """CV that band and flags rest on: the axial one, or the published one in a manifest without it."""
        return self.cv if self.axial_cv is None else self.axial_cv


class DataSource(GrownDocument):
    """Training data of a cell. Null means unknown: the cell was adopted.

    ``probe_photographs`` names photographs of the probes that the training images show, by permission: errors on these probes
    are not errors on unseen images. ``noise_mix`` names the generator of noise, ``noise_types`` its types if not all. Each is
    left out of the file at its default.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("probe_photographs", "noise_mix", "noise_types")

    kind: Domain
    description: Text
    digest: Sha256 | None
    images: Count | None
    license: Text
    source: Text
    probe_photographs: tuple[Text, ...] = ()
    noise_mix: NoiseMix = OWN_MIX
    noise_types: tuple[Text, ...] = ()


class TrainingPoint(GrownDocument):
    """Measurement during training, on the cell's own probe; a CV is null where degenerate, the axial one in older files too."""

    ADDED: ClassVar[tuple[str, ...]] = ("axial_cv", "axial_cv_standard_error")

    step: Count
    mse: float
    cv: float | None
    cv_standard_error: float | None
    axial_cv: float | None = None
    axial_cv_standard_error: float | None = None

    @property
    def cv_name(self) -> str:
        """Name of the CV that triage and stability rest on: *axial CV*, or *published CV* without it."""
        return "published CV" if self.axial_cv is None else "axial CV"

    @property
    def deciding_cv(self) -> tuple[float | None, float | None]:
        """CV that triage and stability rest on, and its standard error: the axial one, or the published one without it."""
        if self.axial_cv is None:
            return self.cv, self.cv_standard_error
        return self.axial_cv, self.axial_cv_standard_error


class Triage(Document):
    """Tier 1 of viability: the band of the cell at the triage step."""

    step: Positive
    expected: Band | None
    found: Band | None
    passed: bool


class ClaimedPoint(Document):
    """Reading that the maker of a foreign checkpoint reports of an epoch. Null where there is none."""

    epoch: Count
    test_mse: float | None
    cv: float | None


class Claimed(GrownDocument):
    """Claims of a foreign checkpoint about its own training, none of them measured here. Null where it has none.

    ``rate`` is the learning rate; ``test_mse`` is an error on images, of a scale, and of a mix that are not known.
    ``trajectory`` is that of a report beside the checkpoint; it is left out of the file where empty.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("trajectory",)

    epoch: Count | None = None
    test_mse: float | None = None
    dataset: Text | None = None
    rate: float | None = None
    trajectory: Annotated[tuple[ClaimedPoint, ...], Field(max_length=MAX_TRAJECTORY)] = ()


class TrainingFacts(GrownDocument):
    """Training of a cell, and the command that repeats it. Null means unknown: the cell was adopted.

    Of an adopted cell, ``claimed`` is what its file claims, and ``reading`` how the file was read, a sentence each; either is
    left out of the file where empty.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("claimed", "reading")

    data: DataSource
    command: Text
    steps: Positive | None
    batch: Positive | None
    size: Positive
    optimiser: Text
    schedule: Text
    soft_hand: Text
    seed: Count | None
    package: Text
    torch: Text
    triage: Triage | None
    trajectory: Annotated[tuple[TrainingPoint, ...], Field(max_length=MAX_TRAJECTORY)]
    claimed: Claimed | None = None
    reading: tuple[Text, ...] = ()


class Manifest(GrownDocument):
    """Complete description of a cell, made at packaging.

    ``adapted`` is there if the cell learned in a host: its parent, its dose, and what was held.

    >>> import registry
    >>> manifest = registry.load("low/fresnel-64").manifest
    >>> manifest.path, manifest.own_probe, manifest.own.band
    ('low/fresnel-64', 'photos-64', 'low')
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"
    ADDED: ClassVar[tuple[str, ...]] = ("adapted",)

    schema_version: Literal["1.0"] = "1.0"
    identity: Identity
    spec: CellSpec
    file: FileFacts
    training: TrainingFacts
    own_probe: str
    measured: dict[str, Measured]
    untrained: dict[str, Measured]
    adapted: Adaptation | None = None

    @model_validator(mode="after")
    def _own_probe_is_measured(self) -> Manifest:
        if self.own_probe not in self.measured:
            raise ValueError(f"own_probe {self.own_probe!r} is not among the measured probes")
        if len(self.identity.input.mean) != self.spec.channels or len(self.identity.input.std) != self.spec.channels:
            raise ValueError("input mean and std need one number per channel")
        return self

    @property
    def path(self) -> str:
        """Reference without a version, ``band/name``."""
        return f"{self.identity.band}/{self.identity.name}"

    @property
    def own(self) -> Measured:
        """Figures on the cell's own domain."""
        return self.measured[self.own_probe]

    @property
    def headline(self) -> tuple[str, ...]:
        """Name with version, and figures, in words."""
        cv, axial = self.own.deciding_cv, self.own.axial_cv is not None
        value = cv.value if isinstance(cv, CvFigure) else None
        figures = figure_words(self.spec.parameters, value, self.own.mse.value, axial=axial)
        return f"{self.path}@{self.identity.version}", *figures

    def __repr__(self) -> str:
        return short_repr.headed(self, *self.headline, f"on {self.own_probe}")

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Manifest:
        """Read a manifest strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_MANIFEST)


def figure_words(parameters: int, cv: float | None, mse: float, *, axial: bool) -> tuple[str, str, str]:
    """Write the figures by which cells are told apart.

    >>> figure_words(250211, 0.25437, 0.006785, axial=True)
    ('250,211 parameters', 'axial CV 0.254', 'MSE 0.0068')
    """
    name = "axial CV" if axial else "CV"
    return f"{parameters:,} parameters", f"{name} degenerate" if cv is None else f"{name} {cv:.3f}", f"MSE {mse:.2g}"


def is_name(name: str) -> bool:
    """Return True if a name is valid for a cell on every file system.

    >>> is_name("fresnel-256"), is_name("../x"), is_name("nul"), is_name("Fresnel")
    (True, False, False, False)
    """
    return NAME.fullmatch(name) is not None and name.split(".")[0] not in RESERVED
