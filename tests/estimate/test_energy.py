from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.chip import load
from presilicon.estimate.cost import Cost
from presilicon.estimate.energy import (
    LIMIT_SHARE,
    cost_energy_j,
    energy_j,
    operation_j,
    power_limited_s,
    static_w,
    tdp_w,
)
from presilicon.estimate.machine import machine, stack

PLAIN = machine(load("nvidia-h200-sxm-141gb"))
HOPPER = {"operation_j_per_bit": 3.24e-14, "dram_j_per_byte": 7.9e-11, "static_share": 0.179, "active_share": 0.21}
H200 = replace(PLAIN, constants=replace(PLAIN.constants, **HOPPER, voltage_slope=0.5))
DERIVED = replace(H200, constants=replace(H200.constants, operation_j_per_bit=0.0))
UNKNOWN = replace(DERIVED, tdp_w=float("inf"))
machines = st.sampled_from([H200, DERIVED, UNKNOWN])
works = st.floats(0.0, 1e16)
bytes_moved = st.floats(0.0, 1e12)
times = st.floats(0.0, 10.0)
factors = st.floats(1.0, 1e3)
formats = st.sampled_from(["bf16", "fp8", "int8", "fp32", "nvfp4"])


@given(machines, times, formats, works, works, bytes_moved, bytes_moved, bytes_moved)
def test_energy_lies_between_static_and_the_limit(m, t, dtype, macs, vector, dram, sram, link):
    e = energy_j(m, t, multiplied=dtype, macs=macs, vector_ops=vector, dram_bytes=dram, sram_bytes=sram, link_bytes=link)
    assert e >= static_w(m) * t >= 0
    assert e <= LIMIT_SHARE * tdp_w(m) * t * (1 + 1e-12)


@given(
    machines,
    times,
    works,
    bytes_moved,
    factors,
    st.sampled_from(["macs", "vector_ops", "dram_bytes", "sram_bytes", "link_bytes"]),
)
def test_more_work_or_bytes_never_cost_less_nor_take_less(m, t, macs, dram, factor, name):
    work = {"macs": macs, "dram_bytes": dram, "vector_ops": macs, "sram_bytes": dram, "link_bytes": dram}
    more = work | {name: work[name] * factor}
    assert energy_j(m, t, **more) >= energy_j(m, t, **work)
    assert power_limited_s(m, **more) >= power_limited_s(m, **work) * (1 - 1e-12)


@given(st.sampled_from([H200, DERIVED]), works, bytes_moved, factors)
def test_more_tdp_is_never_slower(m, macs, dram, factor):
    more = replace(m, tdp_w=m.tdp_w * factor)
    slow = power_limited_s(m, macs=macs, dram_bytes=dram)
    assert power_limited_s(more, macs=macs, dram_bytes=dram) <= slow * (1 + 1e-12)


@given(st.floats(1e9, 1e16), bytes_moved)
def test_at_the_limit_power_is_the_limit(macs, dram):
    t = power_limited_s(H200, macs=macs, dram_bytes=dram) + H200.constants.launch_s + H200.constants.wave_s
    full = 2 * macs / H200.rate("bf16")
    if t > 1e-3 and t > 1.01 * full:
        assert energy_j(H200, t, macs=macs, dram_bytes=dram) / t == pytest.approx(LIMIT_SHARE * H200.tdp_w, rel=0.01)


@given(st.sampled_from(["bf16", "fp8", "int8"]), st.lists(works, min_size=1, max_size=6), bytes_moved, times)
def test_array_equals_scalar_bit_for_bit(dtype, macs, dram, t):
    ones = [H200, DERIVED, UNKNOWN, replace(H200, tdp_w=350.0)]
    many = stack(ones).reshaped(1)
    values = np.array(macs)
    energy = energy_j(many, t, multiplied=dtype, macs=values, dram_bytes=dram)
    least = power_limited_s(many, multiplied=dtype, macs=values, dram_bytes=dram)
    for i, one in enumerate(ones):
        for j, work in enumerate(macs):
            assert energy[i, j] == energy_j(one, t, multiplied=dtype, macs=work, dram_bytes=dram)
            assert least[i, j] == power_limited_s(one, multiplied=dtype, macs=work, dram_bytes=dram)


def test_without_a_published_tdp_nothing_is_limited_and_power_is_derived():
    assert power_limited_s(UNKNOWN, macs=1e15) == 0.0
    assert tdp_w(UNKNOWN) == pytest.approx(700.0, rel=0.02)
    assert np.isfinite(energy_j(UNKNOWN, 1e-3, macs=1e12))


def test_formats_cost_as_their_bits():
    assert operation_j(H200, "fp8") / operation_j(H200, "bf16") == pytest.approx(13 / 21)
    assert operation_j(DERIVED, "fp8") < operation_j(DERIVED, "bf16")


@pytest.mark.parametrize(("dtype", "flop_per_j"), [("bf16", 0.99e-12), ("fp8", 0.62e-12)])
def test_large_matmuls_of_h200_cost_what_was_measured(dtype, flop_per_j):
    m = n = k = 16384.0
    width = 2.0 if dtype == "bf16" else 1.0
    dram = (m + n) * k * width + 2 * m * n
    t = power_limited_s(H200, multiplied=dtype, macs=m * n * k, dram_bytes=dram)
    energy = energy_j(H200, t, multiplied=dtype, macs=m * n * k, dram_bytes=dram)
    assert energy / (2 * m * n * k) == pytest.approx(flop_per_j, rel=0.1)


def test_cost_energy_takes_all_parts_of_a_cost():
    parts = {"macs": 1e9, "vector_ops": 1e6, "dram_bytes": 1e7, "sram_bytes": 1e6, "link_bytes": 1e5}
    assert cost_energy_j(H200, Cost(latency_s=1e-3, multiplied="fp8", **parts)) == energy_j(
        H200, 1e-3, multiplied="fp8", **parts
    )
