"""A Hugging Face configuration (config.json) as a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from presilicon.dtypes import BF16, FP8, FP16, FP32, INT4, INT8, MXFP4, NVFP4, Formats, NumberFormat
from presilicon.errors import ModelError, nearest
from presilicon.frontend.config import Config, read_json, shown
from presilicon.frontend.encoder_config import ENCODERS
from presilicon.frontend.families import FAMILIES, HIDDEN, POSITIONS, dense, family_blocks, switch
from presilicon.frontend.language import LanguageModel
from presilicon.frontend.mixtures import MIXTURES
from presilicon.frontend.special import SPECIAL, Design
from presilicon.frontend.step import Quantized

if TYPE_CHECKING:
    from presilicon.frontend.network import Network

_LINEAR = "its linear attention (a recurrent state instead of a KV cache) is no operator here"
_STATE = "its state-space layers (a recurrent state instead of a KV cache) are no operators here"
_SPARSE = "its sparse attention (an indexer chooses the positions that are read) is no operator here"
_SHARED = "its layers share or compress their inputs in ways that are no operators here"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "MambaForCausalLM",
                "Mamba2ForCausalLM",
                "FalconMambaForCausalLM",
                "JambaForCausalLM",
                "ZambaForCausalLM",
                "Zamba2ForCausalLM",
                "BambaForCausalLM",
                "NemotronHForCausalLM",
                "GraniteMoeHybridForCausalLM",
                "FalconH1ForCausalLM",
            ),
            _STATE,
        ),
        **dict.fromkeys(
            (
                "Qwen3NextForCausalLM",
                "Qwen3_5ForCausalLM",
                "Qwen3_5MoeForCausalLM",
                "Qwen3_5ForConditionalGeneration",
                "Qwen3_5MoeForConditionalGeneration",
                "KimiLinearForCausalLM",
                "KimiK3ForConditionalGeneration",
                "MiniMaxForCausalLM",
                "MiniMaxText01ForCausalLM",
                "MiniMaxM1ForCausalLM",
                "RwkvForCausalLM",
                "Rwkv5ForCausalLM",
                "Rwkv6ForCausalLM",
                "RWKV7ForCausalLM",
                "RecurrentGemmaForCausalLM",
                "Lfm2ForCausalLM",
                "Lfm2MoeForCausalLM",
                "OlmoHybridForCausalLM",
                "BailingMoeV2_5ForCausalLM",
                "xLSTMForCausalLM",
            ),
            _LINEAR,
        ),
        **dict.fromkeys(
            (
                "DeepseekV32ForCausalLM",
                "DeepseekV4ForCausalLM",
                "GlmMoeDsaForCausalLM",
                "MiniMaxM3ForCausalLM",
                "MiniMaxM3SparseForCausalLM",
                "MiniMaxM3SparseForConditionalGeneration",
            ),
            _SPARSE,
        ),
        **dict.fromkeys(("Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"), _SHARED),
        "LongcatFlashForCausalLM": "its zero-computation experts and shortcut blocks are no operators here",
        "LongcatCausalLM": "its zero-computation experts and shortcut blocks are no operators here",
        "Step3p7FlashForCausalLM": "published figures lack the heads of its sliding layers and its attention's gates",
        "Step3p7ForConditionalGeneration": "published figures lack the heads of its sliding layers and its attention's gates",
        "T5ForConditionalGeneration": "an encoder with a decoder and cross attention; of these only Whisper is known here",
        "BartForConditionalGeneration": "an encoder with a decoder and cross attention; of these only Whisper is known here",
    }
)
"""Architecture -> why its operators cannot be described."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "LLaMAForCausalLM": "LlamaForCausalLM",
        "Llama4ForConditionalGeneration": "Llama4ForCausalLM",
        "Mistral3ForConditionalGeneration": "MistralForCausalLM",
        "LlavaForConditionalGeneration": "LlamaForCausalLM",
        "Qwen2VLForConditionalGeneration": "Qwen2ForCausalLM",
        "Qwen2_5_VLForConditionalGeneration": "Qwen2ForCausalLM",
        "Qwen3VLForConditionalGeneration": "Qwen3ForCausalLM",
        "Qwen3VLMoeForConditionalGeneration": "Qwen3MoeForCausalLM",
        "KimiK25ForConditionalGeneration": "DeepseekV3ForCausalLM",
        "PhiMoEForCausalLM": "PhimoeForCausalLM",
        "Gemma3ForConditionalGeneration": "Gemma3ForCausalLM",
        "RWForCausalLM": "FalconForCausalLM",
        "MPTForCausalLM": "MptForCausalLM",
        "StableLMEpochForCausalLM": "StableLmForCausalLM",
        "HyperClovaXForCausalLM": "HyperCLOVAXForCausalLM",
        "Gemma4ForConditionalGeneration": "Gemma4ForCausalLM",
        "GPT2Model": "GPT2LMHeadModel",
        "LlamaModel": "LlamaForCausalLM",
    }
)
"""Other names of an architecture; a model with pictures stands for its language part (``text_config``)."""

_DTYPES: Mapping[str, NumberFormat] = MappingProxyType({"bfloat16": BF16, "float16": FP16, "float32": FP32})


def reason(architecture: str) -> str:
    """Why ``architecture`` cannot be described; empty where it can."""
    return REFUSED.get(ALIASES.get(architecture, architecture), "")


def load_directory(path: Path) -> LanguageModel | Network:
    """The model of the config.json in the directory ``path`` (or of the JSON file itself), named after the directory.

    ModelError where the file or one of its values cannot be used, with the file, the key and the value.
    """
    file = path / "config.json" if path.is_dir() else path
    name = path.resolve().name if path.is_dir() else path.stem
    values, beside = read_json(file), file.with_name("hf_quant_config.json")
    if "quantization_config" not in values and path.is_dir() and beside.is_file():  # as NVIDIA's ModelOpt writes it
        values["quantization_config"] = read_json(beside).get("quantization")
    return from_config(values, name=name or "model", where=str(file), source=str(file))


def from_config(
    values: Mapping[str, Any],
    *,
    name: str,
    where: str,
    source: str = "",
    note: str = "",
) -> LanguageModel | Network:
    """The model that the configuration ``values`` describes; ``where`` names its origin in errors."""
    try:
        return _model(Config(values, where), name, source, note)
    except ModelError as error:
        if error.where.startswith(where):
            raise
        raise error.at(where) from None  # a law of a part: it knows its sizes, not the file


def _model(c: Config, name: str, source: str, note: str) -> LanguageModel | Network:
    listed = c.items("architectures")
    if not listed or not isinstance(listed[0], str):
        c.fail("architectures", f"{shown(listed)} names no architecture", hint='a list such as ["LlamaForCausalLM"]')
    called = listed[0]
    architecture = ALIASES.get(called, called)
    if refusal := reason(called):
        c.fail("architectures", f"{called} cannot be described: {refusal}")
    if architecture in ENCODERS:
        return ENCODERS[architecture](c, name, source)
    inner, text = c, c.part("text_config") or c.part("language_config")
    if text is not None:
        inner = Config({**_outer(c), **{k: v for k, v in text.values.items() if v is not None}}, text.where)
    if architecture in SPECIAL:
        design = SPECIAL[architecture](inner)
    elif architecture in FAMILIES:
        design = _family(inner, architecture)
    else:
        known = [*FAMILIES, *SPECIAL, *ENCODERS]
        close = nearest(called[:200], known) or "one of " + ", ".join(sorted(known))
        c.fail("architectures", f"{shown(called)} is not known", hint=close)
    published, quantized = formats(inner)
    return LanguageModel(
        name=name,
        hidden=inner.size(*HIDDEN),
        vocabulary=inner.size("vocab_size"),
        blocks=design.blocks,
        max_tokens=inner.size(*POSITIONS, default=0),
        tied=design.tied,
        learned_positions=design.learned_positions,
        embedding_width=design.embedding_width,
        embedding_norm=design.embedding_norm,
        final_norm=design.final_norm,
        head_bias=design.head_bias,
        norm=design.norm,
        published=published,
        quantized=design.quantized if design.quantized != "all" else quantized,
        source=source,
        note=note,
    )


def _outer(c: Config) -> dict[str, Any]:
    """What a configuration with a language part says for that part too."""
    keys = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config", "vocab_size")
    return {key: c.values[key] for key in keys if c.has(key)}


def _family(c: Config, architecture: str) -> Design:
    """The design of a model of a family in the table."""
    family = FAMILIES[architecture]
    blocks = family_blocks(c, family, MIXTURES.get(architecture, dense))
    return Design(
        blocks=blocks,
        norm=family.norm,
        tied=c.flag("tie_word_embeddings", default=family.tied),
        learned_positions=c.size(*POSITIONS) if family.positions == "learned" else 0,
        embedding_norm=family.embedding_norm,
        head_bias=switch(c, family.head_bias),
    )


def formats(c: Config) -> tuple[Formats, Quantized]:
    """The formats of the published checkpoint and what of it they cover, from dtype and ``quantization_config``."""
    dtype = c.text("torch_dtype", "dtype", default="bfloat16")
    if dtype not in _DTYPES:
        c.fail(c.find("torch_dtype", "dtype")[0], f"{shown(dtype)} is not known", hint="one of " + ", ".join(_DTYPES))
    wide = _DTYPES[dtype]
    q = c.part("quantization_config")
    if q is None:
        return Formats(wide, wide, wide), "all"
    weights, activations = _quantized(q, wide)
    cache = FP8 if q.has("kv_cache_scheme", "kv_cache_quant_algo") else wide
    left_out = [*(q.items("modules_to_not_convert") or []), *(q.items("ignore") or []), *(q.items("exclude_modules") or [])]
    names = [m for m in left_out if isinstance(m, str) and "norm" not in m]
    if not any("attn" in name for name in names):
        return Formats(weights, activations, cache), "all"
    dense_too = any(part in name for name in names for part in ("shared_expert", "mlp*", "mlp.*"))
    return Formats(weights, activations, cache), "experts" if dense_too else "feed_forward"


def _quantized(q: Config, wide: NumberFormat) -> tuple[NumberFormat, NumberFormat]:
    """The formats of the weights and of the activations of a quantization scheme."""
    algorithm = q.text("quant_algo", default="").upper()
    method = algorithm.lower() or q.text("quant_method", default="")
    simple = {
        "fp8": (FP8, FP8),
        "fbgemm_fp8": (FP8, FP8),
        "mxfp4": (MXFP4, wide),
        "nvfp4": (NVFP4, NVFP4),
        "int4": (INT4, wide),
        "int8": (INT8, wide),
    }
    if method in simple:
        return simple[method]
    if method in ("gptq", "awq", "") and q.has("bits"):  # weights only; without a method: as MLX writes it
        bits = q.size("bits")
        if bits not in (4, 8):
            q.fail("bits", f"{bits} bits are no format here", hint="4 or 8")
        return simple[f"int{bits}"]
    groups = q.part("config_groups")
    first = groups.part("group_0") if groups is not None else None
    parts = (first.part("weights"), first.part("input_activations")) if first is not None else (None, None)
    if parts[0] is None:
        q.fail("quant_method", f"{shown(q.values.get('quant_method'))} is not known", hint="one of " + ", ".join(simple))
    return _element(parts[0]), wide if parts[1] is None else _element(parts[1])


def _element(part: Config) -> NumberFormat:
    """The number format of ``num_bits`` and ``type``."""
    bits, kind = part.size("num_bits", highest=64), part.text("type", default="int")
    four = MXFP4 if part.size("group_size", default=0, lowest=-1) == 32 else NVFP4
    found = {(8, "float"): FP8, (8, "int"): INT8, (4, "int"): INT4, (4, "float"): four}.get((bits, kind))
    if found is None:
        part.fail("num_bits", f"{bits} bits of {kind} are no format here")
    return found
