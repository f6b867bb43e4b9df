"""Laws of the die area model, and its error on dies whose area is published."""

import tomllib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon import chip
from presilicon.economics import fit_silicon
from presilicon.economics.dies import areas_of, die_of, dies, memory_units, missing, spec_of
from presilicon.economics.quantity import text
from presilicon.economics.silicon import KINDS, DieSpec, area_spread, die_area, mac_ratio, reticle_mm2, shoreline_mm
from presilicon.errors import ChipError

BY_NAME = {die.name: die for die in dies()}
JUDGED = ("TU104", "GA107", "AD104", "GH100", "Warboy", "RNGD")
SPEC = DieSpec(
    node="n5",
    macs={"bf16": 65536.0, "fp8": 131072.0},
    vector_lanes=2048.0,
    sram_bytes=64e6,
    memory_kind="HBM3",
    memory_units=2.0,
    link_bytes_per_s=100e9,
)
SIZES = ("vector_lanes", "sram_bytes", "memory_units", "link_bytes_per_s", "simt_lanes", "fp64_lanes", "host_lanes")


def test_a100_is_within_3_and_mi210_within_6_percent() -> None:
    assert BY_NAME["GA100"].fitted
    assert BY_NAME["MI200"].fitted
    assert abs(BY_NAME["GA100"].error) <= 0.03
    assert abs(BY_NAME["MI200"].error) <= 0.06


def test_six_chips_that_were_not_fitted_are_within_20_percent_in_the_median() -> None:
    assert {die.name for die in dies() if not die.fitted} == {*JUDGED, "GB100"}
    carried = {name for die in dies() if not die.fitted for name in die.chips}
    for name in ("nvidia-t4", "nvidia-a2", "nvidia-l4", "nvidia-h100-sxm-80gb", "furiosaai-warboy", "furiosaai-rngd"):
        assert name in carried
    errors = [abs(BY_NAME[name].error) for name in JUDGED]
    assert np.median(errors) <= 0.20
    assert max(errors) <= 0.30


def test_no_die_is_both_fitted_and_judged_under_two_names() -> None:
    carried = [name for die in dies() for name in die.chips]
    assert len(carried) == len(set(carried))
    for die in dies():
        for name in die.chips:
            published = chip.load(name).die_area_mm2
            assert published is None or published == pytest.approx(die.area_mm2, rel=0.01)


def test_the_file_of_constants_is_what_the_fit_writes() -> None:
    on = [die for die in dies() if die.fitted]
    stored = tomllib.loads(text("silicon.toml"))
    constants = fit_silicon.fit(on)
    assert constants == pytest.approx(stored["constants"], rel=1e-3)
    assert tomllib.loads(fit_silicon.written(stored["constants"], on, stored["left_out"])) == stored
    assert set(stored["left_out"]) == {die.name for die in on}
    without = fit_silicon.fit([die for die in on if die.name != "TPUv1"])
    tpu = BY_NAME["TPUv1"]
    assert die_area(tpu.spec, without).total_mm2 / tpu.area_mm2 - 1 == pytest.approx(stored["left_out"]["TPUv1"], abs=2e-3)


def test_a_die_left_out_is_met_about_as_well() -> None:
    assert area_spread() <= 0.20


@given(st.sampled_from(SIZES), st.floats(1e-3, 1e6), st.sampled_from(KINDS), st.sampled_from(("n28", "n12", "n7", "n5", "n3")))
def test_more_of_anything_is_never_smaller(name, more, kind, node) -> None:
    spec = replace(SPEC, kind=kind, node=node)
    larger = replace(spec, **{name: getattr(spec, name) + more})
    assert die_area(larger).total_mm2 >= die_area(spec).total_mm2
    for block, value in die_area(larger).by_block().items():
        assert value >= getattr(die_area(spec), block)


@given(st.sampled_from(("int8", "int4", "fp8", "bf16", "fp32", "mxfp4")), st.floats(1, 1e6), st.floats(1.01, 10))
def test_more_macs_are_larger_and_another_format_is_never_smaller(name, macs, factor) -> None:
    one = die_area(replace(SPEC, macs={name: macs})).total_mm2
    assert die_area(replace(SPEC, macs={name: macs * factor})).total_mm2 > one
    assert die_area(replace(SPEC, macs={name: macs, "fp16": 1000.0})).total_mm2 >= one


def test_logic_shrinks_with_the_node_and_phys_do_not() -> None:
    areas = [die_area(replace(SPEC, node=node)) for node in ("n28", "n16", "n7", "n5", "n3")]
    for block in ("matrix", "vector", "sram", "memory", "total_mm2"):
        assert np.all(np.diff([getattr(area, block) for area in areas]) <= 0), block
    assert areas[-1].memory > 2 * 10.0


def test_an_array_of_designs_is_each_of_them_alone() -> None:
    nodes, kinds, units = np.array(["n7", "n5", "n3"]), np.array(["HBM3", "GDDR6", "LPDDR5X"]), np.array([2.0, 8.0, 4.0])
    many = die_area(replace(SPEC, node=nodes, memory_kind=kinds, memory_units=units, sram_bytes=units * 1e7))
    for i in range(3):
        one = replace(SPEC, node=str(nodes[i]), memory_kind=str(kinds[i]), memory_units=units[i], sram_bytes=units[i] * 1e7)
        assert many.total_mm2[i] == die_area(one).total_mm2
    assert shoreline_mm(replace(SPEC, memory_kind=kinds, memory_units=units)).tolist() == [2 * 10.7, 32.0, 16.0]


def test_blocks_add_up() -> None:
    assert sum(die_area(SPEC).by_block().values()) == pytest.approx(die_area(SPEC).total_mm2)
    assert reticle_mm2() == 858


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"kind": "cpu"}, "no kind of die is called 'cpu'"),
        ({"sram_bytes": -1.0}, "sram_bytes of the die is -1"),
        ({"vector_lanes": float("nan")}, "vector_lanes of the die is nan"),
        ({"macs": {"int8": -5.0}}, "macs of int8 on the die are -5"),
        ({"macs": {"int3": 5.0}}, "no area is known for MACs of 'int3'"),
    ],
)
def test_impossible_dies_are_refused(changes, problem) -> None:
    with pytest.raises(ChipError, match=problem):
        replace(SPEC, **changes)


def test_narrower_formats_take_less() -> None:
    ratios = [mac_ratio(name) for name in ("int4", "int8", "fp8", "bf16", "fp32")]
    assert np.all(np.diff(ratios) > 0)


def test_a_chip_outside_the_table_is_taken_by_its_figures() -> None:
    atom = chip.load("rebellions-atom")
    assert die_of(atom) is None
    assert missing(atom) == ("clock_hz (taken as 1 GHz)",)
    spec = spec_of(atom)
    assert spec.macs["int8"] == pytest.approx(64000)
    assert (spec.node, spec.kind, spec.memory_kind, spec.memory_units, spec.host) == ("n5", "accelerator", "GDDR6", 4, "pcie5")
    assert 50 < areas_of(atom).total_mm2 < 250


def test_a_gpu_outside_the_table_is_taken_as_one_of_its_family() -> None:
    mi300x = chip.load("amd-instinct-mi300x")
    spec = spec_of(mi300x)
    assert (spec.kind, spec.simt_lanes, spec.fp64_lanes) == ("cdna", 38 * 64, 38 * 64)
    assert areas_of(mi300x).total_mm2 == pytest.approx(1725, rel=0.15)  # all silicon: shared/facts/chips.csv
    assert "as it is built" in missing(mi300x)[0]
    orin = spec_of(chip.load("nvidia-jetson-agx-orin"))
    assert orin.kind == "graphics"
    assert orin.simt_lanes == pytest.approx(16 * 128, rel=0.01)


def test_dies_of_a_card_are_alike() -> None:
    ultra = chip.load("qualcomm-cloud-ai-100-ultra")
    assert ultra.dies == 4
    assert areas_of(ultra).total_mm2 == pytest.approx(4 * die_area(spec_of(ultra)).total_mm2)


@pytest.mark.parametrize(("name", "blank"), [("etched-sohu", "peak_ops_per_s"), ("aws-inferentia2", "process_node")])
def test_what_is_blank_is_named(name, blank) -> None:
    with pytest.raises(ChipError, match=f"needs {blank}"):
        spec_of(chip.load(name))


@pytest.mark.parametrize(
    ("kind", "rate", "size", "units"),
    [("HBM3", 1.5e12, 0, 2), ("HBM3E", 4.8e12, 0, 4), ("LPDDR5", 0, 16e9, 2), ("GDDR6", 320e9, 0, 5)],
)
def test_interfaces_follow_from_bandwidth_or_bytes(kind, rate, size, units) -> None:
    assert memory_units(kind, rate, size) == units
