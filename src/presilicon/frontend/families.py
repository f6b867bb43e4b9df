"""The dense and the plain mixture-of-experts families of Hugging Face configurations: one row each, one builder for all.

The rules (which linear operators have biases, how many norms, which layers slide) are those of the model classes in
Hugging Face transformers 5.23.0 (models/<family>/modeling_<family>.py and configuration_<family>.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from presilicon.frontend.blocks import Block, Experts, FeedForward, GroupedAttention
from presilicon.frontend.config import MOST_LAYERS, Config
from presilicon.frontend.language import merged
from presilicon.frontend.step import NormKind, QKNorm

LAYER_TYPES: Mapping[str, bool] = MappingProxyType(
    {"full_attention": False, "sliding_attention": True, "chunked_attention": True}
)
"""The names of a configuration's ``layer_types`` that are ordinary attention, and whether they are limited to a window."""

Part = FeedForward | Experts
FeedForwards = Callable[["Config", "Family", int], list[Part]]
"""A rule that reads the feed-forward part of each layer from a configuration."""
Windows = Literal["never", "always", "pattern", "qwen"]
Switch = bool | tuple[str, bool]
"""True or False for the whole family, or the key that says it and what holds where it is missing."""
_ATTENTION_BIAS = ("attention_bias", False)
_MLP_BIAS = ("mlp_bias", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the models of one family have in common that their configurations do not say.

    ``windows``: "always" (where ``sliding_window`` is set), "pattern" (``layer_types``, or every ``period``-th layer full)
    or "qwen" (``use_sliding_window`` and ``max_window_layers``). ``tied`` is the class's default. ``positions``: rotary,
    learned or none (ALiBi). ``head_dim`` and ``kv_heads``: the class's default where it is not hidden / heads and heads.
    """

    gated: bool = True
    norm: NormKind = "rms"
    norms: int = 2
    parallel: Switch = False
    tied: bool = False
    qkv_bias: Switch = _ATTENTION_BIAS
    output_bias: Switch = _ATTENTION_BIAS
    mlp_bias: Switch = False
    qk_norm: QKNorm = "none"
    qk_norm_key: str = ""
    windows: Windows = "never"
    period: int = 0
    rotary_everywhere: bool = True
    positions: Literal["rotary", "learned", "none"] = "rotary"
    embedding_norm: bool = False
    head_bias: Switch = False
    ffn_factor: int = 0
    kv_heads: int = 0
    head_dim: int = 0


LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed")
HEADS = ("num_attention_heads", "n_head", "n_heads")
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")

_LLAMA = Family(mlp_bias=_MLP_BIAS)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "LlamaForCausalLM": _LLAMA,
        "GraniteForCausalLM": Family(mlp_bias=_MLP_BIAS, tied=True),
        "MistralForCausalLM": Family(qkv_bias=False, output_bias=False, windows="always"),
        "MinistralForCausalLM": Family(qkv_bias=False, output_bias=False, windows="pattern"),
        "Qwen2ForCausalLM": Family(qkv_bias=True, output_bias=False, windows="qwen"),
        "MiMoForCausalLM": Family(output_bias=False, windows="qwen"),
        "Qwen3ForCausalLM": Family(qk_norm="head", head_dim=128, windows="qwen"),
        "GemmaForCausalLM": Family(tied=True, head_dim=256),
        "Gemma2ForCausalLM": Family(tied=True, head_dim=256, norms=4, windows="pattern", period=2),
        "Gemma3ForCausalLM": Family(tied=True, head_dim=256, norms=4, qk_norm="head", windows="pattern", period=6),
        "PhiForCausalLM": Family(
            gated=False,
            norm="layer",
            norms=1,
            parallel=True,
            qkv_bias=True,
            output_bias=True,
            mlp_bias=True,
            qk_norm="head",
            qk_norm_key="qk_layernorm",
            head_bias=True,
        ),
        "Phi3ForCausalLM": Family(qkv_bias=False, output_bias=False, windows="always"),
        "ExaoneForCausalLM": Family(qkv_bias=False, output_bias=False),
        "Exaone4ForCausalLM": Family(
            qkv_bias=False, output_bias=False, qk_norm="head", windows="pattern", period=4, rotary_everywhere=False
        ),
        "Glm4ForCausalLM": Family(qkv_bias=("attention_bias", True), output_bias=False, norms=4, head_dim=128),
        "SmolLM3ForCausalLM": Family(mlp_bias=_MLP_BIAS, tied=True, kv_heads=4, windows="qwen"),
        "HyperCLOVAXForCausalLM": Family(mlp_bias=_MLP_BIAS, norms=4),
        "OlmoForCausalLM": Family(norm="plain"),
        "Olmo2ForCausalLM": Family(qk_norm="full"),
        "Olmo3ForCausalLM": Family(qk_norm="full", windows="pattern", period=4),
        # Cohere's layer norms have a scale and no bias: their parameters are those of an RMS norm.
        "CohereForCausalLM": Family(norms=1, parallel=True, tied=True, qk_norm="full", qk_norm_key="use_qk_norm"),
        "Cohere2ForCausalLM": Family(norms=1, parallel=True, tied=True, windows="pattern", period=4, rotary_everywhere=False),
        "NemotronForCausalLM": Family(gated=False, norm="layer", mlp_bias=_MLP_BIAS),
        "StableLmForCausalLM": Family(
            norm="layer", qkv_bias=("use_qkv_bias", False), output_bias=False, parallel=("use_parallel_residual", False)
        ),
        "Starcoder2ForCausalLM": Family(
            gated=False, norm="layer", qkv_bias=True, output_bias=True, mlp_bias=True, tied=True, kv_heads=2, windows="always"
        ),
        "GPT2LMHeadModel": Family(
            gated=False,
            norm="layer",
            qkv_bias=True,
            output_bias=True,
            mlp_bias=True,
            tied=True,
            positions="learned",
            ffn_factor=4,
        ),
        "GPTJForCausalLM": Family(
            gated=False,
            norm="layer",
            norms=1,
            parallel=True,
            qkv_bias=False,
            output_bias=False,
            mlp_bias=True,
            head_bias=True,
            ffn_factor=4,
        ),
        "GPTNeoXForCausalLM": Family(
            gated=False,
            norm="layer",
            parallel=("use_parallel_residual", True),
            qkv_bias=("attention_bias", True),
            output_bias=("attention_bias", True),
            mlp_bias=True,
        ),
        "BloomForCausalLM": Family(
            gated=False,
            norm="layer",
            qkv_bias=True,
            output_bias=True,
            mlp_bias=True,
            tied=True,
            positions="none",
            embedding_norm=True,
            ffn_factor=4,
        ),
        "MixtralForCausalLM": Family(qkv_bias=False, output_bias=False, windows="always"),
        "Qwen2MoeForCausalLM": Family(qkv_bias=True, output_bias=False, windows="qwen"),
        "Qwen3MoeForCausalLM": Family(qk_norm="head", windows="qwen"),
        "PhimoeForCausalLM": Family(norm="layer", windows="always", head_bias=("lm_head_bias", False)),
        "Glm4MoeForCausalLM": Family(output_bias=False, qk_norm="head", qk_norm_key="use_qk_norm"),
        "MiniMaxM2ForCausalLM": Family(
            qkv_bias=False, output_bias=False, qk_norm="full", qk_norm_key="use_qk_norm", head_dim=128
        ),
    }
)
"""Architecture (as ``architectures`` of a configuration names it) -> what its family has in common."""


def switch(c: Config, value: Switch) -> bool:
    """Whether ``value`` (or the key it names) holds."""
    return c.flag(value[0], default=value[1]) if isinstance(value, tuple) else value


def head_sizes(c: Config, family: Family, hidden: int) -> tuple[int, int, int]:
    """Query heads, key and value heads, and elements of a head, checked against each other."""
    heads = c.size(*HEADS)
    kv_heads = c.size("num_key_value_heads", default=family.kv_heads or heads)
    if heads % kv_heads:
        c.fail("num_key_value_heads", f"{heads} heads are not a multiple of {kv_heads} key and value heads")
    if not c.has("head_dim") and not family.head_dim and hidden % heads:
        c.fail(c.find(*HEADS)[0], f"a width of {hidden} does not divide into {heads} heads")
    return heads, kv_heads, c.size("head_dim", default=family.head_dim or hidden // heads)


def windows(c: Config, family: Family, layers: int) -> list[int]:
    """The window of each layer, 0 for full attention."""
    if family.windows == "never":
        return [0] * layers
    window = c.size("sliding_window", "attention_chunk_size", default=0)
    limited = c.choices("layer_types", layers, LAYER_TYPES)
    if limited is None:
        limited = _limited(c, family, layers, window)
    elif any(limited) and not window:
        c.fail("sliding_window", "this key is missing", hint="layer_types has layers with a window")
    return [window if has_window else 0 for has_window in limited]


def _limited(c: Config, family: Family, layers: int, window: int) -> list[bool]:
    """Which layers have a window where the configuration has no list of them."""
    if not window:
        return [False] * layers
    if family.windows == "always":
        return [True] * layers
    if family.windows == "qwen":
        first = c.size("max_window_layers", default=28, lowest=0)
        return [c.flag("use_sliding_window", default=False) and i >= first for i in range(layers)]
    if isinstance(c.values.get("sliding_window_pattern"), str):  # "LLLG": local and global layers in turn
        pattern = c.text("sliding_window_pattern")
        if not pattern or set(pattern) - {"L", "G"}:
            c.fail("sliding_window_pattern", f"{pattern!r} is not a pattern", hint='L and G, as in "LLLG"')
        return [pattern[i % len(pattern)] == "L" for i in range(layers)]
    period = c.size("sliding_window_pattern", "_sliding_window_pattern", default=family.period or 1)
    return [(i + 1) % period != 0 for i in range(layers)]


def attention(c: Config, family: Family, window: int, sizes: tuple[int, int, int]) -> GroupedAttention:
    """The attention of one layer with this ``window``."""
    heads, kv_heads, head_dim = sizes
    normed = family.qk_norm != "none" and (not family.qk_norm_key or c.flag(family.qk_norm_key, default=False))
    has_windows = c.has("sliding_window") and family.windows != "never"
    return GroupedAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=head_dim,
        window=window,
        qkv_bias=switch(c, family.qkv_bias),
        output_bias=switch(c, family.output_bias),
        qk_norm=family.qk_norm if normed else "none",
        rotary=family.positions == "rotary" and (family.rotary_everywhere or not has_windows or window > 0),
    )


def family_blocks(c: Config, family: Family, feed_forwards: FeedForwards) -> tuple[Block, ...]:
    """The blocks of a family: its attention with each layer's window, and the feed-forward part of each layer."""
    layers, hidden = c.size(*LAYERS, highest=MOST_LAYERS), c.size(*HIDDEN)
    parts = feed_forwards(c, family, layers)
    parallel = switch(c, family.parallel)
    sizes = head_sizes(c, family, hidden)
    limits = windows(c, family, layers)
    kinds = {window: attention(c, family, window, sizes) for window in dict.fromkeys(limits)}
    return merged(
        [
            Block(attention=kinds[window], feed_forward=part, parallel=parallel, norms=family.norms)
            for window, part in zip(limits, parts, strict=True)
        ]
    )


def dense(c: Config, family: Family, layers: int) -> list[Part]:
    """The same dense feed-forward network in every layer."""
    return [dense_part(c, family)] * layers


def dense_part(c: Config, family: Family) -> FeedForward:
    """The dense feed-forward network of the configuration."""
    width = c.size("intermediate_size", "n_inner", "ffn_hidden_size", default=family.ffn_factor * c.size(*HIDDEN) or None)
    return FeedForward(hidden=width, gated=family.gated, bias=switch(c, family.mlp_bias))
