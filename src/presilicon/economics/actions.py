"""Energy of the array's actions, and how well they foretell what its gates use.

The model: so much a MAC, so much a byte of weights that is loaded, so much a PE and cycle for the clock. It is fitted on
``data/technology/gate_energy.csv``, the energy of mapped arrays (OSU 0.18 um) from the switching of their gates.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources

from presilicon.template import Core

COLUMNS = tuple(field.name for field in fields(Core))[:8]
ACTIONS = ("mac", "weight_byte", "pe_cycle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run of an array: what it did, and the energy of its cells in J."""

    core: Core
    cycles: int
    macs: int
    weight_bytes: int
    energy_j: float

    @property
    def actions(self) -> tuple[float, ...]:
        """Number of each of ``ACTIONS``."""
        return float(self.macs), float(self.weight_bytes), float(self.cycles * self.core.rows * self.core.cols)


@cache
def measured() -> tuple[Measured, ...]:
    """Every row of data/technology/gate_energy.csv."""
    text = (resources.files("presilicon") / "data" / "technology" / "gate_energy.csv").read_text(encoding="utf-8")
    return tuple(
        Measured(
            core=Core(**{name: int(row[name]) for name in COLUMNS}),
            cycles=int(row["cycles"]),
            macs=int(row["macs"]),
            weight_bytes=int(row["weight_bytes"]),
            energy_j=float(row["energy_j"]),
        )
        for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    )


def fit(rows: Sequence[Measured]) -> dict[str, float]:
    """Energy in J of each action, of least relative error."""
    import numpy as np

    table = np.array([row.actions for row in rows]) / np.array([[row.energy_j] for row in rows])
    scale = table.max(axis=0)
    found = np.linalg.lstsq(table / scale, np.ones(len(rows)), rcond=None)[0] / scale
    return dict(zip(ACTIONS, (float(value) for value in found), strict=True))


def energy_j(row: Measured, actions: Mapping[str, float]) -> float:
    """Energy of a run's actions."""
    return sum(actions[name] * number for name, number in zip(ACTIONS, row.actions, strict=True))


def left_out(rows: Sequence[Measured]) -> list[float]:
    """Relative error of each run, by energies fitted on the other cores' runs."""
    return [energy_j(row, fit([other for other in rows if other.core != row.core])) / row.energy_j - 1.0 for row in rows]
