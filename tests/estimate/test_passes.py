from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimate.drawn import LIBRARY, NOISE, at, figures, graphs, launched_faster, machines, more_cores
from presilicon.dtypes import Formats
from presilicon.estimate import operator_cost, pass_cost, stack
from presilicon.estimate.energy import cost_energy_j, static_w
from presilicon.estimate.passes import kept_on_chip
from presilicon.frontend import load
from presilicon.graph import Elementwise, Graph, Matmul, Operator

H100 = LIBRARY["nvidia-h100-sxm-80gb"]
MODELS = {name: load(name) for name in ("llama-3.1-8b", "openai/gpt-oss-120b", "deepseek-v3")}
often = settings(max_examples=60, deadline=None)


@given(machines(), graphs())
@often
def test_operators_costed_together_give_the_bits_of_each_alone(m, graph):
    cost = pass_cost(m, graph)
    kept = kept_on_chip(m, graph)
    own = m.for_networks(graph.samples) if graph.phase == "inference" else m
    total = 0.0
    for op, found in zip(graph.operators, cost.costs, strict=True):
        alone = operator_cost(own, op, kept)
        assert found.multiplied == alone.multiplied
        for name, value in figures(alone).items():
            assert np.all(figures(found)[name] == value), name
        total = total + op.count * float(alone.latency_s)
    assert float(cost.latency_s) == total


@given(machines(), graphs(), st.floats(1.0, 8.0))
@often
def test_more_of_the_machine_is_never_slower(m, graph, factor):
    def latency(machine):
        return float(pass_cost(machine, graph).latency_s)

    unlimited = replace(m, tdp_w=np.inf)
    before, alone = latency(m) * NOISE, latency(unlimited) * NOISE
    assert latency(replace(m, memory_bytes_per_s=m.memory_bytes_per_s * factor)) <= before
    assert latency(replace(m, memory_bytes=m.memory_bytes * factor)) <= before
    assert latency(replace(m, shared_sram_bytes=m.shared_sram_bytes * factor)) <= before
    assert latency(replace(m, scratchpad_bytes=m.scratchpad_bytes * factor)) <= before
    assert latency(launched_faster(m, factor)) <= before
    assert latency(more_cores(m, (m.cores + np.ceil(factor)) / m.cores)) <= alone


@given(machines(), graphs())
@often
def test_a_pass_takes_energy_and_at_least_the_static_power(m, graph):
    cost = pass_cost(m, graph)
    energy = float(cost.energy_j(m))
    assert np.isfinite(energy)
    assert energy * NOISE >= float(static_w(m)) * float(cost.latency_s)
    parts = sum(op.count * float(cost_energy_j(m, one)) for op, one in zip(graph.operators, cost.costs, strict=True))
    assert energy == pytest.approx(parts, rel=1e-12)


@given(st.lists(machines(), min_size=2, max_size=4), graphs())
@often
def test_an_array_of_chips_gives_the_same_bits(several, graph):
    same = [replace(m, peak={"bf16": m.rate("bf16"), "fp8": 2 * m.rate("bf16"), "int8": 2 * m.rate("bf16")}) for m in several]
    joined = stack(same)
    together = pass_cost(joined, graph)
    latency, energy = together.latency_s, together.energy_j(joined)
    for i, m in enumerate(same):
        alone = pass_cost(m, graph)
        assert at(latency, (len(same),), (i,)) == float(alone.latency_s)
        assert at(energy, (len(same),), (i,)) == float(alone.energy_j(m))


@given(machines(), st.sampled_from(sorted(MODELS)), st.integers(1, 64), st.integers(1, 2000), st.integers(1, 2000))
@settings(max_examples=25, deadline=None)
def test_laws_hold_for_whole_models(m, name, batch, tokens, more):
    model = MODELS[name]
    formats = Formats.parse("bf16")
    for make in (
        lambda b, t: model.prefill(batch=b, tokens=t, formats=formats),
        lambda b, t: model.decode(batch=b, context=t, formats=formats),
    ):
        graph = make(batch, tokens)
        cost = pass_cost(m, graph)
        assert float(cost.total("dram_bytes")) * NOISE >= float(graph.unique_bytes)
        assert float(cost.total("macs")) == pytest.approx(float(graph.macs))
        for larger in (make(batch + more, tokens), make(batch, tokens + more)):
            assert float(pass_cost(m, larger).latency_s) * NOISE >= float(cost.latency_s)


def test_an_array_of_batches_gives_the_same_bits():
    model, batch = MODELS["openai/gpt-oss-120b"], np.array([1.0, 3.0, 64.0, 1000.0])
    together = pass_cost(H100, model.decode(batch=batch, context=2000, formats=model.default_formats))
    for i, one in enumerate(batch):
        alone = pass_cost(H100, model.decode(batch=one, context=2000, formats=model.default_formats))
        for found, expected in zip(together.costs, alone.costs, strict=True):
            for name, value in figures(expected).items():
                assert at(figures(found)[name], (4,), (i,)) == float(np.asarray(value).reshape(-1)[0]), name
        assert at(together.latency_s, (4,), (i,)) == float(alone.latency_s)


def test_networks_keep_what_fits_on_the_chip():
    op = Matmul(name="m", m=64, k=1000, n=1000)
    graph = Graph("x", "inference", (op,))
    room = H100.constants.resident_share * H100.shared_sram_bytes / 2
    kept = kept_on_chip(H100, graph)
    assert (kept.weights_share, kept.activation_bytes) == (1.0, room)
    assert float(pass_cost(H100, graph).total("dram_bytes")) == 0.0
    large = replace(op, n=100 * room / 1000)
    assert kept_on_chip(H100, replace(graph, operators=(large,))).weights_share == pytest.approx(0.005)
    assert kept_on_chip(H100, replace(graph, phase="decode")).weights_share == 0.0


def test_more_samples_of_a_network_are_never_faster():
    network = load("resnet50")
    formats = Formats.parse("int8", "int8")
    for name in ("nvidia-h100-sxm-80gb", "nvidia-l4", "furiosaai-rngd", "rebellions-atom", "groq-lpu-v1"):
        m = replace(LIBRARY[name], peak={"int8": LIBRARY[name].peak["int8"]})
        times = np.asarray(pass_cost(m, network.inference(batch=np.arange(1.0, 129.0), formats=formats)).latency_s)
        assert times.shape == (128,)
        assert np.all(np.diff(times) >= -1e-15), name


def test_repeats_are_counted():
    op = Elementwise(name="x", elements=1e6)
    once, often_ = (pass_cost(H100, Graph("x", "decode", (replace(op, count=n),))) for n in (1, 32))
    assert often_.latency_s == 32 * once.latency_s
    assert often_.energy_j(H100) == 32 * once.energy_j(H100)


def test_an_operator_without_a_formula_is_an_error_of_ours():
    @dataclass(frozen=True, slots=True, kw_only=True, eq=False)
    class Unknown(Operator):
        kind = "unknown"

    with pytest.raises(TypeError, match="no cost for unknown"):
        operator_cost(H100, Unknown(name="u"))
