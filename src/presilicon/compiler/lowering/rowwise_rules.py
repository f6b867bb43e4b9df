"""Elementwise operators, norms, softmax and reductions along rows as vector programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from presilicon.compiler.importing.graph import Array, Node
from presilicon.compiler.lowering.builder import Builder, RefusedError
from presilicon.compiler.lowering.functions import EXACT, by_table, curve
from presilicon.compiler.lowering.pending import MOST_STREAMS, Pending
from presilicon.compiler.lowering.places import by_position, rotation
from presilicon.compiler.lowering.views import Atom, View, coalesced, laid
from presilicon.compiler.rowwise import EXPONENTIAL
from presilicon.compiler.steps import Binding, Reduce, Tensor
from presilicon.compiler.vectors import (
    Column,
    Constant,
    Loop,
    Operand,
    Scalar,
    Scalars,
    Stream,
    Swapped,
    Value,
    fused,
    interpolated,
    larger,
    minus,
    plus,
    product,
    reciprocal,
    reciprocal_root,
    smaller,
)

# Functions of one number ----------------------------------------------------------------------------------------------


def unary(b: Builder, node: Node) -> None:
    """A function of each element, joined to what makes it."""
    if not b.graph.is_float(node.outputs[0]):
        raise RefusedError("the vector unit computes with real numbers")
    x = b.taken(node.inputs[0], node)
    like = like_of(b, node.inputs[0], node)
    exact = EXACT.get(node.op)
    if exact is not None:
        b.defined(node, x.of(exact(x.operand, node.attributes), *node.sources), like)
        return
    found = curve(node.op, node.attributes)
    if found is None:
        raise RefusedError("the vector unit has no such function")
    if x.table is not None:
        x = b.settled(node.inputs[0], x)
    low, high = (found.low, found.high) if found.bounded else b.range([node.inputs[0]])
    only_int8 = b.wanted(node.outputs[0]) == ["moving"]
    b.defined(node, by_table(x, found, low, high, only_int8, *node.sources), like)


def like_of(b: Builder, name: str, node: Node) -> View:
    """The view of a result whose elements lie as those of one of its inputs, a matrix or some of its columns."""
    view, out = b.view(name), node.outputs[0]
    rows, columns = b.sizes[view.base]
    at = view.matrix(rows, columns)
    if at is None:
        return View.plain(out, b.graph.shape(out))
    axes = view.axes
    if at[1] != columns:
        axes = tuple(
            tuple(Atom(a.size, a.stride if a.stride < columns else a.stride // columns * at[1]) for a in axis) for axis in axes
        )
    return View(out, axes)


# Functions of two -----------------------------------------------------------------------------------------------------

_BINARY: Mapping[str, Callable[[Operand, Operand], Operand]] = {
    "Mul": product,
    "Sub": minus,
    "Max": larger,
    "Min": smaller,
    "Div": lambda x, y: product(x, reciprocal(y)),
}


def _sum(x: Operand, y: Operand) -> Operand:
    """The sum, in the same micro-operation as a product where one of them is a product that nothing else reads."""
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Value) and one.op == "product" and not one.negate_p and one.b is not None:
            return fused(one.a, one.b, other)
    return plus(x, y)


def binary(b: Builder, node: Node) -> None:
    """Sum, product, difference, quotient, larger or smaller of two values, one of which may be a constant or a row."""
    if len(node.inputs) != 2:
        raise RefusedError(f"it has {len(node.inputs)} inputs")
    if not b.graph.is_float(node.outputs[0]):
        raise RefusedError("the vector unit computes with real numbers")
    name, out = node.op, b.graph.shape(node.outputs[0])
    moving = [n for n in node.inputs if n in b.views and b.graph.shape(n) == out]
    if not moving:
        raise RefusedError("none of its inputs that the chip computes has the shape of its result")
    # The one whose sums are still in the accumulators leads: its layout is the result's.
    lead = next((n for n in moving if b.view(n).base in b.pending), moving[0])
    other_name = node.inputs[1 - node.inputs.index(lead)] if node.inputs[0] != node.inputs[1] else lead
    if other_name in moving and b.view(other_name).order() != b.view(lead).order():
        first, second = (_in_order(b, name) for name in (lead, other_name))
        merged = first.merged(second)
        if merged is None:
            raise RefusedError("its operands do not fit into one vector program")
        both, pair, like = merged, (first.operand, second.operand), View.plain(node.outputs[0], out)
    else:
        first, like = b.taken(lead, node), like_of(b, lead, node)
        if other_name == lead:
            if first.bound + 1 > MOST_STREAMS or first.table:
                first = b.settled(lead, first)
            both, pair = first, (first.operand, first.operand)
        else:
            both, pair = _operands(b, node, lead, first, other_name, like)
    x, y = pair if node.inputs[0] == lead else pair[::-1]
    function = _sum if name == "Add" else _BINARY[name]
    b.defined(node, both.of(function(x, y), *node.sources), like)


def _in_order(b: Builder, name: str) -> Pending:
    """A value as a stream of rows in the order of its shape."""
    view = b.view(name)
    rows, columns = b.sizes[view.base]
    plain = view.order() == View.plain("", view.shape).order() and view.matrix(rows, columns) == (0, columns)
    return b.streamed(view.base if plain and columns == view.shape[-1] else b.moved(name))


def _operands(
    b: Builder, node: Node, lead: str, first: Pending, other: str, like: View
) -> tuple[Pending, tuple[Operand, Operand]]:
    """Both operands in one program; the leading one is written to memory first where they do not fit together."""
    if other in b.graph.constants:
        constant = b.graph.constants[other].astype(np.float32, copy=False)
        for given in (first, None):
            one = given or b.settled(lead, first)
            found = _constant(b, node, one, constant, like)
            if found.bound < MOST_STREAMS:
                return found.of(one.operand), (one.operand, found.operand)
        raise RefusedError("its constant does not fit beside its other operands")
    second = by_position(b, other, first.rows, first.width) or _second(b, node, other, like, first)
    merged = first.merged(second)
    if merged is None:
        first = b.settled(lead, first)
        merged = first.merged(second)
    if merged is None:
        second = b.settled(other, second)
        merged = first.merged(second)
    if merged is None:
        raise RefusedError("its operands do not fit into one vector program")
    return merged, (first.operand, second.operand)


def _second(b: Builder, node: Node, name: str, like: View, first: Pending) -> Pending:
    """The other operand: a matrix that lies like the first, or one row for all."""
    view = b.view(name)
    rows, columns = b.sizes[view.base]
    shape = b.graph.shape(name)
    if shape == like.shape:
        same = view.order() == like.order() and (rows, columns) == (first.rows, first.width)
        if same or view.matrix(rows, columns) == (view.offset, first.width):
            return b.taken(name, node)
        copy = b.moved(name)
        if like.order() != b.view(copy).order():
            raise RefusedError("its operands lie in different orders in memory")
        return b.streamed(copy)
    if rows == 1 and columns == first.width and _varies_by_column(shape, like, first.width):
        tensor = b.tensor(view.base, "real")
        return Pending(
            operand=Column(tensor), rows=first.rows, width=first.width, sources=(), columns=(Binding(tensor, tensor),)
        )
    raise RefusedError(f"{name} of shape {shape} is not one number, one row or one whole value beside {like.shape}")


def _varies_by_column(shape: tuple[int, ...], like: View, width: int) -> bool:
    """Whether the axes along which a value of ``shape`` varies are those whose elements lie side by side in ``like``."""
    own = (1,) * (len(like.axes) - len(shape)) + shape
    axes = [axis for axis, size in enumerate(own) if size > 1]
    atoms = [atom for axis in axes for atom in like.axes[axis]]
    return all(atom.stride < width for atom in atoms) and int(np.prod([own[a] for a in axes], initial=1)) == width


def _constant(b: Builder, node: Node, beside: Pending, array: Array, like: View) -> Pending:
    """A constant beside a pending value: a number, a parameter of each column, or a matrix of its own."""
    first = array.reshape(-1)[0] if array.size else 0.0
    if bool((array == first).all()):
        return beside.of(Constant(float(first)))
    whole = laid(np.broadcast_to(array, like.shape), like, beside.rows, beside.width)
    name = b.free(f"{node.outputs[0]}.constant")
    if bool((whole == whole[:1]).all()):
        more, column = beside.with_column(name, whole[0])
        return more.of(column)
    b.constants[name] = np.ascontiguousarray(whole, np.float32)
    return replace(beside, operand=Stream(name), streams=(*beside.streams, Binding(name, name)))


# Norms ----------------------------------------------------------------------------------------------------------------


def last_axis(b: Builder, node: Node) -> Pending:
    """The first input as rows of its last axis, in memory."""
    name = node.inputs[0]
    view, shape = b.view(name), b.graph.shape(name)
    rows, columns = b.sizes[view.base]
    at = view.matrix(rows, columns)
    row_major = view.order() == View.plain("", shape).order() or sum(n > 1 for n in shape) <= 1
    if at is None or at[1] != shape[-1] or not row_major:
        return b.streamed(b.moved(name))
    return b.streamed(view.base, *at)


def _parameters(b: Builder, node: Node, pending: Pending, value: Operand) -> Pending:
    """Times gamma, plus beta, where they are there."""
    names = []
    for place, what in ((1, "gamma"), (2, "beta")):
        if len(node.inputs) > place:
            array = b.graph.constants.get(node.inputs[place])
            if array is None:
                raise RefusedError(f"its {what} is computed")
            pending, column = pending.with_column(b.free(f"{node.outputs[0]}.{what}"), array.reshape(-1))
            names.append(column)
    if len(names) == 2:
        return pending.of(fused(value, names[0], names[1]), *node.sources)
    return pending.of(product(value, names[0]) if names else value, *node.sources)


def layer_norm(b: Builder, node: Node) -> None:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over each row: Ba and others, "Layer Normalization", 2016."""
    x = last_axis(b, node)
    share, epsilon = Constant(1.0 / x.width), Constant(float(node.attributes["epsilon"]))
    centred = minus(x.operand, Scalar("mean"))
    phases = (
        Loop(sums=(("sum", x.operand),)),
        Scalars((("mean", product(Scalar("sum"), share)),)),
        Loop(sums=(("squares", product(centred, centred)),)),
        Scalars((("root", reciprocal_root(fused(Scalar("squares"), share, epsilon))),)),
    )
    again = minus(x.operand, Scalar("mean"))
    pending = replace(x, phases=phases)
    b.defined(node, _parameters(b, node, pending, product(again, Scalar("root"))))


def rms_norm(b: Builder, node: Node) -> None:
    """x / sqrt(mean of squares + epsilon) * gamma over each row: Zhang and Sennrich, 2019."""  # noqa: D403
    x = last_axis(b, node)
    share, epsilon = Constant(1.0 / x.width), Constant(float(node.attributes["epsilon"]))
    phases = (
        Loop(sums=(("squares", product(x.operand, x.operand)),)),
        Scalars((("root", reciprocal_root(fused(Scalar("squares"), share, epsilon))),)),
    )
    b.defined(node, _parameters(b, node, replace(x, phases=phases), product(x.operand, Scalar("root"))))


def l2_norm(b: Builder, node: Node) -> None:
    """Each row divided by its length."""
    x = last_axis(b, node)
    phases = (
        Loop(sums=(("squares", product(x.operand, x.operand)),)),
        Scalars((("root", reciprocal_root(larger(Scalar("squares"), Constant(1e-24)))),)),
    )
    b.defined(node, replace(x, phases=phases).of(product(x.operand, Scalar("root")), *node.sources))


def softmax(b: Builder, node: Node) -> None:
    """Softmax over each row, the exponential by table."""
    axis, rank = int(node.attributes.get("axis", -1)), len(b.graph.shape(node.inputs[0]))
    if axis not in (-1, rank - 1):
        raise RefusedError(f"it goes along axis {axis}, not the last")
    x = last_axis(b, node)
    power = interpolated(minus(x.operand, Scalar("largest")), EXPONENTIAL)
    phases = (
        Loop(maxima=(("largest", x.operand),)),
        Loop(sums=(("total", power),)),
        Scalars((("inverse", reciprocal(Scalar("total"))),)),
    )
    again = interpolated(minus(x.operand, Scalar("largest")), EXPONENTIAL)
    pending = replace(x, phases=phases, table=EXPONENTIAL)
    b.defined(node, pending.of(product(again, Scalar("inverse")), *node.sources))


# Rotations ------------------------------------------------------------------------------------------------------------


def rotary(b: Builder, node: Node) -> None:
    """Pairs of columns rotated by an angle of their place: x cos + (its neighbour) sin, sin with the sign of each half."""
    x, cos, sin = node.inputs
    view, out = b.view(x), node.outputs[0]
    if any(reader.op != "Attention" for reader, _, _ in b.readers(out)) or b.returned(out):
        raise RefusedError("something else than attention reads its result, whose columns stand in another order on the chip")
    _, heads, tokens, dim = b.graph.shape(x)
    width = int(node.attributes["width"])
    at = view.matrix(*b.sizes[view.base])
    if x in b.paired and at is not None:
        base = b.streamed(view.base, *at)
    else:
        halves = view.transposed((0, 2, 1, 3)).reshaped((tokens, heads, 2, dim // 2)) if width == dim else None
        if halves is None:
            raise RefusedError("its heads do not stand side by side")
        base = b.streamed(b.arranged(f"{x}.pairs", halves.transposed((0, 1, 3, 2)), tokens, heads * dim, "real"))
    parts = [rotation(b, cos, "cos", dim, heads, width), rotation(b, sin, "sin", dim, heads, width)]
    streams = (*base.streams, *parts)
    turned = product(Swapped(Value("move", base.operand), 1), Stream(parts[1].name))
    value = fused(base.operand, Stream(parts[0].name), turned)
    pending = replace(base, streams=streams, operand=value, sources=node.sources)
    b.defined(node, pending, View.plain(out, (1, tokens, heads, dim)).transposed((0, 2, 1, 3)))


# Reductions -----------------------------------------------------------------------------------------------------------


def over_rows(b: Builder, node: Node) -> None:
    """Mean, sum or largest over all rows (tokens or pixels), or the mean over those that a mask counts."""
    name, out = node.inputs[0], node.outputs[0]
    axes, shape = node.attributes.get("axes", (1,)), b.graph.shape(name)
    view = b.view(name)
    if not _reduces_rows(b, view, axes):
        view = b.views[b.moved(name)]
    if not _reduces_rows(b, view, axes):
        raise RefusedError(f"it reduces axes {axes} of {shape}, which are not all but the last")
    rows, columns = b.sizes[view.base]
    if rows == 1:  # one row is its own sum, mean and largest
        b.views[out] = View.plain(view.base, b.graph.shape(out))
        if out in b.ranges:
            b.ranges = {view.base: b.ranges[out], **b.ranges}
        return
    kind: Literal["sum", "max"] = "max" if node.op == "ReduceMax" else "sum"
    length = b.roles[node.attributes["length"]] if node.op == "MeanOfLength" else ""
    tensor = Tensor(b.free(out), 1, columns)
    scale = 1.0 / rows if node.op in ("ReduceMean", "GlobalAveragePool") else 1.0
    b.step(
        Reduce(name=b.free_step(out), x=b.tensor(view.base, "real"), out=tensor.name, kind=kind, scale=scale, length=length,
               mean_of_length=bool(length)),
        node.sources,
    )  # fmt: skip
    b.written(out, "real", tensor)
    b.views[out] = View.plain(out, b.graph.shape(out))


def _reduces_rows(b: Builder, view: View, axes: Sequence[int]) -> bool:
    """Whether axes are the rows of the matrix that a view lies in, and the others its columns."""
    rows, columns = b.sizes[view.base]
    kept = [atom for axis, atoms in enumerate(view.axes) if axis not in axes for atom in atoms]
    width = int(np.prod([atom.size for atom in kept], initial=1))
    return view.matrix(rows, columns) == (0, columns) and coalesced(kept) == coalesced([Atom(columns, 1)]) and width == columns
