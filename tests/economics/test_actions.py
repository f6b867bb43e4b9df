"""Energies of the array's actions beside the energy of its gates."""

from __future__ import annotations

from presilicon.economics import actions

ROWS = actions.measured()


def test_three_cores_were_measured() -> None:
    assert len({row.core for row in ROWS}) >= 3
    assert all(row.energy_j > 0.0 for row in ROWS)


def test_energies_are_positive() -> None:
    assert all(value > 0.0 for value in actions.fit(ROWS).values())


def test_runs_of_cores_left_out() -> None:
    assert max(abs(error) for error in actions.left_out(ROWS)) <= WORST
    assert sum(abs(error) for error in actions.left_out(ROWS)) / len(ROWS) <= MEAN


WORST, MEAN = 0.06, 0.03
