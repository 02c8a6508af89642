"""Invariance table: what a cell's figures do under transformations of its weights that leave its function alone.

    python examples/invariance.py           # prints the table
    python examples/invariance.py --write   # also writes docs/results/invariance.md

The rows of M may be permuted and change sign, its D columns may be rotated or reflected, and hidden units may be permuted, as
long as the weights that read them agree. Attention sees singular values only, on which none of these has an effect.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pages import RESULTS, put, table

import batteries
import registry
from batteries.cell.cell import Cell
from batteries.geometry.estimates import Estimate
from batteries.measurement.measure import Reading, read
from batteries.model.patch_svae import load_weights, untrained

CELLS = ("low/fresnel-64", "low/johanna-64", "mid/fresnel-64", "mid/johanna-64", "high/fresnel-64", "high/johanna-64")
SEED = 0
FIGURES = ("function", "S", "omega", "MSE", "rank", "CV", "axial CV")
SAMPLED = ("CV", "axial CV")
PAGE = RESULTS / "invariance.md"
WORDS = """`python examples/invariance.py --write`: the largest change of each figure over the cells {cells}, on their own
probes, under one random transformation of each sort (seed {seed}). *0* is equality to the bit. *function*, *S* and *omega*:
the largest difference of a pixel, or of a value, over the largest of them; *MSE* and *rank*: relative. A CV draws simplices by
row, hence a permutation changes the draws: beside its relative change is the change over its standard error paired by image.

The axial CV gives each row of a draw a random sign, which it counts from the first entry of the row: a rotation changes the
signs drawn, a change of sign does not."""

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Seen:
    """Outputs and reading of a cell on its own probe."""

    recon: torch.Tensor
    omega: torch.Tensor
    reading: Reading


def permuted_rows(cell: Cell, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Permute the rows of M."""
    order = rng.permutation(cell.spec.V)
    return _by_matrix(cell, lambda M: M[order])


def signed_rows(cell: Cell, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Change the signs of rows of M at random."""
    signs = rng.choice(np.array([-1, 1], dtype=np.float32), size=(cell.spec.V, 1, 1))
    return _by_matrix(cell, lambda M: M * signs)


def rotated_axes(cell: Cell, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rotate or reflect the D axes of M by a random orthogonal matrix."""
    rotation = np.linalg.qr(rng.standard_normal((cell.spec.D, cell.spec.D)))[0]
    return _by_matrix(cell, lambda M: np.einsum("vdh,de->veh", M, rotation).astype(np.float32))


def permuted_units(cell: Cell, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Permute the hidden units of encoder and decoder, those inside of residual blocks among them."""
    weights = dict(cell.weights)
    for half in ("enc", "dec"):
        order = rng.permutation(cell.spec.hidden)
        for name in (f"{half}_in.weight", f"{half}_in.bias"):
            weights[name] = weights[name][order]
        weights[f"{half}_out.weight"] = weights[f"{half}_out.weight"][:, order]
        for block in (f"{half}_blocks.{i}" for i in range(cell.spec.depth)):
            inner = rng.permutation(cell.spec.hidden)
            for name in (f"{block}.0.weight", f"{block}.0.bias", f"{block}.3.bias"):
                weights[name] = weights[name][order]
            weights[f"{block}.1.weight"] = weights[f"{block}.1.weight"][inner][:, order]
            weights[f"{block}.1.bias"] = weights[f"{block}.1.bias"][inner]
            weights[f"{block}.3.weight"] = weights[f"{block}.3.weight"][order][:, inner]
    return weights


TRANSFORMATIONS: dict[str, Callable[[Cell, np.random.Generator], dict[str, np.ndarray]]] = {
    "signs of rows": signed_rows,
    "permutation of rows": permuted_rows,
    "rotation of the D axes": rotated_axes,
    "permutation of hidden units": permuted_units,
}


def seen(cell: Cell, weights: Weights) -> Seen:
    """Run a cell with other weights over its own probe."""
    model = load_weights(untrained(cell.spec, 0), weights).eval()
    probe = batteries.probe(cell.manifest.own_probe)
    with torch.no_grad():
        out = model(probe.images[::4])
    return Seen(out.recon, out.omega, read(model, probe.images, probe.cluster))


def changes(before: Seen, after: Seen) -> dict[str, tuple[float, float]]:
    """Return the relative change of each figure, and that of a CV over the standard error of the paired difference."""
    pairs = {
        "function": (before.recon, after.recon),
        "S": (before.reading.S, after.reading.S),
        "omega": (before.omega, after.omega),
        "MSE": (before.reading.mse.double().mean(), after.reading.mse.double().mean()),
        "rank": tuple(torch.tensor(seen.reading.effective_rank().value, dtype=torch.float64) for seen in (before, after)),
    }
    found = {name: (float((b - a).abs().max() / a.abs().max()), 0.0) for name, (a, b) in pairs.items()}
    found["CV"] = _sampled(before.reading.cv(), after.reading.cv())
    found["axial CV"] = _sampled(before.reading.axial_cv(), after.reading.axial_cv())
    return found


def rows(cells: Mapping[str, Cell]) -> list[list[str]]:
    """Return the table: a row per transformation, the largest changes over the cells."""
    before = {name: seen(cell, cell.weights) for name, cell in cells.items()}
    lines = []
    for title, transform in TRANSFORMATIONS.items():
        found = []
        for name, cell in cells.items():
            weights = transform(cell, np.random.default_rng(SEED))
            found.append(changes(before[name], seen(cell, weights)))
        lines.append([title, *(_words(figure, [one[figure] for one in found]) for figure in FIGURES)])
    return lines


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Changes of a cell's figures under transformations of its weights.")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    found = table(["transformation", *FIGURES], rows({name: registry.load(name) for name in CELLS}))
    print(found)
    if arguments.write:
        words = WORDS.format(cells=", ".join(CELLS), seed=SEED)
        put(PAGE, "What leaves a cell's function alone", "invariance", f"{words}\n\n{found}")


def _by_matrix(cell: Cell, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """Change M (V, D, H) where ``enc_out`` makes it and where ``dec_in`` reads it."""
    spec, weights = cell.spec, dict(cell.weights)
    for name in ("enc_out.weight", "enc_out.bias"):
        weights[name] = change(weights[name].reshape(spec.V, spec.D, -1)).reshape(weights[name].shape)
    read_by = weights["dec_in.weight"].T  # (V * D, H)
    weights["dec_in.weight"] = np.ascontiguousarray(change(read_by.reshape(spec.V, spec.D, -1)).reshape(read_by.shape).T)
    return weights


def _sampled(before: object, after: object) -> tuple[float, float]:
    assert isinstance(before, Estimate)
    assert isinstance(after, Estimate)
    pairs = torch.tensor(after.by_image) - torch.tensor(before.by_image)
    error = float(pairs.std() / len(pairs) ** 0.5)
    return abs(after.value / before.value - 1), abs(after.value - before.value) / error if error else 0.0


def _words(figure: str, found: list[tuple[float, float]]) -> str:
    change, errors = max(one[0] for one in found), max(one[1] for one in found)
    if change == 0:
        return "0"
    return f"{change:.1%} ({errors:.1f})" if figure in SAMPLED and errors and change > 1e-4 else f"{change:.0e}"


if __name__ == "__main__":
    main()
