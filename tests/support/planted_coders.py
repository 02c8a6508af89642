"""Coders whose figures are known: each does one thing to an image."""

from dataclasses import dataclass, field

import torch
from einops import rearrange

import batteries

SPEC = batteries.CellSpec.preset("low", hidden=8, V=12, smooth_width=2)


@dataclass
class Planted:
    """A coder that copies images, and whose tokens are the patches' means by channel."""

    spec: batteries.CellSpec = field(default_factory=lambda: SPEC)

    def reconstruct(self, images, fold=None):
        return images

    def errors(self, images, fold=None):
        return (self.reconstruct(images, fold) - images).double().square().mean(dim=(1, 2, 3)), None

    def tokens(self, images, fold=None):
        p = self.spec.patch_size
        means = rearrange(images, "B C (gh p) (gw q) -> B (gh gw) C (p q)", p=p, q=p).double().mean(dim=-1)
        return means, means


@dataclass
class Fading(Planted):
    """A coder that leaves a part of each image's difference from its mean colour, and so a share of part^2."""

    part: float = 0.5

    def reconstruct(self, images, fold=None):
        return images - self.part * (images - images.mean(dim=(2, 3), keepdim=True))


@dataclass
class Proud(Fading):
    """A coder that fades photographs and text, whose spread is small, much more."""

    def reconstruct(self, images, fold=None):
        spread = (images - images.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        part = torch.where(spread > 0.55, self.part, 2 * self.part)
        return images - part * (images - images.mean(dim=(2, 3), keepdim=True))


@dataclass
class Growing(Planted):
    """A coder whose error is proportional to the side of an image, and whose tokens grow by a tenth in large ones."""

    def reconstruct(self, images, fold=None):
        return images + images.shape[-1] / 640

    def tokens(self, images, fold=None):
        first, second = super().tokens(images)
        return first, second * (1.1 if images.shape[-1] > 64 else 1.0)
