"""Random small networks of supported operators, each drawn from a list of choices so that hypothesis can shorten it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from import_models import INT64, Net

KINDS = (
    "linear", "linear act", "act", "residual", "gate", "layer norm", "rms norm", "softmax", "row", "matrix", "number",
    "attention", "causal", "columns", "joined", "transposed", "token rows", "unary", "l2", "lstm", "convolution", "pool",
)  # fmt: skip
ENDS = ("none", "mean", "arg max", "softmax")
_ACTS = ("Relu", "Gelu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Elu", "LeakyRelu", "Abs")
_UNARY = ("Neg", "Abs", "Relu", "Sigmoid", "Tanh", "Erf", "HardSigmoid")


@dataclass(frozen=True)
class Plan:
    """What a random network is made of: its start, operators by kind and a number that decides their sizes, and its end."""

    start: str
    operators: tuple[tuple[str, int], ...]
    end: str
    tokens: int
    width: int
    seed: int


@dataclass
class _Growing:
    net: Net
    tokens: int
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def put(self, name: str, tokens: int, width: int) -> str:
        self.shapes[name] = (tokens, width)
        return name

    def width(self, name: str) -> int:
        return self.shapes[name][1]


def network(plan: Plan) -> tuple[Net, str, dict[str, Any], dict[str, Any]]:
    """A network, its output, calibration data and an input."""
    net = Net(20, plan.seed)
    grow = _Growing(net, plan.tokens)
    rng = np.random.default_rng(plan.seed + 1)
    if plan.start == "ids":
        ids = net.input("ids", 1, plan.tokens, kind=INT64)
        x = grow.put(net.op("Gather", net.weight(30, plan.width, scale=1.0), ids, axis=0), plan.tokens, plan.width)
        data = {"ids": rng.integers(0, 30, (9, 1, plan.tokens))}
    else:
        x = grow.put(net.input("x", 1, plan.tokens, plan.width), plan.tokens, plan.width)
        data = {"x": rng.standard_normal((9, 1, plan.tokens, plan.width)).astype(np.float32)}
    history = [x]
    for kind, number in plan.operators:
        x = _operator(grow, kind, number, x, history)
        history.append(x)
    x = _end(grow, plan.end, x)
    return net, x, {name: array[:8] for name, array in data.items()}, {name: array[8] for name, array in data.items()}


def _operator(g: _Growing, kind: str, number: int, x: str, history: list[str]) -> str:
    net, (tokens, wide) = g.net, g.shapes[x]
    same = [name for name in history if g.shapes[name] == (tokens, wide)]
    other = same[number % len(same)]
    match kind:
        case "linear" | "linear act":
            out = 4 + number % 29
            y = net.op("Add", net.op("MatMul", x, net.weight(wide, out)), net.weight(out, scale=0.3))
            return g.put(net.op(_ACTS[number % len(_ACTS)], y) if kind == "linear act" else y, tokens, out)
        case "act":
            return g.put(net.op(_ACTS[number % len(_ACTS)], x), tokens, wide)
        case "unary":
            return g.put(net.op(_UNARY[number % len(_UNARY)], x), tokens, wide)
        case "residual":
            return g.put(net.op(("Add", "Sub", "Max", "Min")[number % 4], x, other), tokens, wide)
        case "gate":
            return g.put(net.op("Mul", net.op("Sigmoid", other), x), tokens, wide)
        case "layer norm":
            return g.put(
                net.op("LayerNormalization", x, net.weight(wide, scale=1.0), net.weight(wide, scale=1.0)), tokens, wide
            )
        case "rms norm":
            mean = net.op("Add", net.op("ReduceMean", net.op("Mul", x, x), [2]), 1e-5)
            return g.put(net.op("Mul", net.op("Div", x, net.op("Sqrt", mean)), net.weight(wide, scale=1.0)), tokens, wide)
        case "softmax":
            return g.put(net.op("Softmax", x, axis=-1), tokens, wide)
        case "l2":
            return g.put(net.op("Div", x, net.op("Clip", net.op("ReduceL2", x, [2]), 1e-6)), tokens, wide)
        case "row":
            return g.put(net.op(("Add", "Mul")[number % 2], x, net.weight(wide, scale=1.0)), tokens, wide)
        case "matrix":
            return g.put(net.op(("Add", "Mul")[number % 2], net.weight(1, tokens, wide, scale=1.0), x), tokens, wide)
        case "number":
            return g.put(net.op(("Add", "Mul", "Sub")[number % 3], x, 0.25 + number % 5), tokens, wide)
        case "attention" | "causal":
            return _attention(g, x, 1 + number % 3, 4 * (1 + number % 4), kind == "causal")
        case "columns":
            first, last = sorted((number % wide, number // 7 % wide))
            last = max(last + 1, first + 1)
            return g.put(net.op("Slice", x, [first], [last], [2]), tokens, last - first)
        case "joined":
            return g.put(net.op("Concat", x, other, axis=2), tokens, 2 * wide) if wide <= 48 else x
        case "transposed":
            return g.put(net.op("Transpose", x, perm=[0, 2, 1]), wide, tokens)
        case "token rows":
            step = 1 + number % 2
            kept = -(-tokens // step)
            return g.put(net.op("Slice", x, [0], [tokens], [1], [step]), kept, wide)
        case "lstm":
            return _lstm(g, x, 4 + number % 5)
    return _image(g, kind, number, x)


def _attention(g: _Growing, x: str, heads: int, dim: int, causal: bool) -> str:
    net, (tokens, wide) = g.net, g.shapes[x]

    def part(perm: list[int]) -> Any:
        wider = net.op("MatMul", x, net.weight(wide, heads * dim))
        return net.op("Transpose", net.op("Reshape", wider, [1, tokens, heads, dim]), perm=perm)

    scores = net.op("Mul", net.op("MatMul", part([0, 2, 1, 3]), part([0, 2, 3, 1])), dim**-0.5)
    if causal:
        scores = net.op("Add", scores, net.constant(np.triu(np.full((tokens, tokens), -1e9, np.float32), 1)))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), part([0, 2, 1, 3]))
    flat = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), [1, tokens, heads * dim])
    return g.put(net.op("MatMul", flat, net.weight(heads * dim, wide)), tokens, wide)


def _lstm(g: _Growing, x: str, hidden: int) -> str:
    net, (tokens, wide) = g.net, g.shapes[x]
    kept = min(tokens, 3)
    rows = net.op("Transpose", net.op("Slice", x, [0], [kept], [1]), perm=[1, 0, 2])
    weights = net.weight(1, 4 * hidden, wide, scale=0.3), net.weight(1, 4 * hidden, hidden, scale=0.3)
    y = net.op("LSTM", rows, *weights, net.weight(1, 8 * hidden, scale=0.1), outputs=2, hidden_size=hidden)[0]
    return g.put(net.op("Reshape", y, [1, kept, hidden]), kept, hidden)


def _image(g: _Growing, kind: str, number: int, x: str) -> str:
    """A convolution or pooling along tokens, the features as channels."""
    net, (tokens, wide) = g.net, g.shapes[x]
    channels_first = net.op("Transpose", x, perm=[0, 2, 1])
    if kind == "convolution":
        out, kernel, stride = 4 + number % 13, 1 + number % 3, 1 + number // 3 % 2
        pads = [kernel // 2, kernel // 2]
        weights = net.weight(out, wide, kernel, scale=(wide * kernel) ** -0.5)
        y = net.op("Conv", channels_first, weights, net.weight(out, scale=0.2), strides=[stride], pads=pads)
        rows = (tokens + 2 * pads[0] - kernel) // stride + 1
        return g.put(net.op("Transpose", y, perm=[0, 2, 1]), rows, out)
    op = ("MaxPool", "AveragePool")[number % 2]
    if tokens < 2:
        return x
    y = net.op(op, channels_first, kernel_shape=[2], strides=[2])
    return g.put(net.op("Transpose", y, perm=[0, 2, 1]), (tokens - 2) // 2 + 1, wide)


def _end(g: _Growing, end: str, x: str) -> str:
    net = g.net
    match end:
        case "mean":
            return net.op("ReduceMean", x, [1])
        case "arg max":
            return net.op("ArgMax", x, axis=-1)
        case "softmax":
            return net.op("Softmax", x, axis=-1)
    return net.op("Mul", x, 0.5) if x in ("x",) else x
