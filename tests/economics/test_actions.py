"""Energies of a core's actions beside the energy of its gates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from presilicon.economics.actions import ACTIONS, Counted, energy_j, fit, fitted, left_out, measured, names
from presilicon.economics.area import logic_gates

ROWS = measured()
# Mean error of programs on a core, or of a program, that the fit has not seen: of all energy, and of what switches alone.
BARS = {"core": (0.03, 0.15), "program": (0.03, 0.3)}


def test_three_cores_ran_the_same_programs() -> None:
    cores = {row.core for row in ROWS}
    assert len(cores) >= 3
    assert {row.program for row in ROWS} == {row.program for row in ROWS if row.core == min(cores, key=lambda c: c.rows)}
    assert all(0.0 < row.clock_j[block] <= row.energy_j[block] for row in ROWS for block in ACTIONS)


def test_blocks_are_those_of_the_area_model() -> None:
    assert ACTIONS.keys() == logic_gates(ROWS[0].core).keys()


@pytest.mark.parametrize("key", BARS)
def test_what_the_fit_has_not_seen(key: str) -> None:
    found = left_out(ROWS, key)
    assert len(found) == len(ROWS)
    for part, bar in zip(("whole", "switching"), BARS[key], strict=True):
        assert sum(abs(getattr(one, part)) for one in found) / len(found) <= bar


def test_fit_finds_the_energies_that_made_the_rows() -> None:
    made = {block: {name: 1e-12 * (1 + len(name)) for name in ("clock", "idle", *ACTIONS[block])} for block in ACTIONS}
    rows = []
    for row in ROWS:
        energy = energy_j(row.core, row, made)
        clock = {block: clock for block, (clock, _) in energy.items()}
        rows.append(replace(row, energy_j={block: sum(parts) for block, parts in energy.items()}, clock_j=clock))
    found = fit(rows)
    for block, energies in made.items():
        assert found[block] == pytest.approx(energies, rel=1e-6)


def test_an_idle_core_costs_its_clock() -> None:
    row = ROWS[0]
    idle = Counted(cycles=1000, actions=dict.fromkeys(names(), 0.0))
    gates = logic_gates(row.core)
    for block, (clock, switching) in energy_j(row.core, idle).items():
        assert clock == pytest.approx(1000 * gates[block] * fitted()[block]["clock"])
        assert switching < 0.2 * clock
