"""Products: panels of moving rows, groups of blocks of columns, weights streamed past them, the vector program on the sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from presilicon.compiler.emission.epilogue import Epilogue, Limits
from presilicon.compiler.emission.memory import Chunk, Hold
from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.meaning import weights_of
from presilicon.compiler.packing import pack
from presilicon.compiler.steps import Product
from presilicon.errors import CapacityError
from presilicon.isa import matmul
from presilicon.template import GROUP, Core
from presilicon.tiling import chunk_bytes, tile_bytes

# Chunks of weights that should find room at a time: loads run ahead of the array.
CHUNKS = 4
# Groups that the blocks of columns are cut into at least where rows are few.
GROUPS_OF_FEW = 8
# Cycles of the array that a piece of a product takes at least, if it has them.
PIECE_CYCLES = 2304
# Weights that fit so much of their arena stay for all panels.
RESIDENT = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductPlan:
    """How a strand cuts a product (m, k) x (k, n): panels of rows, groups of blocks of columns, chunks of blocks of k."""

    m: int
    k: int
    n: int
    panel_rows: int
    group: int
    chunk_blocks: int
    int4: bool
    group_blocks: int
    resident: bool
    whole_rows: int

    @property
    def panels(self) -> int:
        """Panels of moving rows."""
        return ceil(self.m / self.panel_rows)

    def rows_of(self, panel: int) -> range:
        """Rows of a panel, from the strand's first: as even as whole rows allow."""
        return range(self.m * panel // self.panels, self.m * (panel + 1) // self.panels)

    def blocks(self, core: Core) -> int:
        """Blocks of columns."""
        return ceil(self.n / core.cols)

    def chunks(self, core: Core) -> Sequence[range]:
        """Blocks of k of each chunk."""
        k_blocks = ceil(self.k / core.rows)
        return [range(at, min(at + self.chunk_blocks, k_blocks)) for at in range(0, k_blocks, self.chunk_blocks)]

    def chunk_bytes(self, core: Core, blocks: int) -> int:
        """Bytes of a chunk with so many blocks."""
        return chunk_bytes(core, blocks, self.int4, self.group_blocks)


def plan_product(strand: Strand, step: Product) -> ProductPlan:
    """The cut of a strand's share of a product; CapacityError, with both numbers, where one row does not fit."""
    core = strand.core
    k, n = (int(size) for size in strand.lowered.constants[step.weights].shape)
    m = len(strand.rows(strand.lowered.tensors[step.x].rows))
    # Multipliers belong to whole blocks of k; where groups are none the weights go as int8.
    int4 = bool(step.multipliers) and step.group % core.rows == 0
    group_blocks = step.group // core.rows if int4 else 1
    k_blocks, n_blocks = ceil(k / core.rows), ceil(n / core.cols)
    room = strand.stationary.arena.size
    chunk = k_blocks
    while chunk > group_blocks and CHUNKS * chunk_bytes(core, chunk, int4, group_blocks) > room:
        chunk = ceil(ceil(chunk / 2) / group_blocks) * group_blocks
    limits = Limits.of(strand, step, n)
    most = min(limits.rows_at_most(), strand.moving.size // k)
    if most < 1:
        raise CapacityError(
            f"a row of {k} bytes does not fit into {strand.moving.size} bytes of the scratchpad",
            where=step.name,
            hint="a core with a larger scratchpad",
        )
    whole = n_blocks * sum(chunk_bytes(core, min(chunk, k_blocks - at), int4, group_blocks) for at in range(0, k_blocks, chunk))
    wide, rows = limits.whole_rows(), min(max(m, 1), most)
    # Where weights stay, fewer rows cost nothing, and whole rows are one run in DRAM.
    if whole <= RESIDENT * room and limits.pays(wide) and wide < rows:
        rows = wide
    rows = ceil(max(m, 1) / ceil(max(m, 1) / rows))
    # Short pieces, so that others find their places between.
    group = min(limits.blocks_at_most(rows), ceil(PIECE_CYCLES / (k_blocks * max(rows, core.accumulate_cycles))))
    group = ceil(n_blocks / ceil(n_blocks / group))
    if m < GROUP:
        # Weights are what costs: the vector work of a group hides behind them, only the last one's does not.
        group = min(group, ceil(n_blocks / GROUPS_OF_FEW))
    return ProductPlan(
        m=m,
        k=k,
        n=n,
        panel_rows=rows,
        group=group,
        chunk_blocks=chunk,
        int4=int4,
        group_blocks=group_blocks,
        resident=m > rows and whole <= RESIDENT * room,
        whole_rows=rows if 1 < rows <= wide else 0,
    )


def plan_weights(strand: Strand, step: Product) -> Sequence[Chunk | Hold]:
    """The chunks of weights in the order in which the strand takes them."""
    core, tiles = strand.core, plan_product(strand, step)
    if not tiles.m:
        return ()
    address = strand.site.constants.laid_out(
        ("weights", step.weights, tiles.int4, tiles.chunk_blocks), lambda: _packed(strand, step, tiles)
    )
    once: list[Chunk | Hold] = []
    for _ in range(tiles.blocks(core)):
        for blocks in tiles.chunks(core):
            size = tiles.chunk_bytes(core, len(blocks))
            once.append(Chunk(address, size))
            address += size
    return once if tiles.resident else once * tiles.panels


def _packed(strand: Strand, step: Product, tiles: ProductPlan) -> bytes:
    constants = strand.lowered.constants
    if tiles.int4:
        weights, multipliers = np.asarray(constants[step.weights], np.int8), np.asarray(constants[step.multipliers], np.uint8)
        made = pack(strand.core, weights, multipliers, chunk_blocks=tiles.chunk_blocks, group_blocks=tiles.group_blocks)
    else:
        made = pack(strand.core, weights_of(step, constants), chunk_blocks=tiles.chunk_blocks)
    return made.tobytes()


class ProductEmission:
    """One strand's product under way."""

    def __init__(self, strand: Strand, step: Product) -> None:
        self.strand, self.site, self.core, self.step = strand, strand.site, strand.core, step
        self.plan = plan_product(strand, step)
        self.rows = strand.rows(strand.lowered.tensors[step.x].rows)
        most = self.plan.panel_rows, self.plan.group
        self.epilogue = Epilogue(strand, step, self.plan.n, self.plan.whole_rows, most)
        # Where weights stay: their addresses by block and chunk.
        self.kept: dict[tuple[int, int], int] = {}

    def run(self) -> Iterator[str | None]:
        plan, strand = self.plan, self.strand
        blocks = plan.blocks(self.core)
        x = self.load_rows(0)
        yield "matmul"
        for panel in range(plan.panels):
            following = -1
            self.begin(panel)
            for first in range(0, blocks, plan.group):
                if panel or first:
                    yield None
                group = range(first, min(first + plan.group, blocks))
                last = group.stop == blocks
                if last and panel + 1 < plan.panels:
                    following = self.load_rows(panel + 1, needed=False)
                self.multiply(panel, x, group)
            strand.moving.free(x)
            if panel + 1 < plan.panels:
                x = following if following >= 0 else self.load_rows(panel + 1)
            yield from self.end(panel)
        self.epilogue.flush()
        strand.stationary.free(*self.kept.values())

    def begin(self, panel: int) -> None:
        """What comes before a panel's first group."""

    def end(self, panel: int) -> Iterator[str | None]:
        """What comes behind a panel's last group."""
        return iter(())

    def load_rows(self, panel: int, needed: bool = True) -> int:
        """Loads the moving rows of a panel; -1 where there is no room yet and they are not needed at once."""
        rows, arena = self.plan.rows_of(panel), self.strand.moving
        size = len(rows) * self.plan.k
        at = arena.take(size, "a panel of moving rows") if needed else arena.find(size)
        if at is None:
            return -1
        first = self.rows.start
        moved = range(first + rows.start, first + rows.stop)
        self.site.fetch(self.step.x, at, moved, self.step.x_column, self.plan.k)
        return at

    def multiply(self, panel: int, x: int, group: range) -> None:
        """One group of blocks of columns of one panel: its products, its vector program, its stores."""
        rows, start = self.plan.rows_of(panel), self.rows.start
        moved = range(start + rows.start, start + rows.stop)
        self.epilogue.group(moved, group, lambda block, bank, acc: self.products(panel, x, block, bank, acc))

    def products(self, panel: int, x: int, block: int, bank: int, acc: int) -> None:
        """All chunks of k of one block of columns."""
        core, plan, stationary = self.core, self.plan, self.strand.stationary
        k_blocks = ceil(plan.k / core.rows)
        for number, blocks in enumerate(plan.chunks(core)):
            if (block, number) not in self.kept:
                self.kept[block, number] = stationary.take()
            w = self.kept[block, number]
            self.site.add(
                matmul(
                    x=x + blocks.start * core.rows,
                    w=w,
                    acc=acc,
                    m0=len(plan.rows_of(panel)),
                    x_stride0=plan.k,
                    kb=len(blocks),
                    tail=(plan.k - 1) % core.rows + 1 if blocks.stop == k_blocks else core.rows,
                    groups=w + len(blocks) * tile_bytes(core, True) if plan.int4 else 0,
                    group_blocks=plan.group_blocks,
                    bank=bank,
                    accumulate=int(number > 0),
                    weights="int4" if plan.int4 else "packed",
                )
            )
            if not plan.resident:
                stationary.free(self.kept.pop((block, number)))


def emit_product(strand: Strand, step: Product) -> Iterator[str | None]:
    """The instructions of a strand's share of a product."""
    if len(strand.rows(strand.lowered.tensors[step.x].rows)):
        yield from ProductEmission(strand, step).run()


EMISSION = Emission(emit=emit_product, plan=plan_weights)
