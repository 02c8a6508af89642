"""Batched orthogonal Procrustes: the rotation, scale and shift that map the tokens of one cell closest to those of another.

Both ends are centred first. Missing rows are masked, never filled. Tokens of unequal width need an explicit choice: to pad the
narrower with zeros, or to project the wider onto its leading principal axes. All arithmetic is float64. Legend: n paired rows,
D_s and D_t widths of source and target, D width of the map, the larger of them if one was padded.

Sources: Schoenemann, Psychometrika 31 (1966), for the orthogonal map; Schoenemann and Carroll, Psychometrika 35 (1970), for
scale and shift; Umeyama, IEEE PAMI 13 (1991), for the map without reflection; Gower and Dijksterhuis, Procrustes Problems
(2004), chapter 8, for unequal widths.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from batteries import short_repr
from batteries.engine import dispatch
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer import grids as widths
from composer.procrustes.centering import Products, centred, checked, products
from composer.procrustes.polar import TINY, Reflection, sign, turn
from composer.procrustes.provenance import Pairing
from composer.procrustes.whitening import Whitening, whitened

Unequal = Literal["pad", "project"]


class FewSamplesWarning(UserWarning):
    """Fewer rows than dimensions: any tokens fit well, and the residual is uninformative.

    Args:
        rows: Number of paired rows of the fit, the fewest of a batch.
        width: Number of dimensions.

    >>> import warnings
    >>> import torch
    >>> from composer import procrustes
    >>> with warnings.catch_warnings(action="ignore", category=procrustes.FewSamplesWarning):
    ...     few = procrustes.fit(torch.eye(3, 8), torch.eye(3, 8).flip(1))
    """

    def __init__(self, rows: int, width: int) -> None:
        self.rows = rows
        self.width = width
        super().__init__(f"{rows} rows for {width} dimensions: unrelated tokens fit as well, so judge the map on other images")

    def __reduce__(self) -> tuple[type[FewSamplesWarning], tuple[int, int]]:
        return type(self), (self.rows, self.width)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Similarity map x -> scale * (x - centre) @ rotation + translation, or a batch of them along leading axes.

    Attributes:
        rotation: Orthogonal matrix (..., D, D), float64; (..., D_s, D_t) with orthonormal rows or columns if projected.
        scale: Non-negative scale (...).
        centre: Mean (..., D) of the source.
        translation: Mean (..., D) of the target.
        residual: Share (...) of the target's variance that is not explained on the rows of the fit, in white coordinates if
            whitened; NaN for a composition of maps.
        determinant: Determinant (...) of the rotation: +1, or -1 where a reflection fits better; 0 if projected.
        paired: Number (...) of rows of the fit.
        padded: Number of zeros appended to source and to target.
        whitening: Matrices around the rotation of a whitened map; None for a similarity.
        pairing: Digests of ends and images, if known.

    >>> import torch
    >>> from composer import procrustes
    >>> source = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> there = procrustes.fit(source, 3 * source.flip(1) + 1)
    >>> back = there.inverse()
    >>> torch.allclose(there.then(back)(source), source, atol=1e-5)
    True
    """

    rotation: Tensor
    scale: Tensor
    centre: Tensor
    translation: Tensor
    residual: Tensor
    determinant: Tensor
    paired: Tensor
    padded: tuple[int, int] = (0, 0)
    whitening: Whitening | None = None
    pairing: Pairing | None = None

    __repr__ = short_repr.fields

    @property
    def matrix(self) -> Tensor:
        """Matrix (..., D, D) by which centred tokens are multiplied."""
        turned = self.scale[..., None, None] * self.rotation
        return turned if self.whitening is None else self.whitening.before @ turned @ self.whitening.after

    @property
    def projected(self) -> bool:
        """True if the wider end was projected onto the width of the other."""
        return bool((self.determinant == 0).all())

    def __call__(self, tokens: Tensor) -> Tensor:
        """Map tokens, in their own dtype and on their own device.

        Args:
            tokens: Tokens (..., D), or of the source's width before padding, with the axes of a batch of maps leading.

        Raises:
            InputError: tokens of another width (``WIDTH``).
        """
        width = self.rotation.shape[-2]
        if tokens.shape[-1] == width - self.padded[0]:
            tokens = widths.pad(tokens, width)
        if tokens.shape[-1] != width:
            raise _other_width(width - self.padded[0], tokens.shape[-1])
        between = (1,) * (tokens.ndim - self.centre.ndim)
        batch = self.centre.shape[:-1]
        centre, translation = (part.to(tokens).reshape(*batch, *between, -1) for part in (self.centre, self.translation))
        matrix = self.matrix.to(tokens).reshape(*batch, *between[1:], *self.rotation.shape[-2:])
        if not between and batch:  # one token per map
            return ((tokens - centre).unsqueeze(-2) @ matrix).squeeze(-2) + translation
        return (tokens - centre) @ matrix + translation

    def inverse(self) -> Alignment:
        """Return the inverse map, onto the kept axes if one end was projected; it keeps the residual of the fit.

        Raises:
            InputError: a map of scale zero (``NO_INVERSE``).
        """
        if not bool((self.scale > 0).all()):
            remedy = "Fit with scale=False, or on related tokens."
            raise InputError("map without an inverse", code="NO_INVERSE", expected="scale > 0", remedy=remedy)
        whitening = self.whitening
        if whitening is not None:
            before, after = torch.linalg.inv(whitening.after), torch.linalg.inv(whitening.before)
            whitening = Whitening(before, after, whitening.condition.flip(-1))
        return replace(
            self,
            rotation=self.rotation.mT,
            scale=1 / self.scale,
            centre=self.translation,
            translation=self.centre,
            padded=self.padded[::-1],
            whitening=whitening,
            pairing=self.pairing and self.pairing.inverse(),
        )

    def then(self, other: Alignment) -> Alignment:
        """Compose this map with another, which is applied after it.

        Raises:
            InputError: an other map of another width (``WIDTH``) or that does not begin at this one's target (``ENDS``), or a
                projected map chained with a whitened one (``WHITENED``).
        """
        if self.rotation.shape[-1] != other.rotation.shape[-2]:
            raise _other_width(other.rotation.shape[-2], self.rotation.shape[-1])
        rotation, whitening = _chained(self, other)
        return Alignment(
            rotation=rotation,
            scale=self.scale * other.scale,
            centre=self.centre,
            translation=other(self.translation),
            residual=torch.full_like(self.residual * other.residual, torch.nan),
            determinant=(self.determinant * other.determinant) if whitening is None else sign(rotation),
            paired=torch.minimum(self.paired, other.paired),
            padded=(self.padded[0], other.padded[1]),
            whitening=whitening,
            pairing=self.pairing.then(other.pairing) if self.pairing and other.pairing else None,
        )


@neutral()
def fit(
    source: Tensor,
    target: Tensor,
    *,
    scale: bool = True,
    reflection: Reflection = "allowed",
    whiten: bool = False,
    rows: Tensor | None = None,
    unequal: Unequal | None = None,
) -> Alignment:
    """Fit the least-squares map from source to target, or a batch of them along broadcast leading axes.

    Args:
        source: Tokens (..., n, D_s).
        target: Tokens (..., n, D_t), row i paired with row i of the source.
        scale: True to fit a scale, False to fix it at 1.
        reflection: ``forbidden`` restricts the map to determinant +1.
        whiten: True to scale every axis of both ends to unit variance before the rotation, and back after it.
        rows: Mask (..., n), boolean, of the rows present; other rows are not read.
        unequal: Treatment of different widths: ``pad`` the narrower with zeros, or ``project`` the wider onto its leading
            principal axes. Required if the widths differ.

    Raises:
        InputError: tokens under a gradient, a transform or a trace (``DERIVATIVE``), since a map is a constant; rows that do
            not pair (``PAIRS``), different widths without a choice (``WIDTHS``), fewer than two rows (``FEW_ROWS``), none
            left after the mask (``NO_ROWS``), tokens that are not finite (``NOT_FINITE``) or constant (``CONSTANT``), or a
            covariance that cannot be whitened (``SINGULAR``).

    Warns:
        FewSamplesWarning: fewer rows than dimensions.

    >>> import torch
    >>> from composer import procrustes
    >>> source = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> target = torch.tensor([[3.0, 1.0], [3.0, 3.0], [-1.0, 1.0]])  # turned by 90 degrees, twice as large, moved
    >>> found = procrustes.fit(source, target)
    >>> round(float(found.scale), 6), torch.allclose(found(source), target, atol=1e-5)
    (2.0, True)
    """
    dispatch.refuse_derivative("a fitted map", source, target)
    paired = checked(source, target, rows)
    _refuse_widths(source.shape[-1], target.shape[-1], unequal, whiten)
    projected = source.shape[-1] != target.shape[-1] and unequal == "project"
    if whiten or projected:
        (x, centre), (y, translation) = centred(source, rows), centred(target, rows)
    else:
        centre, translation, both = products(source, target, rows)
    centre, translation = (mean.expand(*paired.shape, -1) for mean in (centre, translation))
    wider = max(source.shape[-1], target.shape[-1])
    if int(paired.min()) < wider:
        warnings.warn(FewSamplesWarning(int(paired.min()), wider), stacklevel=2)
    if projected:
        return _projected(x, y, centre, translation, paired, scale, reflection)
    whitening, padded = None, (wider - source.shape[-1], wider - target.shape[-1])
    if whiten:
        x, y, whitening = whitened(x, y, wider)
        both = Products.of(x, y)
    both = both._replace(cross=widths.pad(widths.pad(both.cross, wider).mT, wider).mT)
    centre, translation = (widths.pad(mean, wider) for mean in (centre, translation))
    rotation, stretch, residual, determinant = solve(both, scale=scale, reflection=reflection)
    return Alignment(rotation, stretch, centre, translation, residual, determinant, paired, padded, whitening)


def solve(both: Products, *, scale: bool, reflection: Reflection) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve for rotation (..., D, D), scale, residual and determinant (...), unchecked: a constant source has scale 0."""
    rotation, trace, determinant = turn(both.cross, reflection)
    spread, total = both.spread.clamp_min(TINY), both.total.clamp_min(TINY)
    # a negative trace, possible only in one dimension without reflection, is best fitted by scale 0
    stretch = (trace / spread).clamp_min(0) if scale else torch.ones_like(trace)
    residual = (stretch.square() * spread - 2 * stretch * trace + total) / total
    return rotation, stretch, residual.clamp_min(0), determinant


def _projected(
    x: Tensor, y: Tensor, centre: Tensor, translation: Tensor, paired: Tensor, scale: bool, reflection: Reflection
) -> Alignment:
    """Fit the map of centred x, y of unequal width, with the wider projected onto its leading principal axes."""
    width = min(x.shape[-1], y.shape[-1])
    onto, back = _axes(x, width), _axes(y, width)
    rotation, stretch, residual, _ = solve(Products.of(x @ onto, y @ back), scale=scale, reflection=reflection)
    share = (y @ back).square().sum(dim=(-2, -1)) / y.square().sum(dim=(-2, -1))
    whole = 1 - share * (1 - residual)  # includes the part of the target that the projection drops
    return Alignment(onto @ rotation @ back.mT, stretch, centre, translation, whole, torch.zeros_like(stretch), paired)


def _axes(x: Tensor, width: int) -> Tensor:
    """Return the leading principal axes (..., D, width) of centred x; the identity if x has that width."""
    if x.shape[-1] == width:
        return torch.eye(width, dtype=x.dtype, device=x.device)
    return torch.linalg.svd(x, full_matrices=False).Vh[..., :width, :].mT


def _chained(one: Alignment, other: Alignment) -> tuple[Tensor, Whitening | None]:
    """Return rotation and whitening of one map followed by another.

    The matrix between two rotations R and T is split by its polar form P Q, P symmetric and Q orthogonal:
    R P Q T = (R P R') (R Q T), a stretch before one rotation.
    """
    first, second = one.whitening, other.whitening
    if first is None and second is None:
        return one.rotation @ other.rotation, None
    if one.projected or other.projected:
        remedy = "Apply the maps one after the other."
        raise InputError("cannot chain a projected map with a whitened one", code="WHITENED", remedy=remedy)
    eye = torch.eye(one.rotation.shape[-1], dtype=torch.float64, device=one.rotation.device)
    middle = (eye if first is None else first.after) @ (eye if second is None else second.before)
    left, singular, right = torch.linalg.svd(middle)
    stretch = one.rotation @ (left * singular[..., None, :]) @ left.mT @ one.rotation.mT
    before = stretch if first is None else first.before @ stretch
    after = eye.expand_as(before) if second is None else second.after
    known = [part.condition for part in (first, second) if part is not None]
    condition = torch.stack([known[0][..., 0], known[-1][..., 1]], dim=-1)
    return one.rotation @ left @ right @ other.rotation, Whitening(before, after, condition)


def _refuse_widths(source: int, target: int, unequal: Unequal | None, whiten: bool) -> None:
    if source != target and unequal is None:
        raise InputError(
            "tokens of different width",
            code="WIDTHS",
            expected="equal widths, or a choice of `unequal`",
            found=f"{source} and {target}",
            remedy="Choose unequal='pad' or unequal='project'.",
        )
    if source != target and unequal == "project" and whiten:
        raise InputError(
            "cannot project white tokens, which have no leading axes",
            code="WHITENED",
            found=f"{source} and {target}",
            remedy="Choose unequal='pad', or whiten=False.",
        )


def _other_width(expected: int, found: int) -> InputError:
    remedy = "Fit the map on tokens of this width, or pad all tokens to one width first."
    return InputError("width mismatch of tokens and map", code="WIDTH", expected=expected, found=found, remedy=remedy)
