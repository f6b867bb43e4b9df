"""The logic area model beside the synthesis results that are stored, and the area of a die."""

from __future__ import annotations

import numpy as np
import pytest

from presilicon.chip import load
from presilicon.economics import area
from presilicon.errors import InputError
from presilicon.template import Core

ROWS = area.synthesised()
WITHIN = 0.05


def error(row: area.Synthesised) -> float:
    return sum(area.logic_gates(row.core).values()) / sum(row.gates.values()) - 1.0


def test_table_is_wide_enough() -> None:
    assert len({row.core for row in ROWS}) >= 8
    assert len({(row.core.rows, row.core.cols) for row in ROWS}) >= 8
    assert len({row.core.lanes for row in ROWS}) >= 3
    assert len({row.core.bus_bytes for row in ROWS}) >= 2


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.core.rows}x{row.core.cols}-{row.core.lanes}")
def test_logic_is_within_five_percent_of_synthesis(row: area.Synthesised) -> None:
    assert abs(error(row)) <= WITHIN


def test_cores_left_out_are_within_five_percent() -> None:
    pytest.importorskip("scipy")
    fitting = pytest.importorskip("presilicon.rtl.fit_area")
    errors = fitting.left_out(ROWS)
    assert np.median(np.abs(errors)) <= 0.03
    assert np.count_nonzero(np.abs(errors) <= WITHIN) >= 8


def test_coefficients_are_what_the_table_gives() -> None:
    pytest.importorskip("scipy")
    fitting = pytest.importorskip("presilicon.rtl.fit_area")
    for block, terms in fitting.fit(ROWS).items():
        for name, value in terms.items():
            assert area.known()["coefficients"][block][name] == pytest.approx(value, rel=1e-3, abs=1e-6)


def test_a_larger_core_is_never_smaller() -> None:
    one = Core.of(load("core-8x8"))
    two = Core.of(load("core-16x16"))
    small, large = area.logic_gates(one), area.logic_gates(two)
    assert all(large[block] >= small[block] for block in small)
    assert area.memory_bytes(two) > area.memory_bytes(one)


def test_die_area() -> None:
    core = Core.of(load("core-16x16"))
    made = area.area(core, "n7")
    assert made.total_mm2 == made.logic_mm2 + made.memory_mm2
    assert made.logic_mm2 == pytest.approx(sum(area.logic_gates(core).values()) * 24.0 * 76.1 / 27448 / 0.7 * 1e-6, rel=1e-3)
    assert made.memory_mm2 == pytest.approx(area.memory_bytes(core) * 8e-6 / 24.7)
    assert area.area(core, "n7", {"array": 1e6}).memory_mm2 == made.memory_mm2


def test_two_cores_have_twice_the_area() -> None:
    one, two = Core.of(load("core-16x16")), Core.of(load("core-16x16-x2"))
    assert area.area(two, "n7").total_mm2 == pytest.approx(2 * area.area(one, "n7").total_mm2)


def test_an_unknown_node_is_refused() -> None:
    with pytest.raises(InputError, match="no area is known for node 'n9'"):
        area.area(Core.of(load("core-8x8")), "n9")
