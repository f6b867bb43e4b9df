"""How stationary operands lie in DRAM: tiles in the order in which the array takes them, int4 with group multipliers."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from presilicon.template import Core
from presilicon.tiling import MatmulPlan


def pack(
    core: Core, plan: MatmulPlan, weights: NDArray[np.int8], multipliers: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """(k, n) int8 weights, or int4 values with (groups, n) ``multipliers``, as the bytes that ``plan`` streams.

    For each block of columns, for each chunk of k: its tiles of ``weight_words * weight_rows_per_cycle`` rows of ``cols``
    weights, zero beyond k and n; for int4 two weights a byte (low nibble first), then a row of multipliers a group.
    """
    rows, cols = core.rows, core.cols
    k_blocks, n_blocks = plan.k_blocks(core), plan.n_blocks(core)
    padded = np.zeros((k_blocks * rows, n_blocks * cols), np.int8)
    padded[: plan.k, : plan.n] = weights
    tall = core.weight_words * core.weight_rows_per_cycle
    tiles = np.zeros((n_blocks, k_blocks, tall, cols), np.int8)
    tiles[:, :, :rows] = padded.reshape(k_blocks, rows, n_blocks, cols).transpose(2, 0, 1, 3)
    if not plan.int4:
        return tiles.reshape(-1).view(np.uint8)
    assert multipliers is not None
    packed = _nibbles((tiles.view(np.uint8) & np.uint8(15)).reshape(n_blocks, k_blocks, -1))
    groups = np.zeros((multipliers.shape[0], n_blocks * cols), np.uint8)
    groups[:, : plan.n] = multipliers
    rows_of = _nibbles(groups.reshape(-1, n_blocks, cols).transpose(1, 0, 2))
    parts: list[NDArray[np.uint8]] = []
    for block in range(n_blocks):
        for first in range(0, k_blocks, plan.chunk_blocks):
            last = min(k_blocks, first + plan.chunk_blocks)
            parts.append(packed[block, first:last].reshape(-1))
            parts.append(rows_of[block, first // plan.group_blocks : ceil(last / plan.group_blocks)].reshape(-1))
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
