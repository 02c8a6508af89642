"""A cell as a notebook shows it: its figures, and what it makes of some images of its own probe, with the originals above.

The markup is one piece: no style sheet, no script, nothing loaded from elsewhere, and no colour of text or paper, so that it
stands on light and dark pages alike. All text is escaped, for a manifest may come from a stranger's registry.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from batteries.cell.cell import Cell
from batteries.cell.manifest import CvFigure, DegenerateFigure, Measured
from batteries.data.probes import Probe, probe
from batteries.engine.torch_settings import neutral
from batteries.errors import BatteriesError
from batteries.images.rescaling import from_input, to_input
from batteries.model.patch_svae import PatchSVAE
from batteries.noise import CLAMP
from batteries.text import plain

SHOWN = 6  # images
LARGEST = 128  # pixels of a picture's side
CARD = "font: 14px/1.45 system-ui, sans-serif; max-width: 44rem; margin: .25rem 0; overflow-wrap: anywhere"
FACTS = "display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 1rem; margin: .4rem 0"
PICTURES = f"display: grid; grid-template-columns: repeat({SHOWN}, minmax(0, 96px)); gap: 4px; margin: .5rem 0 0"
PICTURE = "width: 100%; margin: 0; display: block; image-rendering: pixelated"
SOFT = "opacity: .7"


def cell_card(cell: Cell) -> str:
    """Write a cell as HTML. Where its probe's images are missing, or are none that it takes, it has no pictures."""
    title = f"<div><strong>{_text(cell.name)}</strong> <span style='{SOFT}'>{_text(cell.version)}</span></div>"
    yanked = "" if cell.origin is None else cell.origin.yanked
    warning = f"<div><strong>yanked: {_text(yanked)}</strong></div>" if yanked else ""
    facts = "".join(f"<span style='{SOFT}'>{_text(name)}</span><span>{_text(fact)}</span>" for name, fact in _facts(cell))
    return f"<div style='{CARD}'>{title}{warning}<div style='{FACTS}'>{facts}</div>{_pictures(cell)}</div>"


def _facts(cell: Cell) -> list[tuple[str, str]]:
    manifest, spec, own = cell.manifest, cell.spec, cell.manifest.own
    identity = manifest.identity
    facts = [
        ("architecture", f"V {spec.V}, D {spec.D}, patches of {spec.patch_size} pixels, {spec.parameters:,} parameters"),
        ("CV (published)", _cv(own.cv)),
        *([] if own.axial_cv is None else [("CV (axial)", _cv(own.axial_cv))]),
        ("MSE", _mse(own, manifest.untrained.get(manifest.own_probe))),
        ("probe", own.probe),
        ("license", identity.license),
        ("about", identity.description),
        ("sha256", cell.digest),
    ]
    return facts if cell.origin is None else [*facts, ("from", cell.origin.source)]


def _cv(cv: CvFigure | DegenerateFigure) -> str:
    if not isinstance(cv, CvFigure):
        return f"degenerate: {cv.degenerate}"
    on = "on" if cv.on_attractor else "off"
    return f"{cv.value:.4f}, {cv.ratio:.3f} of the attractor's ({on} the attractor)"


def _mse(own: Measured, untrained: Measured | None) -> str:
    beside = "" if untrained is None else f"; untrained {untrained.mse.value:.4g}"
    return f"{own.mse.value:.4g}{beside}"


def _pictures(cell: Cell) -> str:
    try:
        on = probe(cell.manifest.own_probe)
        originals, copies = _runs(cell, on)
    except (BatteriesError, OSError, RuntimeError):  # a card without pictures is better than a traceback
        return f"<div style='{SOFT}'>No pictures: this cell's probe cannot be shown here.</div>"
    limit = 1.0 if on.domain == "photos" else CLAMP
    rows = [*_images(originals, limit, "original"), *_images(copies, limit, "reconstruction")]
    caption = f"Images of {on.name}, and below each its reconstruction."
    return f"<div style='{PICTURES}'>{''.join(rows)}</div><div style='{SOFT}'>{_text(caption)}</div>"


@neutral()
@torch.no_grad()
def _runs(cell: Cell, on: Probe) -> tuple[Tensor, Tensor]:
    """Run some images of a probe through a cell: (B, 3, height, width) in the scale of images, before and after."""
    images = on.images[torch.linspace(0, len(on.images) - 1, SHOWN).round().long()]
    scale = cell.manifest.identity.input
    copies = PatchSVAE.from_cell(cell)(to_input(images, scale)).recon
    return images, from_input(copies, scale)


def _images(images: Tensor, limit: float, words: str) -> Sequence[str]:
    pixels = ((images / limit).clamp(-1, 1).nan_to_num() + 1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [f"<img style='{PICTURE}' alt='{words} {n}' src='{_png(Image.fromarray(one))}'>" for n, one in enumerate(pixels, 1)]


def _png(picture: Image.Image) -> str:
    """Write a picture as an address that holds it."""
    picture.thumbnail((LARGEST, LARGEST))
    data = io.BytesIO()
    picture.save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _text(value: object) -> str:
    return html.escape(plain(str(value)))
