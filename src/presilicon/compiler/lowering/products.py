"""Products, attention, look-ups and caches as steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.importing.graph import FloatGraph, Node, let_go
from presilicon.compiler.lowering.builder import Builder, RefusedError
from presilicon.compiler.lowering.pending import Maker, Pending
from presilicon.compiler.lowering.places import pairs
from presilicon.compiler.lowering.quantise import Quantised, bias_of, eight_bits, four_bits, least_scales, symmetric
from presilicon.compiler.lowering.views import Atom, View
from presilicon.compiler.steps import Attention, Binding, Gather, Move, Product, Rows, Tensor
from presilicon.compiler.vectors import Output, Sum, VectorProgram, product


def linear(b: Builder, node: Node) -> None:
    """X W + bias: a product whose sums become real numbers; what follows may be joined to it."""
    x = node.inputs[0]
    weights, steps = b.graph.constants[node.inputs[1]], b.graph.steps.get(node.inputs[1])
    bias = b.graph.constants[node.inputs[2]].reshape(-1) if len(node.inputs) > 2 else None
    if node.attributes["transposed"]:
        weights, steps = weights.T, None if steps is None else steps.T
    base, column = _matrix(b, x)
    order = _paired(b, node.outputs[0], weights.shape[1])
    if order is not None:
        weights, bias = weights[:, order], None if bias is None else bias[order]
        steps = None if steps is None else steps[:, order]
    if b.weights == "int4" and weights.shape[0] % b.group == 0:
        quantised = four_bits(weights, b.group)
    else:
        quantised = eight_bits(weights, steps, least_scales(bias, b.scale(base)))
    let_go(b.graph.constants[node.inputs[1]])
    pending = dequantised(b, node, base, quantised, bias)
    k = weights.shape[0]
    name = b.constant(f"{node.outputs[0]}.weights", quantised.stored)
    more: dict[str, Any] = {"x": b.tensor(base, "moving"), "x_column": column, "weights": name}
    if quantised.multipliers is not None:
        more |= {"multipliers": b.constant(f"{name}.multipliers", quantised.multipliers), "group": quantised.group}
    rows, columns = b.sizes[base]
    if k + column > columns:
        raise RefusedError(f"its weights have {k} rows, its input {columns} columns")
    b.defined(node, replace(pending, rows=rows, root=_product(more)))


def _product(given: dict[str, Any]) -> Maker:
    return lambda name, program, streams, columns, outputs: Product(
        name=name, program=program, streams=streams, columns=columns, outputs=outputs, **given
    )


def dequantised(b: Builder, node: Node, base: str, weights: Quantised, bias: Any) -> Pending:
    """The sums of ``base`` times weights as real numbers, the bias and the share of the zero point added."""
    scale = b.scale(base)
    whole = bias_of(weights, scale, bias)
    if whole is None:
        raise RefusedError("its bias is more than 2^31 times the product of its scales")
    name = node.outputs[0]
    bound = b.constant(f"{name}.bias", whole)
    out = Pending(operand=Sum(bound), rows=1, width=len(whole), sources=node.sources, columns=(Binding(bound, bound),))
    more, column = out.with_column(b.free(f"{name}.scale"), weights.scale.astype(np.float64) * scale.scale)
    return more.of(product(Sum(bound), column))


def _matrix(b: Builder, name: str) -> tuple[str, int]:
    """(base, first column) of a value as the matrix that a product reads; copied where it does not lie like one."""
    view = b.view(name)
    rows, columns = b.sizes[view.base]
    shape = b.graph.shape(name)
    at = view.matrix(rows, columns)
    row_major = view.order() == View.plain("", shape).order() or sum(n > 1 for n in shape) <= 1
    if at is not None and row_major and at[1] == shape[-1]:
        return view.base, at[0]
    return b.moved(name, "moving"), 0


def _paired(b: Builder, base: str, columns: int) -> NDArray[np.intp] | None:
    """The order of columns that puts the halves of each head beside each other, where only rotations read them; else None."""
    order = np.arange(columns)
    readers = b.readers(base)
    rotated = {name: node for node, place, name in readers if node.op == "Rotary" and place == 0}
    if not rotated or b.returned(base):
        return None
    b.views[base] = View.plain(base, b.graph.shape(base))
    b.sizes[base] = (int(np.prod(b.graph.shape(base)[:-1])), columns)
    others = [b.columns_of(name, base) for _, _, name in readers if name not in rotated]
    for name, node in rotated.items():
        first, width = b.columns_of(name, base)
        if not any(at < first + width and first < at + size for at, size in others):
            heads = order[first : first + width].reshape(-1, b.graph.shape(name)[-1])
            order[first : first + width] = heads[:, pairs(heads.shape[1], int(node.attributes["width"]))].reshape(-1)
            b.paired.add(name)
    return order


# Look-ups -------------------------------------------------------------------------------------------------------------


def gather(b: Builder, node: Node) -> None:
    """Rows of a constant table by an input of whole numbers."""
    table, index = b.graph.constants.get(node.inputs[0]), node.inputs[1]
    if table is None or int(node.attributes.get("axis", 0)) != 0 or index not in b.views:
        raise RefusedError("only rows of a constant table are looked up, by indices that the chip has")
    if table.ndim < 2 or not b.graph.is_float(node.outputs[0]):
        raise RefusedError(f"its table is of shape {table.shape}")
    if b.tensors[b.tensor(b.view(index).base, "real")].dtype != "int32":
        raise RefusedError("its indices are no whole numbers on the chip")
    out, count = node.outputs[0], int(np.prod(b.graph.shape(index)))
    flat = table.reshape(table.shape[0], -1)
    shared = f"{node.inputs[0]}.table"
    if shared not in b.constants:
        b.constants[shared] = flat.astype(np.float32, copy=False)
    tensor = Tensor(b.free(out), count, flat.shape[1])
    b.step(
        Gather(name=b.free_step(out), table=shared, index=b.forms[b.view(index).base, "real"], out=tensor.name), node.sources
    )
    b.written(out, "real", tensor)
    b.views[out] = View.plain(out, b.graph.shape(out))


# Attention ------------------------------------------------------------------------------------------------------------


def attention(b: Builder, node: Node) -> None:
    """Queries, keys and values as int8 matrices whose heads stand side by side; the result likewise."""
    q, k, v = node.inputs[:3]
    batch, heads, tokens, dim = b.graph.shape(q)
    if batch != 1:
        raise RefusedError(f"its batch is {batch}, and attention is compiled for one sequence at a time")
    k_order = (0, 1, 3, 2) if node.attributes["transposed"] else (0, 1, 2, 3)
    k_shape = tuple(b.graph.shape(k)[i] for i in k_order)
    if b.graph.shape(v) != k_shape or k_shape[3] != dim:
        raise RefusedError(f"its keys {k_shape} and values {b.graph.shape(v)} differ in shape")
    views = {q: b.view(q), k: b.view(k).transposed(k_order), v: b.view(v)}
    parts = [_heads(b, view) or _beside(b, name, view) for name, view in views.items()]
    (q_base, q_column, _), (k_base, k_column, kv_heads), (v_base, v_column, v_heads) = parts
    if kv_heads != v_heads or heads % kv_heads:
        raise RefusedError(f"{heads} heads share {kv_heads} heads of keys and {v_heads} of values")
    out = node.outputs[0]
    b.sizes[out] = (tokens, heads * dim)
    b.views[out] = View.plain(out, (1, tokens, heads, dim)).transposed((0, 2, 1, 3))
    names = [b.tensor(base, "stationary") for base in (q_base, k_base, v_base)]
    widths = (heads * dim, kv_heads * dim, kv_heads * dim)
    places = zip((q_base, k_base, v_base), (q_column, k_column, v_column), widths, strict=True)
    scales = [_uniform(b, base, column, width) for base, column, width in places]
    readers = [place for reader, place, _ in b.readers(out) if reader.op != "Linear" or place]
    form: Any = "stationary" if readers or b.returned(out) else "moving"
    if form == "moving":
        scale = b.moving_scale(out)
        tensor = Tensor(b.free(out), tokens, heads * dim, "int8", scale.scale, scale.zero_point)
        b.written(out, form, tensor)
    else:
        one = symmetric(*b.range([out])).scale
        tensor = Tensor(b.free(out), tokens, heads * dim, "int8", one)
        b.written(out, form, tensor, np.full(heads * dim, one, np.float32))
    length, position = (b.roles[node.attributes[what]] if node.attributes[what] else "" for what in ("length", "position"))
    b.step(
        Attention(
            name=b.free_step(out), q=names[0], k=names[1], v=names[2], out=tensor.name, heads=heads, kv_heads=kv_heads, dim=dim,
            score_scale=scales[0] * scales[1] * float(node.attributes["scale"]), value_scale=scales[2] / tensor.scale,
            q_column=q_column, k_column=k_column, v_column=v_column, causal=bool(node.attributes["causal"]), length=length,
            position=position,
        ),
        node.sources,
    )  # fmt: skip


def _heads(b: Builder, view: View) -> tuple[str, int, int] | None:
    """(base, first column, KV heads) of (1, heads, tokens, dim) whose heads stand side by side; repeated heads count once."""
    rows, columns = b.sizes[view.base]
    _, heads, tokens, dims = view.axes
    dim = int(np.prod([a.size for a in dims], initial=1))
    own = tuple(a for a in heads if a.stride)
    repeated = tuple(a for a in heads if not a.stride)
    if own + repeated != heads or len(own) > 1 or (own and own[0].stride != dim):
        return None
    if (dims and dims != (Atom(dim, 1),)) or (tokens and tokens != (Atom(rows, columns),)) or (not tokens and rows != 1):
        return None
    count = own[0].size if own else 1
    return (view.base, view.offset, count) if view.offset + count * dim <= columns else None


def _beside(b: Builder, name: str, view: View) -> tuple[str, int, int]:
    """As `_heads`, of a copy whose heads stand side by side."""
    _, heads, tokens, dim = view.shape
    if any(not atom.stride for axis in view.axes for atom in axis):
        raise RefusedError("its heads are repeated and do not stand side by side in rows of tokens")
    return b.arranged(f"{name}.heads", view.transposed((0, 2, 1, 3)), tokens, heads * dim, "stationary"), 0, heads


def _uniform(b: Builder, base: str, column: int, width: int) -> float:
    scales = b.scales[base, "stationary"][column : column + width]
    if not bool((scales == scales[0]).all()):
        raise RefusedError("the columns of its queries, keys or values differ in scale")
    return float(scales[0])


# Caches ---------------------------------------------------------------------------------------------------------------


def cached(b: Builder, node: Node) -> None:
    """New rows behind those of a cache that the chip keeps: int8, written at the runtime position."""
    out, new = node.outputs[0], node.inputs[1]
    _, heads, keys, dim = b.graph.shape(out)
    part = _heads(b, b.view(new))
    if part is None or part[2] != heads:
        raise RefusedError("its new rows do not have their heads side by side")
    base, column, _ = part
    width, rows = heads * dim, b.sizes[base][0]
    direct = (base, "stationary") in b.forms or (base in b.pending and b.wanted(base) == ["stationary"])
    whole = base in b.pending and b.sizes[base][1] == width and len(b.readers(base)) == 1 and not b.returned(base)
    copied = direct and not whole
    source = b.tensor(base, "stationary") if copied else ""
    scale = _uniform(b, base, column, width) if copied else symmetric(*b.range([out, new])).scale
    b.sizes[out] = (keys, width)
    b.views[out] = View.plain(out, (1, keys, heads, dim)).transposed((0, 2, 1, 3))
    tensor = Tensor(b.free(out), keys, width, "int8", scale)
    b.written(out, "stationary", tensor, np.full(width, scale, np.float32))
    b.states.append(tensor.name)
    position = b.roles[node.attributes["position"]]
    if copied:
        move = Move(
            name=b.free_step(out),
            source=source,
            out=tensor.name,
            shape=(rows, width),
            strides=(b.sizes[base][1], 1),
            out_strides=(width, 1),
            start=column,
            out_row=position,
            out_pitch=width,
        )
        b.step(move, node.sources)
        return
    given = b.pending.pop(base) if whole else b.streamed(base, column, width)
    given = given.scaled(1.0 / scale, b.free(f"{out}.levels"))
    key = f"{out}.rows"
    program = given.program(((Output(key, "int8"), given.operand),))
    b.constants.update(given.arrays)
    maker = given.root or _rows
    outputs = (Binding(key, tensor.name, 0, position),)
    b.step(maker(b.free_step(out), program, given.streams, given.columns, outputs), (*given.sources, *node.sources))


def _rows(
    name: str, program: VectorProgram, streams: tuple[Binding, ...], columns: tuple[Binding, ...], outputs: tuple[Binding, ...]
) -> Rows:
    return Rows(name=name, program=program, streams=streams, columns=columns, outputs=outputs)


# Before lowering ------------------------------------------------------------------------------------------------------


def merged(graph: FloatGraph) -> FloatGraph:
    """Products of one x whose results only one attention reads as one product: its parts are slices of columns."""
    groups: dict[tuple[str, str], list[Node]] = {}
    for node in graph.nodes:
        if node.op == "Linear" and (reader := _sole_attention(graph, node.outputs[0])):
            groups.setdefault((node.inputs[0], reader), []).append(node)
    for (x, _), nodes in groups.items():
        same = len({(n.attributes["transposed"], len(n.inputs), graph.constants[n.inputs[1]].dtype.str) for n in nodes}) == 1
        if len(nodes) > 1 and same and not any(n.inputs[1] in graph.steps for n in nodes):
            graph = _joined(graph, x, nodes)
    return graph


def _sole_attention(graph: FloatGraph, name: str) -> str:
    """The one attention that reads a value through reshapes and transposes alone; empty where others do."""
    readers = graph.readers.get(name, ())
    if len(readers) != 1 or any(value == name for _, value in graph.outputs):
        return ""
    reader = readers[0]
    return reader.name if reader.op == "Attention" else (
        _sole_attention(graph, reader.outputs[0]) if reader.op in ("Reshape", "Transpose", "Expand") else ""
    )  # fmt: skip


def _joined(graph: FloatGraph, x: str, nodes: list[Node]) -> FloatGraph:
    first = nodes[0]
    axis = 0 if first.attributes["transposed"] else 1
    name = "+".join(n.outputs[0] for n in nodes)
    constants = {f"{name}.w": np.concatenate([graph.constants[n.inputs[1]] for n in nodes], axis=axis)}
    inputs = [x, f"{name}.w"]
    if len(first.inputs) > 2:
        constants[f"{name}.b"] = np.concatenate([graph.constants[n.inputs[2]].reshape(-1) for n in nodes])
        inputs.append(f"{name}.b")
    front = graph.shape(first.outputs[0])[:-1]
    widths = [graph.shape(n.outputs[0])[-1] for n in nodes]
    sources = tuple(dict.fromkeys(s for n in nodes for s in n.sources))
    made = [Node(first.name, "Linear", tuple(inputs), (name,), first.attributes, "", sources)]
    at = 0
    for n, width in zip(nodes, widths, strict=True):
        starts = (*(0,) * len(front), at)
        made.append(
            Node(f"{n.name}/part", "Slice", (name,), n.outputs, {"starts": starts, "steps": (1,) * len(starts)}, "", n.sources)
        )
        at += width
    gone = {n.name for n in nodes}
    ordered: list[Node] = []
    for node in graph.nodes:
        if node.name == first.name:
            ordered += made
        elif node.name not in gone:
            ordered.append(node)
    return graph.rewritten(ordered, constants, {name: ((*front, sum(widths)), 1)})
