"""How a convolution goes through its windows: blocks of output columns and of k, the order of its weights.

A kernel row of a window is one run of bytes of the image, and a matmul's nest goes through kernel rows (k1), blocks of that run
(kb), columns (m0) and rows (m1) of the result. Groups make a block of output columns read its own span of channels, other
weights of the span being zero: depthwise convolutions are tiles with a diagonal (docs/decisions tells why).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.steps import Convolution
from presilicon.template import Core
from presilicon.tiling import tile_bytes


@dataclass(frozen=True, slots=True)
class ColumnBlock:
    """Output columns ``first`` to ``last``, which read channels ``low`` to ``high``, and how k is gone through.

    ``by_rows``: a kernel row is one run, all of the kernel one nest; else each tap is a run of its own and each kernel row
    a nest. ``run`` bytes of x make up to ``kb`` blocks of array_rows.
    """

    first: int
    last: int
    low: int
    high: int
    by_rows: bool
    run: int
    kb: int

    @property
    def columns(self) -> int:
        """Output columns."""
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class Part:
    """One matmul's share of k: ``k1`` runs of ``kb`` blocks, the last of ``tail`` bytes, ``k_stride1`` apart.

    ``offset`` is that of its first byte of x in the window of the band's first pixel, ``tile`` its first tile in the block.
    """

    offset: int
    k1: int
    k_stride1: int
    kb: int
    tail: int
    tile: int

    @property
    def tiles(self) -> int:
        """Stationary tiles."""
        return self.k1 * self.kb


def column_blocks(core: Core, step: Convolution) -> tuple[ColumnBlock, ...]:
    """Blocks of array_cols output columns of a convolution, each with the cheaper way through its windows."""
    kernel_w = step.kernel[1]
    per_in, per_out = step.channels // step.groups, step.out_channels // step.groups
    found = []
    for first in range(0, step.out_channels, core.cols):
        last = min(first + core.cols, step.out_channels)
        low, high = first // per_out * per_in, ((last - 1) // per_out + 1) * per_in
        row, tap = (kernel_w - 1) * step.channels + high - low, high - low
        by_rows = step.dilation[1] == 1 and ceil(row / core.rows) <= kernel_w * ceil(tap / core.rows)
        run = row if by_rows else tap
        found.append(ColumnBlock(first, last, low, high, by_rows, run, ceil(run / core.rows)))
    return tuple(found)


def block_tiles(step: Convolution, block: ColumnBlock) -> int:
    """Stationary tiles of a block of columns."""
    return step.kernel[0] * (1 if block.by_rows else step.kernel[1]) * block.kb


def parts(core: Core, step: Convolution, block: ColumnBlock, pitch: int, most_tiles: int) -> Iterator[Part]:
    """The matmuls of a block of columns, in the order of its tiles, at most ``most_tiles`` a matmul; ``pitch`` of the image."""
    kernel_h, kernel_w = step.kernel
    down, along = step.dilation[0] * pitch, step.dilation[1] * step.channels
    tail = block.run - (block.kb - 1) * core.rows
    nests = [(0, kernel_h, down)] if block.by_rows else [(y * down, kernel_w, along) for y in range(kernel_h)]
    tile = 0
    for start, count, stride in nests:
        together = most_tiles // block.kb
        for first in range(0, count, max(1, together)):
            offset = block.low + start + first * stride
            if together:
                k1 = min(together, count - first)
                yield Part(offset, k1, stride, block.kb, tail, tile)
                tile += k1 * block.kb
                continue
            for done in range(0, block.kb, most_tiles):
                kb = min(most_tiles, block.kb - done)
                last = done + kb == block.kb
                yield Part(offset + done * core.rows, 1, 0, kb, tail if last else core.rows, tile)
                tile += kb


def pack_weights(core: Core, step: Convolution, weights: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Weights of a convolution as the array takes them: for each block of columns its tiles, in the order of `parts`."""
    kernel_h, kernel_w = step.kernel
    per_in, per_out = step.channels // step.groups, step.out_channels // step.groups
    tall = core.weight_words * core.weight_rows_per_cycle
    packed = []
    whole = weights.reshape(kernel_h, kernel_w, per_in, step.out_channels)
    for block in column_blocks(core, step):
        span = np.zeros((kernel_h, kernel_w, block.high - block.low, core.cols), np.int8)
        for group in range(block.first // per_out, (block.last - 1) // per_out + 1):
            first, last = max(block.first, group * per_out), min(block.last, (group + 1) * per_out)
            channel = group * per_in - block.low
            span[:, :, channel : channel + per_in, first - block.first : last - block.first] = whole[..., first:last]
        if block.by_rows:
            runs = np.zeros((kernel_h, block.kb * core.rows, core.cols), np.int8)
            for x in range(kernel_w):
                runs[:, x * step.channels : x * step.channels + block.high - block.low] = span[:, x]
        else:
            runs = np.zeros((kernel_h, kernel_w, block.kb * core.rows, core.cols), np.int8)
            runs[:, :, : block.run] = span
        tiles = np.zeros((block_tiles(step, block), tall, core.cols), np.int8)
        tiles[:, : core.rows] = runs.reshape(-1, core.rows, core.cols)
        packed.append(tiles.reshape(-1).view(np.uint8))
    return np.concatenate(packed)


def weight_bytes(core: Core, step: Convolution, block: ColumnBlock) -> int:
    """Bytes of a block's packed weights."""
    return block_tiles(step, block) * tile_bytes(core, int4=False)
