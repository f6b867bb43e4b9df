"""How stationary operands lie in DRAM: tiles in the order in which the array takes them, int4 with group multipliers."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from presilicon.template import Core
from presilicon.tiling import MatmulPlan


def pack(
    core: Core,
    weights: NDArray[np.int8],
    multipliers: NDArray[np.uint8] | None = None,
    *,
    chunk_blocks: int = 0,
    group_blocks: int = 1,
) -> NDArray[np.uint8]:
    """(k, n) int8 weights, or int4 values with (groups, n) ``multipliers``, as the bytes that are streamed.

    For each block of columns, for each chunk of ``chunk_blocks`` blocks of k (0: all): its tiles of ``weight_words *
    weight_rows_per_cycle`` rows of ``cols`` weights, zero beyond k and n; for int4 two weights a byte (low nibble first), then
    a row of multipliers for each group of ``group_blocks``.
    """
    rows, cols = core.rows, core.cols
    k, n = weights.shape
    k_blocks, n_blocks = ceil(k / rows), ceil(n / cols)
    chunk_blocks = chunk_blocks or k_blocks
    padded = weights
    if weights.shape != (k_blocks * rows, n_blocks * cols):
        padded = np.zeros((k_blocks * rows, n_blocks * cols), np.int8)
        padded[:k, :n] = weights
    tall = core.weight_words * core.weight_rows_per_cycle
    tiles = np.zeros((n_blocks, k_blocks, tall, cols), np.int8)
    tiles[:, :, :rows] = padded.reshape(k_blocks, rows, n_blocks, cols).transpose(2, 0, 1, 3)
    if multipliers is None:
        return tiles.reshape(-1).view(np.uint8)
    packed = _nibbles((tiles.view(np.uint8) & np.uint8(15)).reshape(n_blocks, k_blocks, -1))
    groups = np.zeros((multipliers.shape[0], n_blocks * cols), np.uint8)
    groups[:, :n] = multipliers
    rows_of = _nibbles(groups.reshape(-1, n_blocks, cols).transpose(1, 0, 2))
    parts: list[NDArray[np.uint8]] = []
    for block in range(n_blocks):
        for first in range(0, k_blocks, chunk_blocks):
            last = min(k_blocks, first + chunk_blocks)
            parts.append(packed[block, first:last].reshape(-1))
            parts.append(rows_of[block, first // group_blocks : ceil(last / group_blocks)].reshape(-1))
    return np.concatenate(parts)


def _nibbles(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pairs of 4-bit values along the last axis as bytes, the first in the low nibble."""
    packed: NDArray[np.uint8] = np.bitwise_or(values[..., 0::2], np.left_shift(values[..., 1::2], np.uint8(4)))
    return packed


def unpacked(
    core: Core, plan: MatmulPlan, weights: NDArray[np.int8], multipliers: NDArray[np.uint8] | None
) -> NDArray[np.int8]:
    """The int8 weights that the array multiplies with: int4 values times their group's multiplier."""
    if multipliers is None:
        return weights
    of_row = np.arange(plan.k) // (core.rows * plan.group_blocks)
    return (weights.astype(np.int16) * multipliers[of_row].astype(np.int16)).astype(np.int8)
