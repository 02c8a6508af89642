"""Small residual MLPs, and samples of a task that they learn in a moment."""

import torch

from composer import audit, credit, hosts

INPUTS, CLASSES = 8, 6


def samples(n=600, seed=0):
    """Points around the corners of a simplex, in equal number."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % CLASSES
    return torch.eye(INPUTS)[classes] * 2 + torch.randn(n, INPUTS, generator=generator), classes


def batches(n=600):
    return audit.batched(*samples(n, seed=1), size=100)


def mlp(inputs=INPUTS, outputs=CLASSES, seed=0, width=32, blocks=3, **form):
    return credit.seeded(lambda: hosts.ResidualMLP(inputs, outputs, hosts.StreamForm(width=width, blocks=blocks, **form)), seed)
