"""Laws of what a chip costs to make, and the seeded draws from published spreads."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.economics.manufacture import (
    Prices,
    UnitCost,
    assumptions,
    nre_usd,
    package,
    price_usd,
    prices,
    sampled_prices,
    unit_cost,
    volume_curve,
)
from presilicon.economics.quantity import Quantity, draw, table
from presilicon.errors import InputError

NODES = tuple(table("nodes"))
KINDS = tuple(item for item, held in table("prices").items() if "memory" in held)
AT = prices("n5", "HBM3")


@given(
    st.floats(1.0, 1600.0),
    st.floats(1.0, 2.0),
    st.sampled_from(NODES),
    st.sampled_from(KINDS),
    st.floats(0, 2e11),
    st.integers(1, 8),
)
def test_more_area_memory_or_dies_is_never_cheaper(area, factor, node, kind, memory, dies) -> None:
    at = prices(node, kind)
    one = unit_cost(area, memory, at, dies=dies)
    assert unit_cost(area * factor, memory, at, dies=dies).unit_usd >= one.unit_usd
    assert unit_cost(area, memory * factor, at, dies=dies).unit_usd >= one.unit_usd
    assert unit_cost(area, memory, at, dies=dies + 1).unit_usd > one.unit_usd
    assert one.unit_usd == pytest.approx(sum(getattr(one, f.name) for f in fields(UnitCost)[:-1]))


@given(
    st.sampled_from([f.name for f in fields(Prices) if f.name.endswith("_usd") or f.name == "defects_per_cm2"]),
    st.floats(1.01, 3.0),
)
def test_dearer_parts_and_more_defects_are_dearer(name, factor) -> None:
    dearer = replace(AT, **{name: getattr(AT, name) * factor})
    if name in ("mask_set_usd", "design_usd"):
        assert nre_usd(dearer) > nre_usd(AT)
    else:
        assert unit_cost(600.0, 64e9, dearer).unit_usd > unit_cost(600.0, 64e9, AT).unit_usd


def test_spare_cores_make_dies_cheaper() -> None:
    whole = unit_cost(800.0, 0.0, AT)
    spared = unit_cost(800.0, 0.0, AT, cores=64, spare_cores=4, core_share=0.6)
    assert spared.die_yield > whole.die_yield
    assert spared.die_usd < whole.die_usd


def test_stacks_need_an_interposer_and_cards_a_board() -> None:
    assert (package("HBM3E"), package("GDDR6")) == ("interposer", "flip_chip")
    card = unit_cost(300.0, 24e9, prices("n4", "GDDR6"))
    module = unit_cost(300.0, 24e9, prices("n4", "HBM3"))
    assert card.board_usd > 0 == module.board_usd
    assert module.package_usd > 10 * card.package_usd


def test_an_array_of_designs_is_each_of_them_alone() -> None:
    nodes, kinds = np.array(["n7", "n5", "n3"]), np.array(["HBM3", "GDDR6", "LPDDR5X"])
    areas, memory = np.array([400.0, 300.0, 200.0]), np.array([48e9, 16e9, 64e9])
    many = unit_cost(areas, memory, prices(nodes, kinds))
    for i in range(3):
        one = unit_cost(areas[i], memory[i], prices(str(nodes[i]), str(kinds[i])))
        for f in fields(UnitCost):
            assert getattr(many, f.name)[i] == pytest.approx(getattr(one, f.name), rel=1e-12), f.name


@given(st.integers(0, 1000), st.sampled_from(NODES), st.sampled_from(KINDS))
def test_draws_keep_to_their_range_and_their_seed(seed, node, kind) -> None:
    first, again = sampled_prices(node, kind, 64, seed), sampled_prices(node, kind, 64, seed)
    for name, known in assumptions(node, kind).items():
        found = getattr(first, name)
        assert np.array_equal(found, getattr(again, name))
        if name != "board_share":
            assert np.all((known.low <= found) & (found <= known.high)), name


def test_the_value_is_the_median_of_the_draws_and_both_ends_are_near() -> None:
    known = Quantity(10.0, 9.0, 30.0, "USD", "a page", "2026", "low")
    found = draw(known, np.random.default_rng(0), 20_000)
    assert np.median(found) == pytest.approx(10.0, rel=0.01)
    assert found.min() == pytest.approx(9.0, abs=0.02)
    assert found.max() == pytest.approx(30.0, abs=0.5)


@given(st.floats(1.0, 1e7), st.floats(1.1, 10.0))
def test_volume_bears_the_design(volume, factor) -> None:
    nre = nre_usd(AT)
    assert volume_curve(100.0, nre, volume * factor) < volume_curve(100.0, nre, volume)
    assert volume_curve(100.0, nre, 1e15) == pytest.approx(100.0, rel=1e-4)
    assert volume_curve(100.0, nre, 0.0) == 100.0 + nre


def test_a_margin_is_a_share_of_the_price() -> None:
    assert price_usd(3320.0, 0.881) == pytest.approx(28_000, rel=0.01)  # as published of H100


@pytest.mark.parametrize(
    ("area", "problem"), [(0.0, "die of 0 mm2"), (-3.0, "die of -3 mm2"), (float("nan"), "die of nan"), (7e4, "fits a wafer")]
)
def test_impossible_dies_are_refused(area, problem) -> None:
    with pytest.raises(InputError, match=problem):
        unit_cost(area, 0.0, AT)


def test_an_unknown_node_or_memory_is_refused() -> None:
    with pytest.raises(InputError, match=r"no wafer price is known for 'n6\.5'"):
        prices("n6.5", "HBM3")
    with pytest.raises(InputError, match="no memory is known for 'HBM9'"):
        prices("n5", "HBM9")
