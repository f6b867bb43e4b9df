from dataclasses import fields, replace
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimate.drawn import operators
from presilicon.dtypes import BF16, FP8, FP32, INT8
from presilicon.errors import ModelError
from presilicon.graph import (
    Attention,
    Collective,
    Convolution,
    Elementwise,
    Embedding,
    ExpertMatmul,
    Graph,
    Matmul,
    Normalization,
    Operator,
    Sampling,
)

COUNTED = ("macs", "vector_ops", "weight_elements", "weight_bytes", "input_bytes", "output_bytes", "touched_weight_bytes",
           "unique_bytes", "flops")  # fmt: skip


def attention(**other):
    values = {"batch": 1, "query_tokens": 4, "kv_tokens": 4, "heads": 4, "kv_heads": 2, "head_dim": 8, "value_dim": 8}
    return Attention(name="a", **(values | other))


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 14), st.booleans())
@settings(max_examples=300)
def test_pairs_and_reach_against_a_mask(queries, before, window, causal):
    kv = queries + before
    seen = np.zeros((queries, kv), dtype=bool)
    for i, j in product(range(queries), range(kv)):
        position = before + i
        seen[i, j] = (j <= position or not causal) and (window == 0 or position - j < window)
    op = attention(query_tokens=queries, kv_tokens=kv, window=window, causal=causal)
    if causal:
        assert float(op.pairs) == seen.sum()
        assert float(op.reach) == seen.any(axis=0).sum()
    else:  # a window without a mask: each query sees as many
        assert float(op.pairs) == queries * (min(window, kv) if window else kv)
    assert float(op.macs) == 4 * float(op.pairs) * 16


def test_decode_reads_its_window_and_keeps_no_more():
    op = attention(batch=3, query_tokens=1, kv_tokens=1000, window=128)
    entry = 2 * (8 + 8) * 2
    assert float(op.kv_read_bytes) == 3 * 128 * entry
    assert float(op.kv_cache_bytes) == 3 * 128 * entry
    assert float(replace(op, window=0, kv_cache=FP8).kv_cache_bytes) == 3 * 1000 * entry / 2
    assert replace(op, cached=False).kv_cache_bytes == 0


def test_latent_attention_stores_its_cache_once():
    op = attention(heads=128, kv_heads=1, head_dim=576, value_dim=512, shared_kv=True)
    assert op.kv_elements_per_token == 576
    assert replace(op, shared_kv=False).kv_elements_per_token == 576 + 512


@pytest.mark.parametrize(("experts", "per_token", "tokens"), [(4, 2, 1), (4, 2, 2), (5, 1, 3), (4, 3, 2), (6, 6, 2)])
def test_active_experts_against_every_possible_routing(experts, per_token, tokens):
    choices = list(combinations(range(experts), per_token))
    hit = [len(set().union(*routing)) for routing in product(choices, repeat=tokens)]
    op = ExpertMatmul(name="e", tokens=tokens, k=2, n=3, experts=experts, experts_per_token=per_token)
    assert float(op.active_experts) == pytest.approx(np.mean(hit), rel=1e-12)


@given(st.integers(1, 300), st.sampled_from([1, 2, 4, 8]), st.sampled_from([8, 64, 256]), st.sampled_from([1, 2, 8]))
def test_experts_shared_by_chips_add_up(tokens, per_token, experts, parts):
    whole = ExpertMatmul(name="e", tokens=tokens, k=16, n=32, experts=experts, experts_per_token=per_token)
    part = replace(whole, experts=experts / parts, routed_share=1 / parts)
    assert float(part.macs) * parts == pytest.approx(float(whole.macs))
    assert float(part.active_experts) * parts == pytest.approx(float(whole.active_experts))
    assert 0 < whole.active_experts <= min(experts, tokens * per_token) * (1 + 1e-12)
    assert whole.touched_weight_bytes <= whole.weight_bytes * (1 + 1e-12)


def test_a_matmul_by_hand():
    op = Matmul(name="m", m=3, k=5, n=7, groups=2, weights=INT8, activations=INT8, source=BF16, output=FP32, bias=True)
    assert op.macs == 2 * 3 * 5 * 7
    assert op.flops == 2 * op.macs
    assert op.weight_elements == 2 * (35 + 7)
    assert op.weight_bytes == op.touched_weight_bytes == 84
    assert op.input_bytes == 2 * 15 * 2
    assert op.output_bytes == 2 * 21 * 4
    two = replace(op, has_weights=False, weights=BF16)
    assert two.weight_bytes == 0
    assert two.input_bytes == 2 * 15 * 2 + 2 * 35 * 2


def test_a_convolution_by_hand():
    op = Convolution(
        name="c", batch=2, in_channels=8, out_channels=16, in_height=6, in_width=6, out_height=4, out_width=4,
        kernel_height=3, kernel_width=3, groups=4,
    )  # fmt: skip
    assert op.macs == 2 * 16 * 16 * 2 * 9
    assert op.weight_elements == 16 * (2 * 9 + 1)
    assert op.input_bytes == 2 * 8 * 36 * 2
    assert op.output_bytes == 2 * 16 * 16 * 2


def test_what_is_outside_the_matrix_units_by_hand():
    norm = Normalization(name="n", elements=100, reads=2, parameters=10)
    assert (norm.vector_ops, norm.input_bytes, norm.output_bytes, norm.weight_bytes) == (500, 400, 200, 20)
    fused = Elementwise(name="x", elements=100, ops=3, fused=True)
    assert (fused.vector_ops, fused.unique_bytes, fused.macs) == (300, 0, 0)
    table = Embedding(name="l", rows=2, width=8, table_rows=100)
    assert (table.weight_elements, table.touched_weight_bytes, table.unique_bytes) == (800, 32, 64)
    assert replace(table, held=False).weight_bytes == 0
    sampled = Sampling(name="s", rows=2, vocabulary=100)
    assert (sampled.vector_ops, sampled.input_bytes, sampled.output_bytes) == (800, 800, 8)
    assert Collective(name="r", collective="all_reduce", message_bytes=1e6, chips=4).unique_bytes == 0


@given(operators)
@settings(max_examples=200, deadline=None)
def test_an_array_of_sizes_counts_as_each_size(op):
    sizes = {f.name: getattr(op, f.name) for f in fields(op)
             if isinstance(getattr(op, f.name), int | float) and not isinstance(getattr(op, f.name), bool)
             and f.name not in ("count", "beams", "reads", "writes", "ops")}  # fmt: skip
    arrays = replace(op, **{name: np.array([value, value]) for name, value in sizes.items()})
    for name in COUNTED:
        one = float(getattr(op, name))
        assert np.broadcast_to(np.asarray(getattr(arrays, name), dtype=float), (2,)).tolist() == [one, one], name
        assert one >= 0
        assert np.isfinite(one)


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), np.array([1, -2]), np.array([1.0, np.nan])])
def test_a_size_is_finite_and_not_negative(bad):
    with pytest.raises(ModelError, match="not a size") as caught:
        Matmul(name="broken", m=bad, k=1, n=1)
    assert caught.value.where == "broken"
    with pytest.raises(ModelError):
        attention(heads=bad)


def test_the_base_operator_does_nothing():
    op = Operator(name="o")
    assert [getattr(op, name) for name in COUNTED] == [0] * len(COUNTED)


def test_a_graph_adds_its_repeats():
    matmul, norm = Matmul(name="m", m=1, k=2, n=3, count=4), Normalization(name="n", elements=5, parameters=5)
    graph = Graph("x", "decode", (matmul, norm, attention(count=2)))
    assert graph.macs == 4 * 6 + 2 * float(attention().macs)
    assert graph.parameters == 4 * 6 + 5
    assert graph.weight_bytes == 2 * 29
    assert float(graph.kv_cache_bytes) == 2 * float(attention().kv_cache_bytes)
    assert float(graph.unique_bytes) == sum(float(op.count * op.unique_bytes) for op in graph)
    assert list(graph) == list(graph.operators)
    assert graph.with_operators((norm,)).parameters == 5
    assert str(graph).splitlines()[0] == "graph x decode"
    assert "4 x matmul" in str(graph)
