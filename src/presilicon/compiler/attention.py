"""Attention over a KV cache as a program of its own: ``q``, caches ``k`` and ``v``, position in r1, result ``y``."""

from __future__ import annotations

from dataclasses import dataclass

from presilicon.compiler.cache_plan import Sizes, plan_cache
from presilicon.compiler.emit_decode import CacheAttention, cached_attention, scale_kernel, softmax_kernel
from presilicon.compiler.emitter import Emitter
from presilicon.compiler.meaning import probability_table
from presilicon.compiler.rows import aligned, load_kernels
from presilicon.compiler.steps import Attention, Lowered, Tensor
from presilicon.errors import CapacityError
from presilicon.isa import UOP_BYTES, Program, Region, Segment, halt, load, place
from presilicon.template import Core
from presilicon.tiling import Region as Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAttention:
    """Sizes, the scale of scores, that of results (of v's over the result's), and the result's zero point."""

    sizes: Sizes
    score_scale: float
    value_scale: float
    zero_point: int = 0


def cached_attention_model(step: CachedAttention) -> Lowered:
    """The step as a model of its own, whose meaning is what the program computes."""
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


def attention_program(core: Core, step: CachedAttention) -> Program:
    """The program: input ``q`` int8 (tokens, heads * dim), states ``k``, ``v`` (keys, kv_heads * dim), output ``y`` like q.

    Query i sees the first position + i + 1 keys. CapacityError where a row of scores does not fit, with both numbers.
    """
    if core.scratchpad_banks < 4:
        raise CapacityError(f"attention needs 4 scratchpad banks, the core has {core.scratchpad_banks}")
    sizes, quarter = step.sizes, core.scratchpad_bytes // 4
    plan = plan_cache(core, sizes, *(Bytes(i * quarter, quarter) for i in range(4)))
    softmax, scale = softmax_kernel(core, step.score_scale, step.value_scale), scale_kernel(core, step.zero_point)
    kernels = place([("softmax", softmax.uops), ("scale", scale.uops)], core)
    wide, narrow = sizes.heads * sizes.dim, sizes.kv_heads * sizes.dim
    q, k = 0, aligned(sizes.tokens * wide)
    v = aligned(k + sizes.keys * narrow)
    y = aligned(v + sizes.keys * narrow)
    table = aligned(y + sizes.tokens * wide)
    at = aligned(table + len(probability_table()))
    emitter = Emitter(core, kernels)
    emitter.add(load_kernels(kernels, at))
    emitter.add(load(dram=table, spad=0, run=len(probability_table()), target="tables"))
    made = CacheAttention(
        plan=plan,
        position=1,
        q=q,
        q_row=wide,
        k=k,
        k_row=narrow,
        v=v,
        v_row=narrow,
        out=y,
        out_row=wide,
        softmax=softmax,
        softmax_start=kernels[0].start,
        scale=scale,
        scale_start=kernels[1].start,
    )
    cached_attention(emitter, core, made)
    return Program.build(
        core,
        emitter.finish(halt()),
        kernels=kernels,
        data=(Segment(table, probability_table()),),
        regions=(
            Region("q", "input", "int8", (sizes.tokens, wide), q),
            Region("k", "state", "int8", (sizes.keys, narrow), k),
            Region("v", "state", "int8", (sizes.keys, narrow), v),
            Region("y", "output", "int8", (sizes.tokens, wide), y),
        ),
        address=aligned(at + UOP_BYTES * sum(one.slots for one in kernels)),
        kernel_address=at,
    )
