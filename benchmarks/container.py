"""Many cells in a container against the same cells in a loop, in time and memory.

The plain loop (:mod:`benchmarks.plain`) is what a user would write: eager, one cell at a time, with torch's eigh and
convolutions. A second loop runs this package's ``PatchSVAE``, with its faster spectral stage and smoothing.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

import composer
import registry
from batteries import Cell, CellSpec, PatchSVAE, threads, untrained
from batteries.cell import weights_file
from batteries.cell.cell import file_facts
from batteries.model.patch_svae import Tokens, arrays_of
from batteries.model.spectral import EIGENVALUE_FLOOR, RIDGE
from batteries.noise import random_batch
from benchmarks.harness import Pair
from benchmarks.plain import PlainSVAE

CELLS, MIXED = 192, 1000
BANDS = {"low": "low/johanna-64", "high": "high/johanna-64"}
LINEAR = "high linear"  # cells of the high preset with the readout linear, untrained
TARGETS = {("low", 1): 4.0, ("low", 16): 2.5, ("high", 1): 4.0, ("high", 16): 4.0, (LINEAR, 1): 4.0, (LINEAR, 16): 4.0}
VMAP_TARGETS = {1: 2.5, 16: 1.0}
ENCODE_TARGET = 4.0
MIXTURE = ("low/johanna-64", "mid/johanna-64", "high/johanna-64", "high/freckles-64", "low/fresnel-64")


def pairs(smoke: bool) -> list[Pair]:
    """Return full forward passes by band and batch, then the costs of a thousand mixed cells."""
    return [*_forwards(smoke, BANDS), *_scale(20 if smoke else MIXED)]


def linear(smoke: bool) -> list[Pair]:
    """Return full forward passes of cells with a matrix for a readout; a subject of its own, as the tokens are."""
    return _forwards(smoke, [LINEAR])


def _forwards(smoke: bool, bands: Iterable[str]) -> list[Pair]:
    found = []
    for band, images, title, count in _cases(smoke, bands):
        # the loop's reconstructions are made of omega, but for linear cells
        plain, full = _plain(band, count), _batched(band, count, images, ("recon",) if band == LINEAR else ("omega", "recon"))
        batch = len(images)
        found += [
            Pair(f"{title}, against the plain loop", full, _loop(plain, images), TARGETS[band, batch]),
            Pair(f"{title}, against the loop of PatchSVAE", full, _loop(_own(band, count), images)),
            Pair(f"{title}, against vmap", full, _mapped(plain, images), VMAP_TARGETS[batch]),
        ]
        if torch.get_num_threads() > 1:
            alone = _alone(full), _alone(_loop(plain, images))
            found.append(Pair(f"{title}, against the plain loop, both on one thread", *alone))
    return found


def tokens(smoke: bool) -> list[Pair]:
    """Return tokens without decoding, by band and batch; a separate subject, since the stacks of the other take gigabytes."""
    found = []
    for band, images, title, count in _cases(smoke, BANDS):
        ours = _batched(band, count, images, ("omega",))
        found += [
            Pair(f"tokens, {title}, against the plain loop", ours, _tokens(_plain(band, count), images), ENCODE_TARGET),
            Pair(f"tokens, {title}, against PatchSVAE.tokens", ours, _tokens(_own(band, count), images)),
        ]
    return found


def _cases(smoke: bool, bands: Iterable[str]) -> Iterator[tuple[str, Tensor, str, int]]:
    """Yield band, images, title and number of cells."""
    count, batches = (2, (1,)) if smoke else (CELLS, (1, 16))
    for band in bands:
        for batch in batches:
            yield band, random_batch(batch, (64, 64), 0)[0], f"{count} {band.upper()} cells, {batch} of 64x64", count


def _scale(count: int) -> list[Pair]:
    """Return the costs of building and holding a number of mixed cells."""
    few = count // 10
    held = sum(4 * cell.spec.parameters for cell in _mixture(count).values()) / 2**20
    return [
        Pair(
            f"composing {count} mixed cells, each, against composing {few}",
            lambda: composer.compose(_mixture(count)).names,
            lambda: composer.compose(_mixture(few)).names,
            1 / 1.2,
            _each,
        ),
        Pair(
            f"resident memory of {count} mixed cells, against their weights",
            lambda: _resident(count),
            lambda: held,
            1 / 1.15,
            lambda call: float(str(call())),
            "MiB",
        ),
    ]


@cache
def _cell(band: str) -> Cell:
    return _linear() if band == LINEAR else registry.pull(BANDS[band])[0]


def _linear() -> Cell:
    """Make an untrained cell with a matrix for a readout; its manifest has the figures of another cell, which nothing reads."""
    spec = CellSpec.preset("high", readout="linear")
    weights = arrays_of(untrained(spec, 0))
    facts = file_facts(weights_file.write(weights), weights)
    return Cell(weights, registry.load(BANDS["high"]).manifest.model_copy(update={"spec": spec, "file": facts}))


@cache
def _plain(band: str, count: int) -> list[Plainest]:
    models = [Plainest(_cell(band).spec) for _ in range(count)]
    for model in models:
        model.load_state_dict(PatchSVAE.from_cell(_cell(band)).state_dict())
    return [model.requires_grad_(False) for model in models]


@cache
def _own(band: str, count: int) -> list[PatchSVAE]:
    return [PatchSVAE.from_cell(_cell(band)).requires_grad_(False) for _ in range(count)]


class Plainest(PlainSVAE):
    """Plain model with plain normalisation of rows, so that vmap works."""

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Return only the reconstruction."""
        return self.reconstruct(images)

    def tokens(self, images: Tensor) -> Tokens:
        """Compute M, S and omega with torch's eigenvalues."""
        M, grid = self._matrices(images)
        wide = M.double()
        gram = wide.mT @ wide + RIDGE * torch.eye(self.spec.D, dtype=torch.float64)
        S = torch.linalg.eigvalsh(gram).flip(-1).clamp_min(EIGENVALUE_FLOOR).sqrt().to(M.dtype)
        return Tokens(M, S, self.bottleneck.omega(S, self), grid)

    def _rows(self, h: Tensor) -> Tensor:
        return nn.functional.normalize(self.enc_out(h).unflatten(-1, (self.spec.V, self.spec.D)), dim=-1)


def _batched(band: str, count: int, images: Tensor, taps: Sequence[str]) -> Callable[[], object]:
    container = composer.compose({f"cell-{n}": _cell(band) for n in range(count)})
    return torch.no_grad()(lambda: container(images, taps).groups)


def _alone(call: Callable[[], object]) -> Callable[[], object]:
    """Limit a call to one thread."""

    def run() -> object:
        with threads(1):
            return call()

    return run


def _loop(models: Sequence[nn.Module], images: Tensor) -> Callable[[], object]:
    return torch.no_grad()(lambda: [model(images) for model in models])


def _tokens(models: Sequence[PatchSVAE], images: Tensor) -> Callable[[], object]:
    return torch.no_grad()(lambda: [model.tokens(images).omega for model in models])


def _mapped(models: list[Plainest], images: Tensor) -> Callable[[], object]:
    parameters, buffers = stack_module_state(models)  # type: ignore[arg-type]
    base = copy.deepcopy(models[0]).to("meta")

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        found: Tensor = functional_call(base, (parameters, buffers), (images,))
        return found

    @torch.no_grad()
    def run() -> object:
        with sdpa_kernel(SDPBackend.MATH):  # the fused one has no vmap rule, and would loop
            return vmap(one)(parameters, buffers)

    return run


def _mixture(count: int) -> dict[str, Cell]:
    kinds = _pulled()
    return {f"cell-{n}": kinds[n % len(kinds)] for n in range(count)}


@cache
def _pulled() -> list[Cell]:
    return registry.pull(*MIXTURE)


def _each(call: Callable[[], object]) -> float:
    """Return the milliseconds per cell."""
    start = time.perf_counter()
    made = call()
    assert isinstance(made, tuple)
    return 1e3 * (time.perf_counter() - start) / len(made)


def _resident(count: int) -> str:
    """Return the MiB that a container adds to a separate process, after its cells are freed."""
    words = [sys.executable, "-m", "benchmarks.container", str(count)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _status(field: str) -> float:
    """Return a field of this process's memory in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    composer.compose(_mixture(len(MIXTURE)))
    before = _status("VmRSS")
    held = composer.compose(_mixture(int(sys.argv[1])))
    print(_status("VmRSS") - before)
