"""Inference of a spec from the tensor shapes of a foreign checkpoint."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from batteries.cell.spec import CellSpec
from batteries.errors import FormatError, InputError
from batteries.io.canonical_json import fields_of

Shapes = Mapping[str, tuple[int, ...]]

# tensors and axes that have each size
SIZES = {
    "hidden": ("enc_in.weight 0", "enc_in.bias 0", "enc_out.weight 1", "dec_in.weight 0", "dec_in.bias 0", "dec_out.weight 1"),
    "patch_dim": ("enc_in.weight 1", "dec_out.weight 0", "dec_out.bias 0"),
    "V * D": ("enc_out.weight 0", "enc_out.bias 0", "dec_in.weight 1"),
    "channels": ("boundary_smooth.net.0.weight 1", "boundary_smooth.net.2.weight 0", "boundary_smooth.net.2.bias 0"),
    "smooth_width": ("boundary_smooth.net.0.weight 0", "boundary_smooth.net.0.bias 0", "boundary_smooth.net.2.weight 1"),
}
WIDTHS = ("alpha_logits 0", "norm.weight 0", "norm.bias 0", "out_proj.weight 0", "out_proj.bias 0", "qkv.weight 1")
BLOCK = re.compile(r"(?:enc|dec)_blocks\.(\d{1,4})\.")
LAYER = re.compile(r"cross_attn\.(\d{1,4})\.")


def infer(shapes: Shapes, width: int | None, choices: Mapping[str, Any], where: object) -> CellSpec:
    """Infer the spec that most of the tensors' shapes agree on; disagreeing shapes are refused later.

    Args:
        shapes: Shape by tensor name.
        width: Width D, if there is no cross-attention to infer it from.
        choices: Fields of the spec that shapes do not determine; as published if missing or None.
        where: Name of the file in messages.

    Raises:
        FormatError: missing sizes, or sizes that no PatchSVAE has.
        InputError: missing width, width that contradicts the shapes, or invalid choices.
    """
    sizes = {name: _most(shapes, places) for name, places in SIZES.items()}
    hidden, patch_dim, matrix, channels, smooth_width = sizes.values()
    layers = _count(LAYER, shapes)
    D = _width(shapes, matrix, layers, width, where) if matrix else 0
    side = math.isqrt(patch_dim // channels) if channels else 0
    if 0 in sizes.values() or matrix % D or channels * side**2 != patch_dim:
        raise FormatError(
            "not a PatchSVAE checkpoint",
            code="ST_TENSORS",
            expected="enc_in, enc_out, dec_in, dec_out and boundary_smooth.net, of sizes that agree (0: none found)",
            found="; ".join([*(f"{name} {size}" for name, size in sizes.items()), f"D {D}", ", ".join(sorted(shapes))]),
            where=where,
        )
    read: dict[str, Any] = {
        "V": matrix // D,
        "D": D,
        "patch_size": side,
        "hidden": hidden,
        "depth": _count(BLOCK, shapes),
        "cross_layers": layers,
        "smooth_width": smooth_width,
        "channels": channels,
    }
    try:
        return CellSpec(**read, **{name: value for name, value in choices.items() if value is not None})
    except ValidationError as error:
        raise InputError("invalid spec", code="SPEC", found=fields_of(error), where=where) from error


def _width(shapes: Shapes, matrix: int, layers: int, given: int | None, where: object) -> int:
    """Return D, inferred from the layers of cross-attention, or else as given."""
    told = _most(shapes, (f"cross_attn.{layer}.{place}" for layer in range(layers) for place in WIDTHS))
    if not told and given is None:
        raise InputError(
            "unknown width: no cross-attention",
            code="WIDTH",
            expected=f"D, a divisor of {matrix} (V * D)",
            where=where,
            remedy="Give the width: width=D, or --width D.",
        )
    if given is not None and (given < 1 or (told and told != given) or matrix % given):
        expected = str(told) if told else f"a divisor of {matrix} (V * D)"
        raise InputError("width contradicts the tensors", code="WIDTH", expected=expected, found=given, where=where)
    return told or given or 0


def _most(shapes: Shapes, places: Iterable[str]) -> int:
    """Return the most common size of these places ("name axis"); 0 if none exists."""
    sizes: Counter[int] = Counter()
    for place in places:
        name, _, axis = place.partition(" ")
        sizes.update(shapes.get(name, ())[int(axis) : int(axis) + 1])
    return sizes.most_common(1)[0][0] if sizes else 0


def _count(numbered: re.Pattern[str], shapes: Shapes) -> int:
    """Return one more than the highest number in the names."""
    return max((int(match[1]) + 1 for name in shapes if (match := numbered.match(name))), default=0)
