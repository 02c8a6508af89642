"""All intermediate results of a cell, from images to reconstructions.

Only attention and the smoothing of the decoder read more than one patch. A :class:`Passage` therefore keeps lengths, factors
and values of patches of whole images, and yields all wider results for a few patches at a time, in bounded memory.

Letters: B images, N patches of an image, n patches at a time, V rows of M, D width, H hidden, P values of a patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from batteries import short_repr
from batteries.engine.torch_settings import neutral, uncast
from batteries.images.image_batch import unjudged
from batteries.measurement.measure import PATCHES_AT_ONCE
from batteries.model.bottleneck import Gated
from batteries.model.patch_svae import PatchSVAE, grid_of


@dataclass(frozen=True, eq=False)
class Stages:
    """Intermediate results for a batch of images.

    Attributes:
        enc_in: Activations after the first layer (B, N, H).
        enc_blocks: Activations after each residual block of the encoder, each (B, N, H).
        M: Matrices (B, N, V, D).
        gated: Matrices that the decoder receives, with their decomposition.
        lengths: Input of cross-attention (B, N, D): singular values of M, or lengths of columns if the readout is
            not ``svd``.
        layers: Factors (B, N, D) of each layer of cross-attention; their product is that of all layers.
        S: Singular values of M (B, N, D), descending.
        omega: Omega tokens (B, N, D).
        dec_in: Activations after the first layer of the decoder (B, N, H).
        dec_blocks: Activations after each residual block of the decoder, each (B, N, H).
        recon: Reconstructed images (B, channels, height, width).

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("low"), seed=0)
    >>> found = batteries.diagnostics.stages(model, batteries.probe("photos-64").images[:1])
    >>> isinstance(found, batteries.diagnostics.Stages)
    True
    """

    enc_in: Tensor
    enc_blocks: tuple[Tensor, ...]
    M: Tensor
    gated: Gated
    lengths: Tensor
    layers: tuple[Tensor, ...]
    S: Tensor
    omega: Tensor
    dec_in: Tensor
    dec_blocks: tuple[Tensor, ...]
    recon: Tensor

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class Steps:
    """Intermediate results for some patches of a batch of images.

    Attributes:
        patches: Values of the patches as the cell takes them (B, n, P).
        enc_in: Activations after the first layer (B, n, H).
        enc_blocks: Activations after each residual block of the encoder, each (B, n, H).
        M: Matrices (B, n, V, D).
        gated: Matrices that the decoder receives, with their decomposition.
        received: Product of that decomposition (B, n, V, D).
        S: Singular values of M (B, n, D), descending.
        omega: Omega tokens (B, n, D).
        layers: Factors (B, n, D) of each layer of cross-attention.
        dec_in: Activations after the first layer of the decoder (B, n, H).
        dec_blocks: Activations after each residual block of the decoder, each (B, n, H).
        out: Values of the patches before they are smoothed (B, n, P).
    """

    patches: Tensor
    enc_in: Tensor
    enc_blocks: tuple[Tensor, ...]
    M: Tensor
    gated: Gated
    received: Tensor
    S: Tensor
    omega: Tensor
    layers: tuple[Tensor, ...]
    dec_in: Tensor
    dec_blocks: tuple[Tensor, ...]
    out: Tensor

    __repr__ = short_repr.fields


class Passage:
    """Images on their way through a cell.

    Args:
        model: Model of the cell.
        images: Images (B, channels, height, width), on the model's own scale.
        at_once: Patches of an image at a time. Cells whose rows are scaled by the mean over the batch take all.

    Attributes:
        lengths: Input of cross-attention (B, N, D).
        layers: Factors (B, N, D) of each layer of cross-attention.
    """

    def __init__(self, model: PatchSVAE, images: Tensor, at_once: int = PATCHES_AT_ONCE) -> None:
        self._model = model
        self._grid = grid_of(images, model.spec)
        p = model.spec.patch_size
        self._patches = rearrange(images.to(model.enc_in.weight), "B C (gh p) (gw q) -> B (gh gw) (C p q)", p=p, q=p)
        N = self._patches.shape[1]
        self._at_once = N if model.spec.row_norm == "scale" else at_once
        self._first: Steps | None = None
        recorded = _Recorded(model)
        with unjudged(), uncast(self._patches.device):
            if self._at_once >= N:
                self._first = _steps(model, self._patches, recorded)
            else:
                recorded.factors(torch.cat([_lengths(model, some) for some in self._split(self._patches)], dim=1))
        self.lengths, self.layers = recorded.lengths, tuple(recorded.layers)
        self._out = torch.empty_like(self._patches)

    def parts(self) -> Iterator[tuple[Tensor, Steps]]:
        """Yield indices (n,) of patches in their images, and their intermediate results."""
        places = torch.arange(self._patches.shape[1]).split(self._at_once)
        for place, patches in zip(places, self._split(self._patches), strict=True):
            layers = [layer[:, place] for layer in self.layers]
            with unjudged(), uncast(patches.device):
                steps = self._first or _steps(self._model, patches, _Given(self._model, layers))
            self._out[:, place] = steps.out
            yield place, steps

    def recon(self) -> Tensor:
        """Return the reconstructed images (B, channels, height, width), after all parts."""
        (rows, columns), p = self._grid, self._model.spec.patch_size
        images = rearrange(self._out, "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=rows, gw=columns, p=p, q=p)
        with uncast(images.device):
            smoothed: Tensor = self._model.boundary_smooth(images)
        return smoothed

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.split(self._at_once, dim=1)


@neutral()
@torch.no_grad()
def stages(model: PatchSVAE, images: Tensor) -> Stages:
    """Run images (B, channels, height, width), on the model's own scale, and keep every intermediate result.

    Raises:
        InputError: images that do not fit the cell.

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("high"), seed=0)
    >>> found = batteries.diagnostics.stages(model, batteries.probe("noise16-64").images[:2])
    >>> found.enc_in.shape, found.M.shape, len(found.layers)
    (torch.Size([2, 256, 64]), torch.Size([2, 256, 32, 4]), 1)
    """
    rows, columns = grid_of(images, model.spec)
    passage = Passage(model, images, at_once=rows * columns)
    ((_, found),) = passage.parts()
    return Stages(
        enc_in=found.enc_in,
        enc_blocks=found.enc_blocks,
        M=found.M,
        gated=found.gated,
        lengths=passage.lengths,
        layers=passage.layers,
        S=found.S,
        omega=found.omega,
        dec_in=found.dec_in,
        dec_blocks=found.dec_blocks,
        recon=passage.recon(),
    )


def _steps(model: PatchSVAE, patches: Tensor, attention: _Recorded | _Given) -> Steps:
    """Run patches (B, n, P) from the first layer to the last."""
    enc_in, enc_blocks, M = _encoded(model, patches)
    gated = model.bottleneck.gated(M, attention)
    S, omega = model.bottleneck.tokens(M, gated)
    received = gated.matrices()
    dec_in = model.act(model.dec_in(rearrange(received, "B n V D -> B n (V D)")))
    dec_blocks = _residual(model.dec_blocks, dec_in)
    out = model.dec_out(dec_blocks[-1] if dec_blocks else dec_in)
    layers = tuple(attention.layers)
    return Steps(patches, enc_in, enc_blocks, M, gated, received, S, omega, layers, dec_in, dec_blocks, out)


def _lengths(model: PatchSVAE, patches: Tensor) -> Tensor:
    """Return the input of cross-attention (B, n, D) of patches (B, n, P)."""
    _, _, M = _encoded(model, patches)
    given = _Given(model, ())
    model.bottleneck.gated(M, given)
    return given.lengths


def _encoded(model: PatchSVAE, patches: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return activations and M of patches (B, n, P)."""
    enc_in = model.act_in(model.enc_in(patches))
    enc_blocks = _residual(model.enc_blocks, enc_in)
    return enc_in, enc_blocks, model.rows(enc_blocks[-1] if enc_blocks else enc_in)


def _residual(blocks: nn.ModuleList, h: Tensor) -> tuple[Tensor, ...]:
    """Return the activations (B, n, H) after each residual block."""
    found = []
    for block in blocks:
        h = h + block(h)
        found.append(h)
    return tuple(found)


class _Given:
    """Layers of a model for its bottleneck, with factors of cross-attention that are known.

    Attributes:
        lengths: Lengths that were asked for (B, n, D).
        layers: Factors (B, n, D) of each layer; none for a factor of 1.
    """

    def __init__(self, model: PatchSVAE, layers: Sequence[Tensor]) -> None:
        self._model = model
        self.layers = layers

    def factors(self, lengths: Tensor) -> Tensor:
        """Return the product of the known factors."""
        self.lengths, ratio = lengths, torch.ones_like(lengths)
        for layer in self.layers:
            ratio = ratio * layer
        return ratio

    def transformed(self, M: Tensor) -> Tensor:
        """Map M by the matrix of the ``linear`` readout."""
        return self._model.transformed(M)

    def coded(self, M: Tensor) -> Tensor:
        """Map M to the code of a narrow readout."""
        return self._model.coded(M)

    def rebuilt(self, code: Tensor) -> Tensor:
        """Map the code of a narrow readout to matrices."""
        return self._model.rebuilt(code)


class _Recorded:
    """Layers of a model for its bottleneck, which keep the factors of each layer of cross-attention.

    Attributes:
        lengths: Lengths that were attended to (B, N, D).
        layers: Factors (B, N, D) of each layer, which reads lengths scaled by the layers before.
    """

    def __init__(self, model: PatchSVAE) -> None:
        self._model = model
        self.layers: list[Tensor] = []

    def factors(self, lengths: Tensor) -> Tensor:
        """Multiply the factors of all layers, as the model does."""
        self.lengths, ratio = lengths, torch.ones_like(lengths)
        for layer in self._model.cross_attn:
            self.layers.append(layer(lengths * ratio))
            ratio = ratio * self.layers[-1]
        return ratio

    def transformed(self, M: Tensor) -> Tensor:
        """Map M by the matrix of the ``linear`` readout."""
        return self._model.transformed(M)

    def coded(self, M: Tensor) -> Tensor:
        """Map M to the code of a narrow readout."""
        return self._model.coded(M)

    def rebuilt(self, code: Tensor) -> Tensor:
        """Map the code of a narrow readout to matrices."""
        return self._model.rebuilt(code)
