"""Three different CVs along the pipeline, from the first layer to the last block, and the kurtosis of the decoder.

| name | subject |
|---|---|
| CV of rows | volumes of simplices of five rows of one M, published and axial (:mod:`batteries.geometry.simplex_cv`) |
| CV of patches | volumes of simplices of the activations of five patches of one image |
| coefficient of variation | all activations of a stage: standard deviation over mean, no simplices |

Letters: b images, N patches of an image, n of them at a time, V rows of M, D width, H width of a stage.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from batteries.cell.spec import CellSpec
from batteries.diagnostics.figures import Definition, Figure, estimated
from batteries.diagnostics.image_sums import Gatherer, ImageSums, Part, Whole, power_sums
from batteries.diagnostics.pipeline import Steps
from batteries.geometry import simplex_cv
from batteries.geometry.attractor import SIMPLEX
from batteries.geometry.estimates import HOLDS
from batteries.geometry.simplex_cv import Degenerate
from batteries.measurement.measure import CV_SEED, MATRICES

STAGE, DECODER = "CV along the pipeline", "decoder"
PATCH_DRAWS = 200  # simplices of an image, as published: images vary more than draws
MOST_PATCHES = 1024  # of an image, drawn at random
UNSCALED = "omega of this readout is S"

ROWS = Definition(
    "cv-rows",
    "CV of rows",
    STAGE,
    "mean over matrices M of sd / mean of the volumes of 1,000 simplices of five rows of M",
    HOLDS,
)
AXIAL = Definition("axial-cv-rows", "axial CV of rows", STAGE, "the same, each row with a random sign in each simplex", HOLDS)
PATCHES = Definition(
    "cv-patches",
    "CV of patches",
    STAGE,
    "mean over images of sd / mean of the volumes of 200 simplices of five patches' activations; flat images left out",
    HOLDS,
)
VARIATION = Definition(
    "variation", "coefficient of variation", STAGE, "sd / |mean| over all activations of the stage, images and patches"
)
KURTOSIS = Definition("kurtosis", "kurtosis", DECODER, "mean of (x - mean)^4 / variance^2 over all activations; normal: 3")


class RowFigures(Gatherer):
    """Gatherer of the CV of rows, on the same sample of matrices as :func:`batteries.measure`.

    Args:
        images: Number of images of the sample.
        patches: Number of patches of an image.
    """

    def __init__(self, images: int, patches: int) -> None:
        generator = torch.Generator().manual_seed(CV_SEED)
        order = torch.rand(images, patches, generator=generator).argsort(dim=1)
        self._chosen = order[:, : max(1, MATRICES // images)]  # (B, few)
        self._matrices: Tensor | None = None

    def take(self, part: Part) -> None:
        """Keep the chosen ones of some patches."""
        M = part.steps.M
        if self._matrices is None:
            self._matrices = torch.empty(*self._chosen.shape, *M.shape[2:], dtype=M.dtype)  # (B, few, V, D)
        at = self._chosen[part.index] - part.place[0]  # (b, few)
        image, few = ((at >= 0) & (at < len(part.place))).nonzero(as_tuple=True)
        self._matrices[part.index[image], few] = M[image, at[image, few]].cpu()

    def figures(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield both CVs of rows."""
        matrices = self._matrices
        assert matrices is not None
        of_matrix, flat = cluster[:, None].expand(matrices.shape[:2]).flatten(), matrices.flatten(0, 1)
        for definition, function in ((ROWS, simplex_cv.cv), (AXIAL, simplex_cv.axial_cv)):
            found = function(flat, of_matrix, seed=CV_SEED)
            yield Figure(definition, undefined=found.reason) if isinstance(found, Degenerate) else estimated(definition, found)


class ActivationFigures(Gatherer):
    """Gatherer of the CV of patches, the coefficient of variation, and the decoder's kurtosis.

    Args:
        spec: Spec of the cell.
        images: Number of images.
        patches: Number of patches of an image.
    """

    def __init__(self, spec: CellSpec, images: int, patches: int) -> None:
        self._spec = spec
        self._patches = patches
        self._sums = ImageSums(images)
        self._cvs: dict[str, list[float | Degenerate]] = {}
        self._chosen: dict[tuple[str, int], Tensor] = {}  # activations (few, H) of each stage, of the images at hand

    def take(self, part: Part) -> None:
        """Add some patches, and keep the activations of those that are chosen."""
        named = _named(part.steps)
        for place, activations in named.items():
            self._sums.add(part.index, **{place: power_sums(activations, 4 if place.startswith("dec") else 2)})
        for row, image in enumerate(part.index.tolist()):
            at = _order(image, self._patches) - part.place[0]
            here = (at >= 0) & (at < len(part.place))
            for place, activations in named.items():
                of = self._chosen.setdefault((place, image), activations.new_empty(len(at), activations.shape[2]))
                of[here] = activations[row, at[here]]

    def end(self, whole: Whole) -> None:
        """Compute the CV of the chosen patches of each image."""
        for (place, image), activations in self._chosen.items():
            self._cvs.setdefault(place, []).append(_simplices(image, activations))
        self._chosen.clear()
        self._sums.add(whole.index, reconstruction=power_sums(whole.given.transpose(1, 2), 4))

    def figures(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield the figures of every stage."""
        missing = {} if self._spec.readout == "svd" or not self._spec.cross_layers else {"S after attention": UNSCALED}
        for place, found in self._cvs.items():
            yield _cv_of_patches(place, found, cluster)
        yield from (Figure(PATCHES, place, undefined=reason) for place, reason in missing.items())
        for place in self._cvs:
            yield self._sums.figure(VARIATION, cluster, _variation, place, place=place)
        yield from (Figure(VARIATION, place, undefined=reason) for place, reason in missing.items())
        for place in (*(place for place in self._cvs if place.startswith("dec")), "reconstruction"):
            yield self._sums.figure(KURTOSIS, cluster, _kurtosis, place, place=place)


def _named(steps: Steps) -> dict[str, Tensor]:
    """Return the activations (b, n, H) of every stage by its name, in order."""
    named = {"enc_in": steps.enc_in}
    named |= {f"enc_block_{place}": block for place, block in enumerate(steps.enc_blocks)}
    named |= {"M": steps.M.flatten(2), "S before attention": steps.S}
    if steps.gated.spectrum is not None:
        ratio = torch.ones_like(steps.S)
        for place, factor in enumerate(steps.layers):
            ratio = ratio * factor
            named[f"S after layer {place}"] = steps.S * ratio
    named["dec_in"] = steps.dec_in
    return named | {f"dec_block_{place}": block for place, block in enumerate(steps.dec_blocks)}


def _order(image: int, patches: int) -> Tensor:
    """Choose patches of an image, at random if there are many."""
    if patches <= MOST_PATCHES:
        return torch.arange(patches)
    return torch.randperm(patches, generator=torch.Generator().manual_seed(CV_SEED + image))[:MOST_PATCHES]


def _simplices(image: int, activations: Tensor) -> float | Degenerate:
    """Compute the CV of the volumes of simplices of patches (N, H) of an image."""
    N = len(activations)
    if N <= SIMPLEX:
        return Degenerate(f"{N} patches of an image, fewer than 5", flat=1, matrices=1)
    if activations.shape[1] < SIMPLEX:
        return Degenerate(f"width {activations.shape[1]} has no 4-volume", flat=1, matrices=1)
    found = simplex_cv.cv(activations[None], torch.zeros(1), draws=PATCH_DRAWS, seed=CV_SEED + image)
    if isinstance(found, Degenerate):
        return Degenerate("the activations of five patches lie in a hyperplane", flat=1, matrices=1)
    return found.value


def _cv_of_patches(place: str, found: list[float | Degenerate], cluster: Tensor) -> Figure:
    flat = [one for one in found if isinstance(one, Degenerate)]
    if 2 * len(flat) > len(found):
        return Figure(PATCHES, place, undefined=f"{flat[0].reason}, in {len(flat)} of {len(found)} images")
    sums = ImageSums(len(found))
    sums.add(
        torch.arange(len(found)),
        cv=torch.tensor([0.0 if isinstance(one, Degenerate) else one for one in found]),
        known=torch.tensor([not isinstance(one, Degenerate) for one in found]),
    )
    return sums.mean(PATCHES, cluster, "cv", "known", place)


def _variation(sums: Tensor) -> Tensor:
    mean, square = (sums[..., k] / sums[..., 0] for k in (1, 2))
    return (square - mean.square()).clamp_min(0.0).sqrt() / mean.abs()


def _kurtosis(sums: Tensor) -> Tensor:
    m1, m2, m3, m4 = (sums[..., k] / sums[..., 0] for k in (1, 2, 3, 4))
    variance = m2 - m1.square()
    return (m4 - 4 * m1 * m3 + 6 * m1.square() * m2 - 3 * m1**4) / variance.square()
