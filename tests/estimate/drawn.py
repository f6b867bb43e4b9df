"""What hypothesis draws for the laws of the estimate: machines of the library and random ones, operators, graphs."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from presilicon import chip
from presilicon.dtypes import BF16, FP8, FP16, INT4, INT8, MXFP4
from presilicon.estimate import Machine, machine
from presilicon.estimate.cost import Cost
from presilicon.graph import (
    Attention,
    Convolution,
    Elementwise,
    Embedding,
    ExpertMatmul,
    Graph,
    Matmul,
    Normalization,
    Operator,
    Sampling,
)

LIBRARY = {
    name: machine(chip.load(name))
    for name in (
        *("nvidia-a100-sxm-80gb", "nvidia-h100-sxm-80gb", "nvidia-b200-sxm-180gb", "nvidia-l4", "amd-instinct-mi300x"),
        *("google-tpu-v5e", "furiosaai-rngd", "rebellions-atom", "groq-lpu-v1", "aws-inferentia2", "microsoft-maia-100"),
    )
}
# Rounding of sums in another order: a law may be off by that and no more.
NOISE = 1 + 1e-12
PAIRS = ((BF16, BF16), (FP8, FP8), (INT8, INT8), (INT4, FP16), (MXFP4, BF16), (FP8, BF16))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """A chip of the library, or one of random figures with the constants of a random family."""
    base = LIBRARY[draw(st.sampled_from(sorted(LIBRARY)))]
    if draw(st.booleans()):
        return base
    cores, clock = float(draw(st.integers(1, 300))), draw(st.floats(1e8, 3e9))
    side = draw(st.sampled_from([4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]))
    rate = 2.0 * cores * clock * side * side
    return replace(
        base,
        cores=cores,
        clock_hz=clock,
        array_macs=side * side,
        memory_bytes_per_s=draw(st.floats(1e9, 2e13)),
        shared_sram_bytes=draw(st.floats(1e5, 1e9)),
        scratchpad_bytes=draw(st.floats(1e4, 4e6)),
        vector_ops_per_s=cores * clock * draw(st.sampled_from([8.0, 64.0, 256.0])),
        tdp_w=draw(st.one_of(st.just(float("inf")), st.floats(2.0, 1500.0))),
        peak={"bf16": rate, "fp16": rate, "fp8": 2.0 * rate, "int8": 2.0 * rate},
    )


def more_cores(m: Machine, factor: float) -> Machine:
    """More cores of the same array, and of the same vector unit, without the power limit."""
    return replace(
        m,
        tdp_w=float("inf"),
        cores=m.cores * factor,
        vector_ops_per_s=m.vector_ops_per_s * factor,
        peak={name: rate * factor for name, rate in m.peak.items()},
    )


def launched_faster(m: Machine, factor: float) -> Machine:
    """All that starts an operator divided by ``factor``."""
    c = m.constants
    names = ("launch_s", "attention_start_s", "network_launch_s", "quantize_s", "step_s", "query_s", "collective_start_s")
    return replace(m, constants=replace(c, **{name: getattr(c, name) / factor for name in names}))


sizes = st.one_of(st.integers(1, 64), st.integers(1, 20_000), st.sampled_from([64, 128, 1024, 4096, 8192, 14336]))


@st.composite
def matmuls(draw: st.DrawFn) -> Matmul:
    weights, activations = draw(st.sampled_from(PAIRS))
    return Matmul(
        name="m",
        m=draw(sizes),
        k=draw(sizes),
        n=draw(sizes),
        groups=draw(st.sampled_from([1, 1, 1, 2, 8, 96])),
        weights=weights,
        activations=activations,
        source=draw(st.sampled_from([BF16, activations])),
        output=BF16,
        has_weights=draw(st.booleans()),
        bias=draw(st.booleans()),
    )


@st.composite
def expert_matmuls(draw: st.DrawFn) -> ExpertMatmul:
    weights, activations = draw(st.sampled_from(PAIRS))
    experts = draw(st.sampled_from([4, 8, 64, 128, 256]))
    parts = draw(st.sampled_from([1, 1, 4]))
    return ExpertMatmul(
        name="e",
        tokens=draw(st.integers(1, 5000)),
        k=draw(sizes),
        n=draw(sizes),
        experts=experts // parts,
        routed_share=1 / parts,
        experts_per_token=draw(st.integers(1, 4)),
        weights=weights,
        activations=activations,
        source=draw(st.sampled_from([BF16, activations])),
    )


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    groups = draw(st.sampled_from([1, 1, 2, 32]))
    size, kernel, stride = draw(st.integers(7, 224)), draw(st.sampled_from([1, 3, 7])), draw(st.sampled_from([1, 2]))
    out = -(-size // stride)
    return Convolution(
        name="c",
        batch=draw(st.integers(1, 64)),
        in_channels=groups * draw(st.integers(1, 128)),
        out_channels=groups * draw(st.sampled_from([1, 2, 32, 100])),
        in_height=size,
        in_width=size,
        out_height=out,
        out_width=out,
        kernel_height=kernel,
        kernel_width=kernel,
        groups=groups,
        weights=INT8,
        activations=INT8,
        source=INT8,
        output=INT8,
    )


@st.composite
def streams(draw: st.DrawFn) -> Operator:
    rows, width = draw(st.integers(1, 9000)), draw(sizes)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return Normalization(name="n", elements=rows * width, reads=draw(st.sampled_from([1.0, 2.0])), parameters=width)
    if kind == 1:
        return Embedding(name="l", rows=rows, width=width, table_rows=128_256, held=draw(st.booleans()))
    if kind == 2:
        return Sampling(name="s", rows=rows, vocabulary=128_256)
    return Elementwise(name="x", elements=rows * width, ops=draw(st.sampled_from([1.0, 5.0, 20.0])), fused=kind == 3)


@st.composite
def attentions(draw: st.DrawFn) -> Attention:
    kv_heads, queries = draw(st.sampled_from([1, 8])), draw(st.sampled_from([1, 1, 3, 128, 2048]))
    return Attention(
        name="a",
        batch=draw(st.integers(1, 64)),
        query_tokens=queries,
        kv_tokens=queries + draw(st.integers(0, 9000)),
        heads=kv_heads * draw(st.sampled_from([1, 4, 8])),
        kv_heads=kv_heads,
        head_dim=128,
        value_dim=128,
        window=draw(st.sampled_from([0, 0, 1024])),
    )


operators = st.one_of(matmuls(), expert_matmuls(), convolutions(), streams(), attentions())


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A few operators with repeats, alike and not."""
    found = tuple(
        replace(op, name=f"{op.kind}{i}", count=draw(st.integers(1, 40)))
        for i, op in enumerate(draw(st.lists(operators, min_size=1, max_size=6)))
    )
    return Graph("drawn", draw(st.sampled_from(["prefill", "decode", "inference"])), found)


def figures(cost: Cost) -> dict[str, Any]:
    """Every number of a cost by name."""
    return {f.name: getattr(cost, f.name) for f in fields(cost) if f.name != "multiplied"}


def at(values: Any, shape: tuple[int, ...], index: tuple[int, ...]) -> float:
    """One element of what broadcasts to ``shape``."""
    return float(np.broadcast_to(np.asarray(values, dtype=np.float64), shape)[index])
