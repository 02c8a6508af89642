"""Orthogonal Procrustes, batched: the rotation, scale and shift that bring the tokens of one cell nearest to those of another.

Both ends are centred first. Missing rows are masked, never filled. Tokens of unequal width are aligned only by a choice: the
narrower padded with zeros, or the wider projected onto its leading principal axes. All in float64. Legend: n paired rows,
D_s and D_t widths of source and target, D of the map: the wider of them where one was padded.

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
from torch.nn import functional as F

from batteries import eigen
from batteries.errors import InputError
from composer import tokens as widths
from composer.pairing import Pairing

Reflection = Literal["allowed", "forbidden"]
Unequal = Literal["pad", "project"]

SPREAD_FLOOR = 1e-12  # of the tokens' mean square: below it they are constant
NEGLIGIBLE = 1e-12  # of the largest singular value: a smaller one does not say whether its axis is turned over
GRAM_CONDITION = 1e-8  # of the squared singular values: below it their roots have lost too many digits
TINY = torch.finfo(torch.float64).tiny
WORST_CONDITION = 1e12  # of a covariance that is whitened: beyond it the smallest axes are rounding


class FewSamplesWarning(UserWarning):
    """Fewer rows than dimensions: any tokens fit well, and the residual says nothing.

    Args:
        rows: Paired rows of the fit, the fewest of a batch.
        width: Dimensions.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.rows = rows
        self.width = width
        super().__init__(f"{rows} rows for {width} dimensions: unrelated tokens fit as well, so judge the map on other images")


@dataclass(frozen=True)
class Whitening:
    """What stands before and after the rotation of a whitened map.

    Attributes:
        before: (..., D, D) from centred source tokens to white ones.
        after: (..., D, D) from white target tokens to centred ones.
        condition: (..., 2) condition numbers of the covariances of source and target: how much was stretched.
    """

    before: Tensor
    after: Tensor
    condition: Tensor


@dataclass(frozen=True)
class Alignment:
    """A similarity map x -> scale * (x - centre) @ rotation + translation, or a batch of them along leading axes.

    Attributes:
        rotation: (..., D, D) orthogonal, float64; (..., D_s, D_t) with orthonormal rows or columns where one end was projected.
        scale: (...) not negative.
        centre: (..., D) mean of the source.
        translation: (..., D) mean of the target.
        residual: (...) share of the target's variance left over on the points of the fit, in white coordinates where they
            were whitened; NaN for a map made of others.
        determinant: (...) +1, or -1 where the map reflects, which it does only where the points say so; 0 where one end was
            projected.
        paired: (...) rows that the map was fitted on.
        padded: Zeros appended to source and to target.
        whitening: None where the map is a similarity.
        pairing: The ends by digest and the images, where the tokens are known to be those of cells.
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

    @property
    def matrix(self) -> Tensor:
        """(..., D, D): what centred tokens are multiplied with."""
        turned = self.scale[..., None, None] * self.rotation
        return turned if self.whitening is None else self.whitening.before @ turned @ self.whitening.after

    @property
    def projected(self) -> bool:
        """Whether the wider end lost the axes that the other has no room for."""
        return bool((self.determinant == 0).all())

    def __call__(self, tokens: Tensor) -> Tensor:
        """Map tokens, in their own dtype and on their own device.

        Args:
            tokens: (..., D), or of the source's own width where that was padded; the leading axes of a batch of maps first.

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
        if not between and batch:  # one token a map
            return ((tokens - centre).unsqueeze(-2) @ matrix).squeeze(-2) + translation
        return (tokens - centre) @ matrix + translation

    def inverse(self) -> Alignment:
        """The way back; onto the axes that were kept, where one end was projected. It keeps the residual of the fit.

        Raises:
            InputError: a scale of zero: nothing of the source is left (``NO_INVERSE``).
        """
        if not bool((self.scale > 0).all()):
            remedy = "Fit with scale=False, or on tokens that have something in common."
            raise InputError("a map onto one point has no inverse", code="NO_INVERSE", expected="scale > 0", remedy=remedy)
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
        """One map that does what this one and then the other do.

        Raises:
            InputError: the other takes another width (``WIDTH``), one of them is projected between whitenings, or the other
                does not begin at the end of this one (``ENDS``).
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
            determinant=(self.determinant * other.determinant) if whitening is None else _sign(rotation),
            paired=torch.minimum(self.paired, other.paired),
            padded=(self.padded[0], other.padded[1]),
            whitening=whitening,
            pairing=self.pairing.then(other.pairing) if self.pairing and other.pairing else None,
        )


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
    """The map of least squares from source to target; many at once along leading axes, which are broadcast.

    Args:
        source: (..., n, D_s).
        target: (..., n, D_t), row i paired with row i of the source.
        scale: Whether the source may be stretched.
        reflection: ``forbidden`` gives the best map of determinant +1.
        whiten: Give every axis of both ends unit variance before the rotation, and take that back after it.
        rows: (..., n) boolean, which rows are there; what stands in the others is not looked at.
        unequal: What to do where D_s is not D_t: pad the narrower with zeros, or project the wider onto as many of its
            principal axes as the other has dimensions.

    Raises:
        InputError: rows that do not pair (``PAIRS``), widths that differ without a choice (``WIDTHS``), fewer than two rows
            (``FEW_ROWS``), none left after the mask (``NO_ROWS``), not finite (``NOT_FINITE``), constant tokens
            (``CONSTANT``), or a covariance that cannot be whitened (``SINGULAR``).

    Warns:
        FewSamplesWarning: fewer rows than dimensions.
    """
    paired = checked(source, target, rows)
    _refuse_widths(source.shape[-1], target.shape[-1], unequal, whiten)
    (x, centre), (y, translation) = centred(source, rows), centred(target, rows)
    centre, translation = (mean.expand(*paired.shape, -1) for mean in (centre, translation))
    wider = max(x.shape[-1], y.shape[-1])
    if int(paired.min()) < wider:
        warnings.warn(FewSamplesWarning(int(paired.min()), wider), stacklevel=2)
    if x.shape[-1] != y.shape[-1] and unequal == "project":
        return _projected(x, y, centre, translation, paired, scale, reflection)
    whitening, padded = None, (wider - x.shape[-1], wider - y.shape[-1])
    if whiten:
        x, y, whitening = _whitened(x, y, wider)
    x, y, centre, translation = (widths.pad(part, wider) for part in (x, y, centre, translation))
    rotation, stretch, residual = solve(x, y, scale=scale, reflection=reflection)
    return Alignment(rotation, stretch, centre, translation, residual, _sign(rotation), paired, padded, whitening)


def solve(x: Tensor, y: Tensor, *, scale: bool, reflection: Reflection) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation (..., D, D), scale (...) and residual (...) of centred x, y (..., n, D), unchecked: constant x has scale 0."""
    rotation, trace = turn(x.mT @ y, reflection)
    spread, total = (torch.linalg.vector_norm(part, dim=(-2, -1)).square().clamp_min(TINY) for part in (x, y))
    # a negative trace, which only one dimension without reflection has, is best met by no source at all
    stretch = (trace / spread).clamp_min(0) if scale else torch.ones_like(trace)
    residual = (stretch.square() * spread - 2 * stretch * trace + total) / total
    return rotation, stretch, residual.clamp_min(0)


def turn(cross: Tensor, reflection: Reflection) -> tuple[Tensor, Tensor]:
    """The orthogonal R (..., D, D) with the largest trace(R' cross), and that trace (...).

    Where the smallest singular value is nothing, R and its mirror image in that axis do as well: the one of determinant +1
    is taken.
    """
    flat = cross.reshape(-1, *cross.shape[-2:])
    values, axes = eigen.eigh(flat.mT @ flat)
    weak = values[:, 0] <= GRAM_CONDITION * values[:, -1]
    rotation = _polar(flat, values.clamp_min(TINY).sqrt(), axes)
    mirrored = _sign(rotation) < 0
    if reflection == "forbidden":
        least = axes[..., :1] @ axes[..., :1].mT  # turned over where it costs least
        rotation = torch.where(mirrored[:, None, None], rotation - 2 * rotation @ least, rotation)
    if bool(weak.any()):
        rotation[weak] = _polar_of_weak(flat[weak], reflection)
    return rotation.view_as(cross), (rotation * flat).sum(dim=(-2, -1)).view(cross.shape[:-2])


def _polar(cross: Tensor, singular: Tensor, axes: Tensor) -> Tensor:
    """The orthogonal factor U V' of cross = U diag(singular) V', from V and the singular values.

    U = cross V / singular has lost as many digits as the square of the condition number has; one Newton step gives them back:
    with E = U'U - 1, to first order, U V' is U (1 - E_ij s_i / (s_i + s_j)) V'.
    """
    left = cross @ (axes / singular[:, None, :])
    error = left.mT @ left
    error.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    step = error * (singular[:, :, None] / (singular[:, :, None] + singular[:, None, :]))
    return (left - left @ step) @ axes.mT


def _polar_of_weak(cross: Tensor, reflection: Reflection) -> Tensor:
    """The same by torch's own SVD, for matrices that are nearly singular."""
    left, singular, right = torch.linalg.svd(cross)
    rotation = left @ right
    undecided = singular[..., -1] <= NEGLIGIBLE * singular[..., 0]
    mirrored = (_sign(rotation) < 0) & (undecided | (reflection == "forbidden"))
    turned_back = rotation - 2 * left[..., :, -1:] @ right[..., -1:, :]
    return torch.where(mirrored[..., None, None], turned_back, rotation)


def checked(source: Tensor, target: Tensor, rows: Tensor | None) -> Tensor:
    """How many rows (...) are there, once source and target are found to pair.

    Raises:
        InputError: as :func:`fit` says.
    """
    if min(source.ndim, target.ndim) < 2 or source.shape[-2] != target.shape[-2]:
        raise InputError(
            "tokens that do not pair",
            code="PAIRS",
            expected="(..., n, D_s) and (..., n, D_t) of one n",
            found=f"{tuple(source.shape)} and {tuple(target.shape)}",
        )
    there = torch.tensor(source.shape[-2], device=source.device) if rows is None else rows.bool().sum(dim=-1)
    left = int(there.min())
    if left < 2:
        masked = rows is not None and left == 0
        raise InputError(
            "no rows left after the mask" if masked else "fewer than two rows",
            code="NO_ROWS" if masked else "FEW_ROWS",
            expected="at least 2 that both ends have",
            found=left,
            remedy="Give more images, or leave out a cell that has hardly any of them.",
        )
    return there.expand(torch.broadcast_shapes(source.shape[:-2], target.shape[:-2], there.shape))


def centred(tokens: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens (..., n, D) less their mean, zero in rows that are not there, and the mean (..., D).

    Raises:
        InputError: not finite (``NOT_FINITE``), or constant (``CONSTANT``).
    """
    if rows is None:
        there, count = tokens.double(), torch.tensor(tokens.shape[-2], device=tokens.device)
        mean = there.mean(dim=-2)
        moved = there - mean[..., None, :]
    else:
        kept = rows.bool()[..., None]
        there, count = torch.where(kept, tokens.double(), 0.0), rows.bool().sum(dim=-1)
        mean = there.sum(dim=-2) / count[..., None]
        moved = torch.where(kept, there - mean[..., None, :], 0.0)
    spread = torch.linalg.vector_norm(moved, dim=(-2, -1)).square()
    if not bool(spread.isfinite().all()):
        remedy = "Mask those rows, or find out what made them."
        found = f"{int((~there.isfinite()).any(dim=-1).sum())} rows with NaN or infinity"
        raise InputError("tokens that are not finite", code="NOT_FINITE", found=found, remedy=remedy)
    if bool((spread <= SPREAD_FLOOR * (spread + count * mean.square().sum(dim=-1))).any()):
        raise InputError(
            "tokens that do not vary",
            code="CONSTANT",
            expected="tokens that differ between regions",
            remedy="Use a probe of varied images; a constant cell cannot be aligned.",
        )
    return moved, mean


def _projected(
    x: Tensor, y: Tensor, centre: Tensor, translation: Tensor, paired: Tensor, scale: bool, reflection: Reflection
) -> Alignment:
    """The map of centred x, y of unequal width, the wider on its leading principal axes."""
    width = min(x.shape[-1], y.shape[-1])
    onto, back = _axes(x, width), _axes(y, width)
    rotation, stretch, residual = solve(x @ onto, y @ back, scale=scale, reflection=reflection)
    share = (y @ back).square().sum(dim=(-2, -1)) / y.square().sum(dim=(-2, -1))
    whole = 1 - share * (1 - residual)  # what the projection drops of the target is left over, too
    return Alignment(onto @ rotation @ back.mT, stretch, centre, translation, whole, torch.zeros_like(stretch), paired)


def _axes(x: Tensor, width: int) -> Tensor:
    """(..., D, width): the leading principal axes of centred x; all axes as they are, where that many were asked for."""
    if x.shape[-1] == width:
        return torch.eye(width, dtype=x.dtype, device=x.device)
    return torch.linalg.svd(x, full_matrices=False).Vh[..., :width, :].mT


def _whitened(x: Tensor, y: Tensor, width: int) -> tuple[Tensor, Tensor, Whitening]:
    """Centred x and y with unit covariance each, and how, as matrices of ``width``: padded axes stay as they are."""
    (white, _, first), (whiter, colour, second) = _square_roots(x, "source"), _square_roots(y, "target")
    before, after = (_extended(part, width) for part in (white, colour))
    return x @ white, y @ whiter, Whitening(before, after, torch.stack([first, second], dim=-1))


def _square_roots(x: Tensor, end: str) -> tuple[Tensor, Tensor, Tensor]:
    """C^(-1/2), C^(1/2) (..., D, D) and the condition number (...) of C = x'x over its largest eigenvalue."""
    covariance = x.mT @ x
    values, axes = torch.linalg.eigh(covariance)
    condition = values[..., -1] / values[..., 0].clamp_min(TINY)
    if bool((condition > WORST_CONDITION).any()):
        raise InputError(
            "tokens that do not vary along every axis cannot be whitened",
            code="SINGULAR",
            expected=f"a condition number of at most {WORST_CONDITION:.0e}",
            found=f"{float(condition.max()):.1e}",
            where=end,
            remedy="Use more images, or whiten=False.",
        )
    root = values[..., None, :].sqrt()
    return (axes / root) @ axes.mT, (axes * root) @ axes.mT, condition


def _extended(matrix: Tensor, width: int) -> Tensor:
    """A square matrix with ones on the diagonal behind it, up to ``width``."""
    own = matrix.shape[-1]
    behind = (torch.arange(width, device=matrix.device) >= own).to(matrix)
    return F.pad(matrix, (0, width - own, 0, width - own)) + behind.diag()


def _chained(one: Alignment, other: Alignment) -> tuple[Tensor, Whitening | None]:
    """Rotation and whitening of two maps in a row.

    What stands between two rotations R and T is split by its polar form P Q, P symmetric and Q orthogonal:
    R P Q T = (R P R') (R Q T), a stretch before one rotation.
    """
    first, second = one.whitening, other.whitening
    if first is None and second is None:
        return one.rotation @ other.rotation, None
    if one.projected or other.projected:
        remedy = "Map through one and then through the other."
        raise InputError("a projected map and a whitened one do not make one map", code="WHITENED", remedy=remedy)
    eye = torch.eye(one.rotation.shape[-1], dtype=torch.float64, device=one.rotation.device)
    middle = (eye if first is None else first.after) @ (eye if second is None else second.before)
    left, singular, right = torch.linalg.svd(middle)
    stretch = one.rotation @ (left * singular[..., None, :]) @ left.mT @ one.rotation.mT
    before = stretch if first is None else first.before @ stretch
    after = eye.expand_as(before) if second is None else second.after
    known = [part.condition for part in (first, second) if part is not None]
    condition = torch.stack([known[0][..., 0], known[-1][..., 1]], dim=-1)
    return one.rotation @ left @ right @ other.rotation, Whitening(before, after, condition)


def _sign(rotation: Tensor) -> Tensor:
    return torch.linalg.det(rotation).sign()


def _refuse_widths(source: int, target: int, unequal: Unequal | None, whiten: bool) -> None:
    if source != target and unequal is None:
        raise InputError(
            "tokens of different width",
            code="WIDTHS",
            expected="one width, or a choice",
            found=f"{source} and {target}",
            remedy="Choose unequal='pad' or unequal='project'.",
        )
    if source != target and unequal == "project" and whiten:
        raise InputError(
            "white tokens have no leading axes to be projected onto",
            code="WHITENED",
            found=f"{source} and {target}",
            remedy="Choose unequal='pad', or whiten=False.",
        )


def _other_width(expected: int, found: int) -> InputError:
    remedy = "Fit the map on tokens of this width, or pad all tokens to one width first."
    return InputError("tokens of another width than the map's", code="WIDTH", expected=expected, found=found, remedy=remedy)
