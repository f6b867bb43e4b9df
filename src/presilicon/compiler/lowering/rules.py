"""Which rule lowers each operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from presilicon.compiler.importing.graph import Node
from presilicon.compiler.lowering import arg_max, images, products, rowwise_rules
from presilicon.compiler.lowering.builder import Builder, RefusedError
from presilicon.compiler.lowering.functions import CURVES, EXACT
from presilicon.compiler.lowering.views import View, indexed
from presilicon.compiler.steps import Tensor

Rule = Callable[[Builder, Node], None]


def arranged(b: Builder, node: Node) -> None:
    """A value indexed anew: nothing moves, unless no view can tell it, and then it is copied first."""
    name, out = node.inputs[0], node.outputs[0]
    found = indexed(b.graph, node, b.view(name))
    if found is None:
        found = indexed(b.graph, node, View.plain(b.moved(name), b.graph.shape(name)))
    if found is None:
        raise RefusedError("its elements are no even steps through its input")
    b.views[out] = found


def concatenated(b: Builder, node: Node) -> None:
    """Values copied side by side into one."""
    if images.side_by_side(b, node):
        return
    out, shape = node.outputs[0], b.graph.shape(node.outputs[0])
    axis = int(node.attributes["axis"]) % len(shape)
    rows, columns = int(np.prod(shape[:-1])), int(shape[-1])
    tensor = Tensor(b.free(out), rows, columns)
    b.written(out, "real", tensor)
    b.views[out] = View.plain(out, shape)
    inner = int(np.prod(shape[axis + 1 :], initial=1))
    at = 0
    for name in node.inputs:
        b.part_copied(name, tensor, node, shape[axis] * inner, b.graph.shape(name)[axis] * inner, at)
        at += b.graph.shape(name)[axis] * inner


def cast(b: Builder, node: Node) -> None:
    """Among numbers that the chip holds alike."""
    if b.graph.is_float(node.inputs[0]) != b.graph.is_float(node.outputs[0]):
        raise RefusedError("the vector unit computes with real numbers")
    b.views[node.outputs[0]] = b.view(node.inputs[0])


RULES: Mapping[str, Rule] = {
    "Linear": products.linear,
    "Gather": products.gather,
    "Attention": products.attention,
    "Cached": products.cached,
    **dict.fromkeys(("Reshape", "Transpose", "Slice", "Expand"), arranged),
    "Concat": concatenated,
    "Cast": cast,
    **dict.fromkeys((*EXACT, *CURVES), rowwise_rules.unary),
    **dict.fromkeys(("Add", "Mul", "Sub", "Div", "Max", "Min"), rowwise_rules.binary),
    "LayerNormalization": rowwise_rules.layer_norm,
    "RMSNormalization": rowwise_rules.rms_norm,
    "L2Normalization": rowwise_rules.l2_norm,
    "Softmax": rowwise_rules.softmax,
    "Rotary": rowwise_rules.rotary,
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "MeanOfLength"), rowwise_rules.over_rows),
    "ArgMax": arg_max.arg_max,
    **images.RULES,
}  # fmt: skip
"""By the operator's canonical name."""
