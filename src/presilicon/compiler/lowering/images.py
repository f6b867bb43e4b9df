"""Convolutions, poolings and padding as steps: images are pixels x channels, whatever order their axes have in the file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from presilicon.compiler.importing.graph import Node
from presilicon.compiler.lowering import rowwise_rules
from presilicon.compiler.lowering.builder import Builder, Form, RefusedError
from presilicon.compiler.lowering.pending import Maker, Pending
from presilicon.compiler.lowering.products import dequantised
from presilicon.compiler.lowering.quantise import eight_bits, least_scales
from presilicon.compiler.lowering.views import View
from presilicon.compiler.steps import Binding, Convolution, Move, Pool, Product, Rows, Tensor
from presilicon.compiler.vectors import Constant, Loop, Output, Stream, Sum, VectorProgram, fused, plus, product


def image_view(base: str, shape: tuple[int, ...]) -> View:
    """A value (batch, channels, ...) whose elements lie as pixels x channels."""
    rank = len(shape)
    last = View.plain(base, (shape[0], *shape[2:], shape[1]))
    return last.transposed((0, rank - 1, *range(1, rank - 1)))


def image(b: Builder, name: str, form: Form) -> str:
    """The base of a value as pixels x channels; copied where it lies otherwise."""
    view, shape = b.view(name), b.graph.shape(name)
    if view.order() == image_view("", shape).order() and view.matrix(*b.sizes[view.base]) == (0, b.sizes[view.base][1]):
        return view.base
    copy = f"{name}.pixels"
    if (copy, form) not in b.forms:
        source = b.tensors[b.tensor(view.base, form)]
        rows, channels = int(np.prod((shape[0], *shape[2:]))), shape[1]
        suffix = "" if form == "real" else f".{form}"
        made = Tensor(b.free(copy + suffix), rows, channels, source.dtype, source.scale, source.zero_point)
        order = (0, *range(2, len(shape)), 1)
        b.copied(view.transposed(order), source.name, made, b.graph.makers[name].sources if name in b.graph.makers else ())
        b.written(copy, form, made)
    return copy


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Batch, height, width and channels; what has one axis has a height of 1."""
    height, width = (1, *shape[2:])[-2:]
    return shape[0], height, width, shape[1]


def _geometry(b: Builder, node: Node) -> dict[str, Any]:
    """Sizes of the image and its windows; RefusedError where the node has not the form of `importing.convolutions`."""
    if "padding" not in node.attributes:
        raise RefusedError("its weights are computed, or it has more than two axes")
    batch, height, width, channels = _sizes(b.graph.shape(node.inputs[0]))
    given = {name: node.attributes[name] for name in ("kernel", "stride", "padding")}
    return {"batch": batch, "height": height, "width": width, "channels": channels, **given}


def convolution(b: Builder, node: Node) -> None:
    """A convolution, or a product where its windows are single pixels; what follows may be joined to it."""
    geometry = _geometry(b, node)
    weights, steps = b.graph.constants[node.inputs[1]], b.graph.steps.get(node.inputs[1])
    bias = b.graph.constants[node.inputs[2]]
    count = weights.shape[0]

    def laid(array: Any) -> Any:
        """(out, in, y, x) as (y x in, out)."""
        return np.moveaxis(array.reshape(count, array.shape[1], -1), 2, 1).reshape(count, -1).T

    base = image(b, node.inputs[0], "moving")
    quantised = eight_bits(laid(weights), None if steps is None else laid(steps), least_scales(bias, b.scale(base)))
    pending = dequantised(b, node, base, quantised, bias)
    shape = b.graph.shape(node.outputs[0])
    x, name = b.tensor(base, "moving"), b.constant(f"{node.outputs[0]}.weights", quantised.stored)
    attributes = node.attributes
    pixels = (
        attributes["groups"] == 1
        and geometry["kernel"] == (1, 1) == geometry["stride"]
        and not any(geometry["padding"])
        and b.sizes[base][1] == geometry["channels"]
    )
    more = {**geometry, "out_channels": count, "dilation": attributes["dilation"], "groups": attributes["groups"]}

    def root(x: str) -> Maker:
        if pixels:
            return partial(_product, {"x": x, "weights": name})
        return partial(_convolution, {"x": x, "weights": name, **more})

    rows = int(np.prod((shape[0], *shape[2:])))
    if attributes.get("fine"):
        rest, step = _rest(b, node, base)
        scale = quantised.scale.astype(np.float64) * step
        below = Pending(operand=Sum(), rows=rows, width=count, sources=node.sources, root=root(rest))
        below, column = below.with_column(b.free(f"{node.outputs[0]}.rest.scale"), scale)
        summed = f"{node.outputs[0]}.rest"
        b.pending[summed], b.sizes[summed] = below.of(product(Sum(), column)), (rows, count)
        stream = b.streamed(summed)
        pending = pending.of(plus(pending.operand, stream.operand))
        pending = replace(pending, streams=(*pending.streams, *stream.streams))
    b.defined(node, replace(pending, rows=rows, root=root(x)), image_view(node.outputs[0], shape))


def _product(given: dict[str, Any], name: str, program: Any, streams: Any, columns: Any, outputs: Any) -> Product:
    return Product(name=name, program=program, streams=streams, columns=columns, outputs=outputs, **given)


def _convolution(given: dict[str, Any], name: str, program: Any, streams: Any, columns: Any, outputs: Any) -> Convolution:
    return Convolution(name=name, program=program, streams=streams, columns=columns, outputs=outputs, **given)


# Levels of the second term of an image that is taken in two, for each level of the first.
_FINER = 254


def _rest(b: Builder, node: Node, base: str) -> tuple[str, float]:
    """What the levels of an image leave of it, as int8 of levels ``_FINER`` times as fine; the tensor, and its level."""
    name = f"{base}.rest"
    levels, real = b.tensors[b.tensor(base, "moving")], b.tensor(base, "real")
    step = levels.scale / _FINER
    if name not in b.tensors:
        exact = fused(Stream(real), Constant(1 / levels.scale), Stream(levels.name), negate_c=True)
        value = fused(exact, Constant(_FINER), Constant(_FINER * levels.zero_point))
        program = VectorProgram(phases=(Loop(outputs=((name, value),)),), outputs=(Output(name, "int8"),))
        b.tensors[name] = Tensor(name, levels.rows, levels.columns, "int8", step)
        streams = tuple(Binding(stream, stream) for stream in program.streams)
        b.step(Rows(name=b.free_step(name), program=program, streams=streams, outputs=(Binding(name, name),)), node.sources)
    return name, step


def pool(b: Builder, node: Node) -> None:
    """The largest or the mean of windows."""
    geometry, out = _geometry(b, node), node.outputs[0]
    kind: Literal["max", "mean"] = "max" if node.op == "MaxPool" else "mean"
    form: Form = "moving" if b.multiplied_alone(node) else "real"
    base, shape = image(b, node.inputs[0], form), b.graph.shape(out)
    given = b.tensors[b.tensor(base, form)]
    rows = int(np.prod((shape[0], *shape[2:])))
    tensor = Tensor(b.free(out), rows, shape[1], given.dtype, given.scale, given.zero_point)
    count = bool(node.attributes["count_padding"])
    b.step(
        Pool(name=b.free_step(out), x=given.name, out=tensor.name, kind=kind, count_padding=count, **geometry),
        node.sources,
    )
    b.written(out, form, tensor)
    b.views[out] = image_view(out, shape)


def over_pixels(b: Builder, node: Node) -> None:
    """The mean or the largest of all pixels of each channel."""
    rank = len(b.graph.shape(node.inputs[0]))
    op = "ReduceMean" if node.op == "GlobalAveragePool" else "ReduceMax"
    rowwise_rules.over_rows(b, replace(node, op=op, attributes={"axes": tuple(range(2, rank)), "keepdims": True}))


def side_by_side(b: Builder, node: Node) -> bool:
    """Puts images' channels side by side, in runs of each image's channels; False where the node joins something else."""
    out, shape = node.outputs[0], b.graph.shape(node.outputs[0])
    if len(shape) < 3 or int(node.attributes["axis"]) % len(shape) != 1:
        return False
    if any(n not in b.views or b.view(n).order() != image_view("", b.graph.shape(n)).order() for n in node.inputs):
        return False
    bases = [image(b, name, "real") for name in node.inputs]
    pixels, channels, at = int(np.prod((shape[0], *shape[2:]))), shape[1], 0
    tensor = Tensor(b.free(out), pixels, channels)
    b.written(out, "real", tensor)
    for name, base in zip(node.inputs, bases, strict=True):
        own = b.graph.shape(name)[1]
        move = Move(
            name=b.free_step(f"{out}.{at}"),
            source=b.tensor(base, "real"),
            out=tensor.name,
            shape=(pixels, own),
            strides=(own, 1),
            out_strides=(channels, 1),
            out_start=at,
        )
        b.step(move, node.sources)
        at += own
    b.views[out] = image_view(out, shape)
    return True


def padding(b: Builder, node: Node) -> None:
    """A value with more elements at the ends of its last axis: zeros, its edge, or itself backwards."""
    name, out = node.inputs[0], node.outputs[0]
    shape, wide = b.graph.shape(name), b.graph.shape(out)
    given = b.graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else np.array(node.attributes.get("pads", ()))
    mode = node.attributes.get("mode", b"constant")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    rank = len(shape)
    if given is None or given.size != 2 * rank or any(given[i] for i in range(2 * rank) if i % rank != rank - 1):
        raise RefusedError("only the last axis is padded, by numbers that the file says")
    before, behind = int(given[rank - 1]), int(given[-1])
    if min(before, behind) < 0 or mode not in ("reflect", "edge"):
        raise RefusedError(f"its mode is {mode} with {before} and {behind} elements")
    rows, columns, width = int(np.prod(shape[:-1])), shape[-1], wide[-1]
    source = b.tensor(b.moved(name) if not _plain(b, name) else b.view(name).base, "real")
    tensor = Tensor(b.free(out), rows, width)
    # Where each part begins in a row of the source and of the result, its elements, and which way the source is read.
    back = -1 if mode == "reflect" else 0
    parts = [(0, before, columns, 1), (before if back else 0, 0, before, back)]
    parts += [(columns - 2 if back else columns - 1, before + columns, behind, back)]
    b.written(out, "real", tensor)
    for first, at, count, way in parts:
        if count:
            b.step(
                Move(
                    name=b.free_step(f"{out}.{at}"),
                    source=source,
                    out=tensor.name,
                    shape=(rows, count),
                    strides=(columns, way),
                    out_strides=(width, 1),
                    start=first,
                    out_start=at,
                ),
                node.sources,
            )
    b.views[out] = View.plain(out, wide)


def _plain(b: Builder, name: str) -> bool:
    """Whether a value is its base as the shape has it."""
    view = b.view(name)
    return (
        not view.offset
        and view.flat() == View.plain("", b.graph.shape(name)).flat()
        and view.matrix(*b.sizes[view.base]) == (0, b.sizes[view.base][1])
    )


RULES = {
    "Conv": convolution,
    **dict.fromkeys(("MaxPool", "AveragePool"), pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), over_pixels),
    "Pad": padding,
}
"""By the operator's canonical name."""
