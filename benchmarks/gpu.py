"""Training step and container on a GPU against this machine's CPU, printed by ``python -m benchmarks.gpu``.

Not part of docs/benchmarks.md, which describes a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from batteries import CellSpec, PatchSVAE, untrained
from benchmarks.harness import Pair, compare, surroundings, table
from composer.container.frozen_weights import Stack
from composer.container.spec_group import Group

BATCH = 128
CELLS = 9


def pairs(device: str, batch: int) -> list[Pair]:
    """Return a step of a LOW cell, and nine LOW cells on a batch, against the CPU and against a loop on the device."""
    models = [untrained(CellSpec.preset("low"), seed) for seed in range(CELLS)]
    return [
        Pair(f"step, LOW, batch {batch} of 64x64: CPU", _step(device, batch), _step("cpu", batch)),
        Pair(f"{CELLS} LOW cells, {batch} images: CPU", _together(models, device, batch), _together(models, "cpu", batch)),
        Pair(f"{CELLS} LOW cells, {batch} images: one by one", _together(models, device, batch), _loop(models, device, batch)),
    ]


def main() -> None:
    """Run the command line."""
    if not torch.cuda.is_available():
        print("benchmarks.gpu: no GPU available to torch")
        return
    print(f"{torch.cuda.get_device_name()} beside {surroundings()}.\n")
    print(table([compare(pair) for pair in pairs("cuda", BATCH)]))


def _images(device: str, batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)


def _step(device: str, batch: int) -> Callable[[], float]:
    model, images = untrained(CellSpec.preset("low"), 0).to(device), _images(device, batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run() -> float:
        loss = (model(images).recon - images).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()  # which waits for the device

    return run


def _together(models: list[PatchSVAE], device: str, batch: int) -> Callable[[], float]:
    weights = [{name: value.detach().numpy() for name, value in model.named_parameters()} for model in models]
    group, images = Group(models[0].spec, Stack.of(weights)).to(device), _images(device, batch)

    @torch.no_grad()
    def run() -> float:
        found = group(images, range(len(models)), frozenset({"omega", "recon"}), 2**25)
        return float(found["patch_error"].mean())

    return run


def _loop(models: list[PatchSVAE], device: str, batch: int) -> Callable[[], float]:
    moved, images = [model.to(device) for model in models], _images(device, batch)

    @torch.no_grad()
    def run() -> float:
        return float(sum((model(images).recon - images).square().mean() for model in moved))

    return run


if __name__ == "__main__":
    main()
