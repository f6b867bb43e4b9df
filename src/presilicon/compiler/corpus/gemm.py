"""One matmul as a program: x (m, k) int8 times w (k, n) int8 or int4, requantised to y (m, n) int8."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.corpus.requantise import requantise
from presilicon.compiler.emitter import Emitter
from presilicon.compiler.packing import pack
from presilicon.isa import UOP_BYTES, Kernel, Program, Region, Segment, halt, load, matmul, store, vector
from presilicon.template import Core
from presilicon.tiling import MatmulPlan, chunk_bytes, plan, tile_bytes

# Slots of the ring of weight chunks; more would not hide more.
RING = 8
ALIGNMENT = 4096
# The next panel is loaded in pieces of about this size, so that weights pass between them.
PREFETCH_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A matmul's stationary side: int8 (k, n) weights, or int4 with (groups, n) multipliers; bias, scale, zero point."""

    values: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32]
    zero_point: int = 0
    multipliers: NDArray[np.uint8] | None = None
    group_blocks: int = 0


def _aligned(address: int) -> int:
    return -(-address // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class _Layout:
    """DRAM addresses of a matmul's tensors."""

    x: int
    w: int
    parameters: int
    y: int
    kernels: int
    program: int


class _Builder:
    """Emits the steps of a plan, loads ahead of what needs them."""

    def __init__(self, core: Core, tiles: MatmulPlan, kernel: Kernel, at: _Layout, zero_point: int) -> None:
        self.core, self.plan, self.at = core, tiles, at
        self.kernel, self.zero_point = kernel, zero_point
        self.emitter = Emitter(core, [kernel])
        self.row = tiles.k_blocks(core) * core.rows
        self.chunks = ceil(tiles.k_blocks(core) / tiles.chunk_blocks)
        self.slot_bytes = chunk_bytes(core, tiles.chunk_blocks, tiles.int4, tiles.group_blocks)
        self.block_bytes = sum(self._chunk_bytes(c) for c in range(self.chunks))
        self.slots = min(RING, tiles.w.bytes // self.slot_bytes)
        self.columns = tiles.n_blocks(core) * core.cols
        self.all_parameters = 8 * self.columns <= tiles.parameters.bytes
        self.tile = 0
        # Blocks of the first part of the very first chunk; 0 where it comes whole.
        self.first_blocks = tiles.first_blocks(core)

    def _chunk_blocks(self, chunk: int) -> int:
        tiles = self.plan
        return min(tiles.chunk_blocks, tiles.k_blocks(self.core) - chunk * tiles.chunk_blocks)

    def _chunk_bytes(self, chunk: int) -> int:
        return chunk_bytes(self.core, self._chunk_blocks(chunk), self.plan.int4, self.plan.group_blocks)

    def _panel_at(self, panel: int) -> int:
        tiles = self.plan
        return tiles.x.start + (panel % tiles.panels_resident) * tiles.panel_rows * self.row

    def load_rows(self, panel: int, first: int, rows: int) -> None:
        """Moving rows ``first`` and on of a panel."""
        tiles, before = self.plan, sum(self.plan.rows_of(p) for p in range(panel))
        source, target = self.at.x + (before + first) * tiles.k, self._panel_at(panel) + first * self.row
        if tiles.k == self.row:
            self.emitter.add(load(dram=source, spad=target, run=rows * tiles.k))
        else:
            self.emitter.add(load(dram=source, spad=target, n1=rows, run=tiles.k, stride1=tiles.k, pitch=self.row))

    def chunk_at(self, block: int, chunk: int, number: int) -> int:
        """Where a chunk of weights lies in the scratchpad; ``number`` counts the chunks that were streamed."""
        if self.plan.weights_resident:
            return self.plan.w.start + block * self.block_bytes
        return self.plan.w.start + number % self.slots * self.slot_bytes

    def load_chunk(self, block: int, chunk: int, number: int) -> None:
        source = self.at.w + block * self.block_bytes + sum(self._chunk_bytes(c) for c in range(chunk))
        self.emitter.add(load(dram=source, spad=self.chunk_at(block, chunk, number), run=self._chunk_bytes(chunk)))

    def load_first(self) -> None:
        """The first panel and the first chunk of weights, each in two parts along k: the array starts with the first."""
        half, tile = self.first_blocks, tile_bytes(self.core, False)
        blocks, rows = self._chunk_blocks(0), self.plan.rows_of(0)
        for first, last in ((0, half), (half, blocks)):
            start, end = first * self.core.rows, self.plan.k if last == blocks else last * self.core.rows
            at = self._panel_at(0) + start
            self.emitter.add(
                load(dram=self.at.x + start, spad=at, n1=rows, run=end - start, stride1=self.plan.k, pitch=self.row)
            )
            weights = self.chunk_at(0, 0, 0) + first * tile
            self.emitter.add(load(dram=self.at.w + first * tile, spad=weights, run=(last - first) * tile))

    def load_parameters(self, first: int, blocks: int) -> None:
        """Bias and scale of some blocks of columns (all of them where they fit)."""
        run = 4 * blocks * self.core.cols
        self.emitter.add(
            load(
                dram=self.at.parameters + 4 * first * self.core.cols,
                spad=self._parameters_at(first),
                n1=2,
                run=run,
                stride1=4 * self.columns,
                pitch=run,
            )
        )

    def _parameters_at(self, first: int) -> int:
        if self.all_parameters:
            return self.plan.parameters.start
        half = self.plan.parameters.bytes // 2
        return self.plan.parameters.start + first // self.plan.store_blocks % 2 * half

    def multiply(self, panel: int, block: int, chunk: int, number: int) -> None:
        """One chunk of one tile; the very first in two parts where ``load_first`` brought it so."""
        blocks = self._chunk_blocks(chunk)
        if number == 0 and self.first_blocks:
            self._multiply(panel, block, chunk, number, 0, self.first_blocks)
            self._multiply(panel, block, chunk, number, self.first_blocks, blocks - self.first_blocks)
        else:
            self._multiply(panel, block, chunk, number, 0, blocks)

    def _multiply(self, panel: int, block: int, chunk: int, number: int, first: int, blocks: int) -> None:
        core, tiles = self.core, self.plan
        last = chunk == self.chunks - 1 and first + blocks == self._chunk_blocks(chunk)
        at = self.chunk_at(block, chunk, number)
        tile = tile_bytes(core, tiles.int4)
        self.emitter.add(
            matmul(
                x=self._panel_at(panel) + (chunk * tiles.chunk_blocks + first) * core.rows,
                w=at + first * tile,
                acc=0,
                m0=tiles.rows_of(panel),
                x_stride0=self.row,
                kb=blocks,
                tail=(tiles.k - 1) % core.rows + 1 if last else core.rows,
                groups=at + blocks * tile if tiles.int4 else 0,
                group_blocks=tiles.group_blocks if tiles.int4 else 1,
                bank=self.tile % 2,
                accumulate=int(chunk > 0 or first > 0),
                weights="int4" if tiles.int4 else "packed",
            )
        )

    def _out_at(self, panel: int, block: int) -> int:
        tiles = self.plan
        groups = ceil(tiles.n_blocks(self.core) / tiles.store_blocks)
        number = panel * groups + block // tiles.store_blocks
        return tiles.out.start + number % 2 * (tiles.out.bytes // 2)

    def write_back(self, panel: int, block: int) -> None:
        """Requantises a tile; stores it with its neighbours when the last of them is there."""
        core, tiles = self.core, self.plan
        group = block // tiles.store_blocks * tiles.store_blocks
        width = min(tiles.store_blocks * core.cols, self.columns - group * core.cols)
        base = 0 if self.all_parameters else group
        parameters = self._parameters_at(group)
        span = self.columns if self.all_parameters else width
        offset = 4 * (block - base) * core.cols
        rows, out = tiles.rows_of(panel), self._out_at(panel, block)
        self.emitter.add(
            vector(
                kernel=self.kernel.start,
                rows=rows,
                strips=core.chunks,
                columns=min(core.cols, tiles.n - block * core.cols),
                valid=core.cols,
                streams=(out + (block - group) * core.cols, parameters + offset, parameters + 4 * span + offset),
                pitches=(width,),
                formats=("int8",),
                zero_point=self.zero_point,
                bank=self.tile % 2,
            )
        )
        self.tile += 1
        if block + 1 == min(group + tiles.store_blocks, tiles.n_blocks(core)):
            first = sum(tiles.rows_of(p) for p in range(panel))
            target = self.at.y + first * tiles.n + group * core.cols
            run = min(width, tiles.n - group * core.cols)
            if run == width == tiles.n:
                self.emitter.add(store(dram=target, spad=out, run=rows * run))
            else:
                self.emitter.add(store(dram=target, spad=out, n1=rows, run=run, stride1=tiles.n, pitch=width))

    def build(self) -> None:
        """All steps: (panel, block of columns, chunk of k), the loads of later steps before the present one's matmul."""
        core, tiles = self.core, self.plan
        blocks = tiles.n_blocks(core)
        self.emitter.add(load(dram=self.at.kernels, spad=0, run=UOP_BYTES * self.kernel.slots, target="kernels"))
        steps = [(p, b, c) for p in range(tiles.panels) for b in range(blocks) for c in range(self.chunks)]
        ahead = blocks * self.chunks if tiles.weights_resident else max(1, min(3, self.slots - 1))
        per_panel = blocks * self.chunks
        loaded = 1 if self.first_blocks else 0
        if self.first_blocks:
            self.load_first()
            if self.all_parameters:
                self.load_parameters(0, blocks)
        else:
            self.load_rows(0, 0, tiles.rows_of(0))
        for number, (panel, block, chunk) in enumerate(steps):
            while loaded < len(steps) and loaded <= number + min(ahead, 3):
                _, b, c = steps[loaded]
                if not tiles.weights_resident or loaded < per_panel:
                    self.load_chunk(b, c, loaded)
                if loaded == 0 and self.all_parameters:
                    self.load_parameters(0, blocks)
                loaded += 1
            if chunk == 0 and not self.all_parameters and block % tiles.store_blocks == 0:
                self.load_parameters(block, min(tiles.store_blocks, blocks - block))
            if panel + 1 < tiles.panels and tiles.panels_resident == 2:
                self._prefetch(panel + 1, number % per_panel, per_panel)
            self.multiply(panel, block, chunk, number)
            if chunk == self.chunks - 1:
                self.write_back(panel, block)
            if panel + 1 < tiles.panels and tiles.panels_resident == 1 and number % per_panel == per_panel - 1:
                self.load_rows(panel + 1, 0, tiles.rows_of(panel + 1))

    def _prefetch(self, panel: int, step: int, steps: int) -> None:
        """The share of the next panel's rows that is loaded at a step of the present one."""
        rows = self.plan.rows_of(panel)
        every = max(1, PREFETCH_BYTES // self.row * steps // rows)
        if step % every:
            return
        first, last = rows * step // steps, rows * min(step + every, steps) // steps
        if last > first:
            self.load_rows(panel, first, last - first)


def gemm(core: Core, m: int, weights: Weights) -> Program:
    """The program of y = requantise(x @ weights); input ``x`` (m, k) int8, output ``y`` (m, n) int8."""
    k, n = weights.values.shape
    int4 = weights.multipliers is not None
    tiles = plan(core, m, k, n, int4=int4, group_blocks=weights.group_blocks)
    chunks = {"chunk_blocks": tiles.chunk_blocks, "group_blocks": tiles.group_blocks}
    packed = pack(core, weights.values, weights.multipliers, **chunks)
    kernel = requantise(core, 0)
    columns = tiles.n_blocks(core) * core.cols
    parameters = np.zeros((2, columns), np.uint32)
    parameters[0, :n] = weights.bias.view(np.uint32)
    parameters[1, :n] = weights.scale.view(np.uint32)
    x = 0
    w = _aligned(x + m * k)
    p = _aligned(w + packed.size)
    y = _aligned(p + parameters.nbytes)
    kernels = _aligned(y + m * n)
    at = _Layout(x, w, p, y, kernels, _aligned(kernels + UOP_BYTES * kernel.slots))
    builder = _Builder(core, tiles, kernel, at, weights.zero_point)
    builder.build()
    instructions = builder.emitter.finish(halt())
    return Program.build(
        core,
        instructions,
        kernels=(kernel,),
        data=(Segment(w, packed.tobytes()), Segment(p, parameters.tobytes())),
        regions=(Region("x", "input", "int8", (m, k), x), Region("y", "output", "int8", (m, n), y)),
        address=at.program,
        kernel_address=kernels,
    )
