"""Shapes of a battery VAE's parameters, and its size: how much of it is linear. Imports no torch.

Legend: C sectors of a spec, N patches of an image, K arrays, V rows, D width, Z numbers of a code, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from batteries.cell.spec import CellSpec

IMPLANTED = ("enc_", "dec_", "boundary_smooth")  # beginnings of the names of tensors that are taken over from cells
Shape = tuple[int, ...]
# Multiply-adds of a value outside of linear maps. As in the usual counts, erf, exp and roots are not multiply-adds.
GELU, NORM, UNIT, DRAW, SOFTMAX = 1, 3, 2, 1, 2


@dataclass(frozen=True)
class Cost:
    """Size of a model.

    Attributes:
        parameters: Numbers in all parameters.
        linear_parameters: Numbers in linear maps: weights and biases of linear layers and convolutions, maps and arrays.
        multiply_adds: Multiply-adds of one image, forward.
        linear_multiply_adds: Multiply-adds of linear maps.

    >>> import batteries
    >>> from composer import BatteryVAE
    >>> specs = {"first": batteries.CellSpec.preset("high"), "second": batteries.CellSpec.preset("high")}
    >>> cost = BatteryVAE.untrained(specs).cost()
    >>> cost.parameters, [round(share, 3) for share in cost.linear]
    (121259, [0.996, 0.979])
    """

    parameters: int
    linear_parameters: int
    multiply_adds: int
    linear_multiply_adds: int

    @property
    def linear(self) -> tuple[float, float]:
        """Share of parameters and of multiply-adds in linear maps."""
        return self.linear_parameters / self.parameters, self.linear_multiply_adds / self.multiply_adds

    def __add__(self, other: Cost) -> Cost:
        ours = self.parameters, self.linear_parameters, self.multiply_adds, self.linear_multiply_adds
        theirs = other.parameters, other.linear_parameters, other.multiply_adds, other.linear_multiply_adds
        return Cost(*(one + two for one, two in zip(ours, theirs, strict=True)))


def sector_names(spec: CellSpec) -> dict[str, str]:
    """Return the name of the parameter that starts on each implanted tensor, by the tensor's name in a cell."""
    return {name: name.replace(".", "_") for name in spec.tensor_shapes() if name.startswith(IMPLANTED)}


def part_shapes(spec: CellSpec, count: int, width: int, arrays: int) -> dict[str, Shape]:
    """Return the shape of each parameter of the sectors of a spec, by its name.

    Args:
        spec: Spec of the sectors.
        count: Sectors C.
        width: Numbers Z of a code.
        arrays: Arrays K of each sector.
    """
    V, D = spec.V, spec.D
    cell = spec.tensor_shapes()
    found: dict[str, Shape] = {f"sectors.{own}": (count, *cell[name]) for name, own in sector_names(spec).items()}
    layers = {
        "narrow": (2 * width, V * (D + 1)),
        "mu": (width, 2 * width),
        "log_sigma": (width, 2 * width),
        "rows": (V * D, width),
        "magnitude": (V, width),
    }
    for name, (outputs, inputs) in layers.items():
        found |= {f"bottleneck.{name}.weight": (count, outputs, inputs), f"bottleneck.{name}.bias": (count, outputs)}
    of_arrays = {"points": (count, arrays, V, D), "maps": (count, D, D), "reference": (count, arrays)}
    return found | {f"arrays.{name}": shape for name, shape in of_arrays.items()}


def cost(specs: Mapping[CellSpec, int], width: int, arrays: int, size: tuple[int, int]) -> Cost:
    """Count parameters, and the multiply-adds of one image, forward.

    Args:
        specs: Number of sectors of each spec.
        width: Numbers Z of a code.
        arrays: Arrays K of each sector.
        size: Height and width of the image.

    Returns:
        Cost, in which GELU, layer norms, normalisation of rows, draws, softmax and the weighing of images are not linear.
    """
    regions = math.lcm(*(spec.grid(*size)[0] for spec in specs)) * math.lcm(*(spec.grid(*size)[1] for spec in specs))
    found = Cost(1, 0, SOFTMAX * regions * arrays * sum(specs.values()), 0)  # the sharpness is no map
    for spec, count in specs.items():
        found = found + _part(spec, count, width, arrays, size)
    return found


def _part(spec: CellSpec, count: int, width: int, arrays: int, size: tuple[int, int]) -> Cost:
    shapes = part_shapes(spec, count, width, arrays)
    numbers = {name: math.prod(shape) for name, shape in shapes.items()}
    norms = sum(n for name, n in numbers.items() if "_blocks_" in name and name.rsplit("_", 2)[-2] == "0")
    N, V, D, H = math.prod(spec.grid(*size)), spec.V, spec.D, spec.hidden
    pixels = size[0] * size[1]
    weights = [n for name, n in numbers.items() if name.endswith("weight") and "smooth" not in name and "arrays" not in name]
    linear = N * (sum(weights) - norms // 2 + numbers["arrays.maps"] * V + numbers["arrays.points"])
    linear += pixels * sum(n for name, n in numbers.items() if "smooth" in name and name.endswith("weight"))
    each = GELU * (2 * (1 + spec.depth) * H + 2 * width) + NORM * 2 * spec.depth * H + UNIT * 2 * V * D + DRAW * width
    bent = count * (N * each + pixels * (GELU * spec.smooth_width + spec.channels))
    return Cost(sum(numbers.values()), sum(numbers.values()) - norms, linear + bent, linear)
