"""Coders that a diagnosis compares: the model of a cell, and the best linear code of its width.

A fold is 0 or 1 for each image: an image of fold 1 is coded by the linear code that did not see its photograph, nor any other
of its fold. Models have learned none of these images and ignore it.

Letters: B images, N patches of an image, D width of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from batteries import short_repr
from batteries.cell.manifest import OWN_MIX, Domain, InputScale, NoiseMix
from batteries.cell.spec import CellSpec
from batteries.data.photos import to_float, to_tensor
from batteries.data.probes import photographs
from batteries.data.sources import NoiseSource, seed_of
from batteries.engine import parallel
from batteries.images.decoding import read_image
from batteries.images.image_batch import unjudged
from batteries.images.rescaling import from_input, to_input
from batteries.measurement import baselines
from batteries.measurement.baselines import LinearCode
from batteries.measurement.measure import PATCHES_AT_ONCE, Reading, read
from batteries.model.patch_svae import PatchSVAE, grid_of

FIT_SEED = 23  # purpose in seed_of, distinct from others
FIT_IMAGES, FIT_SIDE = 512, 64  # of noise, for the linear code


class Coder(Protocol):
    """Encoder and decoder of images on this package's scale."""

    @property
    def spec(self) -> CellSpec:
        """Architecture, which has the patch size."""
        ...

    def errors(self, images: Tensor, fold: Tensor | None = None) -> tuple[Tensor, Reading | None]:
        """Return the mean squared error (B,) of each image, and the reading of a model."""
        ...

    def reconstruct(self, images: Tensor, fold: Tensor | None = None) -> Tensor:
        """Reconstruct images (B, channels, height, width)."""
        ...

    def tokens(self, images: Tensor, fold: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return tokens (B, N, D) before and after all that mixes patches: S and omega of a model."""
        ...


@dataclass(frozen=True, eq=False)
class ModelCoder:
    """A model, on images of this package's scale.

    Attributes:
        model: Model; its images are on ``model.scale``.
    """

    model: PatchSVAE

    __repr__ = short_repr.fields

    @property
    def spec(self) -> CellSpec:
        """Architecture of the model."""
        return self.model.spec

    def errors(self, images: Tensor, fold: Tensor | None = None) -> tuple[Tensor, Reading | None]:
        """Return the errors, and the reading of S and of a sample of M."""
        found = read(self.model, images, torch.arange(len(images)), self._scale)
        return found.mse, found

    @torch.no_grad()
    def reconstruct(self, images: Tensor, fold: Tensor | None = None) -> Tensor:
        """Reconstruct images in chunks."""
        parts = []
        with unjudged():
            for part in self._chunks(images):
                recon = self.model(part).recon
                parts.append(recon if self._scale is None else from_input(recon, self._scale))
        return torch.cat(parts)

    @torch.no_grad()
    def tokens(self, images: Tensor, fold: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return S and omega."""
        with unjudged():
            found = [(tokens.S, tokens.omega) for tokens in map(self.model.tokens, self._chunks(images))]
        return torch.cat([S for S, _ in found]), torch.cat([omega for _, omega in found])

    @property
    def _scale(self) -> InputScale | None:
        """Input scale; None if images need no conversion."""
        scale = self.model.scale
        return None if set(scale.mean) == {0.0} and set(scale.std) == {1.0} else scale

    def _chunks(self, images: Tensor) -> Iterator[Tensor]:
        rows, columns = grid_of(images, self.spec)
        for part in images.split(max(1, PATCHES_AT_ONCE // (rows * columns))):
            parallel.leave_if_failed()
            yield part if self._scale is None else to_input(part, self._scale)


@dataclass(frozen=True, eq=False)
class LinearCoder:
    """Principal components of training patches, each image coded by those of the other fold.

    Attributes:
        spec: Architecture whose patches and width it has.
        codes: Code of images without a fold and of fold 0, and code of fold 1.
    """

    spec: CellSpec
    codes: tuple[LinearCode, LinearCode]

    __repr__ = short_repr.fields

    @property
    def width(self) -> int:
        """Number of components: as many as the cell's narrowest layer, or its D if that is no narrower than a patch."""
        return width_of(self.spec)

    def errors(self, images: Tensor, fold: Tensor | None = None) -> tuple[Tensor, Reading | None]:
        """Return the errors."""
        return (self.reconstruct(images, fold).double() - images).square().mean(dim=(1, 2, 3)), None

    def reconstruct(self, images: Tensor, fold: Tensor | None = None) -> Tensor:
        """Project patches on the components."""
        rows, columns = grid_of(images, self.spec)

        def project(patches: Tensor, code: LinearCode) -> Tensor:
            kept = code.components[:, : self.width]
            return (patches.double() - code.mean) @ kept @ kept.T + code.mean

        coded = self._coded(images, fold, project).to(images.dtype)
        p = self.spec.patch_size
        return rearrange(coded, "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=rows, gw=columns, p=p, q=p)

    def tokens(self, images: Tensor, fold: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the first D coefficients, twice."""

        def coefficients(patches: Tensor, code: LinearCode) -> Tensor:
            return (patches.double() - code.mean) @ code.components[:, : self.spec.D]

        found = self._coded(images, fold, coefficients)
        return found, found

    def _coded(self, images: Tensor, fold: Tensor | None, code: Callable[[Tensor, LinearCode], Tensor]) -> Tensor:
        """Code the patches of each image (B, N, P) by the code of its fold."""
        patches = baselines.to_patches(images, self.spec).unflatten(0, (len(images), -1))
        found = code(patches, self.codes[0])
        if fold is not None and bool((fold == 1).any()):
            found[fold == 1] = code(patches[fold == 1], self.codes[1])
        return found


def width_of(spec: CellSpec) -> int:
    """Return the width of the linear code: that of a cell's narrowest layer, or D where none is narrower than a patch."""
    k = min(spec.hidden, spec.V * (spec.D - 1), spec.patch_dim)
    return k if k < spec.patch_dim else min(spec.D, spec.patch_dim)


def linear_coder(spec: CellSpec, home: Domain, mix: NoiseMix = OWN_MIX) -> LinearCoder:
    """Fit the linear code of a cell's width to images of its domain, noise or photographs.

    The photographs are those of the probes, in two halves; each image is coded by the half that it is not in.
    """
    if home == "noise":
        code = baselines.fit(NoiseSource(mix=mix).batch(seed_of(0, 0, FIT_SEED), FIT_IMAGES, _whole(FIT_SIDE, spec)), spec)
        return LinearCoder(spec, (code, code))
    pictures = [to_float(to_tensor(read_image(path))) for path in photographs()]
    first, second = (_code_of(pictures[other::2], spec) for other in (1, 0))
    return LinearCoder(spec, (first, second))


def _code_of(pictures: list[Tensor], spec: CellSpec) -> LinearCode:
    """Fit a code to all whole patches of some photographs, each (3, height, width)."""
    p = spec.patch_size
    whole = [one[:, : one.shape[1] // p * p, : one.shape[2] // p * p] for one in pictures]
    patches = [rearrange(one, "C (gh p) (gw q) -> (gh gw) C p q", p=p, q=p) for one in whole]
    return baselines.fit(torch.cat(patches), spec)


def _whole(side: int, spec: CellSpec) -> int:
    return side // spec.patch_size * spec.patch_size
