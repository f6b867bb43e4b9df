"""One way to write each arrangement: operators that only arrange elements, whatever operator set the file is of.

Reshape (for Squeeze, Unsqueeze, Flatten too) has its result's shape; Slice ``starts`` and ``steps`` on every axis (for Split
and for Gather at constant places in a row too); Transpose ``perm``; Reduce... ``axes`` and ``keepdims``; Clip ``low`` and
``high``; LayerNormalization over the last axis alone; com.microsoft's fusions are written out where they are sums of others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from presilicon.compiler.importing.graph import FLOAT, Array, FloatGraph, Node, Type

OTHER_FORM = "ai.onnx"
"""Domain of an operator that has no normal form: no pattern and no rule of the lowering takes it for one that has."""

_STRICT = frozenset({"Attention", "Clip", "LayerNormalization", "RMSNormalization", "Slice", "Softmax", "Split", "Swish"})


class _Writer:
    """Nodes written so far, with the constants and values they bring."""

    def __init__(self, graph: FloatGraph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.types: dict[str, Type] = {}

    def constant(self, name: str, array: Array) -> str:
        self.constants[name] = array
        return name

    def value(self, name: str, shape: tuple[int, ...]) -> str:
        """A new value of real numbers."""
        self.types[name] = (shape, FLOAT)
        return name

    def put(self, node: Node, op: str, inputs: tuple[str, ...], output: str | None = None, **attributes: Any) -> str:
        """A node in place of (a part of) ``node``."""
        name = output or node.outputs[0]
        own = node.name if name == node.outputs[0] else f"{node.name}/{op}.{len(self.nodes)}"
        self.nodes.append(Node(own, op, inputs, (name,), attributes, "", node.sources))
        return name


def normalised(graph: FloatGraph) -> FloatGraph:
    """The graph in the normal form above; nodes that have one already stay."""
    writer = _Writer(graph)
    for node in graph.nodes:
        rule = _RULES.get((node.domain, node.op))
        if node.op.startswith("Reduce") and not node.domain:
            rule = _reduce
        if rule is None or not rule(writer, node):
            strict = node.op in _STRICT or node.op.startswith("Reduce")
            writer.nodes.append(replace(node, domain=node.domain or OTHER_FORM) if strict else node)
    return graph.rewritten(writer.nodes, writer.constants, writer.types)


def _known(w: _Writer, node: Node, position: int) -> Array | None:
    return w.graph.constants.get(node.inputs[position]) if len(node.inputs) > position and node.inputs[position] else None


def _numbers(w: _Writer, node: Node, position: int, attribute: str) -> tuple[int, ...] | None:
    """A list of whole numbers that is an input in newer operator sets and an attribute in older ones."""
    found = _known(w, node, position)
    if found is not None:
        return tuple(int(i) for i in found.reshape(-1))
    given = node.attributes.get(attribute)
    return tuple(int(i) for i in given) if given is not None else None


def _reshape(w: _Writer, node: Node) -> bool:
    w.put(node, "Reshape", node.inputs[:1])
    return True


def _transpose(w: _Writer, node: Node) -> bool:
    rank = len(w.graph.shape(node.inputs[0]))
    w.put(node, "Transpose", node.inputs, perm=tuple(node.attributes.get("perm", range(rank)[::-1])))
    return True


def _reduce(w: _Writer, node: Node) -> bool:
    rank = len(w.graph.shape(node.inputs[0]))
    axes = _numbers(w, node, 1, "axes")
    if axes is None and node.attributes.get("noop_with_empty_axes", 0):
        return False
    keep = bool(node.attributes.get("keepdims", 1))
    w.put(node, node.op, node.inputs[:1], axes=tuple(sorted(a % rank for a in axes or range(rank))), keepdims=keep)
    return True


def _slice(w: _Writer, node: Node) -> bool:
    shape = w.graph.shape(node.inputs[0])
    starts, ends = _numbers(w, node, 1, "starts"), _numbers(w, node, 2, "ends")
    if starts is None or ends is None:
        return False
    axes = _numbers(w, node, 3, "axes") or tuple(range(len(starts)))
    steps = _numbers(w, node, 4, "steps") or (1,) * len(starts)
    first, step = [0] * len(shape), [1] * len(shape)
    for axis, start, end, by in zip(axes, starts, ends, steps, strict=True):
        first[axis], _, step[axis] = slice(start, end, by).indices(shape[axis])
    w.put(node, "Slice", node.inputs[:1], starts=tuple(first), steps=tuple(step))
    return True


def _split(w: _Writer, node: Node) -> bool:
    shape = w.graph.shape(node.inputs[0])
    axis, at = int(node.attributes.get("axis", 0)) % len(shape), 0
    for output in node.outputs:
        starts = tuple(at if a == axis else 0 for a in range(len(shape)))
        if output:
            w.put(node, "Slice", node.inputs[:1], output, starts=starts, steps=(1,) * len(shape))
            at += w.graph.shape(output)[axis]
    return True


def _gather(w: _Writer, node: Node) -> bool:
    """Constant places in even distance are a slice."""
    places = _known(w, node, 1)
    shape = w.graph.shape(node.inputs[0])
    if places is None or not places.size:
        return False
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    flat = [int(i) % shape[axis] for i in places.reshape(-1)]
    by = flat[1] - flat[0] if len(flat) > 1 else 1
    if by == 0 or any(b - a != by for a, b in itertools.pairwise(flat)):
        return False
    cut = tuple(len(flat) if a == axis else size for a, size in enumerate(shape))
    kind = w.graph.types[node.inputs[0]][1]
    part = f"{node.outputs[0]}.part"
    w.types[part] = (cut, kind)
    starts = tuple(flat[0] if a == axis else 0 for a in range(len(shape)))
    w.put(node, "Slice", node.inputs[:1], part, starts=starts, steps=tuple(by if a == axis else 1 for a in range(len(shape))))
    w.put(node, "Reshape", (part,))
    return True


def _clip(w: _Writer, node: Node) -> bool:
    low, high = (_known(w, node, p) for p in (1, 2))
    if any(len(node.inputs) > p and node.inputs[p] and found is None for p, found in ((1, low), (2, high))):
        return False
    least = float(low.reshape(-1)[0]) if low is not None else float(node.attributes.get("min", -math.inf))
    most = float(high.reshape(-1)[0]) if high is not None else float(node.attributes.get("max", math.inf))
    w.put(node, "Clip", node.inputs[:1], low=least, high=most)
    return True


def _expand(w: _Writer, node: Node) -> bool:
    w.put(node, "Expand", node.inputs[:1])
    return True


def _layer_norm(w: _Writer, node: Node) -> bool:
    rank = len(w.graph.shape(node.inputs[0]))
    if int(node.attributes.get("axis", -1)) % rank != rank - 1 or any(node.outputs[1:]):
        return False
    op = "RMSNormalization" if node.op in ("SimplifiedLayerNormalization", "RMSNormalization") else "LayerNormalization"
    given = tuple(i for i in node.inputs if i)
    w.put(node, op, given, epsilon=float(node.attributes.get("epsilon", 1e-5)))
    return True


def _skip_norm(w: _Writer, node: Node) -> bool:
    """Residual (and bias) added, then a norm; the sum may be an output too."""
    simplified = node.op == "SkipSimplifiedLayerNormalization"
    if any(node.outputs[1:3]):
        return False
    x, skip, gamma = node.inputs[:3]
    beta = "" if simplified or len(node.inputs) < 4 else node.inputs[3]
    bias = node.inputs[3 if simplified else 4] if len(node.inputs) > (3 if simplified else 4) else ""
    shape = w.graph.shape(x)
    total = node.outputs[3] if len(node.outputs) > 3 and node.outputs[3] else w.value(f"{node.outputs[0]}.sum", shape)
    if bias:
        x = w.put(node, "Add", (x, bias), w.value(f"{node.outputs[0]}.biased", shape))
    w.put(node, "Add", (x, skip), total)
    given = (total, gamma, *((beta,) if beta else ()))
    op = "RMSNormalization" if simplified else "LayerNormalization"
    w.put(node, op, given, epsilon=float(node.attributes.get("epsilon", 1e-12)))
    return True


def _softmax(w: _Writer, node: Node) -> bool:
    """Over the last axis; before operator set 13 the default is axis 1, and all behind it is one."""
    rank, old = len(w.graph.shape(node.inputs[0])), w.graph.versions.get("", 13) < 13
    if int(node.attributes.get("axis", 1 if old else -1)) % rank != rank - 1:
        return False
    w.put(node, "Softmax", node.inputs[:1], axis=-1)
    return True


def _swish(w: _Writer, node: Node) -> bool:
    alpha = float(node.attributes.get("alpha", 1.0))
    if alpha == 1.0:
        w.put(node, "Silu", node.inputs[:1])
    else:
        w.put(node, "QuickGelu", node.inputs[:1], alpha=alpha)
    return alpha > 0


def _gelu(w: _Writer, node: Node) -> bool:
    """Gelu of both domains: ``approximate`` is none or tanh."""
    text = node.attributes.get("approximate", b"none")
    kind = "tanh" if node.op == "FastGelu" else text.decode() if isinstance(text, bytes) else text
    w.put(node, "Gelu", node.inputs[:1], approximate=kind)
    return True


def _quick_gelu(w: _Writer, node: Node) -> bool:
    w.put(node, "QuickGelu", node.inputs[:1], alpha=float(node.attributes.get("alpha", 1.702)))
    return True


def _gemm(w: _Writer, node: Node) -> bool:
    """A B + beta C with constant B and C: a Linear with weights (k, n), or (n, k) where ``transposed``."""
    weight, bias, beta = _known(w, node, 1), _known(w, node, 2), float(node.attributes.get("beta", 1.0))
    has_bias = len(node.inputs) > 2 and node.inputs[2] != ""
    if weight is None or node.attributes.get("transA", 0) or node.attributes.get("alpha", 1.0) != 1.0:
        return False
    transposed = bool(node.attributes.get("transB", 0))
    if not has_bias:
        w.put(node, "Linear", node.inputs[:2], transposed=transposed)
        return True
    if bias is None or bias.size != weight.shape[0 if transposed else 1]:
        return False
    flat = w.constant(f"{node.outputs[0]}.bias", (bias * np.float32(beta)).reshape(-1))
    w.put(node, "Linear", (*node.inputs[:2], flat), transposed=transposed)
    return True


def _matmul(w: _Writer, node: Node) -> bool:
    weight = _known(w, node, 1)
    if weight is None or weight.ndim != 2:
        return False
    w.put(node, "Linear", node.inputs, transposed=False)
    return True


def _pow(w: _Writer, node: Node) -> bool:
    exponent = w.graph.number(node.inputs[1])
    x = node.inputs[0]
    if exponent == 2.0:
        w.put(node, "Mul", (x, x))
    elif exponent in (0.5, -0.5):
        w.put(node, "Sqrt" if exponent > 0 else "Rsqrt", (x,))
    else:
        return False
    return True


def _divide(w: _Writer, node: Node) -> bool:
    """By a constant: a product. By a root: a product with its reciprocal."""
    x, y = node.inputs
    divisor = _known(w, node, 1)
    if not w.graph.is_float(node.outputs[0]):
        return False
    if divisor is not None:
        w.put(node, "Mul", (x, w.constant(f"{node.outputs[0]}.inverse", (1.0 / divisor.astype(np.float64)).astype(np.float32))))
        return True
    root = w.graph.makers.get(y)
    if root is None or root.op not in ("Sqrt", "Pow") or (root.op == "Pow" and w.graph.number(root.inputs[1]) != 0.5):
        return False
    one = w.graph.number(x) == 1.0
    inverse = node.outputs[0] if one else w.value(f"{node.outputs[0]}.inverse", w.graph.shape(y))
    w.put(node, "Rsqrt", root.inputs[:1], inverse)
    if not one:
        w.put(node, "Mul", (x, inverse))
    return True


def _reciprocal(w: _Writer, node: Node) -> bool:
    root = w.graph.makers.get(node.inputs[0])
    if root is None or root.op != "Sqrt":
        return False
    w.put(node, "Rsqrt", root.inputs)
    return True


def _subtract(w: _Writer, node: Node) -> bool:
    second = _known(w, node, 1)
    if second is None or not w.graph.is_float(node.outputs[0]):
        return False
    w.put(node, "Add", (node.inputs[0], w.constant(f"{node.outputs[0]}.negative", -second)))
    return True


def _cube(w: _Writer, node: Node) -> bool:
    """(x x) x is Pow(x, 3), as the tanh form of GELU has it."""
    for x, square in (node.inputs, node.inputs[::-1]):
        maker = w.graph.makers.get(square)
        if maker is not None and maker.op == "Mul" and maker.inputs == (x, x):
            w.put(node, "Pow", (x, w.constant(f"{node.outputs[0]}.exponent", np.asarray(3, np.float32))))
            return True
    return _commutes(w, node)


def _commutes(w: _Writer, node: Node) -> bool:
    """A constant stands second."""
    if len(node.inputs) != 2 or node.inputs[0] not in w.graph.constants:
        return False
    w.put(node, node.op, node.inputs[::-1])
    return True


def _sum(w: _Writer, node: Node) -> bool:
    total = node.inputs[0]
    for number, other in enumerate(node.inputs[1:], 2):
        last = number == len(node.inputs)
        name = None if last else w.value(f"{node.outputs[0]}.{number}", w.graph.shape(node.outputs[0]))
        total = w.put(node, "Add", (total, other), name)
    return len(node.inputs) > 1


_RULES: Mapping[tuple[str, str], Callable[[_Writer, Node], bool]] = {
    **{("", op): _reshape for op in ("Reshape", "Squeeze", "Unsqueeze", "Flatten")},
    **{("", op): _layer_norm for op in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")},
    ("com.microsoft", "SimplifiedLayerNormalization"): _layer_norm,
    **{("com.microsoft", op): _skip_norm for op in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")},
    **{("com.microsoft", op): _gelu for op in ("Gelu", "FastGelu")},
    ("", "Add"): _commutes,
    ("", "Mul"): _cube,
    ("", "Gelu"): _gelu,
    ("com.microsoft", "QuickGelu"): _quick_gelu,
    ("", "Transpose"): _transpose,
    ("", "Slice"): _slice,
    ("", "Split"): _split,
    ("", "Gather"): _gather,
    ("", "Clip"): _clip,
    ("", "Softmax"): _softmax,
    ("", "Swish"): _swish,
    ("", "Expand"): _expand,
    ("", "Gemm"): _gemm,
    ("", "MatMul"): _matmul,
    ("", "Pow"): _pow,
    ("", "Div"): _divide,
    ("", "Reciprocal"): _reciprocal,
    ("", "Sub"): _subtract,
    ("", "Sum"): _sum,
}
