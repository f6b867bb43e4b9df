from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimate.drawn import LIBRARY, machines, more_cores
from presilicon import chip
from presilicon.chip import Chip, Link, Memory
from presilicon.errors import ChipError, FormatError
from presilicon.estimate import Load, machine, operator_cost, service_cost, stack
from presilicon.estimate.energy import tdp_w
from presilicon.estimate.machine import LARGEST_TILE_SCALE
from presilicon.frontend import load
from presilicon.graph import Matmul

READY = [c for c in chip.library() if not c.missing()]


def test_every_chip_that_says_enough_becomes_a_machine():
    assert len(READY) > 60
    for c in READY:
        found = machine(c)
        for f in fields(found):
            if f.name not in ("peak", "constants", "tdp_w"):
                value = getattr(found, f.name)
                unknown = c.memory is None and f.name in ("memory_bytes", "shared_sram_bytes", "scratchpad_bytes")
                assert 0 < value < np.inf or (value == np.inf and unknown), (c.name, f.name)
        assert found.tdp_w == (c.tdp_w or np.inf)
        assert found.tile_scale >= 1
        assert 0 < tdp_w(found) < 1e5
        assert dict(found.peak) == dict(c.peak_ops_per_s)


def test_a_blank_that_is_needed_is_named():
    with pytest.raises(ChipError, match=r"memory.bytes_per_s is not published"):
        machine(Chip("x", peak_ops_per_s={"int8": 1e12}, memory=Memory(bytes=1e9)))
    with pytest.raises(ChipError, match=r"peak_ops_per_s.* is not published"):
        machine(Chip("x", memory=Memory(bytes=1e9, bytes_per_s=1e9)))


def test_blanks_that_can_do_without_get_what_their_absence_means():
    bare = machine(Chip("x", peak_ops_per_s={"bf16": 1e12}, memory=Memory(bytes_per_s=1e11)))
    assert (bare.cores, bare.clock_hz, bare.tdp_w) == (1.0, 1e9, np.inf)
    assert bare.vector_ops_per_s == 1e12 * bare.constants.vector_share
    assert bare.link_bytes_per_s == bare.host_bytes_per_s == 16e9
    assert bare.memory_bytes == bare.shared_sram_bytes
    hosted = machine(Chip("x", peak_ops_per_s={"bf16": 1e12}, memory=Memory(bytes_per_s=1e11), host=Link(bytes_per_s=32e9)))
    assert hosted.link_bytes_per_s == 32e9
    on_chip = machine(Chip("x", peak_ops_per_s={"int8": 1e15}, shared_sram_bytes=2e8))
    assert on_chip.memory_bytes == 2e8
    assert on_chip.memory_bytes_per_s == on_chip.constants.sram_bytes_per_op * 1e15


def test_large_scratchpads_are_memory_and_small_ones_are_not():
    parts = {"peak_ops_per_s": {"int8": 1e12}, "memory": Memory(bytes_per_s=1e11), "cores": 8, "shared_sram_bytes": 1e6}
    assert machine(Chip("x", scratchpad_bytes=2e6, **parts)).shared_sram_bytes == 17e6
    assert machine(Chip("x", scratchpad_bytes=2e5, **parts)).shared_sram_bytes == 1e6


def test_idle_power_that_is_published_replaces_the_familys_share():
    c = replace(chip.load("nvidia-h100-sxm-80gb"), idle_w=70.0)
    assert machine(c).constants.static_share == 0.1


def test_a_format_that_is_missing_is_widened():
    h100, a100, tpu = (LIBRARY[n] for n in ("nvidia-h100-sxm-80gb", "nvidia-a100-sxm-80gb", "google-tpu-v5e"))
    assert [h100.native(f) for f in ("fp8", "nvfp4", "int4", "bf16")] == ["fp8", "fp8", "int8", "bf16"]
    assert a100.native("fp8") == "fp16"
    assert tpu.native("fp8") == "bf16"
    assert h100.has("fp8")
    assert not h100.has("mxfp4")
    with pytest.raises(FormatError, match="no matrix unit for fp8"):
        replace(h100, peak={"int8": 1e15}).rate("fp8")


@given(machines(), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_tiles_follow_the_array_of_a_core(m, factor):
    larger = more_cores(m, float(factor))
    assert larger.tile_scale == m.tile_scale
    assert larger.tiles_at_once == pytest.approx(m.tiles_at_once * factor)
    assert replace(m, peak={"int8": 1e15}).tile_scale == m.tile_scale
    assert m.cores <= m.tiles_at_once
    wider = replace(m, array_macs=16.0 * max(m.array_macs, 1024.0))
    assert wider.tile_scale == LARGEST_TILE_SCALE
    assert wider.tiles_at_once == pytest.approx(m.cores * 4.0 * max(m.array_macs / 1024.0, 1.0), rel=0.2)


def test_the_array_of_a_core_is_that_of_16_bits_or_what_narrower_formats_say_of_it():
    c = chip.load("nvidia-h100-sxm-80gb")
    assert machine(c).array_macs == pytest.approx(2048, rel=0.001)  # 989.4 TFLOPS over 132 cores at 1.83 GHz
    narrow = replace(c, peak_ops_per_s={"int8": c.peak_ops_per_s["fp8"]})
    assert machine(narrow).array_macs == pytest.approx(2048, rel=0.001)
    assert machine(replace(narrow, cores=66)).array_macs == pytest.approx(4096, rel=0.001)


def test_a_stack_keeps_the_formats_that_all_have_and_every_figure():
    both = [LIBRARY["nvidia-a100-sxm-80gb"], LIBRARY["nvidia-h100-sxm-80gb"]]
    joined = stack(both)
    assert "fp8" not in joined.peak
    assert {"bf16", "int8"} <= set(joined.peak)
    for f in fields(joined):
        if f.name not in ("peak", "constants"):
            assert getattr(joined, f.name).tolist() == [getattr(m, f.name) for m in both]
    assert joined.tile_scale.tolist() == [m.tile_scale for m in both]
    assert joined.constants.launch_s.tolist() == [m.constants.launch_s for m in both]


def test_a_reshaped_stack_crosses_with_sizes():
    both = [LIBRARY["nvidia-a100-sxm-80gb"], LIBRARY["nvidia-h100-sxm-80gb"]]
    rows = np.array([1, 16, 300, 4096])
    grid = operator_cost(stack(both).reshaped(1), Matmul(name="m", m=rows, k=4096, n=4096)).latency_s
    assert grid.shape == (2, 4)
    for i, m in enumerate(both):
        for j, one in enumerate(rows):
            assert grid[i, j] == operator_cost(m, Matmul(name="m", m=one, k=4096, n=4096)).latency_s
    assert LIBRARY["nvidia-l4"].reshaped(3).cores == LIBRARY["nvidia-l4"].cores


@pytest.mark.parametrize("name", ["llama-3.1-8b", "openai/gpt-oss-120b"])
def test_all_chips_at_once_give_the_bits_of_each_alone(name):
    model = load(name)
    formats = replace(model.default_formats, weights=model.default_formats.activations)
    chosen = [m for m in map(machine, READY) if "bf16" in m.peak]
    batch = np.array([1, 16, 256])
    load_ = Load(batch, 777, 99)
    together = service_cost(stack(chosen).reshaped(1), model, load_, formats=formats)
    for i, m in enumerate(chosen):
        one = service_cost(m, model, load_, formats=formats)
        for figure in ("prefill_s", "time_per_output_token_s", "energy_j", "memory_bytes", "memory_limit_bytes"):
            expected = np.broadcast_to(getattr(one, figure), (3,))
            found = np.broadcast_to(getattr(together, figure), (len(chosen), 3))[i]
            assert found.tolist() == expected.tolist(), (READY[i].name, figure)


def test_networks_have_constants_of_their_own():
    m = LIBRARY["nvidia-h100-sxm-80gb"]
    engine = m.for_networks()
    assert engine.constants.launch_s == m.constants.network_launch_s
    assert engine.constants.matmul_share == m.constants.network_share
    assert engine.peak == m.peak
    few = replace(m, constants=replace(m.constants, sample_cores=33.0))
    assert few.for_networks(1).rate("bf16") == pytest.approx(m.rate("bf16") / 4)
    assert few.for_networks(np.array([1.0, 8.0])).rate("bf16").tolist() == [few.for_networks(1).rate("bf16"), m.rate("bf16")]
