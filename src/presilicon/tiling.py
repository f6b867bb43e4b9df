"""How a matmul is cut to fit a core of the template: panels of moving rows, chunks of weights, and where they lie.

The compiler emits what ``plan`` chooses, the estimate computes its time: one choice for both.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil

from presilicon.errors import CapacityError
from presilicon.template import Core

# Bytes of DRAM rows that a store should write in one run, so that a burst's overhead stays small.
STORE_RUN_BYTES = 256
# Chunks of weights in flight: the memory's latency is hidden with some to spare.
LEAST_CHUNKS = 4
# Shortest part of a row that the first load may be cut to: eight such bursts in flight still fill the bus.
FIRST_RUN_BYTES = 256


@dataclass(frozen=True, slots=True)
class Region:
    """A range of the scratchpad made of whole banks."""

    start: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulPlan:
    """Tiles of (m, k) x (k, n) -> (m, n) on one core.

    Panels of ``panel_rows`` moving rows stay in the scratchpad (``panels_resident`` of them at a time: 2 while the next is
    loaded during the present one); weights pass in chunks of ``chunk_blocks`` blocks of k and one block of columns, or all
    stay (``weights_resident``). ``store_blocks`` blocks of columns are written to DRAM together.
    """

    m: int
    k: int
    n: int
    int4: bool
    group_blocks: int
    panel_rows: int
    panels_resident: int
    chunk_blocks: int
    weights_resident: bool
    store_blocks: int
    x: Region
    w: Region
    parameters: Region
    out: Region

    @property
    def panels(self) -> int:
        """Panels of moving rows."""
        return ceil(self.m / self.panel_rows)

    def k_blocks(self, core: Core) -> int:
        """Blocks of ``core.rows`` along k."""
        return ceil(self.k / core.rows)

    def n_blocks(self, core: Core) -> int:
        """Blocks of ``core.cols`` along n."""
        return ceil(self.n / core.cols)

    def first_blocks(self, core: Core) -> int:
        """Blocks of k that the array begins with while the rest of the first chunk is loaded; 0 where it comes whole."""
        half = min(self.chunk_blocks, self.k_blocks(core)) // 2
        whole = self.chunk_blocks < self.k_blocks(core) or self.int4 or half * core.rows < FIRST_RUN_BYTES
        return 0 if whole else half

    def rows_of(self, panel: int) -> int:
        """Moving rows of a panel; the panels are as even as whole rows allow."""
        return (self.m * (panel + 1)) // self.panels - (self.m * panel) // self.panels


def tile_bytes(core: Core, int4: bool) -> int:
    """Bytes of one packed weight tile, its padding rows included."""
    return core.weight_words * core.weight_rows_per_cycle * core.cols // (2 if int4 else 1)


def chunk_bytes(core: Core, blocks: int, int4: bool, group_blocks: int) -> int:
    """Bytes of a chunk of weights: its tiles, then (int4) a row of multipliers for each group of blocks."""
    groups = ceil(blocks / group_blocks) * core.cols // 2 if int4 else 0
    return blocks * tile_bytes(core, int4) + groups


def regions(core: Core) -> tuple[Region, Region, Region, Region]:
    """Banks for moving rows, weights, column parameters and results: no two engines read (or write) one of them at once."""
    if core.scratchpad_banks < 4:
        raise CapacityError(
            f"a matmul needs 4 scratchpad banks and the core has {core.scratchpad_banks}", hint="scratchpad_banks of 4 or more"
        )
    bank, left = core.bank_bytes, core.scratchpad_banks - 2
    x_banks = left // 2
    starts = (0, x_banks * bank, left * bank, (left + 1) * bank, (left + 2) * bank)
    made = [Region(a, b - a) for a, b in itertools.pairwise(starts)]
    return made[0], made[1], made[2], made[3]


def plan(core: Core, m: int, k: int, n: int, *, int4: bool = False, group_blocks: int = 0) -> MatmulPlan:
    """The tiles that take least time by ``cycles``; CapacityError where even one row does not fit, with both numbers."""
    x, w, parameters, out = regions(core)
    group_blocks = group_blocks or max(1, ceil(64 / core.rows))
    k_blocks, n_blocks = ceil(k / core.rows), ceil(n / core.cols)
    row = k_blocks * core.rows
    most = min(x.bytes // row, core.accumulator_rows, m)
    if not most:
        raise CapacityError(f"one row of {row} bytes does not fit into the {x.bytes} bytes for moving operands")
    whole = n_blocks * chunk_bytes(core, k_blocks, int4, group_blocks)
    resident = whole <= w.bytes
    # Weights pass once for each panel: a panel needs rows enough to hide them, and more where the memory is the limit.
    bytes_per_row = 1 if not int4 else 0.5
    hide = ceil(core.rows * core.cols * bytes_per_row / core.bus_bytes) if not resident else core.rows
    two = min(x.bytes // (2 * row), core.accumulator_rows, m)
    panel_rows, panels_resident = (two, 2) if two >= min(hide, m) else (most, 1)
    if panels_resident == 2 and m > panel_rows and resident:
        # Small panels start sooner; twice what hides the weights is plenty. Weights that pass again for each want few.
        panel_rows = min(panel_rows, max(2 * hide, 64))
    chunk = k_blocks
    if not resident:
        step = group_blocks if int4 else 1
        while chunk > step and (LEAST_CHUNKS * chunk_bytes(core, chunk, int4, group_blocks) > w.bytes):
            chunk = max(step, ceil(chunk / 2 / step) * step)
        if chunk_bytes(core, chunk, int4, group_blocks) * 2 > w.bytes:
            raise CapacityError(f"two chunks of {chunk_bytes(core, chunk, int4, group_blocks)} bytes do not fit into {w.bytes}")
    store_blocks = max(1, min(n_blocks, STORE_RUN_BYTES // core.cols))
    while store_blocks > 1 and 2 * panel_rows * store_blocks * core.cols > out.bytes:
        store_blocks -= 1
    panel_rows = min(panel_rows, max(1, out.bytes // (2 * store_blocks * core.cols)))
    # Even panels: the last is not a small rest.
    panel_rows = ceil(m / ceil(m / panel_rows))
    return MatmulPlan(
        m=m,
        k=k,
        n=n,
        int4=int4,
        group_blocks=group_blocks,
        panel_rows=panel_rows,
        panels_resident=panels_resident,
        chunk_blocks=chunk,
        weights_resident=resident,
        store_blocks=store_blocks,
        x=x,
        w=w,
        parameters=parameters,
        out=out,
    )
