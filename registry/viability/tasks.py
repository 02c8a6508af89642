"""Tasks and hosts of the viability test: those of a cell's own domain, in the numbers of a protocol."""

from __future__ import annotations

from functools import lru_cache

from batteries.data.probes import Probe
from batteries.data.sources import NoiseSource
from batteries.engine.torch_settings import neutral
from batteries.noise import NAMES
from composer.hosts.cell_hosts import HostFactory
from composer.hosts.host_training import residual_host
from composer.hosts.residual_mlp import StreamForm
from composer.hosts.tasks import Parts, TaskSize, denoising, naming_noise, naming_photos, noise_parts, photo_parts
from composer.hosts.tasks import Task as Task
from registry.checks.protocol import ViabilityProtocol


def own_hosts(protocol: ViabilityProtocol) -> dict[str, HostFactory]:
    """Return the protocol's hosts by name: a residual MLP with and without terminal LayerNorm."""
    forms = {"residual MLP": True, "residual MLP without terminal LayerNorm": False}
    return {name: residual_host(StreamForm(protocol.width, protocol.blocks, norm)) for name, norm in forms.items()}


def sizes(protocol: ViabilityProtocol) -> TaskSize:
    """Return the numbers of a protocol's tasks."""
    return TaskSize(protocol.size, protocol.train, protocol.test, protocol.crops, protocol.sigma)


@lru_cache(maxsize=4)
@neutral()
def own_tasks(own: Probe, protocol: ViabilityProtocol, seed: int) -> tuple[Task, ...]:
    """Return the tasks of a cell's domain, with equally many images per class.

    Hosts of a cell of noise name the types of its own probe. A single type leaves nothing to name: they then name all 16 of its
    mix (docs/decisions/0039-noise-types.md), and :func:`own_images` has images of that type.

    Classifying photographs does not decide: hosts of untrained cells do it as well
    (docs/decisions/0009-viability-profiles.md).

    Args:
        own: Own probe of the cell, whose domain and noise mix the images have.
        protocol: Numbers of the test.
        seed: Seed of the images.
    """
    numbers = sizes(protocol)
    if own.domain == "noise":
        named = NoiseSource.of_probe(own).types if len(own.groups) > 1 else range(len(NAMES))
        return (naming_noise(named, own.noise_mix, numbers, seed),)
    parts = photo_parts(numbers, seed)
    return denoising(parts, numbers.sigma, seed), naming_photos(parts)


@lru_cache(maxsize=4)
@neutral()
def own_images(own: Probe, protocol: ViabilityProtocol, seed: int) -> Parts:
    """Return clean images of a cell's own domain with their labels: those that a task names, or of the single type of a cell.

    Args:
        own: Own probe of the cell.
        protocol: Numbers of the test.
        seed: Seed of the images.
    """
    if own.domain == "noise" and len(own.groups) == 1:
        return noise_parts(NoiseSource.of_probe(own).types, own.noise_mix, sizes(protocol), seed)
    naming = own_tasks(own, protocol, seed)[-1]
    return Parts(naming.train, naming.test, naming.shown)
