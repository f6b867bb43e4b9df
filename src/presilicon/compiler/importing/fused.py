"""Operators that hold a whole layer, written out in plain ones: attention and rotations, the standard's and ONNX Runtime's.

What is written is what ONNX Runtime can run and the patterns know; so ranges of the values inside can be measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from presilicon.compiler.importing.graph import FLOAT, Array, FloatGraph, Node, Type

_HIDE = -10000.0  # ONNX Runtime's default for a key that a mask hides


@dataclass
class _Writer:
    graph: FloatGraph
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)
    source: Node = field(default_factory=lambda: Node("", "", (), ()))

    def op(self, op: str, shape: tuple[int, ...], *inputs: Any, to: str = "", kind: int = FLOAT, **attributes: Any) -> str:
        """A node of the layer; arrays and numbers among its inputs become constants. The value that it makes."""
        name = to or f"{self.source.outputs[0]}.{op}.{len(self.nodes)}"
        names = tuple(i if isinstance(i, str) else self.constant(f"{name}.{place}", i) for place, i in enumerate(inputs))
        self.types[name] = (shape, kind)
        self.nodes.append(Node(f"{self.source.name}/{name}", op, names, (name,), attributes, "", self.source.sources))
        return name

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = value if isinstance(value, np.ndarray) else np.asarray(
            value, np.float32 if isinstance(value, float) else np.int64
        )  # fmt: skip
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.types[name][0] if name in self.types else self.graph.shape(name)

    def cast(self, x: str) -> str:
        """Whole numbers as real ones."""
        made = self.op("Cast", self.shape(x), x)
        self.nodes[-1] = replace(self.nodes[-1], attributes={"to": FLOAT})
        return made

    def used(self, names: Sequence[str]) -> bool:
        """Whether any of some values is read or returned."""
        returned = {value for _, value in self.graph.outputs}
        return any(name in self.graph.readers or name in returned for name in names if name)

    # Arrangements -----------------------------------------------------------------------------------------------------

    def reshape(self, x: str, *shape: int, to: str = "") -> str:
        return self.op("Reshape", shape, x, np.array(shape, np.int64), to=to)

    def heads(self, x: str, count: int) -> str:
        """(1, tokens, count * dim) as (1, count, tokens, dim)."""
        batch, tokens, wide = self.shape(x)
        split = self.reshape(x, batch, tokens, count, wide // count)
        return self.op("Transpose", (batch, count, tokens, wide // count), split, perm=(0, 2, 1, 3))

    def columns(self, x: str, first: int, last: int) -> str:
        """Columns of the last axis."""
        shape = (*self.shape(x)[:-1], last - first)
        ends = [np.array([n], np.int64) for n in (first, last, len(shape) - 1)]
        return self.op("Slice", shape, x, *ends)


@dataclass(frozen=True, slots=True)
class _Mask:
    """What hides keys: ``keys`` (1, keys) of ones and zeros, ``added`` to scores, ``causal``; empty where there is none."""

    keys: str = ""
    added: str = ""
    causal: bool = False


def written_out(graph: FloatGraph) -> FloatGraph:
    """The graph with these operators written out; what has a form that is not known here stays as it is."""
    writer = _Writer(graph)
    for node in graph.nodes:
        rule = _RULES.get((node.domain, node.op))
        writer.source = node
        before = len(writer.nodes)
        if rule is None or not rule(writer, node, [*node.inputs, *[""] * (12 - len(node.inputs))]):
            del writer.nodes[before:]
            writer.nodes.append(node)
    if not writer.types:
        return graph
    return graph.rewritten(writer.nodes, writer.constants, writer.types)


def _attend(w: _Writer, q: str, k: str, v: str, scale: float, mask: _Mask, to: str = "") -> str:
    """softmax(q k^T scale + mask) v for (1, heads, tokens, dim), shared heads of keys repeated."""
    batch, heads, tokens, _ = w.shape(q)
    k, v = (_repeated(w, value, heads) for value in (k, v))
    keys, dim = w.shape(k)[2:]
    size = (batch, heads, tokens, keys)
    turned = w.op("Transpose", (batch, heads, dim, keys), k, perm=(0, 1, 3, 2))
    scores = w.op("Mul", size, w.op("MatMul", size, q, turned), scale)
    if mask.added:
        scores = w.op("Add", size, scores, mask.added)
    if mask.causal:
        triangle = np.triu(np.full((tokens, keys), _HIDE * 1e3, np.float32), 1 + keys - tokens)
        scores = w.op("Add", size, scores, triangle)
    if mask.keys:
        wide = w.reshape(w.cast(mask.keys), 1, 1, 1, keys)
        hidden = w.op("Mul", (1, 1, 1, keys), w.op("Sub", (1, 1, 1, keys), 1.0, wide), _HIDE)
        scores = w.op("Add", size, scores, hidden)
    chances = w.op("Softmax", size, scores, axis=-1)
    return w.op("MatMul", (batch, heads, tokens, w.shape(v)[3]), chances, v, to=to)


def _repeated(w: _Writer, value: str, heads: int) -> str:
    batch, own, tokens, dim = w.shape(value)
    if own == heads:
        return value
    apart = w.reshape(value, batch, own, 1, tokens, dim)
    wide = (batch, own, heads // own, tokens, dim)
    return w.reshape(w.op("Expand", wide, apart, np.array(wide, np.int64)), batch, heads, tokens, dim)


def _joined(w: _Writer, mixed: str, to: str) -> None:
    """(1, heads, tokens, dim) as (1, tokens, heads * dim)."""
    batch, heads, tokens, dim = w.shape(mixed)
    w.reshape(w.op("Transpose", (batch, tokens, heads, dim), mixed, perm=(0, 2, 1, 3)), batch, tokens, heads * dim, to=to)


def _key_mask(w: _Writer, name: str, keys: int) -> str | None:
    """A mask by key that is known: (1, keys) of ones and zeros; None where it is another."""
    return name if not name or w.shape(name) == (1, keys) else None


def _microsoft_attention(w: _Writer, node: Node, i: list[str]) -> bool:
    """The projection of q, k and v in it."""
    x, weights, bias, mask = i[:4]
    batch, tokens, _ = w.shape(x)
    heads, total = int(node.attributes["num_heads"]), w.shape(weights)[1]
    sizes = [int(s) for s in node.attributes.get("qkv_hidden_sizes", [total // 3] * 3)]
    keys = _key_mask(w, mask, tokens)
    if (
        batch != 1
        or any(i[4:])
        or w.used(node.outputs[1:])
        or keys is None
        or sum(sizes) != total
        or node.attributes.get("do_rotary")
    ):
        return False
    wide = w.op("MatMul", (batch, tokens, total), x, weights)
    wide = w.op("Add", (batch, tokens, total), wide, bias) if bias else wide
    ends = np.cumsum([0, *sizes])
    q, k, v = (w.heads(w.columns(wide, int(a), int(b)), heads) for a, b in itertools.pairwise(ends))
    scale = float(node.attributes.get("scale", 0.0)) or (sizes[0] // heads) ** -0.5
    made = _attend(w, q, k, v, scale, _Mask(keys, causal=bool(node.attributes.get("unidirectional", 0))))
    _joined(w, made, node.outputs[0])
    return True


def _multi_head(w: _Writer, node: Node, i: list[str]) -> bool:
    """Q, k and v (1, tokens, width) apart, a bias of all three beside them."""
    q, k, v, bias, mask, added = i[:6]
    if not k or not v or any(len(w.shape(name)) != 3 for name in (q, k, v)) or any(i[6:]) or w.used(node.outputs[1:]):
        return False
    heads, keys = int(node.attributes["num_heads"]), _key_mask(w, mask, w.shape(k)[1])
    if keys is None or w.shape(q)[0] != 1:
        return False
    names, at = [q, k, v], 0
    if bias:
        whole = w.graph.constants.get(bias)
        if whole is None:
            return False
        for place, name in enumerate(names):
            width = w.shape(name)[2]
            names[place] = w.op("Add", w.shape(name), name, whole[at : at + width])
            at += width
    q, k, v = (w.heads(name, heads) for name in names)
    scale = float(node.attributes.get("scale", 0.0)) or w.shape(q)[3] ** -0.5
    mask_of = _Mask(keys, added, bool(node.attributes.get("unidirectional", 0)))
    _joined(w, _attend(w, q, k, v, scale, mask_of), node.outputs[0])
    return True


def _standard_attention(w: _Writer, node: Node, i: list[str]) -> bool:
    """Attention of operator set 23: (1, tokens, width) or (1, heads, tokens, dim), without a cache."""
    q, k, v, added = i[:4]
    plain = (
        not any(i[4:])
        and _KNOWN.issuperset(node.attributes)
        and not w.used(node.outputs[1:])
        and not node.attributes.get("softcap", 0.0)
    )
    if not plain or (added and w.graph.types[added][1] != FLOAT) or w.shape(q)[0] != 1:
        return False
    flat = len(w.shape(q)) == 3
    if flat:
        counts = [int(node.attributes[f"{which}_num_heads"]) for which in ("q", "kv", "kv")]
        q, k, v = (w.heads(name, count) for name, count in zip((q, k, v), counts, strict=True))
    scale = float(node.attributes.get("scale", 0.0)) or w.shape(q)[3] ** -0.5
    causal = bool(node.attributes.get("is_causal", 0))
    if causal and w.shape(q)[2] != w.shape(k)[2]:
        return False
    made = _attend(w, q, k, v, scale, _Mask(added=added, causal=causal), to="" if flat else node.outputs[0])
    if flat:
        _joined(w, made, node.outputs[0])
    return True


_KNOWN = frozenset(
    {"is_causal", "kv_num_heads", "q_num_heads", "qk_matmul_output_mode", "scale", "softcap", "softmax_precision"}
)
"""Attributes of the standard's Attention that are understood."""


def _rotary(w: _Writer, node: Node, i: list[str]) -> bool:
    """RotaryEmbedding by halves: tables (places, dim / 2) by position, or (1, tokens, dim / 2) without."""
    x = i[0]
    position, cos, sin = (i[1], i[2], i[3]) if node.domain else (i[3], i[1], i[2])
    tables = [w.graph.constants.get(name) for name in (cos, sin)]
    rotated, scale = node.attributes.get("rotary_embedding_dim", 0), node.attributes.get("scale", 1.0)
    if any(t is None for t in tables) or node.attributes.get("interleaved", 0) or rotated or scale != 1.0:
        return False
    shape = w.shape(x)
    flat = len(shape) == 3
    dim = 2 * tables[0].shape[-1]  # type: ignore[union-attr]
    heads = int(node.attributes.get("num_heads", 0)) or shape[-1] // dim
    if flat:
        x = w.heads(x, heads)
    batch, heads, tokens, dim = w.shape(x)
    if batch != 1 or (position and w.shape(position) != (1, tokens)):
        return False
    angles: list[str] = []
    for table in tables:
        both = np.concatenate([table, table], axis=-1)
        known = w.graph.constants.get(position) if position else np.arange(tokens)
        if known is not None:
            rows = both[known.reshape(-1)] if both.ndim == 2 else both
            angles.append(w.constant(f"{node.outputs[0]}.angle.{len(angles)}", rows.reshape(1, 1, tokens, dim)))
        else:
            angles.append(w.reshape(w.op("Gather", (1, tokens, dim), both, position, axis=0), 1, 1, tokens, dim))
    size = (batch, heads, tokens, dim)
    low, high = w.columns(x, 0, dim // 2), w.columns(x, dim // 2, dim)
    turned = w.op("Concat", size, w.op("Neg", w.shape(high), high), low, axis=3)
    straight = w.op("Mul", size, x, angles[0])
    out = w.op("Add", size, straight, w.op("Mul", size, turned, angles[1]), to="" if flat else node.outputs[0])
    if flat:
        _joined(w, out, node.outputs[0])
    return True


def _embeddings(w: _Writer, node: Node, i: list[str]) -> bool:
    """EmbedLayerNormalization: words, segments and positions looked up, added and normalised."""
    ids, segments, words, places, kinds, gamma, beta = i[:7]
    if any(i[7:]) or w.used(node.outputs[1:]) or w.graph.constants.get(places) is None:
        return False
    shape = w.shape(node.outputs[0])
    total = w.op("Gather", shape, words, ids, axis=0)
    if segments:
        total = w.op("Add", shape, total, w.op("Gather", shape, kinds, segments, axis=0))
    total = w.op("Add", shape, total, w.graph.constants[places][None, : shape[1]])
    w.op("LayerNormalization", shape, total, gamma, beta, to=node.outputs[0], axis=-1,
         epsilon=float(node.attributes.get("epsilon", 1e-12)))  # fmt: skip
    return True


def _biased_gelu(w: _Writer, node: Node, i: list[str]) -> bool:
    """A bias added before GELU."""
    if not i[1]:
        return False
    x = w.op("Add", w.shape(node.outputs[0]), i[0], i[1])
    w.op("Gelu" if node.op == "BiasGelu" else "FastGelu", w.shape(x), x, to=node.outputs[0])
    w.nodes[-1] = replace(w.nodes[-1], domain="com.microsoft")
    return True


_RULES: Mapping[tuple[str, str], Callable[[_Writer, Node, list[str]], bool]] = {
    ("com.microsoft", "Attention"): _microsoft_attention,
    ("com.microsoft", "MultiHeadAttention"): _multi_head,
    ("com.microsoft", "RotaryEmbedding"): _rotary,
    ("com.microsoft", "EmbedLayerNormalization"): _embeddings,
    ("com.microsoft", "BiasGelu"): _biased_gelu,
    ("com.microsoft", "FastGelu"): _biased_gelu,
    ("", "Attention"): _standard_attention,
    ("", "RotaryEmbedding"): _rotary,
}
"""By domain and operator."""
