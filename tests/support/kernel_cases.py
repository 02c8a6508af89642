"""Every kernel of ours, by what a caller asks for: what goes in, and the same by torch's operators in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from batteries import CellSpec
from batteries.kernels import eigensolver
from batteries.kernels.jit import Kernels
from batteries.model import boundary_smoothing as single
from batteries.model import derivatives, smoothing_kernels, spectral
from batteries.model.bottleneck import Gated
from batteries.model.patch_svae import untrained
from composer.container import attention, boundary_smoothing, encoder_decoder
from composer.container.batched_forward import Stage
from composer.procrustes import centering, moments, polar

DOUBLE, FLOAT = torch.float64, torch.float32


@dataclass(frozen=True)
class Case:
    """One thing that a kernel is asked for.

    Attributes:
        name: Of it.
        kernels: Its dispatcher.
        dtype: Of what goes in.
        draw: Takes a count and a function of shapes that draws numbers, and gives what goes in, that many along the first axis.
        ask: Ours, of those.
        plain: The same by torch's operators.
        tolerance: Of the largest number of each answer.
        seen: Of an answer, what there is but one of: eigenvectors have signs of their own.
        axis: Of the answers, along which the count is.
    """

    name: str
    kernels: Kernels
    dtype: torch.dtype
    draw: Callable[..., tuple[Tensor, ...]]
    ask: Callable[..., tuple[Tensor, ...]]
    plain: Callable[..., tuple[Tensor, ...]]
    tolerance: float
    seen: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] = tuple
    axis: int = 0

    def given(self, count: int, seed: int = 0) -> tuple[Tensor, ...]:
        """What goes in, of a count."""
        generator = torch.Generator().manual_seed(seed)
        return self.draw(count, lambda *shape: torch.randn(shape, generator=generator, dtype=DOUBLE).to(self.dtype))

    def near(self, found: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> None:
        """An answer is torch's."""
        wanted = self.seen(self.plain(*(x.double() for x in given)))
        for ours, theirs in zip(self.seen(found), wanted, strict=True):
            assert ours.shape == theirs.shape
            if ours.numel():
                assert (ours - theirs).abs().max() <= self.tolerance * (1 + theirs.abs().max())


# ---- batteries -------------------------------------------------------------------------------------------------------


def _gram(count: int, draw: Any, V: int, D: int) -> tuple[Tensor]:
    M = draw(count, V, D)
    return (M.mT @ M,)


def _rebuilt(answer: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    values, vectors = answer
    return values, (vectors * values[..., None, :]) @ vectors.mT


def _solvers(D: int) -> list[Case]:
    alone = {
        True: (eigensolver._symmetric, eigensolver._gram),
        False: (eigensolver._symmetric_values, eigensolver._gram_values),
    }
    values, values_of_gram = alone[eigensolver.ALONE > D]
    gram = partial(_gram, V=D + 3, D=D)
    products: list[Case] = [
        case
        for dtype in (FLOAT, DOUBLE)
        for case in (
            Case(f"eigenvectors of M'M, D={D}, {dtype}", eigensolver._gram, dtype, *_of_rows(D, True), 1e-12, _rebuilt),
            Case(f"eigenvalues of M'M, D={D}, {dtype}", values_of_gram, dtype, *_of_rows(D, False), 1e-12),
        )
    ]
    return [
        Case(
            f"eigenvectors, D={D}", eigensolver._symmetric, DOUBLE, gram, eigensolver.eigh, torch.linalg.eigh, 1e-12, _rebuilt
        ),
        Case(f"eigenvalues, D={D}", values, DOUBLE, gram, _only(eigensolver.eigvalsh), _only(torch.linalg.eigvalsh), 1e-12),
        *products,
    ]


def _only(function: Callable[..., Tensor]) -> Callable[..., tuple[Tensor]]:
    return lambda *given: (function(*given),)


def _of_rows(D: int, vectors: bool) -> tuple[Any, Any, Any]:
    def draw(count: int, draw: Any) -> tuple[Tensor]:
        return (draw(count, 2 * D + 3, D),)

    if vectors:
        return draw, eigensolver.gram_eigh, lambda M: torch.linalg.eigh(M.mT @ M)
    return draw, _only(eigensolver.gram_eigvalsh), lambda M: (torch.linalg.eigvalsh(M.mT @ M),)


def _gates(V: int, D: int, dtype: torch.dtype) -> Case:
    def draw(count: int, draw: Any) -> tuple[Tensor, ...]:
        return draw(count, V, D), 1 + 0.1 * draw(count, D), draw(count, V, D)

    def derived(way: Any, M: Tensor, ratio: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        m, r = M.detach().clone().requires_grad_(), ratio.detach().clone().requires_grad_()
        gated = way(m, r)
        return gated.detach(), *torch.autograd.grad(gated, [m, r], grad)

    def ours(M: Tensor, ratio: Tensor) -> Tensor:
        return spectral.gate(M, spectral.spectrum(M.detach()), ratio)

    tolerance = 1e-8 if dtype == DOUBLE else 1e-3  # of narrow gaps between eigenvalues
    ask, plain = partial(derived, ours), partial(derived, derivatives.gate)
    return Case(f"gate, V={V}, D={D}, {dtype}", spectral._modes, dtype, draw, ask, plain, tolerance)


# ---- composer --------------------------------------------------------------------------------------------------------


def _attention(tokens: int, d: int) -> Case:
    def draw(count: int, draw: Any) -> tuple[Tensor, ...]:
        return draw(count, 2, tokens, d), draw(count, 2, tokens, d), draw(count, 2, tokens, d)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor]:
        return (torch.softmax(q @ k.mT / d**0.5, dim=-1) @ v,)

    ask = _only(attention.attend)
    return Case(f"attention, {tokens} tokens, d={d}", attention._softmax, FLOAT, draw, ask, plain, 1e-5)


def _smoothing(channels: int, width: int, height: int, across: int) -> Case:
    generator = torch.Generator().manual_seed(1)
    weights = [(2, width, channels, 3, 3), (2, width), (2, channels, width, 3, 3), (2, channels)]
    drawn = [0.3 * torch.randn(shape, generator=generator) for shape in weights]

    def draw(count: int, draw: Any) -> tuple[Tensor, ...]:
        return draw(count, 2, channels, height, across), draw(count, 2, channels, height, across)

    def derived(way: Any, images: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        w1, b1, w2, b2 = (x.to(images) for x in drawn)
        x = images.detach().transpose(0, 1).requires_grad_()  # cells first
        smoothed = way(x, (w1, b1), (w2, b2))
        return smoothed.detach(), *torch.autograd.grad(smoothed, x, grad.transpose(0, 1))

    def alone(images: Tensor, first: Any, last: Any) -> Tensor:
        cells = zip(images, *first, *last, strict=True)
        return torch.stack([single.smooth(x, (w1, b1), (w2, b2)) for x, w1, b1, w2, b2 in cells])

    ask, plain = partial(derived, boundary_smoothing.smooth), partial(derived, alone)
    name = f"smoothing, {channels} to {width}, {height}x{across}"
    return Case(name, smoothing_kernels._convolution, FLOAT, draw, ask, plain, 1e-5, axis=1)


@cache
def _weights(spec: CellSpec, dtype: torch.dtype) -> dict[str, Tensor]:
    """Untrained cells whose norms and biases are not the ones and zeros that they start as."""
    generator = torch.Generator().manual_seed(0)
    states = [untrained(spec, seed).state_dict() for seed in range(3)]
    stacked = {name: torch.stack([state[name] for state in states]) for name in spec.tensor_shapes()}
    moved = {name: x + 0.1 * torch.randn(x.shape, generator=generator) for name, x in stacked.items()}
    return {name: x.to(dtype) for name, x in moved.items()}


def _halves(**fields: Any) -> list[Case]:
    spec = CellSpec(**fields)
    rows, columns, side = 2, 3, spec.patch_size

    def draw_images(count: int, draw: Any) -> tuple[Tensor]:
        return (draw(count, spec.channels, rows * side, columns * side),)

    def draw_rows(count: int, draw: Any) -> tuple[Tensor, ...]:
        return draw(count, 3, rows * columns, spec.V, spec.D), 1 + 0.1 * draw(count, 3, rows * columns, spec.D)

    def encode(dtype: torch.dtype, images: Tensor) -> tuple[Tensor]:
        return (Stage.of(spec, _weights(spec, dtype), images).matrices(images),)

    def decode(dtype: torch.dtype, M: Tensor, ratio: Tensor) -> tuple[Tensor]:
        M, ratio = M.transpose(0, 1), ratio.transpose(0, 1)
        stage = Stage.of(spec, _weights(spec, dtype), M, ratio)
        return (stage.images(Gated(M, ratio, spectral.spectrum(M)), (rows, columns)),)

    made = f"V={spec.V}, D={spec.D}, hidden {spec.hidden}, depth {spec.depth}"
    ways = [
        ("encoders", draw_images, encode, 1e-4 if spec.row_norm == "none" else 1e-3),
        ("decoders", draw_rows, decode, 1e-4),
    ]
    return [
        Case(f"{what}, {made}", encoder_decoder._kernels, FLOAT, draw, partial(way, FLOAT), partial(way, DOUBLE), near, axis=1)
        for what, draw, way, near in ways
    ]


def _pairs(rows: int, D: int) -> list[Case]:
    def draw(count: int, draw: Any) -> tuple[Tensor, ...]:
        return draw(count, rows, D) + 3, draw(count, rows, D) - 2

    def ours(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        centre, translation, found = centering.products(x, y, None)
        return centre, translation, *found

    def plain(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        (left, centre), (right, translation) = centering.centred(x, None), centering.centred(y, None)
        return centre, translation, *centering.Products.of(left, right)

    def factors(cross: Tensor) -> tuple[Tensor, ...]:
        left, singular, right = torch.linalg.svd(cross)
        return left @ right, singular.sum(dim=-1), torch.linalg.det(left @ right).sign()

    def square(count: int, draw: Any) -> tuple[Tensor]:
        return (draw(count, D, D) + 3 * torch.eye(D, dtype=DOUBLE),)

    return [
        Case(f"cross products, {rows} rows, D={D}", moments._products, DOUBLE, draw, ours, plain, 1e-12),
        Case(
            f"polar factors, D={D}", moments._products, DOUBLE, square, partial(polar.turn, reflection="allowed"), factors, 1e-9
        ),
    ]


CASES = [
    *(case for D in (5, 16) for case in _solvers(D)),  # from ALONE on, values have kernels of their own
    *(_gates(V, D, dtype) for V, D, dtype in ((5, 3, FLOAT), (5, 3, DOUBLE), (32, 4, FLOAT))),
    *(_attention(tokens, d) for tokens, d in ((65, 2), (17, 8))),
    *(_smoothing(*shape) for shape in ((3, 16, 9, 21), (2, 5, 3, 130))),
    *_halves(V=16, D=4, patch_size=2, hidden=20, row_norm="none"),
    *_halves(V=17, D=2, patch_size=3, hidden=7, depth=2, channels=1),
    *_halves(V=16, D=16, patch_size=1, hidden=150),
    *_pairs(65, 4),
]


def take_few(put: Callable[[Any, str, int], None]) -> None:
    """Kernels are used however little there is to do; ``put`` is ``setattr``, or a monkeypatch's."""
    for place in (case.kernels for case in CASES):
        put(place, "fewest", 1)
    for module in (attention, moments):
        put(module, "FEW", 1)
