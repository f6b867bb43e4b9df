"""Attention over a KV cache as a model of its own: ``q``, caches ``k`` and ``v``, ``position``, result ``y``."""

from __future__ import annotations

from dataclasses import dataclass

from presilicon.compiler.emission.cache_plan import Sizes
from presilicon.compiler.steps import Attention, Lowered, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAttention:
    """Sizes, the scale of scores, that of results (of v's over the result's), and the result's zero point."""

    sizes: Sizes
    score_scale: float
    value_scale: float
    zero_point: int = 0


def cached_attention_model(step: CachedAttention) -> Lowered:
    """Input ``q`` int8 (tokens, heads * dim), states ``k``, ``v`` (keys, kv_heads * dim), output ``y`` like q.

    Query i sees the first position + i + 1 keys.
    """
    sizes = step.sizes
    wide, narrow = sizes.heads * sizes.dim, sizes.kv_heads * sizes.dim
    tensors = (
        Tensor("q", sizes.tokens, wide, "int8"),
        Tensor("k", sizes.keys, narrow, "int8"),
        Tensor("v", sizes.keys, narrow, "int8"),
        Tensor("y", sizes.tokens, wide, "int8", zero_point=step.zero_point),
    )
    attention = Attention(
        name="attention",
        q="q",
        k="k",
        v="v",
        out="y",
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        dim=sizes.dim,
        score_scale=step.score_scale,
        value_scale=step.value_scale,
        causal=True,
        position="position",
    )
    return Lowered(
        name="attention",
        tensors={tensor.name: tensor for tensor in tensors},
        constants={},
        steps=(attention,),
        inputs=("q",),
        outputs=("y",),
        states=("k", "v"),
        arguments={"position": sizes.keys - sizes.tokens},
    )
