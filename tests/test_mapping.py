from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.dtypes import Formats
from presilicon.errors import ParallelismError
from presilicon.frontend import load
from presilicon.graph import Attention, Collective, Elementwise, ExpertMatmul, Matmul
from presilicon.mapping import Parallelism, partition, unfused

LLAMA, GPT_OSS, DEEPSEEK = load("llama-3.1-8b"), load("openai/gpt-oss-120b"), load("deepseek-v3")
FORMATS = Formats()


def step(model, batch=8, context=1000):
    return model.decode(batch=batch, context=context, formats=FORMATS)


def shared(graph):
    """Operators that several chips share, by name; collectives left out."""
    return {op.name: op for op in graph if op.split != "none" and not isinstance(op, Collective)}


@pytest.mark.parametrize("model", [LLAMA, GPT_OSS, DEEPSEEK], ids=lambda m: m.name)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@given(tensor=st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=8, deadline=None)
def test_chips_together_do_the_work_of_one_and_hold_its_parameters(model, phase, tensor):
    graph = model.prefill(batch=2, tokens=333, formats=FORMATS) if phase == "prefill" else step(model)
    whole, part = shared(graph), shared(partition(graph, Parallelism(tensor=tensor)))
    assert whole.keys() == part.keys()
    for name, op in whole.items():
        mine = part[name]
        assert float(mine.macs) * tensor == pytest.approx(float(op.macs), rel=1e-12), name
        assert float(mine.vector_ops) * tensor == pytest.approx(float(op.vector_ops), rel=1e-12), name
        if isinstance(op, Matmul | ExpertMatmul) and not op.bias:
            assert float(mine.weight_elements) * tensor == pytest.approx(float(op.weight_elements), rel=1e-12), name
        if isinstance(op, Attention) and model is not DEEPSEEK:  # its latent cache is copied to every chip
            assert float(mine.kv_cache_bytes) * tensor == pytest.approx(float(op.kv_cache_bytes)), name


@pytest.mark.parametrize("expert", [1, 2, 4, 8])
def test_experts_are_spread_over_tensor_and_data(expert):
    whole = shared(step(GPT_OSS))
    part = shared(partition(step(GPT_OSS, batch=4), Parallelism(tensor=4, data=2, expert=expert)))
    for name, op in whole.items():
        if isinstance(op, ExpertMatmul):
            assert float(part[name].macs) * 8 == pytest.approx(float(op.macs))
            assert float(part[name].k * part[name].n * part[name].experts) * 8 == op.k * op.n * op.experts
            assert float(part[name].experts) == 128 / expert


def test_one_chip_and_a_pipeline_run_the_graph_as_it_is():
    graph = step(LLAMA)
    assert partition(graph, Parallelism()) is graph
    assert partition(graph, Parallelism(pipeline=4)) is graph


def collectives(graph):
    return [(op.name, op.collective, op.chips, op.count) for op in graph if isinstance(op, Collective)]


def test_sums_over_chips_are_put_in():
    found = partition(step(LLAMA), Parallelism(tensor=4))
    assert collectives(found) == [
        ("o_all_reduce", "all_reduce", 4, 32),
        ("down_all_reduce", "all_reduce", 4, 32),
        ("head_all_gather", "all_gather", 4, 1),
    ]
    sums = [op for op in found if isinstance(op, Collective) and op.collective == "all_reduce"]
    assert all(float(op.message_bytes) == 8 * 4096 * 2 for op in sums)
    names = [op.name for op in found]
    assert names.index("o_all_reduce") == names.index("o") + 1


def test_rows_go_to_their_experts_and_back_where_replicas_share_them():
    found = collectives(partition(step(GPT_OSS, batch=4), Parallelism(tensor=1, data=4, expert=4)))
    kinds = {kind for _, kind, _, _ in found}
    assert kinds == {"alltoall"}
    assert all(chips == 4 for _, _, chips, _ in found)
    assert len([n for n, *_ in found if n.endswith("dispatch")]) == len([n for n, *_ in found if n.endswith("combine")]) >= 1
    reduced = collectives(partition(step(GPT_OSS), Parallelism(tensor=4, expert=4)))
    assert {kind for _, kind, _, _ in reduced} == {"all_reduce", "all_gather"}


def test_shared_experts_are_summed_with_the_routed_ones():
    found = partition(step(DEEPSEEK), Parallelism(tensor=8))
    down = [op.name for op in found if isinstance(op, Collective) and "shared" in op.name]
    assert not down


def test_fewer_kv_heads_than_chips_are_copied():
    part = partition(step(LLAMA), Parallelism(tensor=16))
    attention = next(op for op in part if isinstance(op, Attention))
    assert (float(attention.heads), float(attention.kv_heads)) == (2.0, 1.0)
    latent = next(op for op in partition(step(DEEPSEEK), Parallelism(tensor=8)) if isinstance(op, Attention))
    assert (float(latent.heads), float(latent.kv_heads)) == (16.0, 1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tensor": 0}, "tensor parallelism is 0"),
        ({"pipeline": -1}, "pipeline parallelism is -1"),
        ({"data": 1.5}, "data parallelism is 1.5"),
        ({"expert": True}, "expert parallelism is True"),
        ({"tensor": 10**6}, "tensor parallelism is 1000000"),
        ({"tensor": 2, "expert": 3}, "expert parallelism 3 does not divide"),
    ],
)
def test_impossible_parallelism_is_refused(values, message):
    with pytest.raises(ParallelismError, match=message):
        Parallelism(**values)


@pytest.mark.parametrize(
    ("model", "p", "message"),
    [
        (LLAMA, Parallelism(tensor=3), "3"),
        (LLAMA, Parallelism(tensor=64), "heads 32 is not divided by 64"),
        (GPT_OSS, Parallelism(tensor=256, expert=256), "."),
        (GPT_OSS, Parallelism(tensor=1, data=3, expert=3), "experts 128 is not divided by 3"),
    ],
)
def test_what_does_not_divide_is_refused(model, p, message):
    with pytest.raises(ParallelismError, match=message) as caught:
        partition(step(model), p)
    assert caught.value.where


def test_parallelism_prints_its_parts():
    p = Parallelism(tensor=4, pipeline=2, expert=8, data=2)
    assert (str(p), p.chips) == ("TP4xPP2xEP8xDP2", 16)
    assert str(Parallelism()) == "1"


def test_unfused_attention_moves_its_scores():
    graph = LLAMA.prefill(batch=2, tokens=100, formats=FORMATS)
    parts = unfused(graph)
    fused = next(op for op in graph if isinstance(op, Attention))
    scores, softmax, values = (op for op in parts if op.name.startswith("attention_") and "norm" not in op.name)
    assert isinstance(scores, Matmul)
    assert isinstance(softmax, Elementwise)
    assert isinstance(values, Matmul)
    everything = replace(fused, causal=False)  # scores that causality drops are computed too
    assert float(scores.macs + values.macs) == float(everything.macs)
    assert float(scores.output_bytes) == 2 * 32 * 100 * 100 * 2
    assert float(softmax.unique_bytes) == 2 * float(scores.output_bytes)
    assert [op.name for op in parts if op not in (scores, softmax, values)] == [op.name for op in graph if op is not fused]
    assert parts.parameters == graph.parameters
