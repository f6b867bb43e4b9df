"""Cycles of a matmul on a core of our own template, in closed form from the plan that the compiler emits.

The busiest of array, memory reads, memory and vector unit sets the pace; before it comes what must be there for the first
tile, after it what remains when the last tile is multiplied. No constant is fitted: latencies are those of ``template.Core``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from presilicon.isa import INSTRUCTION_CYCLES, LOAD_DONE, MOVE_START, QUEUE_CYCLES
from presilicon.template import Core
from presilicon.tiling import MatmulPlan, chunk_bytes

# A sequencer's push until the engine can issue, and the issue of the boot load: cycles 1 and 3 of a run.
BOOT_PUSH_CYCLES = 1
# Micro-operations of the requantising kernel: two parameters a strip once, one result a strip.
UOPS_A_STRIP = 1
UOPS_ONCE_A_STRIP = 2


@dataclass(frozen=True, slots=True)
class MatmulEstimate:
    """Cycles of a matmul in all, of its parts, and what bounds it ("matmul", "load", "memory", "vector")."""

    cycles: float
    first_cycles: float
    last_cycles: float
    busy_cycles: dict[str, float]
    bound: str

    def utilization(self, core: Core, plan: MatmulPlan) -> float:
        """Achieved over peak MACs."""
        return plan.m * plan.k * plan.n / (core.rows * core.cols * self.cycles)


def _bursts(core: Core, run: int) -> int:
    """Bursts of one run of bytes that begins on a page of 4 KiB."""
    return ceil(run / 4096)


def _mover_cycles(core: Core, rows: int, run: int, latency: float, beat_cycles: float, written: bool = False) -> float:
    """Cycles to move rows of bytes with eight bursts in flight: data, or latency where rows are short.

    The memory takes up a burst that is written when its last beat is there, so that it is in flight twice as long.
    """
    beats = ceil(run / core.bus_bytes)
    in_burst = min(beats, 4096 // core.bus_bytes)
    flight = latency + in_burst * beat_cycles + (in_burst + 6.0 if written else 3.0)
    waiting = flight * rows * _bursts(core, run) / core.outstanding
    return max(rows * beats * beat_cycles, waiting if rows * _bursts(core, run) > core.outstanding else 0.0)


def matmul_estimate(core: Core, plan: MatmulPlan, *, latency: float = 40.0, beat_cycles: float = 1.0) -> MatmulEstimate:
    """Cycles from start to halt; ``beat_cycles`` of the memory for one beat of the bus."""
    k_blocks, n_blocks = plan.k_blocks(core), plan.n_blocks(core)
    chunks = ceil(k_blocks / plan.chunk_blocks)
    row = k_blocks * core.rows
    columns = n_blocks * core.cols
    fetch = core.weight_words + (1.0 / plan.group_blocks if plan.int4 else 0.0)
    rows = [plan.rows_of(p) for p in range(plan.panels)]
    # Array: a block takes its rows or the fetch of the next tile; a new instruction's first tile two cycles more.
    of_panel = []
    for r in rows:
        block = max(r, core.accumulate_cycles)
        of_panel.append(n_blocks * ((k_blocks - chunks) * max(block, fetch) + chunks * max(block, fetch + 2)))
    array = sum(of_panel)
    # Vector unit: groups of eight rows, a slot a strip.
    slots = [ceil(r / 8) * core.chunks * UOPS_A_STRIP + UOPS_ONCE_A_STRIP * core.chunks for r in rows]
    overhead = core.vector_start_cycles + core.vector_drain_cycles
    vector = sum(n_blocks * (8.0 * s + overhead) for s in slots)
    # Memory: moving rows once, weights once or once a panel, parameters, results.
    block_bytes = chunk_bytes(core, k_blocks, plan.int4, plan.group_blocks)
    passes = 1 if plan.weights_resident else plan.panels
    weight_cycles = n_blocks * passes * block_bytes / core.bus_bytes * beat_cycles
    x_rows = (1, plan.m * plan.k) if plan.k == row else (plan.m, plan.k)
    x_cycles = _mover_cycles(core, *x_rows, latency, beat_cycles)
    load = weight_cycles + x_cycles + 8.0 * columns / core.bus_bytes * beat_cycles
    run = min(plan.store_blocks * core.cols, plan.n)
    pieces = ceil(plan.n / run)
    whole = run == plan.n == plan.store_blocks * core.cols
    store_rows = (1, plan.m * plan.n) if whole else (plan.m * pieces, run)
    store = _mover_cycles(core, *store_rows, latency, beat_cycles, written=True) + store_rows[0]
    written = plan.m * pieces * ceil(run / core.bus_bytes) * beat_cycles
    # One data path serves reads and writes.
    memory = load + written
    instructions = 3 + plan.panels * n_blocks * (2 + chunks) + passes * n_blocks * chunks + plan.panels * pieces
    window = min(instructions, core.instruction_slots) * 64
    boot = BOOT_PUSH_CYCLES + QUEUE_CYCLES + MOVE_START + latency + window / core.bus_bytes * beat_cycles + LOAD_DONE + 3
    code = max(0, instructions * 64 - window) / core.bus_bytes * beat_cycles
    # First tile: kernels, the first panel and the first chunk must be there.
    kernels = 16.0 * 3 * core.chunks
    chunk0 = chunk_bytes(core, min(plan.chunk_blocks, k_blocks), plan.int4, plan.group_blocks)
    panel0 = _mover_cycles(core, *((1, rows[0] * plan.k) if plan.k == row else (rows[0], plan.k)), latency, beat_cycles)
    lead = panel0 + (kernels + chunk0) / core.bus_bytes * beat_cycles
    if half := plan.first_blocks(core):
        # The array waits for the second half where it is done with the first sooner.
        lead = lead / 2 + max(0.0, lead / 2 - rows[0] * half)
    first = boot + INSTRUCTION_CYCLES + QUEUE_CYCLES + MOVE_START + latency + lead + LOAD_DONE + fetch + 2
    # Last tile: drain, requantise, store, response.
    last_rows = rows[-1]
    drain = core.matmul_drain_cycles + 8.0 * slots[-1] + overhead
    width = plan.n - (pieces - 1) * run
    tail = _mover_cycles(core, *((1, last_rows * plan.n) if whole else (last_rows, width)), latency, beat_cycles, written=True)
    # The memory takes a burst's data when the last of it is there.
    in_burst = min(ceil(width * (last_rows if whole else 1) / core.bus_bytes), 4096 // core.bus_bytes)
    last = drain + tail + in_burst * beat_cycles + latency + 8
    # What is loaded last is multiplied after it: the last panel with all weights, or the last of its tiles.
    after = of_panel[-1] / (1 if plan.weights_resident and plan.panels > 1 else n_blocks * chunks)
    load += after
    busy = {"matmul": array, "load": load - lead + code, "memory": memory - lead + code, "vector": vector, "store": store}
    bound = max(busy, key=lambda name: busy[name])
    return MatmulEstimate(first + busy[bound] + last, first, last, busy, bound)
