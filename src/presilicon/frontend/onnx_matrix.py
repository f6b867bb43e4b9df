"""Matrix work of ONNX nodes: matmuls, convolutions, attention and recurrent networks as operators of graph.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from presilicon.dtypes import FP32, INT4, INT8, NumberFormat
from presilicon.errors import ModelError
from presilicon.frontend.network import SharedMatmul
from presilicon.frontend.onnx_values import FLOATS, Step, Value
from presilicon.graph import Attention, Convolution, Elementwise, ExpertMatmul, Matmul, Normalization, Operator


class Books:
    """Who uses which parameters, so that shared ones count once.

    ``users`` are the matmuls and convolutions of a weight by its origin, ``tables`` the look-ups in it.
    """

    def __init__(self) -> None:
        self._held: set[str] = set()
        self.users: dict[str, list[Step]] = {}
        self.tables: dict[str, list[Step]] = {}

    def hold(self, weight: Value) -> int:
        """Elements that using ``weight`` adds to what is held: 0 from its second use on."""
        if weight.origin in self._held:
            return 0
        self._held.add(weight.origin)
        return weight.elements

    def use(self, weight: Value, step: Step) -> bool:
        """Notes that ``step`` multiplies by ``weight``; whether that is a parameter."""
        if weight.stored:
            self.users.setdefault(weight.origin, []).append(step)
        return weight.stored


def _arithmetic(left: NumberFormat, right: NumberFormat) -> tuple[NumberFormat, NumberFormat, NumberFormat]:
    """Formats of (weights, activations, source): quantised activations meet real weights as real numbers."""
    if left in FLOATS or right not in FLOATS:
        return right, left, left
    return right, right, left


def matmul(
    step: Step, books: Books, left: Value, right: Value, *, bias: Value | None = None, suffix: str = "",
    output: NumberFormat | None = None, transpose: tuple[bool, bool] = (False, False),
) -> list[Operator]:  # fmt: skip
    """Left x right with numpy's rules for dimensions in front; a stored left operand is the weight of the transpose."""
    a, b = _matrix(left.shape, transpose[0], True), _matrix(right.shape, transpose[1], False)
    if a[-1] != b[-2]:
        raise ModelError(f"{left.shape} and {right.shape} do not multiply", where=step.name)
    m, k, n = a[-2], a[-1], b[-1]
    front = _broadcast(a[:-2], b[:-2], step.name)
    moving, weight = left, right
    if left.stored and not right.stored:
        moving, weight, m, n = right, left, n, m
        a, b = b, a
    groups = math.prod(b[:-2])  # different right operands; whatever the left has besides them only adds rows
    m *= math.prod(front) // groups if groups else 0
    weights, activations, source = _arithmetic(moving.format, weight.format)
    held = books.use(weight, step)
    vector = bias is not None and bias.stored and bias.elements == n and held and groups == 1
    if vector and bias is not None:
        books.hold(bias)
    result: list[Operator] = [
        Matmul(name=step.name + suffix, m=m, k=k, n=n, groups=groups, weights=weights,
               activations=activations, source=source, output=output or step.out.format, has_weights=held,
               bias=vector)
    ]  # fmt: skip
    if bias is not None and not vector:
        result.append(_added(step, bias, step.out, books))
    return result


def _matrix(shape: tuple[int, ...], transposed: bool, is_left: bool) -> tuple[int, ...]:
    if not shape:
        raise ValueError("a scalar is no matrix")
    if len(shape) == 1:
        return (1, shape[0]) if is_left else (shape[0], 1)
    return (*shape[:-2], shape[-1], shape[-2]) if transposed else shape


def _broadcast(left: tuple[int, ...], right: tuple[int, ...], where: str) -> tuple[int, ...]:
    rank = max(len(left), len(right))
    padded = [(1,) * (rank - len(shape)) + shape for shape in (left, right)]
    if any(x != y and 1 not in (x, y) for x, y in zip(*padded, strict=True)):
        raise ModelError(f"{left} and {right} do not broadcast", where=where)
    return tuple(y if x == 1 else x for x, y in zip(*padded, strict=True))


def _added(step: Step, bias: Value, out: Value, books: Books) -> Operator:
    return Elementwise(name=f"{step.name}.bias", elements=out.elements, fused=True, ops=1.0,
                       parameters=books.hold(bias) if bias.is_parameter else 0, activations=out.format)  # fmt: skip


def _pick(left: int, right: int, bias: int | None = None) -> Callable[[Step, Books], list[Operator]]:
    def rule(step: Step, books: Books) -> list[Operator]:
        extra = step.input(bias) if bias is not None else None
        flags = (bool(step.integer("transA", 0)), bool(step.integer("transB", 0)))
        return matmul(step, books, step.need(left), step.need(right), bias=extra, transpose=flags)

    return rule


def _gemm(step: Step, books: Books) -> list[Operator]:
    c = step.input(2)
    flags = (bool(step.integer("transA", 0)), bool(step.integer("transB", 0)))
    bias = None if c is None or (c.stored and not c.is_parameter and c.elements != step.out.shape[-1]) else c
    return matmul(step, books, step.need(0), step.need(1), bias=bias, transpose=flags)


def _nbits(step: Step, books: Books) -> list[Operator]:
    """Weights of 2, 4 or 8 bits with a scale per block: the scales are parameters of the epilogue."""
    x, k, n, bits = step.need(0), step.integer("K", 0), step.integer("N", 0), step.integer("bits", 4)
    if not x.shape or x.shape[-1] != k or not 0 < n < 2**31 or bits not in (2, 4, 8):
        raise ModelError(f"its input {x.shape} does not fit K={k}, N={n}, bits={bits}", where=step.name)
    books.use(step.need(1), step)
    scales = step.need(2)
    weights = INT8 if bits == 8 else INT4
    return [
        Matmul(name=step.name, m=x.elements // k, k=k, n=n, weights=weights, activations=x.format,
               source=x.format, output=step.out.format, bias=step.input(5) is not None),
        Elementwise(name=f"{step.name}.scales", elements=step.out.elements, fused=True, ops=1.0,
                    parameters=books.hold(scales), activations=x.format),
    ]  # fmt: skip


def _convolution(x_at: int, w_at: int, bias_at: int | None) -> Callable[[Step, Books], list[Operator]]:
    def rule(step: Step, books: Books) -> list[Operator]:
        x, w, out = step.need(x_at), step.need(w_at), step.out
        bias = step.input(bias_at) if bias_at is not None else None
        groups, taps = step.integer("group", 1), w.shape[2:]
        if (
            len(x.shape) != len(w.shape)
            or len(x.shape) < 3
            or groups < 1
            or w.shape[0] % groups
            or w.shape[1] * groups != x.shape[1]
        ):
            raise ModelError(f"input {x.shape}, weights {w.shape} and {groups} groups do not fit", where=step.name)
        weights, activations, source = _arithmetic(x.format, w.format)
        if not w.stored:
            return [
                Matmul(name=step.name, m=x.shape[0] * math.prod(out.shape[2:]), k=w.shape[1] * math.prod(taps),
                       n=w.shape[0] // groups, groups=groups, weights=weights, activations=activations, source=source,
                       output=out.format, has_weights=False),
                *([_added(step, bias, out, books)] if bias is not None else []),
            ]  # fmt: skip
        books.use(w, step)
        if bias is not None and bias.stored:
            books.hold(bias)
        extra: list[Operator] = []
        if step.op == "DeformConv":  # bilinear samples at every tap: 8 operations each
            extra.append(Elementwise(name=f"{step.name}.sample", ops=8.0, activations=x.format,
                                     elements=math.prod(x.shape[:2]) * math.prod(out.shape[2:]) * math.prod(taps)))  # fmt: skip
        return [*extra, Convolution(
            name=step.name, batch=x.shape[0], in_channels=x.shape[1], out_channels=w.shape[0],
            in_height=math.prod(x.shape[2:-1]), in_width=x.shape[-1], out_height=math.prod(out.shape[2:-1]),
            out_width=out.shape[-1], kernel_height=math.prod(taps[:-1]), kernel_width=taps[-1], groups=groups,
            weights=weights, activations=activations, source=source, output=out.format, bias=bias is not None,
        )]  # fmt: skip

    return rule


def _transposed_convolution(step: Step, books: Books) -> list[Operator]:
    """Every input pixel times all taps, then the overlapping results are added up in the epilogue."""
    x, w, out, groups = step.need(0), step.need(1), step.out, step.integer("group", 1)
    bias = step.input(2)
    if len(x.shape) != len(w.shape) or len(x.shape) < 3 or groups < 1 or w.shape[0] != x.shape[1] or x.shape[1] % groups:
        raise ModelError(f"input {x.shape}, weights {w.shape} and {groups} groups do not fit", where=step.name)
    weights, activations, source = _arithmetic(x.format, w.format)
    pixels, n = x.shape[0] * math.prod(x.shape[2:]), w.shape[1] * math.prod(w.shape[2:])
    return [
        Matmul(name=step.name, m=pixels, k=x.shape[1] // groups, n=n, groups=groups, weights=weights,
               activations=activations, source=source, output=out.format, has_weights=books.use(w, step)),
        Elementwise(name=f"{step.name}.overlap", elements=pixels * n * groups, fused=True, ops=1.0,
                    parameters=books.hold(bias) if bias is not None and bias.stored else 0, activations=out.format),
    ]  # fmt: skip


def _recurrent(gates: int, per_gate_ops: float) -> Callable[[Step, Books], list[Operator]]:
    """LSTM, GRU, RNN: the input matmul of all steps at once, then one recurrent matmul a step with the same weights."""

    def rule(step: Step, books: Books) -> list[Operator]:
        x, w, r = step.need(0), step.need(1), step.need(2)
        bias = step.input(3)
        if len(x.shape) != 3 or len(w.shape) != 3 or len(r.shape) != 3 or w.shape[2] != x.shape[2]:
            raise ModelError(f"input {x.shape}, weights {w.shape} and {r.shape} do not fit", where=step.name)
        steps, batch = (x.shape[1], x.shape[0]) if step.integer("layout", 0) else (x.shape[0], x.shape[1])
        directions, hidden, k = r.shape[0], r.shape[2], x.shape[2]
        if w.shape[:2] != (directions, gates * hidden) or r.shape[1] != gates * hidden or directions not in (1, 2):
            raise ModelError(f"weights {w.shape} and {r.shape} are not those of {gates} gates", where=step.name)
        if not steps or not batch or not hidden:
            return []
        weights, activations, source = _arithmetic(x.format, w.format)
        shared: dict[str, Any] = {
            "weights": weights, "activations": activations, "source": source, "output": x.format, "groups": directions,
            "n": gates * hidden, "bias": bias is not None, "has_weights": w.stored and r.stored,
        }  # fmt: skip
        peepholes = step.input(7)
        for v in (w, r, bias):
            if v is not None and v.stored:
                books.hold(v)
        return [
            Matmul(name=f"{step.name}.input", m=steps * batch, k=k, **shared),
            SharedMatmul(name=f"{step.name}.recurrent", count=steps, sharers=steps, m=batch, k=hidden, **shared),
            Elementwise(name=f"{step.name}.gates", count=steps, elements=directions * batch * gates * hidden,
                        ops=per_gate_ops, fused=True, activations=x.format,
                        parameters=books.hold(peepholes) / steps if peepholes is not None and peepholes.stored else 0),
        ]  # fmt: skip

    return rule


def _split_heads(shape: tuple[int, ...], heads: int, where: str) -> tuple[int, int, int, int]:
    """(batch, heads, tokens, width of a head) of [batch, heads, tokens, width] or [batch, tokens, heads x width]."""
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        raise ModelError(f"{shape} does not split into {heads} heads", where=where)
    return shape[0], heads, shape[1], shape[2] // heads


def attention(
    step: Step, query: Value, key: Value, value: Value, *, heads: int, kv_heads: int, past: Value | None, causal: bool
) -> Operator:
    """One Attention over query, key and value in either layout; ``past`` is a cache [..., tokens, width] before them."""
    batch, heads, tokens, width = _split_heads(query.shape, heads, step.name)
    _, kv_heads, context, _ = _split_heads(key.shape, kv_heads, step.name)
    value_width = _split_heads(value.shape, kv_heads, step.name)[3]
    before = past.shape[-2] if past is not None and len(past.shape) >= 4 else 0
    return _attention(
        step, batch, tokens, before + context, heads, kv_heads, width, value_width, past is not None, causal, query
    )


def _attention(
    step: Step, batch: int, tokens: int, context: int, heads: int, kv_heads: int, width: int, value_width: int,
    cached: bool, causal: bool, query: Value,
) -> Operator:  # fmt: skip
    if not heads or not kv_heads or heads % kv_heads:
        raise ModelError(f"{heads} heads cannot share {kv_heads} heads of keys", where=step.name)
    return Attention(name=step.name, split="heads", batch=batch, query_tokens=tokens, kv_tokens=context,
                     heads=heads, kv_heads=kv_heads, head_dim=width, value_dim=value_width, causal=causal and context >= tokens,
                     cached=cached, activations=query.format, kv_cache=query.format)  # fmt: skip


def _onnx_attention(step: Step, books: Books) -> list[Operator]:
    """Attention of the default domain (opset 23 on), or of com.microsoft with the projection of Q, K and V in it."""
    x, second = step.need(0), step.need(1)
    if "q_num_heads" not in step.attributes and "num_heads" in step.attributes:
        return _projected_attention(step, books, x, second, step.input(2), step.input(4), step.integer("unidirectional", 0))
    return [attention(step, x, second, step.need(2), heads=step.integer("q_num_heads", 0), past=step.input(4),
                      kv_heads=step.integer("kv_num_heads", 0), causal=bool(step.integer("is_causal", 0)))]  # fmt: skip


def _q_attention(step: Step, books: Books) -> list[Operator]:
    return _projected_attention(step, books, step.need(0), step.need(1), step.input(2), step.input(8),
                                step.integer("unidirectional", 0))  # fmt: skip


def _projected_attention(
    step: Step, books: Books, x: Value, weight: Value, bias: Value | None, past: Value | None, causal: int
) -> list[Operator]:
    heads, sizes = step.integer("num_heads", 0), step.integers("qkv_hidden_sizes")
    if len(weight.shape) != 2 or len(x.shape) != 3:
        raise ModelError(f"input {x.shape} and weights {weight.shape} do not fit", where=step.name)
    sizes = sizes or (weight.shape[1] // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != weight.shape[1] or heads < 1 or any(size % heads or size < 1 for size in sizes):
        raise ModelError(f"hidden sizes {sizes} do not split into {heads} heads", where=step.name)
    projection = matmul(step, books, x, weight, bias=bias, suffix=".qkv", output=x.format if x.format in FLOATS else FP32)
    before = past.shape[-2] if past is not None and len(past.shape) == 5 else 0
    float_like = Value(x.shape, 1, FP32) if x.format not in FLOATS else x
    return [*projection, _attention(step, x.shape[0], x.shape[1], before + x.shape[1], heads, heads, sizes[0] // heads,
                                    sizes[2] // heads, past is not None, bool(causal), float_like)]  # fmt: skip


def _multi_head(step: Step, books: Books) -> list[Operator]:
    query, key, value = step.need(0), step.input(1), step.input(2)
    heads = step.integer("num_heads", 0)
    past, causal = step.input(6), bool(step.integer("unidirectional", 0))
    if key is None or value is None:  # packed [batch, tokens, heads, 3, width]
        if len(query.shape) != 5 or query.shape[3] != 3:
            raise ModelError(
                f"its packed input has shape {query.shape}", where=step.name, hint="batch, tokens, heads, 3, width"
            )
        batch, tokens, heads, _, width = query.shape
        return [_attention(step, batch, tokens, tokens, heads, heads, width, width, False, causal, query)]
    return [attention(step, query, key, value, heads=heads, kv_heads=heads, past=past, causal=causal)]


def _group_query(step: Step, books: Books) -> list[Operator]:
    query, key, value = step.need(0), step.input(1), step.input(2)
    heads, kv_heads = step.integer("num_heads", 0), step.integer("kv_num_heads", 0)
    past = step.input(3)
    if key is not None and value is not None:
        return [attention(step, query, key, value, heads=heads, kv_heads=kv_heads, past=past, causal=True)]
    if len(query.shape) != 3 or heads + 2 * kv_heads < 1 or query.shape[2] % (heads + 2 * kv_heads):
        raise ModelError(f"its packed input {query.shape} does not split into {heads} and {kv_heads} heads", where=step.name)
    width = query.shape[2] // (heads + 2 * kv_heads)
    before = past.shape[-2] if past is not None and len(past.shape) == 4 else 0
    return [_attention(step, query.shape[0], query.shape[1], before + query.shape[1], heads, kv_heads, width, width,
                       past is not None, True, query)]  # fmt: skip


def _einsum(step: Step, books: Books) -> list[Operator]:
    """Two operands as a matmul over the letters they share and drop; one operand as data movement; ModelError for more."""
    equation = step.text("equation", "").replace(" ", "")
    inputs = [v for v in step.inputs if v is not None]
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if len(inputs) == 1:
        return [Elementwise(name=step.name, elements=inputs[0].elements, activations=inputs[0].format,
                            writes=step.out.elements / max(1, inputs[0].elements))]  # fmt: skip
    if len(inputs) != 2 or len(terms) != 2 or "." in equation or "->" not in equation:
        raise ModelError(f"Einsum {equation!r} is not counted", where=step.name, hint="two operands, no ellipsis, with ->")
    a, b = inputs
    if len(set(terms[0])) != len(a.shape) or len(set(terms[1])) != len(b.shape):
        raise ModelError(f"Einsum {equation!r} does not fit {a.shape} and {b.shape}", where=step.name)
    size = {**dict(zip(terms[0], a.shape, strict=True)), **dict(zip(terms[1], b.shape, strict=True))}
    own, other = set(terms[0]), set(terms[1])
    if a.stored and not b.stored:
        a, b, own, other = b, a, other, own
    both = own & other
    groups = math.prod(size[c] for c in both & set(right))
    k = math.prod(size[c] for c in both - set(right))
    weights, activations, source = _arithmetic(a.format, b.format)
    return [
        Matmul(name=step.name, m=math.prod(size[c] for c in own - both), k=k, groups=groups,
               n=math.prod(size[c] for c in other - both), weights=weights, activations=activations, source=source,
               output=step.out.format, has_weights=books.use(b, step))
    ]  # fmt: skip


def _embed_layer_norm(step: Step, books: Books) -> list[Operator]:
    """Sum of word, position and segment embeddings, then a layer norm."""
    out, tables = step.out, [v for v in (step.input(2), step.input(3), step.input(4)) if v is not None]
    held = sum(books.hold(v) for v in tables)
    norms = sum(books.hold(v) for v in (step.input(5), step.input(6)) if v is not None)
    return [
        Elementwise(name=f"{step.name}.embeddings", elements=out.elements, reads=float(len(tables)),
                    ops=float(len(tables) - 1), parameters=held, activations=out.format),
        Normalization(name=step.name, elements=out.elements, parameters=norms, activations=out.format),
    ]  # fmt: skip


def _experts(step: Step, books: Books) -> list[Operator]:
    """A mixture of experts: up (and gate) projection, activation, down projection."""
    x, up, down = step.need(0), step.need(2), step.need(5 if step.op == "QMoE" else 4)
    if len(up.shape) != 3 or len(down.shape) != 3 or not x.shape:
        raise ModelError(f"expert weights {up.shape} and {down.shape} are not [experts, inputs, outputs]", where=step.name)
    width, experts, k = x.shape[-1], up.shape[0], step.integer("k", 1)
    if not width or not 1 <= k <= max(1, experts):
        raise ModelError(f"{k} of {experts} experts of width {width}", where=step.name)
    pack = 8 // step.integer("expert_weight_bits", 4) if step.op == "QMoE" else 1
    inner, hidden = up.elements * pack // experts // width, down.elements * pack // experts // width
    weights = up.format if step.op == "MoE" else INT4 if pack == 2 else INT8
    tokens = x.elements // width
    shared: dict[str, Any] = {"split": "experts", "tokens": tokens, "experts": experts, "experts_per_token": k,
              "weights": weights, "activations": x.format, "source": x.format, "output": x.format}  # fmt: skip
    return [
        ExpertMatmul(name=f"{step.name}.up", k=width, n=inner, **shared),
        Elementwise(name=f"{step.name}.act", elements=tokens * k * inner, fused=True, ops=5.0,
                    activations=x.format),
        ExpertMatmul(name=f"{step.name}.down", k=hidden, n=width, **shared),
    ]  # fmt: skip


MATRIX: dict[str, Callable[[Step, Books], list[Operator]]] = {
    "MatMul": _pick(0, 1), "FusedMatMul": _pick(0, 1), "MatMulInteger": _pick(0, 1), "MatMulIntegerToFloat": _pick(0, 1, 6),
    "QLinearMatMul": _pick(0, 3), "DynamicQuantizeMatMul": _pick(0, 1, 4), "Gemm": _gemm, "FusedGemm": _gemm,
    "QGemm": _pick(0, 3, 6), "MatMulNBits": _nbits, "Conv": _convolution(0, 1, 2), "FusedConv": _convolution(0, 1, 2),
    "ConvInteger": _convolution(0, 1, None), "QLinearConv": _convolution(0, 3, 8), "DeformConv": _convolution(0, 1, 3),
    "ConvTranspose": _transposed_convolution, "LSTM": _recurrent(4, 4.0), "GRU": _recurrent(3, 4.0), "RNN": _recurrent(1, 4.0),
    "Attention": _onnx_attention, "QAttention": _q_attention, "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _group_query, "Einsum": _einsum, "EmbedLayerNormalization": _embed_layer_norm,
    "MoE": _experts, "QMoE": _experts,
}  # fmt: skip
"""Rules of matrix work by operator type."""
