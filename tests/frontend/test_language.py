import csv
import itertools
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.dtypes import BF16, FP8, FP16, FP32, INT4, MXFP4, NVFP4, Formats
from presilicon.errors import ModelError, WorkloadError
from presilicon.frontend import load, names
from presilicon.frontend.blocks import Block, Experts, FeedForward, GroupedAttention, LatentAttention
from presilicon.frontend.language import LanguageModel, merged
from presilicon.graph import Attention, ExpertMatmul, Matmul, Normalization, Sampling

BF = Formats()


def language(name):
    model = load(name)
    assert isinstance(model, LanguageModel)
    return model


EXACT = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248, "gpt2": 124_439_808, "gpt2-xl": 1_557_611_200,
    "EleutherAI/gpt-j-6b": 6_050_882_784,
    "openai/gpt-oss-120b": 116_829_156_672, "openai/gpt-oss-20b": 20_914_757_184, "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "google/gemma-2-2b": 2_614_341_888, "microsoft/phi-2": 2_779_683_840, "facebook/opt-350m": 331_196_416,
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_parameters_are_exact(name):
    assert language(name).parameters == EXACT[name]


# What the checkpoint has beside the language part: vision towers, multi-token-prediction layers; those counts do not apply.
MORE_THAN_LANGUAGE = ("vision tower", "MTP layer", "multi-token-prediction", "next-token-prediction")


def published_counts():
    table = resources.files("presilicon") / "data/published/model_counts.csv"
    known = {n.lower() for n in names()}
    for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()):
        usable = row["quantity"] in ("total_parameters", "total_parameters_tied", "total_parameters_without_mtp")
        if usable and row["hf_id"].lower() in known and not any(m in row["source"] for m in MORE_THAN_LANGUAGE):
            stored_twice = "stores the tied output layer twice" in row["source"]
            if not (stored_twice and row["quantity"] == "total_parameters"):
                yield pytest.param(row["hf_id"], float(row["value"]), id=f"{row['hf_id']}-{row['quantity']}")


@pytest.mark.parametrize(("name", "published"), list(published_counts()))
def test_parameters_match_the_published_counts(name, published):
    digits = str(int(published)).rstrip("0")
    last = 10 ** (len(str(int(published))) - len(digits))  # one unit of the last digit that is given
    allowed = max(last, 1e-3 * published) if len(digits) < 5 else 1e-3 * published
    assert abs(load(name).parameters - published) <= allowed


@pytest.mark.parametrize(("name", "total", "active", "digits"), [
    ("openai/gpt-oss-120b", 116.83e9, 5.13e9, 1e7), ("openai/gpt-oss-20b", 20.91e9, 3.61e9, 1e7),
    ("deepseek-ai/DeepSeek-R1", 671e9, 37e9, 1e9), ("Qwen/Qwen3-235B-A22B", 235e9, 22e9, 1e9),
    ("XiaomiMiMo/MiMo-V2-Flash", 309e9, 15e9, 1e9), ("gpt3-175b", 175e9, 175e9, 1e9),
    ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 400e9, 17e9, 1e9), ("zai-org/GLM-4.5-Air", 106e9, 12e9, 1e9),
    ("moonshotai/Kimi-K2-Instruct", 1.0e12, 32e9, 1e11), ("nvidia/Llama-3_3-Nemotron-Super-49B-v1", 49.9e9, 49e9, 1e8),
    ("nvidia/Gemma-4-31B-IT-NVFP4", 31e9, 31e9, 1e9),
])  # fmt: skip
def test_rounded_published_counts(name, total, active, digits):
    model = language(name)
    assert abs(model.parameters - total) <= digits
    # Published active counts differ in whether they have the embeddings and router; one unit of their last digit.
    assert abs(model.active_parameters - active) <= max(digits, 1e9 if digits > 1e7 else 1e7)


def test_active_parameters_with_the_look_up_table():
    mixtral = language("mistralai/Mixtral-8x7B-v0.1")
    assert mixtral.active_parameters + mixtral.embedding_parameters == pytest.approx(12_879_069_184, rel=1e-3)  # 12.9B
    qwen = language("Qwen/Qwen3-30B-A3B")
    assert qwen.active_parameters + qwen.embedding_parameters == pytest.approx(3_353_032_704, rel=1e-3)


# A model of every kind of part.
KINDS = ["gpt2", "EleutherAI/gpt-j-6b", "meta-llama/Llama-3.1-8B", "google/gemma-2-9b", "openai/gpt-oss-20b",
         "deepseek-ai/DeepSeek-V3", "meta-llama/Llama-4-Scout-17B-16E-Instruct", "facebook/opt-350m", "tiiuae/falcon-7b",
         "XiaomiMiMo/MiMo-V2-Flash", "google/gemma-4-26B-A4B", "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
         "LGAI-EXAONE/EXAONE-4.0-32B", "databricks/dbrx-base"]  # fmt: skip
FORMATS = [BF, Formats(FP8, FP8, FP8), Formats(INT4, BF16, BF16), Formats(FP16, FP16, FP16), Formats(FP32, FP32, FP32),
           Formats(MXFP4, FP8, FP8), Formats(NVFP4, NVFP4, FP8)]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_both_phases_hold_the_same_parameters(name):
    model = language(name)
    for formats in FORMATS:
        prefill, decode = model.prefill(batch=2, tokens=3, formats=formats), model.decode(batch=2, context=9, formats=formats)
        assert prefill.parameters == decode.parameters == model.parameters
        assert prefill.weight_bytes == decode.weight_bytes == model.weight_bytes(formats)


ATTRIBUTES = ("macs", "vector_ops", "weight_bytes", "input_bytes", "output_bytes", "touched_weight_bytes")


@pytest.mark.parametrize("name", KINDS)
def test_arrays_are_identical_to_scalars(name):
    model = language(name)
    batches, lengths = np.array([[1], [3], [17], [4096]]), np.array([1, 2, 127, 129, 5000, 131072])
    graphs = [
        model.prefill(batch=batches, tokens=lengths, formats=BF),
        model.decode(batch=batches, context=lengths, formats=BF, beams=3),
    ]
    for (i, j), phase in itertools.product(np.ndindex(4, 6), (0, 1)):
        b, t = int(batches[i, 0]), int(lengths[j])
        scalar = (
            model.decode(batch=b, context=t, formats=BF, beams=3) if phase else model.prefill(batch=b, tokens=t, formats=BF)
        )
        for many, one in zip(graphs[phase], scalar, strict=True):
            assert (many.name, many.count, many.split) == (one.name, one.count, one.split)
            for attribute in ATTRIBUTES:
                assert np.broadcast_to(getattr(many, attribute), (4, 6))[i, j] == getattr(one, attribute), (
                    many.name,
                    attribute,
                )
        for attribute in ("macs", "unique_bytes", "kv_cache_bytes", "activation_bytes", "samples"):
            whole = getattr(graphs[phase], attribute)
            assert np.broadcast_to(whole, (4, 6))[i, j] == getattr(scalar, attribute), attribute


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(KINDS), batch=st.integers(1, 512), context=st.integers(1, 100_000), more=st.integers(1, 1000))
def test_decode_macs_grow_with_the_context_by_attention_alone(name, batch, context, more):
    model = language(name)
    near, far = (model.decode(batch=batch, context=n, formats=BF) for n in (context, context + more))
    for short, long in zip(near, far, strict=True):
        assert long.macs >= short.macs
        if not isinstance(short, Attention):
            assert long.macs == short.macs
        elif short.window == 0:
            assert long.macs - short.macs == batch * more * short.heads * (short.head_dim + short.value_dim)
    assert near.macs == batch * model.decode(batch=1, context=context, formats=BF).macs


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(KINDS), batch=st.integers(1, 64), tokens=st.integers(2, 20_000))
def test_prefill_macs_are_those_of_its_tokens(name, batch, tokens):
    """Linear operators: tokens times one token's (the head: once a sequence). Attention: sum over positions."""
    model = language(name)
    one = {o.name: o for o in model.prefill(batch=1, tokens=1, formats=BF)}
    for operator in model.prefill(batch=batch, tokens=tokens, formats=BF):
        if isinstance(operator, Attention):
            w = tokens if operator.window == 0 else min(operator.window, tokens)
            pairs = w * (w + 1) / 2 + (tokens - w) * w
            assert operator.macs == batch * pairs * operator.heads * (operator.head_dim + operator.value_dim)
        else:
            times = batch if operator.name in ("head", "head_down") else batch * tokens
            assert operator.macs == times * one[operator.name].macs


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from([k for k in KINDS if "DeepSeek" not in k]), tokens=st.integers(1, 200))
def test_prefill_is_the_sum_of_decode_steps(name, tokens):
    model = language(name)
    head = sum(o.macs for o in model.decode(batch=1, context=1, formats=BF) if o.name.startswith("head"))
    steps = model.decode(batch=1, context=np.arange(1, tokens + 1), formats=BF).macs - head
    assert model.prefill(batch=1, tokens=tokens, formats=BF).macs - head == pytest.approx(np.sum(steps), rel=1e-12)


def test_flops_per_token_is_two_per_parameter_and_attention():
    model = language("meta-llama/Llama-3.1-8B")
    matmul = model.parameters - model.embedding_parameters - 65 * 4096  # norm scales multiply, they are no matmul
    assert model.flops_per_token(1000) == 2 * (matmul + 32 * 1000 * 32 * 256)


def test_kv_cache_bytes():
    llama = language("meta-llama/Llama-3.1-8B")
    assert llama.kv_bytes_per_token(BF16) == 131_072  # 2 x 32 layers x 8 heads x 128 x 2 bytes
    assert llama.kv_bytes_per_token(FP8) == 65_536
    for graph in (llama.prefill(batch=3, tokens=100, formats=BF), llama.decode(batch=3, context=100, formats=BF)):
        assert graph.kv_cache_bytes == 3 * 100 * 131_072


def test_latent_cache_is_kept_once_in_both_phases():
    model = language("deepseek-ai/DeepSeek-V3")
    assert model.kv_bytes_per_token(BF16) == 61 * 576 * 2  # 70,272 bytes, DeepSeek-V3
    prefill, decode = model.prefill(batch=2, tokens=500, formats=BF), model.decode(batch=2, context=500, formats=BF)
    assert prefill.kv_cache_bytes == decode.kv_cache_bytes == 2 * 500 * 70_272
    expanded = next(o for o in prefill if isinstance(o, Attention))
    assert (expanded.kv_heads, expanded.head_dim, expanded.value_dim) == (128, 192, 128)
    absorbed = next(o for o in decode if isinstance(o, Attention))
    assert (absorbed.kv_heads, absorbed.head_dim, absorbed.value_dim, absorbed.shared_kv) == (1, 576, 512, True)
    assert absorbed.macs == 2 * 500 * 128 * (576 + 512)


def test_windows_limit_the_cache():
    model = language("openai/gpt-oss-120b")
    per_layer = 2 * 8 * 64 * 2
    assert model.decode(batch=1, context=1000, formats=BF).kv_cache_bytes == per_layer * 18 * (1000 + 128)
    windows = {(o.window, o.count) for o in model.decode(batch=1, context=9, formats=BF) if isinstance(o, Attention)}
    assert windows == {(128, 18), (0, 18)}


def test_llama4_interleaves():
    maverick = language("meta-llama/Llama-4-Maverick-17B-128E-Instruct")
    experts = sum(b.repeat for b in maverick.blocks if isinstance(b.feed_forward, Experts))
    full = sum(b.repeat for b in maverick.blocks if b.attention.window == 0)
    assert (maverick.layers, experts, full) == (48, 24, 12)
    assert {b.attention.window for b in maverick.blocks} == {0, 8192}


def splits(name):
    return {o.name.rsplit(".", 1)[-1]: o.split for o in language(name).decode(batch=1, context=1, formats=BF)}


def test_splits():
    assert splits("meta-llama/Llama-3.1-8B") == {
        "embedding": "none", "attention_norm": "none", "qkv": "output", "rotary_kv_write": "heads", "attention": "heads",
    "o": "input",
        "feed_forward_norm": "none", "gate_up": "output", "activation": "output", "down": "input", "final_norm": "none",
        "head": "output", "sampling": "none",
    }  # fmt: skip
    found = splits("deepseek-ai/DeepSeek-V3")
    assert found["experts_gate_up"] == found["experts_down"] == "experts"
    assert (found["router"], found["shared_gate_up"], found["shared_down"]) == ("none", "output", "input")
    assert (found["q_absorb"], found["v_up"], found["q_up"]) == ("heads", "heads", "output")


def test_repeats_stay_repeats():
    graph = language("meta-llama/Meta-Llama-3.1-405B").decode(batch=1, context=1, formats=BF)
    assert len(graph.operators) == 13
    assert next(o for o in graph if o.name == "qkv").count == 126


def formats_of(graph):
    return {
        o.name.rsplit(".", 1)[-1]: (o.weights, o.activations, o.source) for o in graph if isinstance(o, Matmul | ExpertMatmul)
    }


def test_formats_of_gpt_oss_are_those_of_its_checkpoint():
    model = language("openai/gpt-oss-120b")
    assert model.default_formats == Formats(MXFP4, BF16, BF16)
    found = formats_of(model.decode(batch=1, context=1, formats=model.default_formats))
    assert found["experts_down"] == (MXFP4, BF16, BF16)
    assert found["qkv"] == found["router"] == found["head"] == (BF16, BF16, BF16)
    assert model.weight_bytes(model.default_formats) == pytest.approx(65.2e9, rel=0.01)  # 60.8 GiB, the model card


def test_formats_by_checkpoint_and_request():
    assert language("Qwen/Qwen3-32B-FP8").default_formats == Formats(FP8, FP8, BF16)
    assert language("nvidia/Llama-3.1-8B-Instruct-FP8").default_formats == Formats(FP8, FP8, FP8)
    assert language("moonshotai/Kimi-K2.5").default_formats == Formats(INT4, BF16, BF16)
    assert language("moonshotai/Kimi-K2.5").quantized == "experts"
    assert language("nvidia/MiniMax-M2.5-NVFP4").quantized == "feed_forward"
    found = formats_of(language("meta-llama/Llama-3.1-8B").decode(batch=1, context=1, formats=Formats(FP8, FP8, FP8)))
    assert found["qkv"] == found["down"] == (FP8, FP8, BF16)
    assert found["head"] == (BF16, BF16, BF16)
    wide = formats_of(language("meta-llama/Llama-3.1-8B").decode(batch=1, context=1, formats=Formats(FP16, FP16, FP16)))
    assert set(wide.values()) == {(FP16, FP16, FP16)}


def test_norms_add_the_residual():
    graph = language("meta-llama/Llama-3.1-8B").prefill(batch=1, tokens=7, formats=BF)
    norms = [o for o in graph if isinstance(o, Normalization) and o.count > 1]
    assert [(o.reads, o.writes, o.elements) for o in norms] == [(2, 2, 7 * 4096)] * 2


def test_prefill_gives_one_token_a_sequence_and_beams_multiply_rows():
    model = language("EleutherAI/gpt-j-6b")
    head = next(o for o in model.prefill(batch=4, tokens=100, formats=BF) if o.name == "head")
    assert (head.m, head.output) == (4, FP32)
    graph = model.decode(batch=4, context=100, formats=BF, beams=4)
    sampling = next(o for o in graph if isinstance(o, Sampling))
    assert (sampling.rows, sampling.beams, graph.samples) == (16, 4, 4)
    assert next(o for o in graph if isinstance(o, Attention)).batch == 16


@pytest.mark.parametrize(
    "bad", [0, -1, 1.5, float("nan"), float("inf"), 1e30, True, "4", None, [], [1, 0], np.array([np.nan]), 2j, {}]
)
def test_impossible_workloads(bad):
    model = language("gpt2")
    for call in (
        lambda: model.prefill(batch=bad, tokens=1, formats=BF),
        lambda: model.prefill(batch=1, tokens=bad, formats=BF),
        lambda: model.decode(batch=1, context=bad, formats=BF),
        lambda: model.decode(batch=1, context=1, formats=BF, beams=bad),
    ):
        with pytest.raises(WorkloadError, match="whole number"):
            call()


ATTENTION = GroupedAttention(heads=4, kv_heads=2, head_dim=8, value_dim=8)


def test_laws_of_the_parts():
    for make in (
        lambda: GroupedAttention(heads=5, kv_heads=2, head_dim=8, value_dim=8),
        lambda: GroupedAttention(heads=4, kv_heads=2, head_dim=0, value_dim=8),
        lambda: LatentAttention(heads=4, q_lora=0, kv_lora=-1, qk_nope=1, qk_rope=1, v_head=1),
        lambda: FeedForward(hidden=True), lambda: FeedForward(hidden=2.0), lambda: FeedForward(hidden=2**40),
        lambda: Experts(experts=2, experts_per_token=3, hidden=4),
        lambda: Block(attention=None, feed_forward=None),
        lambda: LanguageModel(name="m", hidden=4, vocabulary=4, blocks=(), max_tokens=4),
    ):  # fmt: skip
        with pytest.raises(ModelError):
            make()


def test_equal_blocks_are_merged():
    a, b = (
        Block(attention=ATTENTION, feed_forward=FeedForward(hidden=4)),
        Block(attention=ATTENTION, feed_forward=FeedForward(hidden=5)),
    )
    assert [(x.feed_forward.hidden, x.repeat) for x in merged([a, b, a, a])] == [(4, 3), (5, 1)]


def test_activation_bytes_hold_the_widest_operator():
    graph = language("meta-llama/Llama-3.1-8B").prefill(batch=1, tokens=1000, formats=BF)
    assert graph.activation_bytes == 1000 * 2 * (4096 + 3 * 14336)  # the residual stream, and SiLU * mul: two in, one out


def prefixes(name):
    graph = language(name).decode(batch=1, context=1, formats=BF)
    names = [o.name for o in graph]
    assert len(set(names)) == len(names)
    return list(dict.fromkeys(n.split(".")[0] for n in names if "." in n))


def test_names_of_operators_tell_their_blocks():
    assert prefixes("gpt2") == []
    assert prefixes("openai/gpt-oss-120b") == ["window", "full"]
    assert prefixes("deepseek-ai/DeepSeek-V3") == ["dense", "experts"]
    assert prefixes("XiaomiMiMo/MiMo-V2-Flash") == ["full_dense", "window_experts", "full_experts"]
    assert len(prefixes("nvidia/Llama-3_3-Nemotron-Super-49B-v1")) == 8
