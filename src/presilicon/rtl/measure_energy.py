"""Energy of programs on a core's gates, and what they did: the rows of ``data/technology/gate_energy.csv``.

A mapped chip runs programs gate by gate (gate_run.py): what the gates write must be what the program means, in the cycles of
the simulator.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from presilicon.economics.actions import ACTIONS, COLUMNS, MEMORIES, Counted, Measured, names
from presilicon.isa import Program, State, actions, load_entries
from presilicon.isa.corners import Executed
from presilicon.isa.in_order import in_order
from presilicon.rtl.gate_run import GateRun
from presilicon.rtl.power import Gates
from presilicon.rtl.runner import RtlError
from presilicon.rtl.synthesis import TOP, Synthesis, block_of
from presilicon.template import GROUP, Core

_HEAD = (
    "# Energy of programs on the mapped gates of whole cores, by block (J); zero-delay simulation, OSU 0.18 um at 1.8 V, no\n"
    "# wires, no glitches, no clock tree, memories' own energy not in it. What was done, and bytes that the memories' macros\n"
    "# moved. Written by `python benchmarks/gate_energy.py`.\n"
)


def counted(core: Core, program: Program, arguments: Mapping[int, int], memory: NDArray[np.uint8], cycles: int) -> Counted:
    """How often a program does each action, by what its instructions say of themselves; ``memory`` is left as it is."""
    found: defaultdict[str, float] = defaultdict(float)

    def visit(executed: Executed) -> None:
        op = executed.instruction.op
        found["instruction"] += 1
        entries = load_entries(core, executed.fields, state.indices) if op == "load" else None
        did = actions(core, op, executed.fields, tuple(executed.uops), entries)
        reads, writes = Counter(did.reads), Counter(did.writes)
        useful = _useful(core, executed.fields) if op == "vector" else 1.0
        found["scratchpad_byte"] += useful * (reads["scratchpad"] + writes["scratchpad"])
        found["sum_byte"] += reads["accumulator"] + writes["accumulator"]
        found["load_byte"] += reads["dram"]
        found["store_byte"] += writes["dram"]
        rows = did.busy.get("matmul", 0)
        found["pe_operation"] += rows * core.rows * core.cols
        found["moving_byte"] += rows * core.rows
        found["weight_byte"] += reads["scratchpad"] - rows * core.rows if op == "matmul" else 0
        found["lane_cycle"] += did.busy.get("vector", 0) * core.lanes
        found["vector_operation"] += useful * did.fp_operations

    state = State(core, memory.copy(), values=False)
    for register, value in arguments.items():
        state.scalars[register] = value
    in_order(state, program, visit)
    return Counted(cycles=cycles, actions={name: found[name] for name in names()})


def _useful(core: Core, fields: Mapping[str, int]) -> float:
    """Share of the elements of a VECTOR's slots that exist: of the others nothing is read, and zeros do not switch."""
    rows, strips = fields["rows"], fields["strips"]
    slots = rows * -(-strips // GROUP) * GROUP if fields["by_strips"] else -(-rows // GROUP) * GROUP * strips
    return min(1.0, rows * min(fields["columns"], strips * core.lanes) / (slots * core.lanes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A program with all it needs: registers, its memory with the inputs, as it must be after it, and the cycles it takes."""

    name: str
    program: Program
    arguments: Mapping[int, int]
    memory: NDArray[np.uint8]
    after: NDArray[np.uint8]
    cycles: int


def run(core: Core, made: Synthesis, tasks: Sequence[Task]) -> list[Measured]:
    """Every task on the gates of a core. RtlError where the gates write anything else, or take other cycles."""
    gates = Gates(made.netlists, TOP, made.library, block_of)
    rows = []
    for task in tasks:
        memory = task.memory.copy()
        cycles = GateRun(gates, core, memory).run(task.program, task.arguments, 2 * task.cycles)
        if cycles != task.cycles or not np.array_equal(memory, task.after):
            wrong = int(np.count_nonzero(memory != task.after))
            raise RtlError(f"{task.name} on the gates: {wrong} bytes differ, {cycles} cycles instead of {task.cycles}")
        moved, energy = gates.memory_bytes(), gates.energy()
        did = counted(core, task.program, task.arguments, task.memory, cycles)
        rows.append(
            Measured(
                core=core,
                program=task.name,
                cycles=cycles,
                actions=did.actions,
                energy_j={block: sum(energy[block]) for block in ACTIONS},
                clock_j={block: energy[block][0] for block in ACTIONS},
                memory_bytes={block: sum(moved.get(block, (0.0, 0.0))) for block in MEMORIES},
            )
        )
    return rows


def as_csv(rows: Sequence[Measured]) -> str:
    """The text of gate_energy.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    blocks = [f"{block}_{part}" for part in ("j", "clock_j") for block in ACTIONS]
    writer.writerow([*COLUMNS, "program", "cycles", *names(), *blocks, *(f"{b}_memory_bytes" for b in MEMORIES), "date"])
    for row in rows:
        own = [getattr(row.core, name) for name in COLUMNS]
        did = [f"{row.actions[name]:.0f}" for name in names()]
        energy = [f"{told[block]:.6g}" for told in (row.energy_j, row.clock_j) for block in ACTIONS]
        moved = [f"{row.memory_bytes[block]:.0f}" for block in MEMORIES]
        writer.writerow([*own, row.program, row.cycles, *did, *energy, *moved, date.today().isoformat()])
    return _HEAD + out.getvalue()
