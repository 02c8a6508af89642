"""Answers of the commands of battery VAEs under ``--json``; their schemas are exported to ``docs/schema``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batteries.cell.manifest import Count, Positive, Text
from composer.artifact.vae.manifest import VaeManifest
from composer.vae.reading_document import TrainedRun, VaeReading
from registry.answers.answer import Answer

Share = Annotated[float, Field(ge=0, le=1)]


class TrainedVae(Answer):
    """Answer of ``batteries vae train``.

    Attributes:
        path: Path of the file.
        manifest: Manifest, as in the file beside it.
        run: Record of the training.
    """

    path: str
    manifest: VaeManifest
    run: TrainedRun


class SampledVae(Answer):
    """Answer of ``batteries vae sample``.

    Attributes:
        vae: Reference or path of the VAE.
        images: Paths of the samples.
        seed: Seed of the codes.
    """

    vae: str
    images: tuple[str, ...]
    seed: Count


class VaeParent(Answer):
    """A parent: sector, published name and version, and the digest of its weights."""

    name: str
    cell: str
    version: str
    tensors: str


class ShownVae(Answer):
    """Answer of ``batteries vae show``.

    Attributes:
        vae: Reference or path of the VAE.
        parameters: Number of its parameters.
        bottleneck: Numbers of a code of a patch and sector.
        arrays: Embedding arrays of each sector.
        linear_parameters: Share of its parameters in linear maps.
        linear_multiply_adds: Share of its multiply-adds in linear maps, for an image of 64 pixels.
        widths: Width D of each sector.
        parents: Cells that the sectors started on.
        probe: Name of the held-out images.
        kl: Weight of the divergence in the evidence lower bound.
        reading: Reading on them, made now.
        history: Records of its trainings.
        page: Path of the page, if written.
    """

    vae: str
    parameters: Positive
    bottleneck: Positive
    arrays: Positive
    linear_parameters: Share
    linear_multiply_adds: Share
    widths: dict[str, Positive]
    parents: tuple[VaeParent, ...]
    probe: Text
    kl: float
    reading: VaeReading
    history: tuple[TrainedRun, ...]
    page: str | None


VAES: dict[str, type[Answer]] = {"vae-train": TrainedVae, "vae-sample": SampledVae, "vae-show": ShownVae}
