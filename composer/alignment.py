"""Procrustes alignment of tokens into one consensus frame, scored on images it was not fitted on.

Omega is sorted, positive and of nearly fixed norm, so uncentred tokens of any two cells look alike, and a map always fits
the points it was fitted on. Hence: centre first; fit on half of the images, score on the other half; and report the score
as a lift over pairings shuffled by image.

Sources: Schoenemann, Psychometrika 31 (1966), for the orthogonal map; Gower, Psychometrika 40 (1975), for the consensus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from batteries.errors import InputError

ROUNDS = 50  # of the consensus iteration, at most
TOLERANCE = 1e-10  # relative fall of the residual that ends it
SHUFFLES = 99  # pairings of the null: a p-value can be as low as 0.01
SPREAD_FLOOR = 1e-12  # of the tokens' mean square: below it they are constant


@dataclass(frozen=True)
class Alignment:
    """A similarity map x -> scale * (x - centre) @ rotation + translation.

    Attributes:
        rotation: (D, D) orthogonal, float64.
        scale: A positive number.
        centre: (D,) mean of the source.
        translation: (D,) mean of the target.
        residual: Share of the target's variance left over on the points of the fit.
        determinant: +1, or -1 where the map reflects.
    """

    rotation: Tensor
    scale: float
    centre: Tensor
    translation: Tensor
    residual: float
    determinant: int

    def __call__(self, tokens: Tensor) -> Tensor:
        """Map tokens (..., D), in their own dtype and on their own device."""
        centred = tokens - self.centre.to(tokens)
        return centred @ (self.scale * self.rotation).to(tokens) + self.translation.to(tokens)


@dataclass(frozen=True)
class Score:
    """How well one cell's tokens predict the others', held out.

    Attributes:
        r2: Share of variance explained on images that were not fitted.
        null_mean: Mean of the same under pairings shuffled by image.
        null_sd: Its standard deviation over shuffles.
        shuffles: How many.
    """

    r2: float
    null_mean: float
    null_sd: float
    shuffles: int

    @property
    def lift(self) -> float:
        """r2 over the mean of its null."""
        return self.r2 - self.null_mean

    @property
    def p_value(self) -> float:
        """Smallest p this number of shuffles can support, by a normal approximation no smaller than 1 / (shuffles + 1)."""
        if self.null_sd == 0:
            return 1.0
        tail = 0.5 * torch.erfc(torch.tensor(self.lift / self.null_sd / 2**0.5)).item()
        return max(tail, 1 / (self.shuffles + 1))


@dataclass(frozen=True)
class Consensus:
    """A frame, and one map into it per cell.

    Attributes:
        maps: In the order of the cells.
        width: D of the frame; narrower tokens are padded with zeros.
        scores: Per cell, against the mean of the others; empty for a single cell.
        regions: Regions per image on which the tokens were paired.
    """

    maps: tuple[Alignment, ...]
    width: int
    scores: tuple[Score, ...]
    regions: int

    def of(self, places: Sequence[int]) -> Consensus:
        """The same frame for some of the cells."""
        scores = tuple(self.scores[i] for i in places) if self.scores else ()
        return replace(self, maps=tuple(self.maps[i] for i in places), scores=scores)

    def mapped(self, places: Sequence[int], tokens: Tensor) -> Tensor:
        """Tokens (C, B, N, width) of some cells, each by its own map, at once."""
        chosen = [self.maps[i] for i in places]
        centre, turn, translation = (
            torch.stack(rows).to(tokens)
            for rows in ([m.centre for m in chosen], [m.scale * m.rotation for m in chosen], [m.translation for m in chosen])
        )
        return (tokens - centre[:, None, None]) @ turn[:, None] + translation[:, None, None]


def procrustes(source: Tensor, target: Tensor) -> Alignment:
    """The similarity map of least squares from source to target, reflections allowed.

    Args:
        source: (n, D).
        target: (n, D), row i paired with row i of the source.

    Raises:
        InputError: other shapes, fewer than two rows, or constant tokens.
    """
    if source.shape != target.shape or source.ndim != 2 or len(source) < 2:
        raise InputError(
            "tokens that do not pair",
            code="PAIRS",
            expected="two (n, D) of one shape, n >= 2",
            found=f"{tuple(source.shape)} and {tuple(target.shape)}",
        )
    x, y = source.double(), target.double()
    centre, translation = x.mean(dim=0), y.mean(dim=0)
    x, y = x - centre, y - translation
    spread, total = x.square().sum(), y.square().sum()
    _refuse_constant(spread, source)
    _refuse_constant(total, target)
    left, singular, right = torch.linalg.svd(x.T @ y)
    rotation = left @ right
    scale = singular.sum() / spread
    residual = float((1 - singular.sum().square() / (spread * total)).clamp_min(0))
    determinant = 1 if torch.linalg.det(rotation) > 0 else -1
    return Alignment(rotation, float(scale), centre, translation, residual, determinant)


def consensus(tokens: Sequence[Tensor], *, seed: int = 0) -> Consensus:
    """One frame for many cells, fitted on all images, scored on halves.

    Args:
        tokens: Per cell (B, G, D), paired by image and region; all of one width.
        seed: Of the halves and the shuffles.

    Raises:
        InputError: constant tokens, or too few images for halves where there is more than one cell.
    """
    flat = [t.double().flatten(0, 1) for t in tokens]
    frame = generalised(flat)
    maps = tuple(procrustes(t, frame) for t in flat)
    scores = held_out_scores(tokens, seed=seed) if len(tokens) > 1 else ()
    return Consensus(maps, tokens[0].shape[-1], scores, tokens[0].shape[1])


def generalised(tokens: Sequence[Tensor]) -> Tensor:
    """The consensus (n, D) of tokens (n, D): the mean of all after each is mapped to it, of unit spread."""
    unit = []
    for t in tokens:
        centred = t - t.mean(dim=0)
        _refuse_constant(centred.square().sum(), t)
        unit.append(centred / centred.norm())
    frame, before = unit[0], None
    for _ in range(ROUNDS):
        mapped = [t @ _rotation(t, frame) for t in unit]
        mean = torch.stack(mapped).mean(dim=0)
        frame = mean / mean.norm()
        residual = sum(float((m - frame).square().sum()) for m in mapped)
        if before is not None and before - residual <= TOLERANCE * before:
            break
        before = residual
    return frame * len(frame) ** 0.5


def held_out_scores(tokens: Sequence[Tensor], *, seed: int) -> tuple[Score, ...]:
    """Per cell: fitted to the consensus of the *others* on half of the images, scored on the other half.

    Raises:
        InputError: fewer than four images.
    """
    images = len(tokens[0])
    if images < 4:
        raise InputError("too few images to score an alignment", code="FEW_IMAGES", expected="at least 4", found=images)
    generator = torch.Generator().manual_seed(seed)
    fitted, scored = torch.randperm(images, generator=generator).tensor_split(2)
    scores = []
    for index, own in enumerate(tokens):
        frame = generalised([t.double().flatten(0, 1) for i, t in enumerate(tokens) if i != index])
        target = frame.unflatten(0, own.shape[:2])
        null = torch.tensor([_r2(_shuffled(own, generator), target, fitted, scored) for _ in range(SHUFFLES)])
        scores.append(Score(_r2(own, target, fitted, scored), float(null.mean()), float(null.std()), SHUFFLES))
    return tuple(scores)


def _r2(tokens: Tensor, target: Tensor, fitted: Tensor, scored: Tensor) -> float:
    """Share of the target's variance on ``scored`` images explained by a map fitted on ``fitted`` ones."""
    fit = procrustes(tokens[fitted].flatten(0, 1), target[fitted].flatten(0, 1))
    truth = target[scored].flatten(0, 1)
    left = (fit(tokens[scored].double().flatten(0, 1)) - truth).square().sum()
    return float(1 - left / (truth - fit.translation).square().sum())


def _shuffled(tokens: Tensor, generator: torch.Generator) -> Tensor:
    return tokens[torch.randperm(len(tokens), generator=generator)]


def _rotation(source: Tensor, target: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(source.T @ target)
    return left @ right


def _refuse_constant(spread: Tensor, tokens: Tensor) -> None:
    if float(spread) <= SPREAD_FLOOR * float(tokens.double().square().sum().clamp_min(1e-300)):
        raise InputError(
            "tokens that do not vary",
            code="CONSTANT",
            expected="tokens that differ between regions",
            remedy="Use a probe of varied images; a constant cell cannot be aligned.",
        )
