"""Feed-forward rules of the mixture-of-experts families: which layers have experts, how many, how wide."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from presilicon.frontend.blocks import Experts
from presilicon.frontend.config import Config
from presilicon.frontend.families import Family, FeedForwards, Part, dense_part

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "top_k_experts")


def experts_per_token(c: Config, experts: int) -> int:
    """How many of ``experts`` a token is sent to."""
    chosen = c.size(*PER_TOKEN)
    if chosen > experts:
        c.fail(c.find(*PER_TOKEN)[0], f"{chosen} experts per token, and there are {experts}")
    return chosen


def _everywhere(c: Config, family: Family, layers: int) -> list[Part]:
    """Mixtral, PhiMoE, MiniMax-M2: every layer has experts of ``intermediate_size``."""
    count = c.size(*EXPERTS)
    part = Experts(
        experts=count,
        experts_per_token=experts_per_token(c, count),
        hidden=c.size("intermediate_size"),
        gated=family.gated,
        router_bias=c.flag("use_routing_bias", default=False),
    )
    return [part] * layers


def _qwen(c: Config, family: Family, layers: int) -> list[Part]:
    """Qwen2Moe, Qwen3Moe: every ``decoder_sparse_step``-th layer but ``mlp_only_layers``; Qwen2Moe has a shared expert."""
    count = c.size("num_experts", *EXPERTS)
    shared = c.size("shared_expert_intermediate_size", default=0, lowest=0)
    part = Experts(
        experts=count,
        experts_per_token=experts_per_token(c, count),
        hidden=c.size("moe_intermediate_size"),
        shared_hidden=shared,
        shared_gate=shared > 0,
    )
    step, only_dense = c.size("decoder_sparse_step", default=1), c.indices("mlp_only_layers", layers)
    sparse = [i not in only_dense and (i + 1) % step == 0 for i in range(layers)]
    return placed(c, family, part, sparse)


def deepseek(c: Config, family: Family, layers: int) -> list[Part]:
    """DeepSeek V2 and V3, Kimi K2, GLM-4.5: dense layers first, then experts with shared ones beside them.

    ``topk_method`` "noaux_tc" has a learned correction of one value an expert (so has GLM-4.5, which does not say it).
    """
    count, width = c.size("n_routed_experts", *EXPERTS), c.size("moe_intermediate_size")
    unsaid = "" if c.has("kv_lora_rank") else "noaux_tc"
    corrected = c.text("topk_method", default=unsaid) == "noaux_tc"
    part = Experts(
        experts=count,
        experts_per_token=experts_per_token(c, count),
        hidden=width,
        router_bias=corrected,
        shared_hidden=width * c.size("n_shared_experts", "num_shared_experts", default=0, lowest=0),
    )
    dense_first = c.size("first_k_dense_replace", default=0, lowest=0)
    listed = c.switches("moe_layer_freq", layers) if isinstance(c.values.get("moe_layer_freq"), list) else None
    step = 1 if listed is not None else c.size("moe_layer_freq", default=1)
    sparse = [listed[i] if listed is not None else i >= dense_first and i % step == 0 for i in range(layers)]
    return placed(c, family, part, sparse)


def placed(c: Config, family: Family, experts: Experts, sparse: list[bool]) -> list[Part]:
    """``experts`` in the layers that are ``sparse``, the dense network of the configuration in the others."""
    if all(sparse):
        return [experts] * len(sparse)
    other = dense_part(c, family)
    return [experts if is_sparse else other for is_sparse in sparse]


MIXTURES: Mapping[str, FeedForwards] = MappingProxyType(
    {
        "MixtralForCausalLM": _everywhere,
        "PhimoeForCausalLM": _everywhere,
        "MiniMaxM2ForCausalLM": _everywhere,
        "Qwen2MoeForCausalLM": _qwen,
        "Qwen3MoeForCausalLM": _qwen,
        "Glm4MoeForCausalLM": deepseek,
    }
)
"""Architecture -> the rule for its feed-forward parts; the others are dense."""
