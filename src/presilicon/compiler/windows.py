"""A convolution's windows read in place from a padded image in the scratchpad: its bands, blocks of k, order of weights.

The image lies in the scratchpad as it does in DRAM, pixels x channels, with its padding. A kernel row of a window is then one
run of bytes, and a matmul's nest goes through kernel rows (k1), blocks of that run (kb), columns (m0) and rows (m1) of the
result. Groups make a block of output columns read its own span of channels, other weights of the span being zero: depthwise
convolutions are tiles with a diagonal (docs/decisions tells why).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.steps import Convolution
from presilicon.errors import CapacityError
from presilicon.isa import Instruction, load
from presilicon.template import Core
from presilicon.tiling import tile_bytes

# Bytes of fill that one load puts before or after a row.
MOST_FILL = (1 << 16) - 1


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
class Band:
    """Rows and columns of the result that are worked out from one part of the image."""

    row: int
    rows: int
    column: int
    columns: int


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


# Bands of the image ---------------------------------------------------------------------------------------------------


def _reach(count: int, stride: int, kernel: int, dilation: int) -> int:
    """Pixels along one axis under so many windows."""
    return (count - 1) * stride + (kernel - 1) * dilation + 1


def image_size(step: Convolution, band: Band) -> tuple[int, int]:
    """Rows of the image under a band, padding among them, and bytes of each."""
    rows = _reach(band.rows, step.stride[0], step.kernel[0], step.dilation[0])
    return rows, _reach(band.columns, step.stride[1], step.kernel[1], step.dilation[1]) * step.channels


def image_bytes(step: Convolution, band: Band) -> int:
    """Bytes of the image under a band."""
    rows, pitch = image_size(step, band)
    return rows * pitch


def bands(step: Convolution, most_bytes: int, most_rows: int) -> tuple[Band, ...]:
    """The result in bands of even size whose images have at most ``most_bytes``, of at most ``most_rows`` rows.

    Whole rows where one fits, else pieces of rows. CapacityError where not even one window fits.
    """
    height, width = step.out_size

    def fits(rows: int, columns: int) -> bool:
        return image_bytes(step, Band(0, rows, 0, columns)) <= most_bytes

    if not fits(1, 1):
        need = image_bytes(step, Band(0, 1, 0, 1))
        raise CapacityError(
            f"one window of {need} bytes does not fit into {most_bytes} bytes of the scratchpad", where=step.name
        )
    columns = width
    if not fits(1, width):
        columns = max(count for count in range(1, width) if fits(1, count))
    rows = 1
    while rows < min(height, most_rows) and fits(rows + 1, columns):
        rows += 1
    return tuple(
        Band(row, next_row - row, column, next_column - column)
        for row, next_row in _even(height, rows)
        for column, next_column in _even(width, columns)
    )


def _even(total: int, most: int) -> list[tuple[int, int]]:
    """``total`` in the fewest even pieces of at most ``most``: first and last of each."""
    count = ceil(total / most)
    return [(total * i // count, total * (i + 1) // count) for i in range(count)]


def tiles_of(band: Band, most: int) -> tuple[Band, ...]:
    """A band in pieces of at most ``most`` pixels, whole rows where one fits."""
    columns = min(band.columns, most)
    rows = max(1, most // columns)
    return tuple(
        Band(band.row + row, next_row - row, band.column + column, next_column - column)
        for row, next_row in _even(band.rows, rows)
        for column, next_column in _even(band.columns, columns)
    )


def image_loads(step: Convolution, band: Band, dram: int, spad: int, zero_point: int, image: int = 0) -> list[Instruction]:
    """Loads that bring the image under a band: ``image`` of the batch at ``dram`` to ``spad``, padding filled."""
    channels, fill = step.channels, zero_point & 255
    rows, pitch = image_size(step, band)
    row, column = band.row * step.stride[0] - step.padding[0], band.column * step.stride[1] - step.padding[1]
    pixels = pitch // channels
    left = min(max(0, -column), pixels)
    right = min(max(0, column + pixels - step.width), pixels - left)
    inside = (pixels - left - right) * channels
    if max(left, right) * channels > MOST_FILL:
        raise CapacityError(
            f"{max(left, right)} columns of padding of {channels} channels are more than {MOST_FILL} bytes", where=step.name
        )
    above = min(max(0, -row), rows)
    below = min(max(0, row + rows - step.height), rows - above)
    line = step.width * channels
    source = dram + (image * step.height + max(0, row)) * line + max(0, column) * channels
    made = []
    if above or not inside:
        # Rows without a pixel: beyond the limit, so that nothing is read.
        made.append(_filled(spad, rows if not inside else above, pitch, fill))
    middle = rows - above - below
    if middle and inside:
        dense = inside == line == pitch
        made.append(
            load(
                dram=source,
                spad=spad + above * pitch,
                n1=1 if dense else middle,
                run=middle * line if dense else inside,
                stride1=0 if dense else line,
                left=left * channels,
                right=right * channels,
                fill=fill,
                pitch=0 if dense else pitch,
            )
        )
    if below and inside:
        made.append(_filled(spad + (rows - below) * pitch, below, pitch, fill))
    return made


def _filled(spad: int, rows: int, pitch: int, fill: int) -> Instruction:
    return load(dram=0, spad=spad, n1=rows, run=pitch, pitch=pitch, y0=1, limit=1, fill=fill)


def weight_bytes(core: Core, step: Convolution, block: ColumnBlock) -> int:
    """Bytes of a block's packed weights."""
    return block_tiles(step, block) * tile_bytes(core, int4=False)
