"""Break-even by hand and its laws; the order of a tornado."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.economics.decide import break_even, tornado
from presilicon.economics.operation import HOURS_PER_YEAR
from presilicon.economics.quantity import Quantity
from presilicon.errors import WorkloadError

YEAR_S = HOURS_PER_YEAR * 3600.0
PLAIN = {
    "nre_usd": 10e6,
    "own_usd_per_m_tokens": 0.02,
    "other_usd_per_m_tokens": 0.04,
    "tokens_per_s_per_chip": 10_000.0,
    "traffic_tokens_per_s": 50e6,
    "years_of_use": 4.0,
}


def test_by_hand() -> None:
    found = break_even(**PLAIN)
    assert found.tokens_m == pytest.approx(10e6 / 0.02)
    assert found.chips == np.ceil(5e14 / (1e4 * 4 * YEAR_S))
    assert found.chips_at_work == 5000
    assert found.years == pytest.approx(5e14 / (50e6 * YEAR_S))
    assert break_even(**PLAIN, development_years=2.0).years == pytest.approx(found.years + 2.0)


def test_traffic_that_grows_pays_sooner() -> None:
    flat, growing = break_even(**PLAIN), break_even(**PLAIN, growth_per_year=1.0)
    assert growing.years < flat.years
    served = 50e6 * YEAR_S * (np.exp(np.log(2.0) * growing.years) - 1.0) / np.log(2.0)
    assert served == pytest.approx(5e14)


def test_what_saves_nothing_never_pays() -> None:
    found = break_even(**(PLAIN | {"own_usd_per_m_tokens": 0.05}))
    assert np.isinf(found.years)
    assert np.isinf(found.chips)
    assert found.saving_usd_per_m_tokens < 0


@given(st.sampled_from(sorted(PLAIN)), st.floats(1.01, 1.9))
def test_each_term_pushes_its_way(name, factor) -> None:
    later = name in ("nre_usd", "own_usd_per_m_tokens")
    same = name in ("years_of_use", "tokens_per_s_per_chip")
    before, after = break_even(**PLAIN).years, break_even(**(PLAIN | {name: PLAIN[name] * factor})).years
    assert after == pytest.approx(before) if same else (after > before) == later


def test_samples_are_each_alone() -> None:
    costs = np.array([0.01, 0.03, 0.05])
    found = break_even(**(PLAIN | {"own_usd_per_m_tokens": costs}))
    assert found.years.shape == (3,)
    assert found.years[1] == pytest.approx(break_even(**(PLAIN | {"own_usd_per_m_tokens": 0.03})).years)
    assert np.isinf(found.years[2])


@pytest.mark.parametrize("name", ["traffic_tokens_per_s", "tokens_per_s_per_chip", "years_of_use"])
def test_nothing_served_is_refused(name) -> None:
    with pytest.raises(WorkloadError, match="is 0"):
        break_even(**(PLAIN | {name: 0.0}))


def test_a_tornado_is_widest_first_and_leaves_out_what_does_nothing() -> None:
    assumed = {
        "a": Quantity(2.0, 1.0, 3.0, "", "page", "2026", "low"),
        "b": Quantity(5.0, 0.0, 10.0, "", "page", "2026", "low"),
        "idle": Quantity(1.0, 0.0, 9.0, "", "page", "2026", "low"),
    }
    found = tornado(lambda a, b, idle: 100.0 - 10.0 * a + b, assumed)
    assert [swing.name for swing in found] == ["a", "b"]
    assert (found[0].at_low, found[0].at_high, found[0].swing) == (95.0, 75.0, 20.0)
    assert found[1].swing == 10.0


def test_a_result_that_never_ends_is_the_widest() -> None:
    assumed = {
        "cost": Quantity(1.0, 0.5, 2.0, "", "page", "2026", "low"),
        "other": Quantity(1.0, 0.0, 100.0, "", "page", "2026", "low"),
    }
    found = tornado(lambda cost, other: np.inf if cost > 1.5 else cost + other, assumed)
    assert found[0].name == "cost"
    assert np.isinf(found[0].swing)
