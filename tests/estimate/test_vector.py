from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimate.drawn import LIBRARY, NOISE, at, figures, launched_faster, machines, streams
from presilicon.estimate import operator_cost, stack
from presilicon.estimate.cost import Kept
from presilicon.estimate.vector import elementwise_cost, embedding_cost, sampling_cost
from presilicon.graph import Elementwise, Embedding, Normalization, Sampling

H100 = LIBRARY["nvidia-h100-sxm-80gb"]
often = settings(max_examples=100, deadline=None)


def latency(m, op) -> float:
    return float(operator_cost(m, op).latency_s)


@given(machines(), streams())
@often
def test_figures_are_finite_and_bytes_at_least_the_unique_ones(m, op):
    cost = operator_cost(m, op)
    for name, value in figures(cost).items():
        assert np.isfinite(value), name
        assert value >= 0, name
    assert cost.dram_bytes >= op.unique_bytes
    assert cost.vector_ops == op.vector_ops


@given(machines(), streams(), st.floats(1.0, 10.0))
@often
def test_more_of_the_machine_is_never_slower(m, op, factor):
    before = latency(m, op) * NOISE
    assert latency(replace(m, memory_bytes_per_s=m.memory_bytes_per_s * factor), op) <= before
    assert latency(replace(m, vector_ops_per_s=m.vector_ops_per_s * factor), op) <= before
    assert latency(launched_faster(m, factor), op) <= before


@given(machines(), streams(), st.integers(1, 10_000))
@often
def test_more_work_is_never_faster(m, op, more):
    larger = replace(op, elements=op.elements + more) if isinstance(op, Elementwise) else replace(op, rows=op.rows + more)
    assert latency(m, larger) * NOISE >= latency(m, op)


@given(st.lists(machines(), min_size=2, max_size=4), streams())
@often
def test_an_array_of_chips_gives_the_same_bits(several, op):
    same = [replace(m, peak={"bf16": m.rate("bf16")}) for m in several]
    together = figures(operator_cost(stack(same), op))
    for i, m in enumerate(same):
        for name, value in figures(operator_cost(m, op)).items():
            assert at(together[name], (len(same),), (i,)) == float(value), name


def test_what_is_fused_takes_no_time_and_moves_nothing():
    cost = elementwise_cost(H100, Elementwise(name="x", elements=1e6, ops=4.0, fused=True))
    assert (cost.latency_s, cost.dram_bytes, cost.vector_ops) == (0.0, 0.0, 4e6)


def test_a_norm_streams_at_the_memorys_rate():
    op = Normalization(name="n", elements=8192 * 8192, reads=2.0, parameters=8192)
    cost = elementwise_cost(H100, op)
    assert cost.bound == "memory"
    assert cost.dram_bytes == 3 * 8192 * 8192 * 2 + 8192 * 2
    share = H100.constants.memory_share
    assert cost.latency_s == H100.constants.launch_s + cost.dram_bytes / (share * H100.memory_bytes_per_s)


def test_little_work_is_a_launch():
    assert elementwise_cost(H100, Elementwise(name="x", elements=1)).latency_s == pytest.approx(
        H100.constants.launch_s, rel=1e-3
    )


def test_many_operations_an_element_are_bound_by_the_vector_unit():
    op = Elementwise(name="x", elements=1e9, ops=1000.0)
    assert elementwise_cost(H100, op).latency_s == pytest.approx(1e12 / H100.vector_ops_per_s, rel=1e-3)


def test_what_stays_on_the_chip_does_not_move():
    op = Elementwise(name="x", elements=1000, parameters=500)
    assert elementwise_cost(H100, op, Kept(1.0, 1e9)).dram_bytes == 0.0
    assert elementwise_cost(H100, op, Kept(0.0, 1000.0)).dram_bytes == op.unique_bytes - 1000.0


def test_a_look_up_reads_its_rows_not_its_table():
    cost = embedding_cost(H100, Embedding(name="l", rows=10, width=4096, table_rows=128_256))
    assert cost.dram_bytes == 2 * 10 * 4096 * 2
    assert cost.vector_ops == 0


def test_sampling_reads_the_logits_once():
    cost = sampling_cost(H100, Sampling(name="s", rows=64, vocabulary=128_256))
    assert cost.dram_bytes == 64 * 128_256 * 4 + 64 * 4
    assert cost.vector_ops == 4 * 64 * 128_256
