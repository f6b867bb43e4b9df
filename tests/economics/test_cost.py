"""The cost of chips as a whole: percentiles, sources, and the published estimates of two of them."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon import chip
from presilicon.cli.output import clean
from presilicon.economics import area as template_area
from presilicon.economics.cost import blocks, cost
from presilicon.economics.manufacture import prices, unit_cost
from presilicon.economics.published import published
from presilicon.errors import ChipError, PresiliconError, WorkloadError
from presilicon.template import Core


def priced() -> list[str]:
    names = []
    for one in chip.library():
        try:
            cost(one, samples=8)
        except PresiliconError:
            continue
        names.append(one.name)
    return names


PRICED = priced()


def test_most_of_the_library_has_a_cost_and_the_rest_says_why() -> None:
    assert len(PRICED) >= 65
    for name in set(chip.names()) - set(PRICED):
        with pytest.raises(ChipError, match=r"needs .*which it does not publish|process_node is not published"):
            cost(chip.load(name), samples=8)


@settings(max_examples=30)
@given(st.sampled_from(PRICED), st.integers(0, 100))
def test_percentiles_are_ordered_and_the_json_is_whole(name, seed) -> None:
    found = cost(chip.load(name), volume=1000, samples=256, seed=seed)
    told = json.loads(json.dumps(clean(found.to_json()), allow_nan=False))
    for key in ("die_usd", "package_usd", "memory_usd", "unit_usd", "nre_usd", "yield", "area_mm2", "usd_at_volume"):
        spread = told[key]
        assert spread["p10"] <= spread["p50"] <= spread["p90"], key
        assert math.isfinite(spread["value"])
        assert spread["value"] >= 0
    assert 0 < told["yield"]["p10"] <= told["yield"]["p90"] <= 1
    assert {"tpp", "performance_density"} <= set(told)
    assert all(source["source"] and source["date"] for source in told["sources"])
    assert told["usd_at_volume"]["value"] > told["unit_usd"]["value"]


def test_the_same_seed_gives_the_same_cost_and_another_nearly_so() -> None:
    one = chip.load("nvidia-h100-sxm-80gb")
    assert cost(one).to_json() == cost(one).to_json()
    assert cost(one, seed=1).unit_usd.p50 == pytest.approx(cost(one, seed=2).unit_usd.p50, rel=0.03)
    assert cost(one, seed=1).unit_usd.p50 != cost(one, seed=2).unit_usd.p50


@pytest.mark.parametrize("name", ["nvidia-h100-sxm-80gb", "nvidia-b200-sxm-180gb"])
def test_published_estimates_are_met(name) -> None:
    told = {row.part: row for row in published() if row.chip == name}
    found = cost(chip.load(name))
    assert told["total"].low <= found.unit_usd.value <= told["total"].high
    # The part whose price does not come from the same estimate; docs/economics.md says why B200's die is a third cheaper.
    assert found.parts["die_usd"].value == pytest.approx(told["die"].usd, rel=0.10 if "h100" in name else 0.35)


def test_without_spare_cores_the_die_of_b200_costs_what_is_published() -> None:
    told = next(row for row in published() if row.chip == "nvidia-b200-sxm-180gb" and row.part == "die")
    whole = unit_cost(800.0, 0.0, prices("n4", "HBM3E"), dies=2)
    assert told.low <= whole.die_usd <= told.high


def test_a_published_area_is_certain_and_a_modelled_one_is_not() -> None:
    known, blank = cost(chip.load("nvidia-l4")), cost(chip.load("rebellions-atom"))
    assert (known.area_basis, known.area_mm2.p10, known.area_mm2.p90) == ("published", 294.0, 294.0)
    assert blank.area_basis == "modelled"
    assert blank.area_mm2.p10 < blank.area_mm2.value < blank.area_mm2.p90
    assert blank.taken == ("clock_hz (taken as 1 GHz)",)


def test_an_area_that_a_design_took_from_the_model_is_as_uncertain_as_the_model() -> None:
    atom = chip.load("rebellions-atom")
    area = cost(atom).area_mm2.value
    text = atom.to_toml().replace('name = "rebellions-atom"', f'name = "mine"\ndie_area_mm2 = {area!r}')
    mine = cost(chip.parse(text))
    assert mine.area_basis == "modelled"
    assert mine.area_mm2.p10 < area < mine.area_mm2.p90
    measured = cost(chip.parse(text.replace(repr(area), repr(area * 1.1))))
    assert measured.area_basis == "published"


def test_a_template_chip_is_priced_by_its_synthesis() -> None:
    one = chip.load("core-32x32")
    found, core = blocks(one), template_area.area(Core.of(one), "n7")
    own = sum(value for name, value in found.items() if name != "memory_interface")
    assert own == pytest.approx(core.total_mm2)
    assert cost(one).area_basis == "synthesis"
    smaller = chip.parse(one.to_toml().replace('process_node = "n7"', 'process_node = "n5"'))
    assert sum(blocks(smaller).values()) < sum(found.values())


def test_spare_cores_of_the_die_raise_the_yield() -> None:
    assert cost(chip.load("nvidia-h100-pcie-80gb")).die_yield.value > cost(chip.load("nvidia-h100-sxm-80gb")).die_yield.value


def test_bad_input_is_refused() -> None:
    h100 = chip.load("nvidia-h100-sxm-80gb")
    with pytest.raises(WorkloadError, match="volume is 0"):
        cost(h100, volume=0)
    strange = chip.parse(h100.to_toml().replace('process_node = "TSMC 4N"', 'process_node = "TSMC N6.5"'))
    with pytest.raises(PresiliconError, match=r"no process node is called 'TSMC N6.5'"):
        cost(strange)
    memory = chip.parse(h100.to_toml().replace('kind = "HBM3"', 'kind = "HBM9"'))
    with pytest.raises(PresiliconError, match="no memory is known for 'HBM9'"):
        cost(memory)
