"""Energy of a core's actions, block by block, and how well they foretell what its gates use.

Each block costs so much a gate and cycle for its clock and while it idles, and so much for each of its actions (``ACTIONS``).
Fitted on
``data/technology/gate_energy.csv``: whole programs on the mapped gates of three cores (OSU 0.18 um, 1.8 V), every edge of every
net counted. What the memories' macros read and write is told beside it in bytes: their energy is not a matter of gates.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources

from presilicon.economics.area import logic_gates
from presilicon.template import Core

COLUMNS = tuple(field.name for field in fields(Core))[:8]
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "array": ("pe_operation", "weight_byte"),
    "matmul": ("moving_byte",),
    "accumulators": ("sum_byte",),
    "scratchpad": ("scratchpad_byte",),
    "vector_lanes": ("lane_cycle", "vector_operation"),
    "vector": ("lane_cycle",),
    "load": ("load_byte",),
    "store": ("store_byte",),
    "sequencer": ("instruction",),
    "control": ("instruction",),
    "issue": ("instruction",),
}
"""What each block of ``economics.area`` does, beside being clocked."""
MEMORIES = ("scratchpad", "accumulators", "vector_lanes", "vector", "load", "issue")
"""Blocks with memories: ``issue`` has the instructions', ``load`` the indices', ``vector`` kernels and tables."""
Energies = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a run did: its cycles, and how often each action."""

    cycles: int
    actions: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Counted):
    """A program on a core's gates: the energy in J of each block and its clock's part; bytes its memories' macros moved."""

    core: Core
    program: str
    energy_j: Mapping[str, float]
    clock_j: Mapping[str, float]
    memory_bytes: Mapping[str, float]

    @property
    def whole_j(self) -> float:
        """Energy of all blocks."""
        return sum(self.energy_j.values())


def names() -> tuple[str, ...]:
    """Every action once."""
    return tuple(dict.fromkeys(name for found in ACTIONS.values() for name in found))


@cache
def measured() -> tuple[Measured, ...]:
    """Every row of data/technology/gate_energy.csv."""
    text = (resources.files("presilicon") / "data" / "technology" / "gate_energy.csv").read_text(encoding="utf-8")
    return tuple(
        Measured(
            core=Core(**{name: int(row[name]) for name in COLUMNS}),
            program=row["program"],
            cycles=int(row["cycles"]),
            actions={name: float(row[name]) for name in names()},
            energy_j={block: float(row[f"{block}_j"]) for block in ACTIONS},
            clock_j={block: float(row[f"{block}_clock_j"]) for block in ACTIONS},
            memory_bytes={block: float(row[f"{block}_memory_bytes"]) for block in MEMORIES},
        )
        for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    )


def fit(rows: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Energy in J of each block's clock and idle switching (a gate and cycle) and of its actions, none negative.

    The clock's is the mean; the others are of least error, told as a share of what a run switches in all its blocks.
    """
    import numpy as np
    from scipy.optimize import nnls

    gates = {row.core: logic_gates(row.core) for row in rows}
    weights = np.array([1.0 / (row.whole_j - sum(row.clock_j.values())) for row in rows])
    made: dict[str, dict[str, float]] = {}
    for block, actions in ACTIONS.items():
        gate_cycles = np.array([gates[row.core][block] * row.cycles for row in rows])
        clock = np.array([row.clock_j[block] for row in rows])
        switched = np.array([row.energy_j[block] for row in rows]) - clock
        table = np.column_stack([gate_cycles, *([row.actions[name] for row in rows] for name in actions)])
        scale = np.maximum(table.max(axis=0), 1.0)
        found, _ = nnls(table / scale * weights[:, None], switched * weights)
        values = (float((clock / gate_cycles).mean()), *(float(value) for value in found / scale))
        made[block] = dict(zip(("clock", "idle", *actions), values, strict=True))
    return made


@cache
def fitted() -> Energies:
    """The energies fitted on every row."""
    return fit(measured())


def energy_j(core: Core, counted: Counted, energies: Energies | None = None) -> dict[str, tuple[float, float]]:
    """Energy in J of each block of one core for a run: of its clock, and of all that switches."""
    used = fitted() if energies is None else energies
    gates = logic_gates(core)

    def of(block: str) -> tuple[float, float]:
        own, gate_cycles = used[block], gates[block] * counted.cycles
        moved = sum(own[name] * counted.actions[name] for name in ACTIONS[block])
        return own["clock"] * gate_cycles, own["idle"] * gate_cycles + moved

    return {block: of(block) for block in ACTIONS}


@dataclass(frozen=True, slots=True)
class Foretold:
    """A run, and the relative errors of a model that has not seen it: of all its energy, and of what switches alone."""

    row: Measured
    whole: float
    switching: float


def left_out(rows: Sequence[Measured], key: str) -> list[Foretold]:
    """Each run by energies fitted on the runs that differ from it in ``key`` (core or program)."""
    groups = dict.fromkeys(getattr(row, key) for row in rows)
    fits = {group: fit([row for row in rows if getattr(row, key) != group]) for group in groups}
    made = []
    for row in rows:
        parts = energy_j(row.core, row, fits[getattr(row, key)]).values()
        clock, switching = (sum(part[at] for part in parts) for at in (0, 1))
        true = row.whole_j - sum(row.clock_j.values())
        made.append(Foretold(row, (clock + switching) / row.whole_j - 1.0, switching / true - 1.0))
    return made
