"""Output shapes of one node: by onnx's own inference where the operator has a schema, by the rules below for com.microsoft.

Where a size depends on data, the largest possible one is taken (boxes that survive, non-zero elements, unique values).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from presilicon.errors import ModelError
from presilicon.frontend.onnx_values import KNOWN_ELEMENTS, Step, words

Type = tuple[tuple[int, ...], int]
"""Shape and element type of one output."""


def _same(step: Step) -> list[Type]:
    x = step.need(0)
    return [(x.shape, x.dtype)] * len(step.outputs)


def _like_first_only(step: Step) -> list[Type]:
    """Skip norms: output, mean, inverse deviation, and the sum with the residual."""
    x = step.need(0)
    return [(x.shape, x.dtype), ((*x.shape[:-1], 1), 1), ((*x.shape[:-1], 1), 1), (x.shape, x.dtype)]


def _halved(step: Step) -> list[Type]:
    x = step.need(0)
    return [((*x.shape[:-1], x.shape[-1] // 2), x.dtype)]


def _binary(step: Step) -> list[Type]:
    a, b = step.need(0).shape, step.need(3).shape
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    return [(tuple(max(x, y) if 0 not in (x, y) else 0 for x, y in zip(a, b, strict=True)), step.need(0).dtype)]


def _product(left: int, right: int) -> Callable[[Step], list[Type]]:
    def rule(step: Step) -> list[Type]:
        a, b = step.need(left), step.need(right)
        x = (*a.shape[:-2], a.shape[-1], a.shape[-2]) if step.integer("transA", 0) else a.shape
        y = (*b.shape[:-2], b.shape[-1], b.shape[-2]) if step.integer("transB", 0) else b.shape
        front = max(x[:-2], y[:-2], key=lambda s: (len(s), math.prod(s)))
        kind = a.dtype if a.is_float or (step.op == "QGemm" and step.input(7) is not None) else 1
        return [((*front, x[-2], y[-1]), kind)]

    return rule


def _nbits(step: Step) -> list[Type]:
    x = step.need(0)
    return [((*x.shape[:-1], step.integer("N", 0)), x.dtype)]


def _multi_head(step: Step) -> list[Type]:
    query, value = step.need(0), step.input(2)
    if len(query.shape) == 5:
        batch, tokens, heads, _, width = query.shape
        return [((batch, tokens, heads * width), query.dtype)]
    hidden = query.shape[2] if value is None else value.shape[2] if len(value.shape) == 3 else value.shape[1] * value.shape[3]
    heads = max(1, step.integer("num_heads", 1))
    past = step.input(6)
    key = step.input(1)
    context = 0 if key is None else key.shape[1] if len(key.shape) == 3 else key.shape[2]
    before = past.shape[-2] if past is not None and len(past.shape) == 4 else 0
    present = ((query.shape[0], heads, before + context, hidden // heads), query.dtype)
    return [((query.shape[0], query.shape[1], hidden), query.dtype), present, present]


def _group_query(step: Step) -> list[Type]:
    query, past = step.need(0), step.input(3)
    heads, kv_heads = step.integer("num_heads", 1), step.integer("kv_num_heads", 1)
    packed = step.input(1) is None
    width = query.shape[2] // max(1, heads + (2 * kv_heads if packed else 0))
    before = past.shape[-2] if past is not None and len(past.shape) == 4 else 0
    present = ((query.shape[0], kv_heads, before + query.shape[1], width), query.dtype)
    return [((query.shape[0], query.shape[1], heads * width), query.dtype), present, present]


def _projected(step: Step) -> list[Type]:
    x, weight = step.need(0), step.need(1)
    heads = max(1, step.integer("num_heads", 1))
    sizes = step.integers("qkv_hidden_sizes") or (weight.shape[1] // 3,) * 3
    past = step.input(8 if step.op == "QAttention" else 4)
    before = past.shape[-2] if past is not None and len(past.shape) == 5 else 0
    kind = x.dtype if x.is_float else 1
    present = ((2, x.shape[0], heads, before + x.shape[1], sizes[-1] // heads), kind)
    return [((*x.shape[:-1], sizes[-1]), kind), present]


def _concat(step: Step) -> list[Type]:
    parts = [v.shape for v in step.inputs[2::3] if v is not None]
    axis = step.integer("axis", 0)
    shape = list(parts[0])
    shape[axis] = sum(part[axis] for part in parts)
    return [(tuple(shape), step.need(1).dtype)]


def _pooled(step: Step) -> list[Type]:
    x = step.need(0)
    return [((*x.shape[:2], *(1,) * len(x.shape[2:])), x.dtype)]


def _embedded(step: Step) -> list[Type]:
    ids, table = step.need(0), step.need(2)
    full = ((*ids.shape, table.shape[-1]), table.dtype if table.is_float else 1)
    return [full, ((ids.shape[0],), 6), full]


def _gathered_blocks(step: Step) -> list[Type]:
    data, indices, axis = step.need(0), step.need(1), step.integer("gather_axis", 0)
    return [((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]), step.need(2).dtype)]


CONTRIB: Mapping[str, Callable[[Step], list[Type]]] = {
    **dict.fromkeys(words("Gelu FastGelu BiasGelu QuickGelu QLinearSigmoid QLinearLeakyRelu QLinearSoftmax BiasAdd "
                    "RotaryEmbedding "
                    "GroupNorm SkipGroupNorm Trilu MoE QMoE"), _same),
    **dict.fromkeys(words("SkipLayerNormalization SkipSimplifiedLayerNormalization SimplifiedLayerNormalization "
                    "LayerNormalization"), _like_first_only),
    "BiasSplitGelu": _halved, "QLinearAdd": _binary, "QLinearMul": _binary, "FusedMatMul": _product(0, 1),
    "MatMulIntegerToFloat": _product(0, 1), "DynamicQuantizeMatMul": _product(0, 1), "QGemm": _product(0, 3),
    "MatMulNBits": _nbits, "MultiHeadAttention": _multi_head, "GroupQueryAttention": _group_query, "Attention": _projected,
    "QAttention": _projected, "QLinearConcat": _concat, "QLinearGlobalAveragePool": _pooled,
    "EmbedLayerNormalization": _embedded, "GatherBlockQuantized": _gathered_blocks,
}  # fmt: skip
_AS_STANDARD: Mapping[str, tuple[str, int]] = {
    "FusedConv": ("Conv", 3), "FusedGemm": ("Gemm", 3), "QuantizeLinear": ("QuantizeLinear", 3),
    "DequantizeLinear": ("DequantizeLinear", 3), "QLinearAveragePool": ("AveragePool", 1),
}  # fmt: skip
_UNINFERRED = frozenset({"GroupNormalization", "MeanVarianceNormalization"})  # functions without inference of their own
_STANDARD_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "FusedConv": frozenset({"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}),
    "FusedGemm": frozenset({"alpha", "beta", "transA", "transB"}),
    "QuantizeLinear": frozenset({"axis"}),
    "DequantizeLinear": frozenset({"axis"}),
    "QLinearAveragePool": frozenset({"auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"}),
}


def shapes(node: Any, step: Step, version: int, names: list[str]) -> list[Type | None]:
    """Shape and type of each output of ``node``; None where onnx says nothing about an output.

    ``version`` is the operator set of its domain, ``names`` a distinct name per input (empty where left out). Raises
    ModelError where shapes contradict each other.
    """
    domain = "" if node.domain == "ai.onnx" else node.domain
    has_schema = _schema(node.op_type, version, domain) is not None if not domain else False
    if not has_schema and node.op_type in CONTRIB:
        try:
            return list(CONTRIB[node.op_type](step))
        except (IndexError, ValueError, TypeError) as problem:
            raise ModelError(f"{node.op_type} has inputs that do not fit together", where=step.name) from problem
    if not has_schema:
        twin, version, step, names = _standard(node, step, names)
        kind = step.need(0).dtype
        if node.op_type == "QLinearAveragePool":  # the standard one takes real numbers only
            step = replace(step, inputs=(replace(step.need(0), dtype=1, data=None),))
            return [None if t is None else (t[0], kind) for t in _inferred(twin, step, version, names)]
        node = twin
    found = _inferred(node, step, version, names)
    if node.op_type == "STFT" and found[0] is not None:
        return [_one_sided(step, found[0])]
    if not any(found) and node.op_type in _UNINFERRED:
        return list(_same(step))
    return found


def _one_sided(step: Step, spectrum: Type) -> Type:
    """Half of the frequencies and one: onnx keeps all of them even where the transform is one-sided, its default."""
    sizes, kind = spectrum
    window, length = step.input(2), step.input(3)
    frame = window.elements if window is not None else None
    if length is not None and length.data is not None and length.data.size == 1:
        frame = int(length.data.reshape(-1)[0])
    if frame and step.integer("onesided", 1) and len(sizes) == 4:
        return (sizes[0], sizes[1], frame // 2 + 1, sizes[3]), kind
    return spectrum


def _schema(op: str, version: int, domain: str) -> Any:
    import onnx.defs

    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None


def _standard(node: Any, step: Step, names: list[str]) -> tuple[Any, int, Step, list[str]]:
    """A com.microsoft node as the standard one it extends, for its shape."""
    import onnx

    if node.op_type not in _AS_STANDARD:
        raise ModelError(f"operator set {node.domain or 'ai.onnx'} of this file has no {node.op_type}", where=step.name)
    op, kept = _AS_STANDARD[node.op_type]
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.op_type, twin.domain = op, ""
    del twin.input[kept:]
    del twin.attribute[:]
    twin.attribute.extend(a for a in node.attribute if a.name in _STANDARD_ATTRIBUTES[node.op_type])
    return twin, 19, replace(step, inputs=step.inputs[:kept]), names[:kept]


def _inferred(node: Any, step: Step, version: int, names: list[str]) -> list[Type | None]:
    import onnx
    from onnx import helper, numpy_helper

    schema = _schema(node.op_type, version, "")
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.domain = ""
    del twin.input[:], twin.output[:]
    twin.input.extend(names)
    twin.output.extend(f"o{i}" if name else "" for i, name in enumerate(node.output))
    types, data = {}, {}
    for name, v in zip(names, step.inputs, strict=True):
        if v is None:
            continue
        types[name] = helper.make_tensor_type_proto(v.dtype, v.shape)
        if v.data is not None and v.elements <= KNOWN_ELEMENTS:
            tensor = numpy_helper.from_array(v.data)
            if tensor.data_type == v.dtype:
                data[name] = tensor
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, twin, types, data, opset_imports=[helper.make_opsetid("", version)]
        )
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError,
            OverflowError, IndexError, KeyError) as problem:  # fmt: skip
        reason = " ".join(str(problem).split())[:300]
        raise ModelError(f"{node.op_type} is not valid: {reason}", where=step.name) from problem
    return [_type(found.get(f"o{i}")) if name else None for i, name in enumerate(node.output)]


def _type(proto: Any) -> Type | None:
    """The Type of a TypeProto; sizes that are not known are -1; None without a rank."""
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    sizes = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in proto.tensor_type.shape.dim)
    return sizes, proto.tensor_type.elem_type


def bounded(step: Step, op: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """``sizes`` with those that depend on data (-1) at their largest; ModelError where that is not known."""
    if all(size >= 0 for size in sizes):
        return sizes
    x = step.need(0)
    most: int | None = None
    if op in ("NonZero", "Compress", "Unique"):
        most = x.elements if op != "Compress" or "axis" not in step.attributes else x.shape[step.integer("axis", 0)]
    elif op == "NonMaxSuppression" and len(step.need(1).shape) == 3:
        scores = step.need(1)
        limit = step.input(2)
        known = limit is not None and limit.data is not None and limit.data.size == 1
        per_class = (
            int(limit.data.reshape(-1)[0]) if known and limit is not None and limit.data is not None else scores.shape[2]
        )
        most = scores.shape[0] * scores.shape[1] * max(0, min(per_class, scores.shape[2]))
    if most is None:
        raise ModelError(f"the size of {op}'s output depends on data", where=step.name,
                         hint="set the inputs it is computed from, --dim name=N")  # fmt: skip
    return tuple(most if size < 0 else size for size in sizes)
