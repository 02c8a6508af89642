"""Loss of a step: reconstruction, divergence and discipline, in float32 and without an eigensolver.

Legend: C sectors of a spec, S sectors in all, B images, N patches of an image, K arrays, V rows, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from batteries.geometry import simplex_cv
from batteries.geometry.attractor import SIMPLEX, sphere_cv
from composer.vae.battery_vae import BatteryVAE, VaeOutput
from composer.vae.plan import VaePlan

MATRICES = 4  # of each sector and place, in a step
SIMPLICES = 256  # of each sector and place, in a step


class Terms(NamedTuple):
    """Terms of a loss.

    Attributes:
        loss: Weighted sum.
        mse: Mean squared error of the reconstruction.
        divergence: KL in nats per value of an image, without free nats.
        discipline: Mean over sectors of (CV / exact - 1)^2, added up over the places; 0 if no sector has a CV.
    """

    loss: Tensor
    mse: Tensor
    divergence: Tensor
    discipline: Tensor


def terms(vae: BatteryVAE, images: Tensor, plan: VaePlan, step: int, draws: Generator) -> Terms:
    """Compute the terms of a step.

    Args:
        vae: Model.
        images: Images (B, channels, height, width).
        plan: Settings.
        step: Step, counted from 0, which says how far the warm-up is.
        draws: Source of codes and simplices.
    """
    out = vae(images, draws)
    mse = (out.decoded.images - images).square().mean()
    nats = [code.divergence() for code in out.codes]
    values = images[0].numel()
    divergence = torch.stack([own.sum() for own in nats]).sum() / images.numel()
    charged = torch.stack([own.mean(dim=(1, 2)).clamp_min(plan.free).sum() * own.shape[2] for own in nats]).sum() / values
    loss = mse + plan.kl * plan.share_at(step) * charged
    if not plan.discipline:
        return Terms(loss, mse, divergence, mse.new_zeros(()))
    found = discipline(vae, out, draws)
    return Terms(loss + plan.discipline * found, mse, divergence, found)


def discipline(vae: BatteryVAE, out: VaeOutput, draws: Generator) -> Tensor:
    """Compute the mean over sectors of (CV / exact - 1)^2, added up over encoder, inverse and arrays."""
    ratios = [ratio for ratio in cv_ratios(vae, out, draws) if ratio is not None]
    if not ratios:
        return vae.log_sharpness.new_zeros(())
    return (torch.cat(ratios, dim=1) - 1).square().mean(dim=1).sum()


def cv_ratios(vae: BatteryVAE, out: VaeOutput, draws: Generator, matrices: int = MATRICES) -> list[Tensor | None]:
    """Compute CV / exact at encoder, inverse and arrays, (3, C), by part; None where D is too small for a CV.

    Args:
        vae: Model.
        out: Output of the model for some images.
        draws: Source of matrices and simplices.
        matrices: Matrices of each sector; those of its arrays have as many simplices in all.
    """
    found: list[Tensor | None] = []
    for part, M, rows in zip(vae.parts, out.M, out.decoded.rows, strict=True):
        if part.spec.D < SIMPLEX:
            found.append(None)
            continue
        flat = [own.flatten(1, 2) for own in (M, rows)]  # (C, B N, V, D)
        chosen = torch.randperm(flat[0].shape[1], generator=draws)[:matrices].to(M.device)
        places = [own[:, chosen] for own in flat] + [part.arrays.rows]
        simplices = SIMPLICES * matrices // MATRICES
        cvs = [simplex_cv.pooled_cv(own, draws=max(1, simplices // own.shape[1]), generator=draws) for own in places]
        found.append(torch.stack(cvs) / sphere_cv(part.spec.D))
    return found
