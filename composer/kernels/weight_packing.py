"""Packing of one cell's layers, transposed and in sequence, for :mod:`composer.kernels.encoder_decoder`.

Importing this module imports numba.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from typing import Any

from batteries.kernels.float32_vectors import WIDTH
from batteries.kernels.vectors import Array, njit
from composer.kernels.row_operations import BLOCK, turn_block

__all__ = ["norms", "pack", "whole"]

Stacks = tuple[Array, ...]  # of weights (C, outputs, inputs), biases or norms (C, outputs): one for each layer


@njit
def whole(count: int) -> int:
    """Round a number of floats up to whole vectors."""
    return -(-count // WIDTH) * WIDTH


@njit
def _turn(weight: Array, cell: int, into: Array, at: int) -> None:
    """Transpose a cell's matrix, padding its rows with zeros to whole vectors."""
    _, outputs, inputs = weight.shape
    stride, first = whole(outputs), cell * outputs * inputs
    # whole blocks in registers, since scalar writes would each touch another cache line; the remainder by scalars
    blocks, across = outputs // BLOCK * BLOCK, inputs // BLOCK * BLOCK
    for o in range(0, blocks, BLOCK):
        for i in range(0, across, BLOCK):
            turn_block(weight, first + o * inputs + i, inputs, into, at + i * stride + o, stride)
        for i in range(across, inputs):
            for lane in range(o, o + BLOCK):
                into[at + i * stride + lane] = weight[cell, lane, i]
    for o in range(blocks, outputs):
        for i in range(inputs):
            into[at + i * stride + o] = weight[cell, o, i]
    # zeros, so that sums beyond the outputs are zero too, and no later step needs the number of outputs
    for i in range(inputs):
        into[at + i * stride + outputs : at + (i + 1) * stride] = 0.0


@njit
def _fill_up(vector: Array, cell: int, into: Array, at: int) -> int:
    """Copy a cell's bias or norm, padded with zeros to whole vectors, and return the start of the next one."""
    outputs = vector.shape[1]
    into[at : at + outputs] = vector[cell]
    after = at + whole(outputs)
    into[at + outputs : after] = 0.0
    return after


@njit
def norms(weights: Stacks) -> int:
    """Return the start of a cell's norms in the memory written by :func:`pack`, after its layers."""
    size = 0
    for weight in weights:
        size += (weight.shape[2] + 1) * whole(weight.shape[1])
    return size


@njit
def pack(layers: Any, cell: int, packed: Array) -> None:
    """Pack a cell's layers in sequence, each a transposed matrix and a bias, then its norms, each a gain and a shift."""
    weights, biases, gains, shifts = layers
    at = 0
    for layer in range(len(weights)):
        _turn(weights[layer], cell, packed, at)
        at += weights[layer].shape[2] * whole(weights[layer].shape[1])
        at = _fill_up(biases[layer], cell, packed, at)
    for norm in range(len(gains)):
        at = _fill_up(gains[norm], cell, packed, at)
        at = _fill_up(shifts[norm], cell, packed, at)
