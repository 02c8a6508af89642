"""Architecture of a cell, as data.

Letters used throughout: B images, N patches of an image, V rows of M, D width (columns of M), H hidden,
P = channels * patch_size**2 values of a patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from batteries.errors import InputError
from batteries.io.canonical_json import GrownDocument, fields_of

RowNorm = Literal["sphere", "none", "layernorm", "layernorm_unbiased", "scale", "row_max"]
Activation = Literal["gelu", "relu", "silu", "tanh", "identity"]
ActivationSites = Literal["all", "enc_in"]
Readout = Literal["svd", "linear", "none", "narrow", "narrow_norm", "narrow_sphere"]
Init = Literal["orthogonal", "kaiming_normal", "xavier_uniform", "small_normal"]
Preset = Literal["low", "mid", "high"]

NUMBER = re.compile(r"-?[0-9]{1,18}")
TRUTH = {"true": True, "false": False}

PRESETS: dict[str, dict[str, int]] = {
    "low": {"V": 64, "D": 16, "patch_size": 16, "hidden": 64},
    "mid": {"V": 64, "D": 8, "patch_size": 16, "hidden": 64},
    "high": {"V": 32, "D": 4, "patch_size": 4, "hidden": 64},
}


class CellSpec(GrownDocument):
    """Architecture of a cell; equal specs have equal tensor names and shapes.

    Attributes:
        V: Rows of M, the points of one patch on the sphere. At least 5: a pentachoron has five vertices.
        D: Columns of M, and the number of singular values of a patch.
        patch_size: Side of a square patch, in pixels.
        hidden: Width of the encoder and decoder.
        depth: Residual blocks of the encoder, and of the decoder.
        cross_layers: Layers of cross-attention over the patches of one image.
        heads: Attention heads; by default 2 if D <= 8, else 4, lowered to a divisor of D.
        smooth_width: Middle channels of the boundary smoothing.
        channels: Colour channels of an image.
        activation: Nonlinearity of encoder and decoder (the boundary smoothing keeps GELU).
        activation_sites: Layers with this activation: all of encoder and decoder, or ``enc_in`` alone, as in the published
            ablations, where the other layers keep GELU.
        row_norm: Normalisation of the rows of M: unit length (``sphere``), none, LayerNorm without weights (of the public code:
            ``layernorm_unbiased``), division by the mean row length of the batch (``scale``), or by the largest absolute
            value of a row (``row_max``). All but ``sphere`` are controls.
        bounded_alpha: Limit on the change of a singular value by attention: 20% if true, its softplus if false (ablation).
        init: Initialisation of ``enc_out``.
        readout: Path from M to the decoder (:mod:`batteries.model.bottleneck`): ``svd``, its singular values scaled by
            cross-attention; ``linear``, a matrix of (V D, V D) with bias, and the columns of the result scaled by their lengths
            and by cross-attention over these; ``none``, the same without the matrix; ``narrow``, a matrix onto D numbers, which
            cross-attention scales, and one back onto V D; ``narrow_norm``, a layer norm on these, and orthogonal matrices of
            gain 0.5 at the start; ``narrow_sphere``, the same with unit rows for the decoder. Omega of all but ``svd`` is S,
            unscaled.

    >>> import batteries
    >>> spec = batteries.CellSpec(V=32, D=4, patch_size=8, hidden=64)
    >>> spec.heads, spec.parameters, spec.grid(64, 64)
    (2, 59279, (8, 8))
    """

    ADDED: ClassVar[tuple[str, ...]] = ("activation_sites", "readout")

    V: Annotated[int, Field(ge=5, le=4096)]
    D: Annotated[int, Field(ge=2, le=256)]
    patch_size: Annotated[int, Field(ge=1, le=256)]
    hidden: Annotated[int, Field(ge=1, le=8192)]
    depth: Annotated[int, Field(ge=0, le=64)] = 1
    cross_layers: Annotated[int, Field(ge=0, le=64)] = 1
    heads: Annotated[int, Field(ge=1, le=256)]
    smooth_width: Annotated[int, Field(ge=1, le=1024)] = 16
    channels: Annotated[int, Field(ge=1, le=64)] = 3
    activation: Activation = "gelu"
    activation_sites: ActivationSites = "all"
    row_norm: RowNorm = "sphere"
    bounded_alpha: bool = True
    init: Init = "orthogonal"
    readout: Readout = "svd"

    @model_validator(mode="before")
    @classmethod
    def _choose_heads(cls, data: Any) -> Any:
        if isinstance(data, dict) and "heads" not in data:
            width = data.get("D")
            return {**data, "heads": default_heads(width) if isinstance(width, int) else 1}  # else D is what is refused
        return data

    @model_validator(mode="after")
    def _heads_divide(self) -> CellSpec:
        if self.D % self.heads:
            raise ValueError(f"heads must divide D: {self.heads} does not divide {self.D}")
        return self

    def __repr__(self) -> str:
        usual = {"heads": default_heads(self.D)}
        fields = type(self).model_fields.items()
        said = [name for name, field in fields if getattr(self, name) != usual.get(name, field.default)]
        return f"CellSpec({', '.join(f'{name}={getattr(self, name)!r}' for name in said)})"

    @classmethod
    def preset(cls, name: Preset, **changes: Any) -> CellSpec:
        """Return the spec of a published band, with some fields changed.

        Raises:
            InputError: no preset of that name, or invalid changes.

        >>> CellSpec.preset("low").parameters
        250211
        """
        if name not in PRESETS:
            raise InputError("unknown preset", code="PRESET", expected=" | ".join(PRESETS), found=name)
        try:
            return cls(**{**PRESETS[name], **changes})
        except ValidationError as error:
            raise InputError("invalid spec", code="SPEC", found=fields_of(error)) from error

    @property
    def patch_dim(self) -> int:
        """Number of values of one patch: channels * patch_size**2."""
        return self.channels * self.patch_size**2

    @property
    def narrow(self) -> bool:
        """True if D numbers alone pass from M to the decoder."""
        return self.readout in ("narrow", "narrow_norm", "narrow_sphere")

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        count = 0
        for shape in self.tensor_shapes().values():
            size = 1
            for side in shape:
                size *= side
            count += size
        return count

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor of a cell of this spec, named as in existing public checkpoints."""
        shapes: dict[str, tuple[int, ...]] = {}

        def linear(name: str, inputs: int, outputs: int) -> None:
            shapes[f"{name}.weight"] = (outputs, inputs)
            shapes[f"{name}.bias"] = (outputs,)

        def norm(name: str, width: int) -> None:
            shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

        def blocks(name: str) -> None:
            for i in range(self.depth):
                norm(f"{name}.{i}.0", self.hidden)
                linear(f"{name}.{i}.1", self.hidden, self.hidden)
                linear(f"{name}.{i}.3", self.hidden, self.hidden)

        linear("enc_in", self.patch_dim, self.hidden)
        blocks("enc_blocks")
        linear("enc_out", self.hidden, self.V * self.D)
        if self.readout == "linear":
            linear("readout", self.V * self.D, self.V * self.D)
        if self.narrow:
            linear("narrow.down", self.V * self.D, self.D)
            if self.readout != "narrow":
                norm("narrow.norm", self.D)
            linear("narrow.up", self.D, self.V * self.D)
        linear("dec_in", self.V * self.D, self.hidden)
        blocks("dec_blocks")
        linear("dec_out", self.hidden, self.patch_dim)
        for i in range(self.cross_layers):
            linear(f"cross_attn.{i}.qkv", self.D, 3 * self.D)
            linear(f"cross_attn.{i}.out_proj", self.D, self.D)
            norm(f"cross_attn.{i}.norm", self.D)
            shapes[f"cross_attn.{i}.alpha_logits"] = (self.D,)
        for layer, inputs, outputs in ((0, self.channels, self.smooth_width), (2, self.smooth_width, self.channels)):
            shapes[f"boundary_smooth.net.{layer}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"boundary_smooth.net.{layer}.bias"] = (outputs,)
        return shapes

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the number of rows and columns of patches of an image.

        Raises:
            InputError: side that is not a multiple of the patch size.
        """
        if height < 1 or width < 1 or height % self.patch_size or width % self.patch_size:
            raise InputError(
                "image sides not multiples of the patch size",
                code="IMAGE_SIZE",
                expected=f"sides that are multiples of {self.patch_size} pixels",
                found=f"{height} x {width}",
                remedy="batteries.images.load(..., cell=cell, fit='crop') crops to multiples of it, fit='pad' pads.",
            )
        return height // self.patch_size, width // self.patch_size


def changes_of(settings: Iterable[str]) -> dict[str, Any]:
    """Parse fields of a spec given as text, for :meth:`CellSpec.preset`.

    Args:
        settings: Fields as ``NAME=VALUE``: numbers, ``true``, ``false`` or words.

    Raises:
        InputError: no ``NAME=VALUE``, a name that is no field, or a field given twice (``SPEC``).

    >>> changes_of(["D=32", "activation=relu", "bounded_alpha=false"])
    {'D': 32, 'activation': 'relu', 'bounded_alpha': False}
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError("setting without a value", code="SPEC", expected="NAME=VALUE", found=setting)
        if name not in CellSpec.model_fields:
            raise InputError("unknown field of a spec", code="SPEC", expected=" | ".join(CellSpec.model_fields), found=name)
        if name in found:
            raise InputError("duplicate field of a spec", code="SPEC", found=f"{name}={found[name]} and {setting}")
        found[name] = int(text) if NUMBER.fullmatch(text) else TRUTH.get(text, text)
    return found


def default_heads(D: int) -> int:
    """Return the number of attention heads of a published cell of width D, lowered to a divisor of D.

    >>> [default_heads(D) for D in (4, 5, 8, 12, 16)]
    [2, 1, 2, 4, 4]
    """
    wanted = 2 if D <= 8 else min(4, D)
    return max(heads for heads in range(1, wanted + 1) if D % heads == 0)
