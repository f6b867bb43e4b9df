from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.chip import Price
from presilicon.economics import Operation, defaults, usd_per_hour
from presilicon.economics.operation import (
    HOURS_PER_YEAR,
    assumptions,
    owned_usd_per_hour,
    quantities,
    sampled,
    usd_per_million_tokens,
)
from presilicon.errors import WorkloadError

PLAIN = Operation(
    years=1.0, usd_per_kwh=0.1, pue=1.0, host_power_share=0.0, server_price_share=0.0, least_server_usd=0.0, utilization=1.0
)


def test_every_quantity_has_a_source_and_lies_in_its_range():
    for name, found in quantities().items():
        assert found.low <= found.value <= found.high, name
        assert found.source, name
        assert found.date, name
        assert found.unit, name
        assert found.confidence in ("high", "medium", "low"), name


def test_defaults_are_the_sourced_ones_and_what_is_given_replaces_them():
    base, known = defaults(), quantities()
    assert base.pue == known["pue"].value
    assert base.years == known["depreciation_years"].value
    assert base.usd_per_kwh == known["electricity_price"].value
    assert defaults(years=3.0, usd_per_kwh=0.0, pue=1.2) == replace(base, years=3.0, usd_per_kwh=0.0, pue=1.2)


def test_a_bought_chip_by_hand():
    hour, basis = usd_per_hour(Price(purchase_usd=8766.0), 1000.0, 1, PLAIN)
    assert (hour, basis) == (pytest.approx(1.0 + 0.1), "purchase")
    operation = replace(PLAIN, years=2.0, pue=1.5, host_power_share=0.5, server_price_share=0.25, utilization=0.5)
    hour, _ = usd_per_hour(Price(purchase_usd=8766.0), 1000.0, 4, operation)
    assert hour == pytest.approx(4 * 8766 * 1.25 / (2 * HOURS_PER_YEAR) / 0.5 + 1.0 * 1.5 * 1.5 * 0.1)


def test_a_cheap_chip_needs_a_server_all_the_same():
    operation = replace(PLAIN, server_price_share=0.5, least_server_usd=1000.0)
    for price, server in ((200.0, 1000.0), (2000.0, 1000.0), (10_000.0, 5000.0)):
        hour, _ = usd_per_hour(Price(purchase_usd=price), 0.0, 2, operation)
        assert hour == pytest.approx(2 * (price + server) / HOURS_PER_YEAR)


def test_a_rent_holds_everything():
    assert usd_per_hour(Price(rent_usd_per_hour=2.0), 1e6, 4, replace(PLAIN, utilization=0.5)) == (16.0, "rent")


def test_what_is_bought_is_not_rented_and_without_a_price_there_is_no_cost():
    assert usd_per_hour(Price(8766.0, 2.0), 0.0, 1, PLAIN)[1] == "purchase"
    assert usd_per_hour(Price(), 100.0, 1, PLAIN) == (None, "")


@given(st.floats(100, 1e5), st.floats(1, 1e4), st.integers(1, 64), st.floats(1.01, 5.0))
def test_longer_use_is_cheaper_and_dearer_energy_is_not(price, power, chips, factor):
    def cost(**other):
        return usd_per_hour(Price(price), power, chips, replace(PLAIN, **other))[0]

    assert cost(years=factor) < cost() < cost(usd_per_kwh=0.1 * factor)
    assert cost(pue=factor) > cost()
    assert cost(host_power_share=factor) > cost()
    assert cost(utilization=1 / factor) > cost()
    assert usd_per_hour(Price(price), power * factor, chips, PLAIN)[0] > cost()
    assert cost() == pytest.approx(chips * usd_per_hour(Price(price), power / chips, 1, PLAIN)[0])


@pytest.mark.parametrize(
    "values",
    [
        {"years": 0.0},
        {"years": -1.0},
        {"years": float("nan")},
        {"years": float("inf")},
        {"usd_per_kwh": -0.01},
        {"usd_per_kwh": 1e5},
        {"pue": 0.5},
        {"pue": 11.0},
        {"utilization": 0.0},
        {"utilization": 1.1},
        {"host_power_share": -0.1},
        {"server_price_share": 1e3},
        {"least_server_usd": -1.0},
    ],
)
def test_impossible_operation_is_refused(values):
    name = next(iter(values))
    with pytest.raises(WorkloadError, match=f"{name} is") as caught:
        replace(PLAIN, **values)
    assert "at most" in caught.value.hint


def test_the_ends_are_allowed():
    assert defaults(usd_per_kwh=0.0, pue=1.0).usd_per_kwh == 0.0
    assert replace(PLAIN, utilization=1.0, years=100.0).years == 100.0


def test_samples_keep_what_was_given_and_draw_the_rest():
    at = defaults(pue=1.2)
    found = sampled(at, 2000, seed=3)
    assert found.pue == 1.2
    for name, known in assumptions().items():
        values = np.asarray(getattr(found, name))
        if name != "pue":
            assert values.shape == (2000,)
            assert np.all((known.low <= values) & (values <= known.high))
            assert np.median(values) == pytest.approx(known.value, rel=0.05)
    hour = owned_usd_per_hour(20_000.0, 700.0, 8, found)
    assert hour.shape == (2000,)
    low, high = np.percentile(hour, (10, 90))
    assert low < owned_usd_per_hour(20_000.0, 700.0, 8, at) < high


def test_one_bad_sample_is_refused():
    with pytest.raises(WorkloadError, match=r"utilization is 1\.5"):
        replace(PLAIN, utilization=np.array([0.5, 1.5, 0.7]))


def test_a_million_tokens_by_hand():
    assert usd_per_million_tokens(3.6, 1000.0) == pytest.approx(1.0)
