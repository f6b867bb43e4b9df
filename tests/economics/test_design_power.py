"""Energy and power of designs, beside the measured silicon they rest on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon import chip
from presilicon.economics import power
from presilicon.economics.dies import die_of
from presilicon.economics.quantity import memory_kind, table
from presilicon.estimate import energy
from presilicon.estimate.machine import machine

NODES = tuple(table("nodes"))


def test_every_energy_has_a_source_and_lies_in_its_range() -> None:
    assert len(power.energies()) > 40
    for name, one in power.energies().items():
        assert all((one.source, one.date, one.unit)), name


def test_a_gpu_costs_what_was_fitted_on_h200() -> None:
    h200 = machine(chip.load("nvidia-h200-sxm-141gb"))
    for name in ("bf16", "fp8"):
        assert power.operation_j(name, "n4", kind="gpu") == pytest.approx(float(energy.operation_j(h200, name)))
    assert power.dram_j_per_byte("HBM3E") == pytest.approx(float(h200.constants.dram_j_per_byte), rel=1e-3)


def test_idle_power_is_that_of_h200_and_b200() -> None:
    for name in ("nvidia-h200-sxm-141gb", "nvidia-b200-sxm-180gb"):
        one = chip.load(name)
        assert power.static_w(one.die_area_mm2 * one.dies, "n4") == pytest.approx(one.idle_w, rel=0.03)


@given(st.sampled_from(NODES), st.sampled_from(("int8", "fp8", "bf16", "fp32")))
def test_an_array_of_macs_takes_less_than_a_gpu(node, name) -> None:
    assert 0 < power.operation_j(name, node) < power.operation_j(name, node, kind="gpu")
    low, value, high = (power.operation_j_per_bit(node, "accelerator", end) for end in ("low", "value", "high"))
    assert low < value < high


def test_wider_numbers_and_older_nodes_take_more() -> None:
    assert np.all(np.diff([power.operation_j(name, "n5") for name in ("int4", "int8", "bf16", "fp32")]) > 0)
    assert np.all(np.diff([power.operation_j("int8", node) for node in ("n3", "n5", "n7", "n12", "n28")]) > 0)
    assert power.sram_j_per_byte("n7") == pytest.approx(1.5e-12)
    assert power.sram_j_per_byte("n3") < power.sram_j_per_byte("n7")


def test_memories_take_what_their_devices_and_the_way_take() -> None:
    kinds = np.array(["HBM3E", "HBM3", "GDDR6", "LPDDR5", "LPDDR4X", "DDR4"])
    found = power.dram_j_per_byte(kinds)
    assert found.tolist() == [power.dram_j_per_byte(str(kind)) for kind in kinds]
    assert found[0] < found[1] < found[3] < found[2]


def test_published_tdps_are_the_share_that_is_told_of_the_power_without_throttling() -> None:
    best: dict[str, float] = {}
    for one in chip.library():
        die = die_of(one)
        if die is None or not (one.tdp_w and one.memory and one.memory.bytes_per_s):
            continue
        kind = die.spec.kind if die.spec.kind == "accelerator" else "gpu"
        rates = {name: rate for name, rate in one.peak_ops_per_s.items() if name in ("bf16", "fp16", "int8", "fp8")}
        matrix_w = max(rate * power.operation_j(name, str(die.spec.node), kind) for name, rate in rates.items())
        whole = power.design_power_w(
            static_w=power.static_w(die.area_mm2 * one.dies, str(die.spec.node)),
            operations_per_s=1.0,
            operation_j=matrix_w,
            dram_bytes_per_s=one.memory.bytes_per_s,
            dram_j_per_byte=power.dram_j_per_byte(memory_kind(one.memory.kind)),
            active_share=0.21,
        )
        best[die.name] = max(best.get(die.name, 0.0), one.tdp_w / float(whole))
    told = power.tdp_share()
    assert len(best) >= 14
    assert np.median(list(best.values())) == pytest.approx(told.value, abs=0.01)
    assert min(best.values()) == pytest.approx(told.low, abs=0.01)
    assert max(best.values()) == pytest.approx(told.high, abs=0.01)
