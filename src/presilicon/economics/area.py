"""Area of a template chip: its logic by block in two-input NANDs, and with its memories in mm2 at a node.

Each block is a sum of a few sizes of the core (``sizes``) times coefficients of ``data/technology/logic_area.toml``, which are
fitted on the synthesis results of ``data/technology/synthesis.csv``. At a node, logic scales with the area of one PE that was
synthesised there, memories with the density of SRAM.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

from presilicon.errors import InputError, nearest
from presilicon.template import Core

# Columns of the array that share a register of the moving row.
_GROUP_COLUMNS = 8
_LANE_MEMORY_BYTES = 3 * 128 * 4 + 512 * 4
_INSTRUCTION_BYTES = 64
_UOP_BYTES = 16


def sizes(core: Core) -> dict[str, dict[str, float]]:
    """What the area of each block is proportional to, by name; the coefficients have the same names."""
    rows, cols, lanes, bus = core.rows, core.cols, core.lanes, core.bus_bytes
    weights = max(rows, cols * core.weight_rows_per_cycle)
    reads = {"x": rows, "w": weights, "v": 4 * lanes, "s": bus}
    writes = {"l": bus, "vw": 4 * lanes}
    rotated = sum(8 * _rounded(n) * (_rounded(n).bit_length() - 1) for n in (*reads.values(), *writes.values()))
    kept = sum(8 * (n + _rounded(n)) for n in (*reads.values(), *writes.values()))
    one = float(core.cores)
    made: dict[str, dict[str, float]] = {
        "array": {
            "pe": rows * cols,
            "tree_bit": cols * _tree_bits(rows),
            "broadcast_byte": rows * -(-cols // _GROUP_COLUMNS),
            "weight_byte": cols * core.weight_rows_per_cycle,
        },
        "matmul": {"one": 1, "row": rows, "column": cols},
        "accumulators": {"one": 1, "column": cols, "lane": lanes},
        "vector_lanes": {"lane": lanes},
        "vector": {"one": 1, "lane": lanes, "bus_byte": bus},
        "scratchpad": {
            "one": 1,
            "bank": core.scratchpad_banks,
            "bank_byte": core.scratchpad_banks * core.width_bytes,
            "rotated_bit": rotated,
            "port_bit": kept,
        },
        "load": {"one": 1, "bus_byte": bus},
        "store": {"one": 1, "bus_byte": bus},
        "sequencer": {"one": 1},
        "control": {"one": 1},
        "issue": {"one": 1},
    }
    return {block: {name: one * value for name, value in terms.items()} for block, terms in made.items()}


def _tree_bits(rows: int) -> int:
    """Register bits of a column's adder tree: level l has words of 17 + l bits."""
    bits, terms = 0, rows
    for level in range((rows - 1).bit_length()):
        terms = -(-terms // 2)
        bits += terms * (17 + level)
    return bits


def _rounded(width: int) -> int:
    return 1 << (width - 1).bit_length()


def _data(name: str) -> str:
    return (resources.files("presilicon") / "data" / "technology" / name).read_text(encoding="utf-8")


@cache
def known() -> Mapping[str, Any]:
    """data/technology/logic_area.toml."""
    return tomllib.loads(_data("logic_area.toml"))


def logic_gates(core: Core, coefficients: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, float]:
    """Area of each block in two-input NANDs, memories left out."""
    used = known()["coefficients"] if coefficients is None else coefficients
    return {block: sum(used[block][name] * value for name, value in terms.items()) for block, terms in sizes(core).items()}


def memory_bytes(core: Core) -> int:
    """Bytes of all SRAM: scratchpad, accumulators, registers and tables of the lanes, instructions, kernels, indices."""
    small = core.instruction_slots * _INSTRUCTION_BYTES + core.kernel_slots * _UOP_BYTES + core.index_slots * 4
    return core.cores * (core.scratchpad_bytes + core.accumulator_bytes + core.lanes * _LANE_MEMORY_BYTES + small)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Area of a chip's cores at a node in mm2: cells as they are placed (utilisation below 1), and memories."""

    node: str
    logic_mm2: float
    memory_mm2: float

    @property
    def total_mm2(self) -> float:
        """Logic and memories; pads, memory interface and clock generation are not in it."""
        return self.logic_mm2 + self.memory_mm2


def area(core: Core, node: str, gates: Mapping[str, float] | None = None) -> Area:
    """Area at a node of logic_area.toml; InputError where it is not one of these. ``gates``: instead of the model's."""
    nodes = {name: told for name, told in known()["node"].items() if "sram_mbit_per_mm2" in told}
    if node not in nodes:
        raise InputError(f"no area is known for node {node!r}", hint=nearest(node, list(nodes)) or "one of " + ", ".join(nodes))
    at = nodes[node]
    logic_um2 = sum((gates or logic_gates(core)).values()) * at["nand2_um2"] / known()["placement"]["utilization"]
    return Area(node=node, logic_mm2=logic_um2 * 1e-6, memory_mm2=memory_bytes(core) * 8e-6 / at["sram_mbit_per_mm2"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesised:
    """A row of synthesis.csv: a core, and the area of each of its blocks in two-input NANDs."""

    core: Core
    gates: Mapping[str, float]
    flip_flop_gates: float
    critical_path_ns: float | None


SIZES = tuple(field.name for field in fields(Core))[:8]
"""Sizes of a core that a row of synthesis.csv names."""


@cache
def synthesised() -> tuple[Synthesised, ...]:
    """Every row of data/technology/synthesis.csv."""
    lines = [line for line in _data("synthesis.csv").splitlines() if not line.startswith("#")]
    made = []
    for row in csv.DictReader(lines):
        core = Core(**{name: int(row[name]) for name in SIZES})
        gates = {block: float(row[block]) for block in sizes(core)}
        path = float(row["critical_path_ns"]) if row["critical_path_ns"] else None
        made.append(Synthesised(core=core, gates=gates, flip_flop_gates=float(row["flip_flops"]), critical_path_ns=path))
    return tuple(made)
