from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon import chip
from presilicon.dtypes import BF16, FP8
from presilicon.errors import FormatError
from presilicon.estimate.attention import attention_cost
from presilicon.estimate.machine import Machine, machine, stack
from presilicon.graph import Attention

CHIPS = ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm-80gb", "nvidia-l4", "amd-instinct-mi300x", "furiosaai-rngd", "google-tpu-v5e")
MACHINES = {name: machine(chip.load(name)) for name in CHIPS}
# Rounding of sums in another order; a law may be off by that and no more.
NOISE = 1 + 1e-12


@st.composite
def operators(draw, few=None):
    kv_heads = draw(st.sampled_from([1, 2, 8]))
    query = draw(st.integers(1, 8) if few else st.integers(1, 5000))
    mla = draw(st.booleans())
    head_dim = 576 if mla else draw(st.sampled_from([64, 80, 128, 256]))
    return Attention(
        name="a",
        batch=draw(st.integers(1, 300)),
        query_tokens=query,
        kv_tokens=query + draw(st.integers(0, 40000)),
        heads=kv_heads * draw(st.sampled_from([1, 3, 8, 16, 128])),
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=512 if mla else head_dim,
        shared_kv=mla,
        window=draw(st.sampled_from([0, 0, 128, 4096])),
        causal=draw(st.booleans()),
        cached=draw(st.booleans()),
        activations=draw(st.sampled_from([BF16, FP8])),
        kv_cache=draw(st.sampled_from([BF16, FP8])),
    )


machines = st.sampled_from(CHIPS).map(MACHINES.__getitem__)


def latency(m: Machine, op: Attention) -> float:
    return float(attention_cost(m, op).latency_s)


@given(machines, operators())
@settings(max_examples=200, deadline=None)
def test_every_figure_is_finite_and_bytes_are_at_least_the_unique_ones(m, op):
    cost = attention_cost(m, op)
    for f in fields(cost):
        if f.name != "multiplied":
            assert np.isfinite(getattr(cost, f.name)), f.name
            assert getattr(cost, f.name) >= 0, f.name
    assert cost.latency_s > 0
    assert cost.dram_bytes >= op.unique_bytes / NOISE
    assert cost.latency_s >= cost.overhead_s


@given(machines, operators(), st.floats(1.0, 8.0))
@settings(max_examples=200, deadline=None)
def test_more_bandwidth_is_never_slower(m, op, factor):
    faster = replace(m, memory_bytes_per_s=m.memory_bytes_per_s * factor)
    assert latency(faster, op) <= latency(m, op) * NOISE


@given(machines, operators(), st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_more_cores_of_the_same_array_are_never_slower(m, op, more):
    m = replace(m, tdp_w=np.inf)
    factor = (m.cores + more) / m.cores
    larger = replace(
        m,
        cores=m.cores + more,
        vector_ops_per_s=m.vector_ops_per_s * factor,
        peak={name: rate * factor for name, rate in m.peak.items()},
    )
    assert latency(larger, op) <= latency(m, op) * NOISE


@given(machines, operators(), st.floats(1.0, 4.0))
@settings(max_examples=200, deadline=None)
def test_more_clock_is_never_slower(m, op, factor):
    m = replace(m, tdp_w=np.inf)
    quicker = replace(
        m,
        clock_hz=m.clock_hz * factor,
        vector_ops_per_s=m.vector_ops_per_s * factor,
        peak={name: rate * factor for name, rate in m.peak.items()},
    )
    assert latency(quicker, op) <= latency(m, op) * NOISE


@given(machines, operators(), st.floats(1.0, 16.0))
@settings(max_examples=100, deadline=None)
def test_more_scratchpad_is_never_slower(m, op, factor):
    assert latency(replace(m, scratchpad_bytes=m.scratchpad_bytes * factor), op) <= latency(m, op) * NOISE


@given(machines, operators(), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_more_sequences_are_never_faster(m, op, more):
    assert latency(m, replace(op, batch=op.batch + more)) >= latency(m, op) / NOISE


@given(machines, operators(), st.integers(1, 5000))
@settings(max_examples=200, deadline=None)
def test_a_longer_cache_is_never_faster(m, op, more):
    assert latency(m, replace(op, kv_tokens=op.kv_tokens + more)) >= latency(m, op) / NOISE


@given(machines, operators(), st.integers(1, 5000))
@settings(max_examples=200, deadline=None)
def test_more_new_tokens_are_never_faster(m, op, more):
    more_tokens = replace(op, query_tokens=op.query_tokens + more, kv_tokens=op.kv_tokens + more)
    assert latency(m, more_tokens) >= latency(m, op) / NOISE


@given(machines, operators(few=True), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_few_and_many_new_tokens_join(m, op, more):
    more_tokens = replace(op, query_tokens=op.query_tokens + more, kv_tokens=op.kv_tokens + more)
    assert latency(m, more_tokens) >= latency(m, op) / NOISE


@given(operators())
@settings(max_examples=100, deadline=None)
def test_an_array_of_chips_gives_the_same_bits(op):
    stacked = attention_cost(stack(list(MACHINES.values())), replace(op, activations=BF16))
    for i, m in enumerate(MACHINES.values()):
        alone = attention_cost(m, replace(op, activations=BF16))
        for f in fields(alone):
            if f.name != "multiplied":
                value = np.broadcast_to(np.asarray(getattr(stacked, f.name)), (len(CHIPS),))[i]
                assert value == np.asarray(getattr(alone, f.name)), f.name


def test_an_array_of_sizes_gives_the_same_bits():
    rng = np.random.default_rng(7)
    query = rng.integers(1, 3000, 200)
    sizes = {
        "batch": rng.integers(1, 64, 200),
        "query_tokens": np.where(np.arange(200) % 2, 1, query),
        "kv_tokens": query + rng.integers(0, 9000, 200),
        "window": rng.choice([0, 128], 200),
    }
    fixed = {"name": "a", "heads": 32, "kv_heads": 8, "head_dim": 128, "value_dim": 128}
    m = MACHINES["nvidia-h100-sxm-80gb"]
    together = attention_cost(m, Attention(**fixed, **sizes)).latency_s
    for i in range(200):
        assert together[i] == latency(m, Attention(**fixed, **{k: v[i] for k, v in sizes.items()}))


def prefill(**other):
    shape = {"batch": 4, "query_tokens": 8192, "kv_tokens": 8192, "heads": 32, "kv_heads": 8, "head_dim": 128, "value_dim": 128}
    return Attention(name="a", **(shape | other))


def test_a_causal_mask_halves_a_long_prefill():
    m = MACHINES["nvidia-h100-sxm-80gb"]
    assert latency(m, prefill()) == pytest.approx(latency(m, prefill(causal=False)) / 2, rel=0.1)


def test_chunks_take_about_as_long_as_the_whole():
    m = MACHINES["nvidia-h100-sxm-80gb"]
    chunks = sum(latency(m, prefill(query_tokens=1024, kv_tokens=1024 * (i + 1))) for i in range(8))
    assert latency(m, prefill()) < chunks < 1.2 * latency(m, prefill())


def test_a_long_cache_is_read_at_the_memorys_rate():
    for name in ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm-80gb", "furiosaai-rngd"):
        m = MACHINES[name]
        op = prefill(batch=64, query_tokens=1, kv_tokens=32768)
        assert 1.0 < latency(m, op) * m.memory_bytes_per_s / op.unique_bytes < 1.6, name


def test_an_encoder_takes_nothing_into_a_cache():
    m = MACHINES["nvidia-h100-sxm-80gb"]
    op = prefill(query_tokens=128, kv_tokens=128, causal=False)
    assert latency(m, replace(op, cached=False)) < latency(m, op)


def test_latent_attention_reads_its_cache_once():
    m = MACHINES["nvidia-h100-sxm-80gb"]
    op = prefill(batch=128, query_tokens=1, kv_tokens=4096, heads=128, kv_heads=1, head_dim=576, value_dim=512, shared_kv=True)
    assert attention_cost(m, op).dram_bytes == op.unique_bytes
    assert latency(m, op) < latency(m, replace(op, shared_kv=False))


def test_eight_bits_help_wide_heads_more_than_narrow_ones():
    m = MACHINES["nvidia-h100-sxm-80gb"]
    gains = [
        latency(m, prefill(head_dim=d, value_dim=d)) / latency(m, prefill(head_dim=d, value_dim=d, activations=FP8))
        for d in (64, 256)
    ]
    assert gains[0] < 1.05 < gains[1]


def test_a_chip_without_a_format_says_so():
    m = replace(MACHINES["nvidia-h100-sxm-80gb"], peak={"int4": 1e15})
    with pytest.raises(FormatError, match="no matrix unit"):
        attention_cost(m, prefill())
