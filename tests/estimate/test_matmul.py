from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimate.drawn import (
    LIBRARY,
    NOISE,
    at,
    convolutions,
    expert_matmuls,
    figures,
    launched_faster,
    machines,
    matmuls,
    more_cores,
)
from presilicon.dtypes import BF16, FP8, FP32, INT4, INT8
from presilicon.errors import FormatError
from presilicon.estimate import operator_cost, stack
from presilicon.estimate.cost import Kept
from presilicon.estimate.matmul import convolution_cost, expert_cost, matmul_cost, multiplied_format
from presilicon.graph import Convolution, ExpertMatmul, Matmul

H100 = LIBRARY["nvidia-h100-sxm-80gb"]
any_matmul = st.one_of(matmuls(), expert_matmuls(), convolutions())
often = settings(max_examples=100, deadline=None)


def latency(m, op) -> float:
    return float(operator_cost(m, op).latency_s)


@given(machines(), any_matmul)
@often
def test_figures_are_finite_and_bytes_at_least_the_unique_ones(m, op):
    cost = operator_cost(m, op)
    for name, value in figures(cost).items():
        assert np.isfinite(value), name
        assert value >= 0, name
    assert cost.dram_bytes * NOISE >= op.unique_bytes
    assert cost.latency_s >= cost.overhead_s > 0
    assert cost.latency_s * NOISE >= cost.memory_s


@given(machines(), any_matmul)
@often
def test_no_rate_above_the_peak_is_reached(m, op):
    cost = operator_cost(m, op)
    least = 2.0 * op.macs / m.rate(cost.multiplied)
    if isinstance(op, Convolution):
        least = min(least, 2.0 * op.macs / m.vector_ops_per_s)
    # A wave's loss is a fit on GPUs: the tile's share of the rate stays below the peak, whatever the number of tiles.
    assert cost.latency_s * NOISE >= least


@given(machines(), any_matmul, st.floats(1.0, 10.0))
@often
def test_more_bandwidth_is_never_slower(m, op, factor):
    faster = replace(m, memory_bytes_per_s=m.memory_bytes_per_s * factor)
    assert latency(faster, op) <= latency(m, op) * NOISE


@given(machines(), any_matmul, st.integers(1, 64))
@often
def test_more_cores_of_the_same_array_are_never_slower(m, op, more):
    assert latency(more_cores(m, (m.cores + more) / m.cores), op) <= latency(more_cores(m, 1.0), op) * NOISE


@given(machines(), any_matmul, st.floats(1.0, 4.0))
@often
def test_a_higher_clock_is_never_slower(m, op, factor):
    base = replace(m, tdp_w=np.inf)
    quicker = replace(more_cores(m, factor), cores=m.cores, clock_hz=m.clock_hz * factor)
    assert latency(quicker, op) <= latency(base, op) * NOISE


@given(machines(), any_matmul, st.floats(1.0, 100.0))
@often
def test_a_lower_launch_time_is_never_slower(m, op, factor):
    assert latency(launched_faster(m, factor), op) <= latency(m, op) * NOISE


@given(machines(), any_matmul, st.floats(1.0, 4.0))
@often
def test_a_higher_power_limit_is_never_slower(m, op, factor):
    base = replace(m, tdp_w=np.where(np.isfinite(m.tdp_w), m.tdp_w, 100.0))
    # Energies per operation are held: those that are derived from the TDP rise with it.
    base = replace(base, constants=replace(base.constants, operation_j_per_bit=3e-14))
    assert latency(replace(base, tdp_w=base.tdp_w * factor), op) <= latency(base, op) * NOISE


@given(machines(), st.one_of(matmuls(), expert_matmuls()), st.integers(1, 3000))
@often
def test_more_tokens_are_never_faster(m, op, more):
    larger = replace(op, m=op.m + more) if isinstance(op, Matmul) else replace(op, tokens=op.tokens + more)
    assert latency(m, larger) * NOISE >= latency(m, op)


@given(machines(), matmuls(), st.sampled_from(["k", "n", "groups"]), st.integers(1, 3000))
@often
def test_a_larger_matmul_is_never_faster(m, op, name, more):
    assert latency(m, replace(op, **{name: getattr(op, name) + more})) * NOISE >= latency(m, op)


@given(machines(), convolutions(), st.integers(1, 64))
@often
def test_more_images_are_never_faster(m, op, more):
    assert latency(m, replace(op, batch=op.batch + more)) * NOISE >= latency(m, op)


@given(machines(), st.one_of(matmuls(), convolutions()), st.floats(0.0, 1.0), st.floats(0.0, 1e7))
@often
def test_what_stays_on_the_chip_saves_its_bytes_and_never_time(m, op, share, room):
    kept = Kept(weights_share=share, activation_bytes=room)
    cost, without = operator_cost(m, op, kept), operator_cost(m, op)
    assert cost.latency_s <= without.latency_s * NOISE
    assert cost.dram_bytes <= without.dram_bytes * NOISE
    assert float(operator_cost(m, op, Kept(1.0, 1e30)).memory_s) == 0.0


def alone(m, formats=("bf16", "fp8", "int8")):
    """The machine with formats that all have: what a chip multiplies natively differs otherwise."""
    return replace(m, peak={name: m.rate("bf16") * (1 if name == "bf16" else 2) for name in formats})


@given(st.lists(machines(), min_size=2, max_size=5), any_matmul)
@often
def test_an_array_of_chips_gives_the_same_bits(several, op):
    several = [alone(m) for m in several]
    together = figures(operator_cost(stack(several), op))
    for i, m in enumerate(several):
        for name, value in figures(operator_cost(m, op)).items():
            assert at(together[name], (len(several),), (i,)) == float(value), name


@given(machines(), matmuls(), st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), min_size=1, max_size=6))
@often
def test_an_array_of_sizes_gives_the_same_bits(m, op, shapes):
    rows, columns = (np.array(v) for v in zip(*shapes, strict=True))
    together = figures(matmul_cost(m, replace(op, m=rows, n=columns)))
    for i, (one, other) in enumerate(shapes):
        for name, value in figures(matmul_cost(m, replace(op, m=one, n=other))).items():
            assert at(together[name], (len(shapes),), (i,)) == float(value), name


def test_a_large_matmul_reaches_most_of_its_rate():
    op = Matmul(name="m", m=8192, k=8192, n=8192)
    cost = matmul_cost(replace(H100, tdp_w=np.inf), op)
    assert 0.8 < 2.0 * op.macs / H100.rate("bf16") / cost.latency_s <= 1.0
    assert cost.bound == "compute"
    assert matmul_cost(H100, op).bound == "power"


def test_one_row_streams_its_weights():
    op = Matmul(name="m", m=1, k=8192, n=28672)
    cost = matmul_cost(H100, op)
    assert cost.bound == "memory"
    assert 0.75 < op.unique_bytes / H100.memory_bytes_per_s / cost.latency_s < 1.0


def test_a_tile_more_than_a_wave_costs_another_wave():
    m = replace(H100, tdp_w=np.inf, memory_bytes_per_s=1e18)
    tiles = [latency(m, Matmul(name="m", m=256 * 11, k=16384, n=128 * n)) for n in (12, 13)]  # of 132 cores, 132 and 143
    assert tiles[1] / tiles[0] > 1.15
    assert latency(m, Matmul(name="m", m=256 * 11, k=16384, n=128 * 12 - 127)) == pytest.approx(tiles[0], rel=0.1)


def test_a_split_of_k_keeps_cores_busy_where_there_are_few_tiles():
    m = replace(H100, tdp_w=np.inf)
    op = Matmul(name="m", m=64, k=65536, n=64)
    work_s = 2.0 * op.macs / (m.rate("bf16") / m.cores * m.constants.matmul_share)
    assert latency(m, op) < work_s / 2  # one core alone would take the whole


def test_converting_activations_costs_a_launch_and_its_traffic():
    op = Matmul(name="m", m=4096, k=4096, n=4096, weights=FP8, activations=FP8, source=FP8)
    narrow, wide = matmul_cost(H100, op), matmul_cost(H100, replace(op, source=BF16))
    assert wide.latency_s > narrow.latency_s + H100.constants.quantize_s
    assert wide.dram_bytes == narrow.dram_bytes + 4096 * 4096 * 3
    # A chip without the format multiplies what arrives: nothing is converted.
    a100 = LIBRARY["nvidia-a100-sxm-80gb"]
    cost = matmul_cost(a100, replace(op, source=BF16))
    assert (cost.multiplied, cost.overhead_s) == ("fp16", a100.constants.launch_s)


def test_narrow_weights_move_less_and_are_multiplied_wide():
    op = Matmul(name="m", m=1, k=8192, n=8192)
    cost = matmul_cost(H100, replace(op, weights=INT4))
    assert cost.multiplied == "bf16"
    assert cost.dram_bytes < matmul_cost(H100, op).dram_bytes / 3.9
    assert multiplied_format(H100, INT4, INT8) == "int8"


def test_a_format_that_the_chip_lacks_is_refused():
    m = replace(H100, peak={"int8": 1e15})
    with pytest.raises(FormatError, match="no matrix unit for bf16") as caught:
        matmul_cost(m, Matmul(name="m", m=1, k=1, n=1))
    assert "int8" in caught.value.hint
    with pytest.raises(FormatError):
        matmul_cost(m, Matmul(name="m", m=1, k=1, n=1, weights=FP32, activations=FP32, source=FP32))


def experts(**other):
    values = {"tokens": 256, "k": 2880, "n": 5760, "experts": 128, "experts_per_token": 4}
    return ExpertMatmul(name="e", **(values | other))


def test_few_tokens_read_few_experts():
    one = expert_cost(H100, experts(tokens=1))
    assert one.dram_bytes == pytest.approx(4 * 2880 * 5760 * 2, rel=0.01)
    assert expert_cost(H100, experts(tokens=4096)).dram_bytes == pytest.approx(experts(tokens=4096).unique_bytes)


def test_many_tokens_cost_as_a_matmul_of_all_routes_and_the_fullest_expert_more():
    m = replace(H100, tdp_w=np.inf)
    even = replace(m, constants=replace(m.constants, imbalance=1.0))
    op = experts(tokens=65536, experts=8, experts_per_token=2)
    dense = Matmul(name="m", m=65536 * 2, k=2880, n=5760)
    assert latency(even, op) == pytest.approx(latency(m, dense), rel=0.1)
    assert latency(even, op) < latency(m, op) < 1.3 * latency(even, op)


def test_a_pointwise_convolution_is_a_matmul():
    conv = Convolution(
        name="c", batch=8, in_channels=256, out_channels=512, in_height=28, in_width=28, out_height=28, out_width=28, bias=False
    )
    dense = Matmul(name="m", m=8 * 28 * 28, k=256, n=512)
    assert conv.macs == dense.macs
    assert convolution_cost(H100, conv).latency_s == matmul_cost(H100, dense).latency_s


def test_a_depthwise_convolution_goes_to_the_cheaper_unit():
    conv = Convolution(
        name="c", batch=32, in_channels=512, out_channels=512, in_height=14, in_width=14, out_height=14, out_width=14,
        kernel_height=3, kernel_width=3, groups=512,
    )  # fmt: skip
    m = replace(H100, tdp_w=np.inf)
    cost = convolution_cost(m, conv)
    assert cost.latency_s <= m.constants.launch_s + max(cost.memory_s, 2.0 * conv.macs / m.vector_ops_per_s)
    assert cost.macs == conv.macs
    weak = replace(m, vector_ops_per_s=1e9)
    assert convolution_cost(weak, conv).latency_s < 2.0 * conv.macs / 1e9
