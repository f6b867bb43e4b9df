"""Attention as exporters write it out, as one operator; rotary positions; means over the tokens that count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from presilicon.compiler.importing.graph import FloatGraph, Node
from presilicon.compiler.importing.masks import Hidden, Mask, classified, counts_rows
from presilicon.compiler.importing.match import Found
from presilicon.compiler.importing.rewrite import replaced, rewritten
from presilicon.compiler.importing.rules import Rule
from presilicon.errors import ModelError

_MOST_BETWEEN = 16


def joined(raw: FloatGraph, graph: FloatGraph, reasons: dict[str, str]) -> FloatGraph:
    """The canonical graph with its attention, rotary positions and means joined; ``raw`` is the file's, which can be run.

    An Attention reads q (1, heads, tokens, dim), k with its last two axes exchanged where ``transposed``, and v; ``scale``,
    ``causal``, ``length`` and ``position`` (names of inputs) as in ``masks.Mask``. Where its mask is none that the chip has,
    it is left as it is, with the reason at its last product in ``reasons``.
    """
    graph = rewritten(graph, (_ROTARY, _PARTLY_ROTARY))
    known: dict[tuple[Hidden, ...], Mask] = {}
    graph = graph.rewritten(_attention(raw, graph, node, known, reasons) for node in graph.nodes)
    graph = graph.rewritten(_cached(graph, node) for node in graph.nodes)
    return graph.rewritten(_mean(raw, graph, node) for node in graph.nodes)


def _halves(graph: FloatGraph, found: Found) -> dict[str, Any] | None:
    """The rotated operand is the upper half negated, then the lower half, of the last axis."""
    x, high, low = (graph.shape(found[n]) for n in ("x", "high", "low"))
    last, half = len(x) - 1, x[-1] // 2
    starts = [graph.makers[found[n]].attributes["starts"] for n in ("high", "low")]
    whole = high == low == (*x[:-1], half) and x[-1] % 2 == 0
    fits = whole and starts == [(*(0,) * last, half), (0,) * (last + 1)]
    return {"width": x[-1]} if fits and graph.makers[found["r"]].attributes.get("axis") in (-1, last) else None


def _first_part(graph: FloatGraph, found: Found) -> dict[str, Any] | None:
    """The rotated part is the first columns of the last axis, what follows stays as it is."""
    whole, part, rest = (graph.shape(found[n]) for n in ("x", "part", "rest"))
    last = len(whole) - 1
    starts = [graph.makers[found[n]].attributes["starts"] for n in ("part", "rest")]
    fits = part[:-1] == rest[:-1] == whole[:-1] and part[-1] + rest[-1] == whole[-1]
    return {"width": part[-1]} if fits and starts == [(0,) * (last + 1), (*(0,) * last, part[-1])] else None


# Su and others, "RoFormer", 2021, in the order of Hugging Face's checkpoints: pairs are half a head apart.
_ROTARY = Rule(
    "Rotary",
    "x cos sin",
    "Add(Mul(x, cos), Mul((r := Concat(Neg((high := Slice(x))), (low := Slice(x)))), sin))",
    _halves,
)
# As in GPT-NeoX and Phi: only the first columns of a head are rotated.
_PARTLY_ROTARY = Rule("Rotary", "x cos sin", "Concat(Rotary((part := Slice(x)), cos, sin), (rest := Slice(x)))", _first_part)


@dataclass(slots=True)
class _Scores:
    """What stands between the softmax and the product of q and k."""

    scale: float = 1.0
    hidden: list[Hidden] = field(default_factory=list)


def _moving(graph: FloatGraph, node: Node | None) -> bool:
    """Whether a node is a product of two values that are computed."""
    return node is not None and node.op == "MatMul" and not any(name in graph.constants for name in node.inputs)


def _leads_to_scores(graph: FloatGraph, value: str, left: int = _MOST_BETWEEN) -> bool:
    node = graph.makers.get(value)
    if _moving(graph, node):
        return True
    if node is None or not left or node.op not in ("Add", "Mul", "Where"):
        return False
    return any(_leads_to_scores(graph, name, left - 1) for name in node.inputs)


def _attention(
    raw: FloatGraph, graph: FloatGraph, node: Node, known: dict[tuple[Hidden, ...], Mask], reasons: dict[str, str]
) -> Node:
    """The Attention that ends in a product of probabilities and values, or the node."""
    if not _moving(graph, node):
        return node
    softmax = graph.makers.get(_unguarded(graph, node.inputs[0]))
    rank = len(graph.shape(node.outputs[0]))
    if softmax is None or softmax.op != "Softmax" or softmax.attributes.get("axis", -1) not in (-1, rank - 1):
        return node
    scores = _Scores()
    value = softmax.inputs[0]
    product = graph.makers.get(value)
    while product is not None and not _moving(graph, product):
        value = _peeled(graph, product, scores)
        if not value:
            return node
        product = graph.makers.get(value)
    if product is None:
        return node
    q, k = (_unscaled(graph, name, scores) for name in product.inputs)
    hidden = tuple(scores.hidden)
    if hidden not in known:
        try:
            known[hidden] = classified(raw, hidden, graph.shape(product.outputs[0]), softmax.name)
        except ModelError as problem:
            reasons[node.name] = problem.message
            return node
    mask = known[hidden]
    attributes: dict[str, Any] = {"scale": scores.scale, "transposed": True, "causal": mask.causal, "length": mask.length,
                                  "position": mask.position}  # fmt: skip
    return replaced(graph, node, "Attention", (q, k, node.inputs[1]), attributes)


def _unguarded(graph: FloatGraph, value: str) -> str:
    """A probability without the guard against rows that see no key: Where(IsNaN(p), 0, p)."""
    node = graph.makers.get(value)
    if node is not None and node.op == "Where":
        test = graph.makers.get(node.inputs[0])
        if test is not None and test.op == "IsNaN" and graph.number(node.inputs[1]) == 0.0 and test.inputs[0] == node.inputs[2]:
            return node.inputs[2]
    return value


def _peeled(graph: FloatGraph, node: Node, scores: _Scores) -> str:
    """The operand of a node between scores and softmax that leads to the scores, the other one noted; empty if it is none."""
    if node.op == "Mul":
        for one, other in (node.inputs, node.inputs[::-1]):
            number = graph.number(other)
            if number is not None:
                scores.scale *= number
                # A mask that was noted before lies behind the scale: what it hides stays hidden.
                return one
    elif node.op == "Add":
        for one, other in (node.inputs, node.inputs[::-1]):
            if _leads_to_scores(graph, one):
                scores.hidden.append(Hidden(other, added=True))
                return one
    elif node.op == "Where":
        for place in (1, 2):
            low = graph.number(node.inputs[3 - place])
            if low is not None and low <= -1e3 and _leads_to_scores(graph, node.inputs[place]):
                scores.hidden.append(Hidden(node.inputs[0], added=False, counts=place == 1))
                return node.inputs[place]
    return ""


def _unscaled(graph: FloatGraph, value: str, scores: _Scores) -> str:
    """Q or k without the number that it is multiplied by, which goes into the scale."""
    node = graph.makers.get(value)
    if node is not None and node.op == "Mul":
        number = graph.number(node.inputs[1])
        if number is not None:
            scores.scale *= number
            return node.inputs[0]
    return value


def _cached(graph: FloatGraph, node: Node) -> Node:
    """A cache (an input) with new rows behind it, which an attention with a position reads, or the node."""
    if node.op != "Concat" or len(node.inputs) != 2 or node.inputs[0] not in graph.inputs:
        return node
    if len(graph.shape(node.outputs[0])) != 4 or node.attributes.get("axis") not in (2, -2):
        return node
    position = _position(graph, node.outputs[0])
    return replaced(graph, node, "Cached", node.inputs, {"position": position}) if position else node


def _position(graph: FloatGraph, name: str) -> str:
    """The position input of the attention that reads a value through reshapes and the like."""
    for reader in graph.readers.get(name, ()):
        if reader.op == "Attention":
            return str(reader.attributes["position"])
        if reader.op in ("Reshape", "Transpose", "Expand") and (found := _position(graph, reader.outputs[0])):
            return found
    return ""


def _mean(raw: FloatGraph, graph: FloatGraph, node: Node) -> Node:
    """Sum of the rows that a mask counts over their number, or the node."""
    if node.op != "Div":
        return node
    total = graph.makers.get(node.inputs[0])
    weighted = graph.makers.get(total.inputs[0]) if total is not None and total.op == "ReduceSum" else None
    if total is None or weighted is None or weighted.op != "Mul" or total.attributes["axes"] != (1,):
        return node
    for x, weight in (weighted.inputs, weighted.inputs[::-1]):
        if len(graph.shape(x)) == 3 and graph.shape(x) == graph.shape(weighted.outputs[0]):
            length = counts_rows(raw, weight, node.inputs[1])
            if length and np.prod(graph.shape(node.outputs[0])) == graph.shape(x)[2]:
                return replaced(graph, node, "MeanOfLength", (x,), {"length": length})
    return node
