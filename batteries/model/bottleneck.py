"""Bottleneck of a cell: its omega tokens, and the matrix that its decoder receives, one class for each ``readout`` of a spec.

S are the singular values of M in all of them, which for unit rows are on one scale: their squares add up to V.

| readout | omega | the decoder receives |
|---|---|---|
| ``svd`` | S r, with r by cross-attention over S | M W diag(r) W', with W the right singular vectors of M |
| ``linear`` | S | X diag(c r), with X = A M + b, A over all V D numbers, c the lengths of its columns, r by attention over c |
| ``none`` | S | the same with X = M |
| ``narrow`` | S | B (c r) + d, with c = A M + a the code, D numbers, r by attention over c |
| ``narrow_norm`` | S | the same with a layer norm on c |
| ``narrow_sphere`` | S | the same as ``narrow_norm``, with every row divided by its length |

The second and the third are the published cells without a decomposition (docs/decisions/0036-readouts.md): the lengths of the
columns of X take the place of singular values, and the axes that of singular vectors. The last three pass D numbers on and no
more (docs/decisions/0048-narrow-readouts.md). The decoders of all but ``svd`` do not read omega.

Legend: V rows, D width; axes before them are of patches, images and cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from batteries.cell.spec import Readout
from batteries.errors import InputError
from batteries.model import spectral
from batteries.model.derivatives import EIGENVALUE_FLOOR
from batteries.model.spectral import Spectrum


class Layers(Protocol):
    """Layers of a cell, or of a stack of cells, that a bottleneck computes with."""

    def factors(self, lengths: Tensor) -> Tensor:
        """Compute a factor for each of the lengths (..., N, D) by cross-attention over N patches."""
        ...

    def transformed(self, M: Tensor) -> Tensor:
        """Map M (..., V, D) by the matrix of the ``linear`` read-out to (..., V, D)."""
        ...

    def coded(self, M: Tensor) -> Tensor:
        """Map M (..., V, D) to the code (..., D) of a narrow read-out."""
        ...

    def rebuilt(self, code: Tensor) -> Tensor:
        """Map the code (..., D) of a narrow read-out to matrices (..., V, D)."""
        ...


class Gated(NamedTuple):
    """Matrices X W diag(ratio) W' that a decoder receives.

    Attributes:
        X: Matrices (..., V, D).
        ratio: Factor of each column of X W (..., D).
        spectrum: Decomposition of X with the axes W; None if they are those of X itself.
    """

    X: Tensor
    ratio: Tensor
    spectrum: Spectrum | None

    @property
    def axes(self) -> Tensor:
        """W (..., D, D), float64, as columns."""
        if self.spectrum is not None:
            return self.spectrum.W
        D = self.ratio.shape[-1]
        return torch.eye(D, dtype=torch.float64, device=self.ratio.device).expand(*self.ratio.shape, D)

    def matrices(self) -> Tensor:
        """Compute the product (..., V, D)."""
        if self.spectrum is not None:
            return spectral.gate(self.X, self.spectrum, self.ratio)
        return self.X * self.ratio[..., None, :]


class Bottleneck(Protocol):
    """Bottleneck of the cells of a spec.

    Attributes:
        reads_omega: Whether omega is part of what the decoder receives.
    """

    reads_omega: bool

    def gated(self, M: Tensor, layers: Layers) -> Gated:
        """Compute what the decoder receives for M (..., V, D)."""
        ...

    def tokens(self, M: Tensor, gated: Gated) -> tuple[Tensor, Tensor]:
        """Return S and omega (..., D) of M, of which ``gated`` was computed."""
        ...

    def omega(self, S: Tensor, layers: Layers) -> Tensor:
        """Compute omega from S (..., D) alone."""
        ...

    def with_omega(self, M: Tensor, omega: Tensor) -> Gated:
        """Compute what the decoder receives for M (..., V, D) if omega (..., D) is given.

        Raises:
            InputError: a decoder that does not read omega (``OMEGA``).
        """
        ...

    def resumed(self, M: Tensor, S: Tensor, ratio: Tensor, W: Tensor | None, layers: Layers) -> Gated:
        """Compute what the decoder receives from parts of an earlier result for the same M."""
        ...


class Spectral:
    """Singular value decomposition, with each singular value scaled by cross-attention over all of them."""

    reads_omega = True

    def gated(self, M: Tensor, layers: Layers) -> Gated:
        """Decompose M, and attend to S."""
        found = spectral.spectrum(M)
        return Gated(M, layers.factors(found.S), found)

    def tokens(self, M: Tensor, gated: Gated) -> tuple[Tensor, Tensor]:
        """Return the S that was attended to, and its product with the factors."""
        assert gated.spectrum is not None
        return gated.spectrum.S, gated.spectrum.S * gated.ratio

    def omega(self, S: Tensor, layers: Layers) -> Tensor:
        """Scale S by its factors."""
        return S * layers.factors(S)

    def with_omega(self, M: Tensor, omega: Tensor) -> Gated:
        """Put omega in the place of S."""
        found = spectral.spectrum(M)
        return Gated(M, omega / found.S.clamp_min(spectral.SINGULAR_FLOOR), found)

    def resumed(self, M: Tensor, S: Tensor, ratio: Tensor, W: Tensor | None, layers: Layers) -> Gated:
        """Use the decomposition again."""
        assert W is not None
        return Gated(M, ratio, Spectrum(S, W))


@dataclass(frozen=True)
class Undecoded:
    """Omega of a decoder that does not read it: the singular values of M.

    Attributes:
        readout: Readout of the specs.
    """

    readout: Readout
    reads_omega = False

    def tokens(self, M: Tensor, gated: Gated) -> tuple[Tensor, Tensor]:
        """Return the singular values of M, twice."""
        S = spectral.singular_values(M)
        return S, S

    def omega(self, S: Tensor, layers: Layers) -> Tensor:
        """Return S."""
        return S

    def with_omega(self, M: Tensor, omega: Tensor) -> Gated:
        """Refuse omega, which is never decoded here."""
        raise InputError(
            "decoder that does not read omega",
            code="OMEGA",
            expected="a cell with the readout svd",
            found=f"the readout {self.readout}",
            remedy='Replace rows of M instead: tokens="rows".',
        )


class Columns(Undecoded):
    """Columns of M, or of a linear map of it, each multiplied by its length and by a factor from attention over the lengths."""

    def gated(self, M: Tensor, layers: Layers) -> Gated:
        """Map M if it is to be mapped, and attend to the lengths of the columns."""
        X = self._mapped(M, layers)
        lengths = X.square().sum(dim=-2).clamp_min(EIGENVALUE_FLOOR).sqrt()  # vector_norm takes three times as long
        return Gated(X, lengths * layers.factors(lengths), None)

    def resumed(self, M: Tensor, S: Tensor, ratio: Tensor, W: Tensor | None, layers: Layers) -> Gated:
        """Map M again, and use the factors."""
        return Gated(self._mapped(M, layers), ratio, None)

    def _mapped(self, M: Tensor, layers: Layers) -> Tensor:
        return layers.transformed(M) if self.readout == "linear" else M


class Narrow(Undecoded):
    """Matrices rebuilt from a code of D numbers, each scaled by a factor from attention over the codes."""

    def gated(self, M: Tensor, layers: Layers) -> Gated:
        """Code M, scale the code, and rebuild a matrix from it."""
        code = layers.coded(M)
        X = layers.rebuilt(code * layers.factors(code))
        return Gated(spectral.unit_rows(X) if self.readout == "narrow_sphere" else X, torch.ones_like(code), None)

    def resumed(self, M: Tensor, S: Tensor, ratio: Tensor, W: Tensor | None, layers: Layers) -> Gated:
        """Rebuild again, and use the factors of the columns."""
        return self.gated(M, layers)._replace(ratio=ratio)


BOTTLENECKS: dict[Readout, Bottleneck] = {
    "svd": Spectral(),
    "linear": Columns("linear"),
    "none": Columns("none"),
    "narrow": Narrow("narrow"),
    "narrow_norm": Narrow("narrow_norm"),
    "narrow_sphere": Narrow("narrow_sphere"),
}
