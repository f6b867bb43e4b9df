"""Convolutions and poolings in one form: two axes, padding in numbers, batch norm and constant sums folded into a bias.

Conv has inputs x, w, b; ``kernel``, ``stride``, ``dilation`` of two axes, ``padding`` (top, left, bottom, right), ``groups``;
the axis of a 1-D convolution is its width, the height is 1. MaxPool and AveragePool have ``kernel``, ``stride``, ``padding``
and ``count_padding``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from presilicon.compiler.importing.graph import Array, FloatGraph, Node, Type
from presilicon.errors import ModelError, nearest

_POOLS = ("MaxPool", "AveragePool")
_REDUCTIONS = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")


def folded(graph: FloatGraph) -> FloatGraph:
    """The graph with its convolutions and poolings in that form; what has another rank or moving weights stays as it is."""
    nodes, constants = [], dict[str, Array]()
    for node in graph.nodes:
        made = None
        if node.op == "Conv":
            made = _convolution(graph, node, constants)
        elif node.op in _POOLS:
            made = _pool(graph, node)
        elif node.op in _REDUCTIONS and np.prod(graph.shape(node.inputs[0])) == np.prod(graph.shape(node.outputs[0])):
            # Over axes of one element: nothing is reduced.
            made = Node(node.name, "Reshape", node.inputs[:1], node.outputs, {}, "", node.sources)
        nodes.append(made or node)
    graph = graph.rewritten(nodes, constants)
    while (found := _first_fold(graph)) is not None:
        made, constants = found
        graph = graph.rewritten([made if node.name == made.name else node for node in graph.nodes], constants)
    return _norms_apart(graph)


def _norms_apart(graph: FloatGraph) -> FloatGraph:
    """Batch norms that are no convolution's as a product and a sum with one number a channel."""
    nodes: list[Node] = []
    constants, types = dict[str, Array](), dict[str, Type]()
    for node in graph.nodes:
        affine = _affine(graph, node) if node.op == "BatchNormalization" else None
        if affine is None:
            nodes.append(node)
            continue
        x, out, shape = node.inputs[0], node.outputs[0], graph.shape(node.inputs[0])
        names = f"{out}.scale", f"{out}.shift", f"{out}.scaled"
        for name, values in zip(names, affine, strict=False):
            constants[name] = values.astype(np.float32).reshape(-1, *[1] * (len(shape) - 2))
        types[names[2]] = graph.types[x]
        nodes.append(Node(f"{node.name}/Mul", "Mul", (x, names[0]), (names[2],), {}, "", node.sources))
        nodes.append(Node(node.name, "Add", (names[2], names[1]), (out,), {}, "", node.sources))
    return graph.rewritten(nodes, constants, types)


def _first_fold(graph: FloatGraph) -> tuple[Node, dict[str, Array]] | None:
    """A convolution in place of the first node that only scales or shifts one's channels, and its constants."""
    for node in graph.nodes:
        fold = _FOLDS.get(node.op)
        constants: dict[str, Array] = {}
        if fold is not None and (made := fold(graph, node, constants)) is not None:
            return made, constants
    return None


def _padding(graph: FloatGraph, node: Node, kernel: list[int], stride: list[int], dilation: list[int]) -> list[int] | None:
    """Pixels of padding: before each axis, then behind each."""
    rank, auto = len(kernel), node.attributes.get("auto_pad", b"NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto in ("NOTSET", "VALID", ""):
        return [int(p) for p in node.attributes.get("pads", [0] * 2 * rank)] if auto != "VALID" else [0] * 2 * rank
    before, behind = [], []
    sizes = graph.shape(node.inputs[0])[2:]
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
        small = total // 2
        before.append(small if auto == "SAME_UPPER" else total - small)
        behind.append(total - small if auto == "SAME_UPPER" else small)
    return before + behind


def _attributes(graph: FloatGraph, node: Node, kernel: list[int]) -> dict[str, Any] | None:
    """Kernel, stride, padding and dilation on two axes; None for another rank."""
    rank = len(kernel)
    if rank not in (1, 2) or len(graph.shape(node.inputs[0])) != rank + 2:
        return None
    stride = [int(s) for s in node.attributes.get("strides", [1] * rank)]
    dilation = [int(d) for d in node.attributes.get("dilations", [1] * rank)]
    padding = _padding(graph, node, kernel, stride, dilation)
    if padding is None:
        return None
    one = [] if rank == 2 else [1]
    before, behind = padding[:rank], padding[rank:]
    zero = [] if rank == 2 else [0]
    return {
        "kernel": (*one, *kernel),
        "stride": (*one, *stride),
        "padding": (*zero, *before, *zero, *behind),
        "dilation": (*one, *dilation),
    }


def _convolution(graph: FloatGraph, node: Node, constants: dict[str, Array]) -> Node | None:
    weights = graph.constants.get(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else ""
    if weights is None or (given and given not in graph.constants):
        return None
    attributes = _attributes(graph, node, list(weights.shape[2:]))
    if attributes is None:
        return None
    if not given:
        given = f"{node.outputs[0]}.bias"
        constants[given] = np.zeros(weights.shape[0], np.float32)
    attributes["groups"] = int(node.attributes.get("group", 1))
    return Node(node.name, "Conv", (node.inputs[0], node.inputs[1], given), node.outputs, attributes, "", node.sources)


def _pool(graph: FloatGraph, node: Node) -> Node | None:
    if len(node.outputs) > 1 or node.attributes.get("storage_order", 0):
        return None
    attributes = _attributes(graph, node, [int(k) for k in node.attributes["kernel_shape"]])
    if attributes is None or any(d != 1 for d in attributes.pop("dilation")):
        return None
    top, left, bottom, right = attributes["padding"]
    (kh, kw), (sh, sw) = attributes["kernel"], attributes["stride"]
    shape, out = graph.shape(node.inputs[0]), graph.shape(node.outputs[0])
    (height, width), (rows, columns) = ((1, *s[2:])[-2:] for s in (shape, out))
    # Windows that begin inside but end behind (ceil_mode): more padding, which does not count.
    more = max(bottom, (rows - 1) * sh + kh - height - top), max(right, (columns - 1) * sw + kw - width - left)
    count = bool(node.attributes.get("count_include_pad", 0))
    if count and more != (bottom, right):
        return None
    if rows == columns == 1 and (kh, kw) == (height, width) and not any((top, left, *more)):
        # One window, which is the image.
        return Node(node.name, f"Global{node.op}", node.inputs, node.outputs, {}, "", node.sources)
    attributes |= {"padding": (top, left, *more), "count_padding": count}
    return Node(node.name, node.op, node.inputs, node.outputs, attributes, "", node.sources)


def fine(graph: FloatGraph, names: Collection[str]) -> FloatGraph:
    """The graph with the attribute ``fine`` on the convolutions of these names, in the file or behind its last slash.

    Their images are taken in two terms of int8. ModelError where a name is none of a convolution.
    """
    left, nodes = set(names), []
    for node in graph.nodes:
        own = {name for source in (node.name, *node.sources) for name in (source, source.rsplit("/", 1)[-1])}
        found = own & set(names) if node.op == "Conv" and "groups" in node.attributes else set()
        left -= found
        nodes.append(replace(node, attributes={**node.attributes, "fine": True}) if found else node)
    if left:
        known = [(*node.sources, node.name)[0].rsplit("/", 1)[-1] for node in graph.nodes if node.op == "Conv"]
        hint = nearest(min(left), known) or ("one of " + ", ".join(known[:8]) if known else "it has none")
        raise ModelError(f"no convolution is called {min(left)}", where=graph.name, hint=hint)
    return graph.rewritten(nodes)


# Folding ----------------------------------------------------------------------------------------------------------------


def _sole_convolution(graph: FloatGraph, name: str) -> Node | None:
    """The canonical convolution that makes a value which one node alone reads; None where there is none."""
    maker = graph.makers.get(name)
    if maker is None or maker.op != "Conv" or "groups" not in maker.attributes or len(graph.readers[name]) > 1:
        return None
    return None if name in {value for _, value in graph.outputs} or maker.inputs[1] in graph.steps else maker


def _scaled(graph: FloatGraph, node: Node, convolution: Node, scale: Array, shift: Array, constants: dict[str, Array]) -> Node:
    """The convolution with each result times a scale and plus a shift, in place of ``node``."""
    weights, bias = (np.asarray(graph.constants[name], np.float64) for name in convolution.inputs[1:])
    names = f"{node.outputs[0]}.weights", f"{node.outputs[0]}.bias"
    constants[names[0]] = (weights * scale.reshape(-1, *[1] * (weights.ndim - 1))).astype(np.float32)
    constants[names[1]] = (bias * scale + shift).astype(np.float32)
    sources = tuple(dict.fromkeys((*convolution.sources, *node.sources)))
    return Node(node.name, "Conv", (convolution.inputs[0], *names), node.outputs, convolution.attributes, "", sources)


def _affine(graph: FloatGraph, node: Node) -> tuple[Array, Array] | None:
    """Scale and shift of each channel of a batch norm; None where they are computed."""
    parameters = [graph.constants.get(name) for name in node.inputs[1:5]]
    if any(p is None for p in parameters):
        return None
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    scale = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    return scale, beta - mean * scale


def _batch_norm(graph: FloatGraph, node: Node, constants: dict[str, Array]) -> Node | None:
    convolution, affine = _sole_convolution(graph, node.inputs[0]), _affine(graph, node)
    return None if convolution is None or affine is None else _scaled(graph, node, convolution, *affine, constants)


def _of_channels(graph: FloatGraph, node: Node) -> tuple[Node, Array] | None:
    """A canonical convolution and a constant with one number a channel, which a node puts together."""
    for name, other in (node.inputs, node.inputs[::-1]):
        array, convolution = graph.constants.get(other), _sole_convolution(graph, name)
        shape = graph.shape(name)
        if array is None or convolution is None:
            continue
        padded = (1,) * (len(shape) - array.ndim) + array.shape
        if len(padded) == len(shape) and all(n in (1, shape[1] if axis == 1 else 1) for axis, n in enumerate(padded)):
            return convolution, np.broadcast_to(np.asarray(array, np.float64).reshape(-1), shape[1])
    return None


def _sum(graph: FloatGraph, node: Node, constants: dict[str, Array]) -> Node | None:
    found = _of_channels(graph, node)
    return _scaled(graph, node, found[0], np.ones(len(found[1])), found[1], constants) if found else None


def _multiple(graph: FloatGraph, node: Node, constants: dict[str, Array]) -> Node | None:
    found = _of_channels(graph, node)
    return _scaled(graph, node, found[0], found[1], np.zeros(len(found[1])), constants) if found else None


_FOLDS = {"BatchNormalization": _batch_norm, "Add": _sum, "Mul": _multiple}
