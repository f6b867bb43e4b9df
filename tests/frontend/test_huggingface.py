import json
import math
import random

import pytest

from fuzz import mutate
from presilicon.dtypes import Formats
from presilicon.errors import ModelError
from presilicon.frontend import load
from presilicon.frontend.config import MOST_BYTES
from presilicon.frontend.huggingface import ALIASES, REFUSED, from_config
from presilicon.frontend.language import LanguageModel
from presilicon.frontend.named import rows

LLAMA = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000, "max_position_embeddings": 256,
         "tie_word_embeddings": False, "torch_dtype": "bfloat16"}  # fmt: skip
MIXTURE = {**LLAMA, "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 8, "num_experts_per_tok": 2,
           "moe_intermediate_size": 32, "head_dim": 16, "mlp_only_layers": [0]}  # fmt: skip
LATENT = {**LLAMA, "architectures": ["DeepseekV3ForCausalLM"], "q_lora_rank": 16, "kv_lora_rank": 32, "qk_nope_head_dim": 8,
          "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
          "n_shared_experts": 1, "first_k_dense_replace": 1}  # fmt: skip
SLIDING = {**LLAMA, "architectures": ["Gemma3ForCausalLM"], "sliding_window": 16,
           "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}  # fmt: skip


def built(config):
    return from_config(config, name="m", where="config.json")


def write(directory, content):
    (directory / "config.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(directory)


def test_a_directory_is_a_model_named_after_it(tmp_path):
    model = load(write(tmp_path, LLAMA))
    assert isinstance(model, LanguageModel)
    assert (model.name, model.layers, model.max_tokens) == (tmp_path.name, 3, 256)
    attention, ffn = 64 * (64 + 2 * 32) + 64 * 64, 3 * 64 * 128
    assert model.parameters == 3 * (attention + ffn + 2 * 64) + 64 + 2 * 64 * 1000
    assert load(str(tmp_path / "config.json")).parameters == model.parameters


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
                                 "architectures"])  # fmt: skip
def test_a_missing_key_is_named_with_the_file(tmp_path, key):
    path = write(tmp_path, {k: v for k, v in LLAMA.items() if k != key})
    with pytest.raises(ModelError) as caught:
        load(path)
    assert f"config.json: {key}" in str(caught.value)


BAD = [0, -1, -64, 1.5, 64.0, 1e30, 10**30, 2**31, float("nan"), float("inf"), True, "64", [64], {"a": 64}]


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                                 "intermediate_size", "vocab_size", "head_dim", "max_position_embeddings"])  # fmt: skip
def test_an_impossible_size_is_named_with_file_key_and_value(tmp_path, key, value):
    with pytest.raises(ModelError) as caught:
        load(write(tmp_path, {**LLAMA, key: value}))
    text = str(caught.value)
    assert f"config.json: {key}" in text
    assert json.dumps(value)[:20] in text
    assert "\n" not in text


@pytest.mark.parametrize(("change", "key"), [
    ({"num_attention_heads": 5, "num_key_value_heads": 5}, "num_attention_heads"), ({"num_key_value_heads": 3},
    "num_key_value_heads"),
    ({"num_hidden_layers": 20_000}, "num_hidden_layers"), ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings"), ({"torch_dtype": "int3"}, "torch_dtype"), ({"torch_dtype": 5},
    "torch_dtype"),
    ({"attention_bias": "no"}, "attention_bias"), ({"architectures": []}, "architectures"), ({"architectures": "x"},
    "architectures"),
    ({"architectures": [3]}, "architectures"), ({"architectures": ["LlamaForCausalLn"]}, "architectures"),
    ({"quantization_config": []}, "quantization_config"), ({"quantization_config": {"quant_method": "magic"}}, "quant_method"),
    ({"quantization_config": {"config_groups": {"group_0": {"weights": {"num_bits": 3}}}}}, "num_bits"),
    ({"text_config": []}, "text_config"),
])  # fmt: skip
def test_other_impossible_values(change, key):
    with pytest.raises(ModelError) as caught:
        built({**LLAMA, **change})
    assert key in str(caught.value)
    assert caught.value.where.startswith("config.json")


@pytest.mark.parametrize(("base", "change", "key"), [
    (MIXTURE, {"num_experts_per_tok": 9}, "num_experts_per_tok"), (MIXTURE, {"mlp_only_layers": [7]}, "mlp_only_layers"),
    (MIXTURE, {"mlp_only_layers": 0}, "mlp_only_layers"), (MIXTURE, {"mlp_only_layers": [True]}, "mlp_only_layers"),
    (MIXTURE, {"decoder_sparse_step": 0}, "decoder_sparse_step"), (MIXTURE, {"num_experts": None}, "num_experts"),
    (MIXTURE, {"intermediate_size": None}, "intermediate_size"), (LATENT, {"kv_lora_rank": None}, "kv_lora_rank"),
    (LATENT, {"first_k_dense_replace": -1}, "first_k_dense_replace"), (LATENT, {"moe_layer_freq": [1]}, "moe_layer_freq"),
    (LATENT, {"moe_layer_freq": [1, 2, 3]}, "moe_layer_freq"), (LATENT, {"topk_method": 4}, "topk_method"),
    (SLIDING, {"layer_types": ["full_attention"]}, "layer_types"), (SLIDING, {"layer_types": ["full"] * 3}, "layer_types"),
    (SLIDING, {"layer_types": [1, 2, 3]}, "layer_types"), (SLIDING, {"layer_types": {}}, "layer_types"),
    (SLIDING, {"sliding_window": None}, "sliding_window"), (SLIDING, {"sliding_window": 0}, "sliding_window"),
    (SLIDING, {"layer_types": None, "sliding_window_pattern": "LXG"}, "sliding_window_pattern"),
    (SLIDING, {"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern"),
    (SLIDING, {"layer_types": ["linear_attention"] * 3}, "layer_types"),
])  # fmt: skip
def test_impossible_values_of_parts(base, change, key):
    assert isinstance(built(base), LanguageModel)
    with pytest.raises(ModelError) as caught:
        built({**base, **change})
    assert key in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [
    (b"", "not JSON"), (b"{", "not JSON"), (b"[]", "not an object"), (b"null", "not an object"), (b"3", "not an object"),
    (b'{"a": 1, "a": 2}', "twice"), (b'{"a": \xff}', "not UTF-8"), (b"\xff\xfe{\x00}\x00", "not UTF-8"), (b"[" * 100_000,
    "deep"),
    (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"), (b" " * (MOST_BYTES + 1), "too many"), (b"{}", "names no architecture"),
    (b'{"architectures": ["LlamaForCausalLM"], "hidden_size": NaN, "num_hidden_layers": 2}', "NaN is not a size"),
], ids=lambda v: repr(v[:20]))  # fmt: skip
def test_broken_files(tmp_path, content, said):
    with pytest.raises(ModelError, match=said) as caught:
        load(write(tmp_path, content))
    assert "config.json" in caught.value.where


def test_published_files_may_have_infinity_where_nothing_is_read():
    assert built({**LLAMA, "time_step_limit": [0.0, math.inf]}).layers == 3


def test_a_path_that_is_no_model(tmp_path):
    for path, said in ((tmp_path, "no config.json"), (tmp_path / "none", "no such"), (tmp_path / "none.json", "no such")):
        with pytest.raises(ModelError, match=said):
            load(str(path))
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ModelError, match="no such file"):
        load(str(tmp_path))


@pytest.mark.parametrize("architecture", sorted(REFUSED))
def test_refused_architectures_say_why(architecture):
    with pytest.raises(ModelError, match="cannot be described"):
        built({**LLAMA, "architectures": [architecture]})


def test_aliases_lead_somewhere():
    from presilicon.frontend.families import FAMILIES
    from presilicon.frontend.special import SPECIAL

    assert set(ALIASES.values()) <= set(FAMILIES) | set(SPECIAL)
    assert not set(REFUSED) & (set(FAMILIES) | set(SPECIAL) | set(ALIASES))


def test_mlp_only_layers_and_shared_experts():
    model = built(MIXTURE)
    assert [b.repeat for b in model.blocks] == [1, 2]
    assert model.blocks[0].feed_forward.hidden == 128
    latent = built(LATENT)
    assert [b.repeat for b in latent.blocks] == [1, 2]
    assert latent.blocks[1].feed_forward.shared_hidden == 32


def test_layer_types_set_the_windows():
    assert [(b.attention.window, b.repeat) for b in built(SLIDING).blocks] == [(16, 2), (0, 1)]
    every = built({**SLIDING, "layer_types": None, "num_hidden_layers": 13})
    assert [(b.attention.window, b.repeat) for b in every.blocks] == [(16, 11), (0, 2)]
    local = built({**SLIDING, "layer_types": None, "num_hidden_layers": 8, "architectures": ["Exaone4ForCausalLM"],
                   "sliding_window_pattern": "LLLG"})  # fmt: skip
    assert [(b.attention.window, b.attention.rotary, b.repeat) for b in local.blocks] == [(16, True, 6), (0, False, 2)]


def test_exaone_counts_its_layers_under_another_key():
    config = {**LLAMA, "architectures": ["ExaoneForCausalLM"], "num_layers": 5}
    assert built({k: v for k, v in config.items() if k != "num_hidden_layers"}).layers == 5


@pytest.mark.parametrize(("scheme", "formats"), [
    ({"quant_method": "gptq", "bits": 4}, "int4/bf16/bf16"), ({"quant_method": "awq", "bits": 8}, "int8/bf16/bf16"),
    ({"bits": 4, "group_size": 64}, "int4/bf16/bf16"), ({"quant_method": "mxfp4"}, "mxfp4/bf16/bf16"),
    ({"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}, "nvfp4/nvfp4/fp8"),
])  # fmt: skip
def test_quantized_checkpoints(scheme, formats):
    assert str(built({**LLAMA, "quantization_config": scheme}).default_formats) == formats
    for bad in ({"quant_method": "gptq"}, {"bits": 3}, {"quant_method": "awq", "bits": "4"}):
        with pytest.raises(ModelError, match="quantization_config"):
            built({**LLAMA, "quantization_config": bad})


def test_parallel_blocks_have_their_norms():
    gptj = built(
        {"architectures": ["GPTJForCausalLM"], "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100, "n_positions": 64}
    )
    assert (gptj.blocks[0].parallel, gptj.blocks[0].norms, gptj.head_bias) == (True, 1, True)
    neox = built({**LLAMA, "architectures": ["GPTNeoXForCausalLM"]})
    assert (neox.blocks[0].parallel, neox.blocks[0].norms) == (True, 2)
    falcon = built({**LLAMA, "architectures": ["FalconForCausalLM"], "new_decoder_architecture": True, "num_kv_heads": 2})
    assert (falcon.blocks[0].attention.kv_heads, falcon.blocks[0].norms) == (2, 2)


def test_text_part_of_a_model_with_pictures():
    outer = {"architectures": ["Qwen3VLForConditionalGeneration"], "tie_word_embeddings": True,
             "text_config": {k: v for k, v in LLAMA.items() if k not in ("architectures", "tie_word_embeddings")}}  # fmt: skip
    assert built(outer).tied
    assert built(outer).layers == 3
    with pytest.raises(ModelError, match="text_config: hidden_size"):
        built({**outer, "text_config": {**outer["text_config"], "hidden_size": 0}})


def test_quantization_beside_the_configuration(tmp_path):
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}')
    assert str(load(write(tmp_path, LLAMA)).default_formats) == "fp8/fp8/fp8"


BERT = {"architectures": ["BertModel"], "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 32}  # fmt: skip
VIT = {
    "architectures": ["ViTModel"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
WHISPER = {"architectures": ["WhisperForConditionalGeneration"], "d_model": 64, "encoder_layers": 2, "decoder_layers": 2,
           "encoder_attention_heads": 4, "encoder_ffn_dim": 128, "vocab_size": 100}  # fmt: skip


@pytest.mark.parametrize("config", [BERT, VIT, WHISPER], ids=lambda c: c["architectures"][0])
def test_encoders_become_networks(config):
    network = built(config)
    assert network.inference(batch=2, formats=Formats()).macs > 0
    heads = next(k for k in config if k.endswith("attention_heads"))
    for bad in (5, 0, True, None):
        with pytest.raises(ModelError, match=heads):
            built({**config, heads: bad})


def check_mutant(directory, content):
    """A mutated file gives a model that works, or one clear ModelError."""
    path = write(directory, content)
    try:
        model = load(path)
    except ModelError as error:
        refusal = error
    else:
        return check_works(model)
    assert "config.json" in refusal.where
    assert "\n" not in str(refusal)
    assert len(str(refusal)) < 2000
    return False


def check_works(model):
    if not isinstance(model, LanguageModel):
        assert math.isfinite(model.inference(batch=1, formats=Formats()).macs)
        return True
    for graph in (
        model.prefill(batch=2, tokens=5, formats=Formats()),
        model.decode(batch=2, context=9, formats=model.default_formats),
    ):
        for attribute in ("macs", "unique_bytes", "kv_cache_bytes", "activation_bytes"):
            value = float(getattr(graph, attribute))
            assert math.isfinite(value)
            assert value >= 0
    assert 0 < model.active_parameters <= model.parameters
    return True


def test_mutated_configurations(tmp_path):
    rng = random.Random(20250101)
    real = [{"architectures": [r.architecture], **r.config} for r in rows() if r.config]
    bases = [LLAMA, MIXTURE, LATENT, SLIDING, BERT, VIT, WHISPER, *real]
    worked = sum(check_mutant(tmp_path, mutate(rng.choice(bases), rng, rng.choice(bases))) for _ in range(500))
    assert 50 < worked < 450
