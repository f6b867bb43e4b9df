"""Random graphs of steps over a few rows."""

import numpy as np
from encoder_models import Builder

from presilicon.compiler.steps import Attention, Binding, Gather, Lowered, Reduce, Rows
from presilicon.compiler.vectors import Constant, Loop, Output, Stream, VectorProgram, plus, product


def graph(seed: int, length: int) -> Lowered:
    """A model of up to ``length`` steps over a few rows, each reading what is there."""
    b = Builder(seed)
    rng = np.random.default_rng(seed)
    tokens, heads, dim = (int(rng.integers(1, n)) for n in (26, 4, 5))
    width = heads * 4 * dim
    fp32, int8 = [b.tensor("x", tokens, width)], [b.tensor("q", tokens, width, "int8")]
    inputs = ["x", "q"]
    if rng.integers(2):
        b.tensor("ids", tokens, 1, "int32")
        b.constant("table", b.rng.normal(0, 1, (8, width)).astype(np.float32))
        b.tensor("looked", tokens, width)
        b.steps.append(Gather(name="looked", table="table", index="ids", out="looked"))
        fp32.append("looked")
        inputs.append("ids")

    def pick(names):
        return names[int(rng.integers(len(names)))]

    for number in range(length):
        name = f"s{number}"
        kind = pick(["product", "product", "norm", "attention", "sum", "reduce"])
        if kind == "product":
            wide = pick([width, width, int(rng.integers(1, 60))])
            residual = pick(fp32) if wide == width and rng.integers(2) else ""
            dtype = pick(["int8", "float32"])
            group = 64 if rng.integers(5) == 0 else 0
            b.product(name, pick(int8), wide, gelu=bool(rng.integers(4) == 0), residual=residual, dtype=dtype, group=group)
            if wide == width:
                (int8 if dtype == "int8" else fp32).append(name)
        elif kind == "norm":
            b.norm(name, pick(fp32))
            fp32.append(name)
            int8.append(f"{name}.q")
        elif kind == "sum":
            b.tensor(name, tokens, width)
            value = plus(product(Stream("a"), Constant(0.5)), Stream("b"))
            program = VectorProgram(phases=(Loop(outputs=(("y", value),)),), outputs=(Output("y"),))
            streams = (Binding("a", pick(fp32)), Binding("b", pick(int8)))
            b.steps.append(Rows(name=name, program=program, streams=streams, outputs=(Binding("y", name),)))
            fp32.append(name)
        elif kind == "attention":
            b.product(f"{name}.qkv", pick(int8), 3 * width)
            b.tensor(name, tokens, width, "int8")
            causal, columns = bool(rng.integers(2)), {"k_column": width, "v_column": 2 * width}
            b.steps.append(
                Attention(
                    name=name,
                    **dict.fromkeys(("q", "k", "v"), f"{name}.qkv"),
                    out=name,
                    heads=heads,
                    kv_heads=heads,
                    dim=4 * dim,
                    score_scale=0.002,
                    value_scale=0.9,
                    causal=causal,
                    **columns,
                )
            )
            int8.append(name)
        else:
            b.tensor(name, 1, width)
            b.steps.append(Reduce(name=name, x=pick(fp32), out=name, kind=pick(["sum", "max"])))
    written = [w for step in b.steps for w in ([step.out] if hasattr(step, "out") else [o.tensor for o in step.outputs])]
    if not written:
        b.norm("s", "x")
        written = ["s", "s.q"]
    outputs = [name for name in written if rng.integers(3) == 0] or [written[-1]]
    return b.lowered("random", inputs, outputs)
