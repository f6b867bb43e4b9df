"""Convolutions: bands of the image in the scratchpad, tiles of pixels for the accumulators, weights resident or streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from presilicon.compiler.convolution import ColumnBlock, Part, block_tiles, column_blocks, pack_weights, parts
from presilicon.compiler.emission.epilogue import Epilogue, Limits
from presilicon.compiler.emission.memory import Chunk, Hold
from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.steps import Convolution
from presilicon.compiler.windows import Band, Windows, areas, bands, image_bytes, image_loads, image_size, tiles_of
from presilicon.errors import CapacityError
from presilicon.isa import Instruction, matmul
from presilicon.template import Core
from presilicon.tiling import tile_bytes

# Chunks of weights that should find room at a time: loads run ahead of the array.
CHUNKS = 3
# Weights that fit so much of their arena stay for all tiles.
RESIDENT = 0.75
# Bands that a strand's share is cut into at least where weights stay: the next is loaded beside the work on one.
BANDS = 4


Chunks = tuple[tuple[Part, ...], ...]
"""The parts of a block of columns, those together whose weights are loaded together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionPlan:
    """How a strand cuts a convolution: bands by image of the batch, blocks of columns, tiles of weights in one chunk.

    Weights stay for all of it (``keep`` "all"), for all tiles of a band ("band"), or pass for each tile ("none"): a band is one
    tile then.
    """

    windows: Windows
    bands: tuple[tuple[int, Band], ...]
    blocks: tuple[ColumnBlock, ...]
    most_pixels: int
    group: int
    chunk_tiles: int
    keep: Literal["all", "band", "none"]
    whole_rows: int

    def groups(self) -> Sequence[range]:
        """Blocks of columns that are worked on together."""
        count = len(self.blocks)
        return [range(first, min(first + self.group, count)) for first in range(0, count, self.group)]

    def chunks(self, core: Core, step: Convolution, block: int, pitch: int = 0) -> Chunks:
        """The matmuls of a block of columns in an image of ``pitch``."""
        found: list[list[Part]] = [[]]
        for part in parts(core, step, self.blocks[block], pitch, self.chunk_tiles):
            if found[-1] and sum(one.tiles for one in found[-1]) + part.tiles > self.chunk_tiles:
                found.append([])
            found[-1].append(part)
        return tuple(tuple(one) for one in found)


def plan_convolution(strand: Strand, step: Convolution) -> ConvolutionPlan:
    """The cut of a strand's share; CapacityError, with both numbers, where one window does not fit."""
    core, windows, blocks = strand.core, Windows.of(step), column_blocks(strand.core, step)
    tile, room = tile_bytes(core, int4=False), strand.stationary.arena.size
    own = areas(windows, strand.rows(step.batch * windows.rows * windows.columns))
    limits = Limits.of(strand, step, step.out_channels)
    most = min(limits.rows_at_most(), max([area.rows * area.columns for _, area in own], default=1))
    tiles = [block_tiles(step, block) for block in blocks]

    def largest(blocks: int) -> int:
        return max(sum(tiles[first : first + blocks]) for first in range(0, len(tiles), blocks)) * tile

    keep: Literal["all", "band", "none"] = "none"
    if sum(area.rows * area.columns for _, area in own) > most or len(own) > 1:
        if sum(tiles) * tile <= RESIDENT * room:
            keep = "all"
            # Fewer pixels cost nothing then, and whole rows of results are one run in DRAM.
            if limits.pays(limits.whole_rows()) and limits.whole_rows() < most:
                most = limits.whole_rows()
        elif largest(1) <= room // 2:
            keep = "band"
    group = limits.blocks_at_most(most)
    while keep == "band" and largest(group) > room // 2:
        group -= 1
    chunk = max(tiles)
    while keep == "none" and CHUNKS * chunk * tile > room and chunk > 1:
        chunk = -(-chunk // 2)
    made = []
    for image, area in own:
        size = strand.moving.size
        least = max(most, ceil(area.rows * area.columns / BANDS)) if keep == "all" else most if keep == "none" else 0
        made += [(image, band) for band in _bands(windows, area, size, least)]
    return ConvolutionPlan(
        windows=windows,
        bands=tuple(made),
        blocks=blocks,
        most_pixels=most,
        group=group,
        chunk_tiles=chunk,
        keep=keep,
        whole_rows=most if keep != "band" and 1 < most <= limits.whole_rows() else 0,
    )


def _bands(windows: Windows, area: Band, room: int, most_pixels: int) -> tuple[Band, ...]:
    """An area in bands of which two fit where that can be, of at most ``most_pixels`` (0: any number)."""
    if image_bytes(windows, area) <= room and (not most_pixels or area.rows * area.columns <= most_pixels):
        return (area,)
    try:
        return bands(windows, room // 2, most_pixels, area)
    except CapacityError:
        return bands(windows, room, most_pixels, area)


def plan_weights(strand: Strand, step: Convolution) -> Sequence[Chunk | Hold]:
    """The chunks of weights in the order in which the strand takes them."""
    plan, core, constants = plan_convolution(strand, step), strand.core, strand.lowered.constants
    key = "convolution", step.weights, step.kernel, step.channels, step.groups, step.dilation[1]
    address = strand.site.constants.laid_out(key, lambda: pack_weights(core, step, constants[step.weights].astype(np.int8)))
    once: list[Chunk | Hold] = []
    for block in range(len(plan.blocks)):
        for chunk in plan.chunks(core, step, block):
            size = sum(part.tiles for part in chunk) * tile_bytes(core, int4=False)
            once.append(Chunk(address, size))
            address += size
    return once * (len(plan.bands) if plan.keep != "all" else min(1, len(plan.bands)))


class _Emission:
    """One strand's convolution under way."""

    def __init__(self, strand: Strand, step: Convolution) -> None:
        self.strand, self.site, self.core, self.step = strand, strand.site, strand.core, step
        self.plan = plan_convolution(strand, step)
        most = self.plan.most_pixels, self.plan.group
        self.epilogue = Epilogue(strand, step, step.out_channels, self.plan.whole_rows, most)
        # Where weights stay: their addresses by block, part by part.
        self.kept: dict[int, list[int]] = {}

    def run(self) -> Iterator[None]:
        plan, moving = self.plan, self.strand.moving
        x = self.load_band(0)
        for number, (image, band) in enumerate(plan.bands):
            last, following = number + 1 == len(plan.bands), -1
            steps = self.order(band)
            for place, (tile, group) in enumerate(steps):
                if number or place:
                    yield
                self.multiply(image, band, tile, group, x)
                # Weights that stream past are loaded before the next band.
                if not last and following < 0 and (plan.keep == "all" or place + 2 >= len(steps)):
                    following = self.load_band(number + 1, needed=False)
                if plan.keep == "band" and (place + 1 == len(steps) or steps[place + 1][1] != group):
                    self.free(group)
            moving.free(x)
            if not last:
                x = following if following >= 0 else self.load_band(number + 1)
        self.epilogue.flush()
        self.free(range(len(plan.blocks)))

    def order(self, band: Band) -> list[tuple[Band, range]]:
        """Tiles and groups of blocks: a tile's groups one after the other, but where weights stay for the band alone."""
        tiles, groups = tiles_of(band, self.plan.most_pixels), self.plan.groups()
        if self.plan.keep == "band":
            return [(tile, group) for group in groups for tile in tiles]
        return [(tile, group) for tile in tiles for group in groups]

    def load_band(self, number: int, needed: bool = True) -> int:
        """Loads the image under a band; -1 where there is no room yet and it is not needed at once."""
        image, band = self.plan.bands[number]
        windows, arena, x = self.plan.windows, self.strand.moving, self.step.x
        size = image_bytes(windows, band)
        at = arena.take(size, "a band of the image") if needed else arena.find(size)
        if at is None:
            return -1
        source = self.site.address(x) + image * windows.height * windows.width * windows.pixel_bytes
        for one in image_loads(windows, band, source, at, self.site.lowered.tensors[x].zero_point):
            self.site.add(one)
        return at

    def multiply(self, image: int, band: Band, tile: Band, group: range, x: int) -> None:
        """The pixels of a tile and some blocks of columns."""
        windows, stationary = self.plan.windows, self.strand.stationary
        pitch = image_size(windows, band)[1]
        row, column = tile.row - band.row, tile.column - band.column
        first = x + row * windows.stride[0] * pitch + column * windows.stride[1] * windows.pixel_bytes
        pixel = (image * windows.rows + tile.row) * windows.columns + tile.column

        def products(block: int, bank: int, acc: int) -> None:
            known = self.kept.get(block)
            taken = []
            for number, chunk in enumerate(self.plan.chunks(self.core, self.step, block, pitch)):
                taken.append(known[number] if known else stationary.take())
                for part in chunk:
                    w = taken[-1] + (part.tile - chunk[0].tile) * tile_bytes(self.core, int4=False)
                    self.site.add(self.matmul(part, tile, pitch, first, w, bank, acc))
                if self.plan.keep == "none":
                    stationary.free(taken[-1])
            if self.plan.keep != "none":
                self.kept[block] = taken

        self.epilogue.group(range(pixel, pixel + tile.rows * tile.columns), group, products)

    def matmul(self, part: Part, tile: Band, pitch: int, first: int, w: int, bank: int, acc: int) -> Instruction:
        """One matmul of a tile."""
        windows = self.plan.windows
        return matmul(
            x=first + part.offset,
            w=w,
            acc=acc,
            m0=tile.columns,
            x_stride0=windows.stride[1] * windows.pixel_bytes,
            m1=tile.rows,
            x_stride1=windows.stride[0] * pitch,
            k1=part.k1,
            k_stride1=part.k_stride1,
            kb=part.kb,
            tail=part.tail,
            bank=bank,
            accumulate=int(part.tile > 0),
        )

    def free(self, blocks: range) -> None:
        """Gives back the weights of some blocks."""
        for block in blocks:
            self.strand.stationary.free(*self.kept.pop(block, ()))


def emit_convolution(strand: Strand, step: Convolution) -> Iterator[None]:
    """The instructions of a strand's share of a convolution."""
    emission = _Emission(strand, step)
    if emission.plan.bands:
        yield from emission.run()


EMISSION = Emission(emit=emit_convolution, plan=plan_weights, whole=lambda step: (step.x,))
