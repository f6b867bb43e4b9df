"""Patterns applied to a graph until none fits."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from presilicon.compiler.importing.graph import FloatGraph, Node
from presilicon.compiler.importing.match import Found, matches
from presilicon.compiler.importing.rules import RULES, Rule


def rewritten(graph: FloatGraph, rules: Sequence[Rule] = RULES) -> FloatGraph:
    """The graph with each rule's operator wherever its pattern stands; ``sources`` tell which nodes of the file those were."""
    ready = [(rule, rule.patterns()) for rule in rules]
    changed = True
    while changed:
        changed = False
        for rule, patterns in ready:
            nodes = [_applied(graph, node, rule, patterns) for node in graph.nodes]
            if any(new is not old for new, old in zip(nodes, graph.nodes, strict=True)):
                graph, changed = graph.rewritten(nodes), True
    return graph


def _applied(graph: FloatGraph, node: Node, rule: Rule, patterns: Sequence[ast.expr]) -> Node:
    """The rule's operator in place of a node, or the node."""
    for pattern in patterns:
        if not isinstance(pattern, ast.Call) or not isinstance(pattern.func, ast.Name) or pattern.func.id != node.op:
            continue
        for found in matches(graph, node.outputs[0], pattern):
            attributes = rule.attributes(graph, found)
            if attributes is not None:
                inputs = tuple(found[name] for name in rule.inputs.split())
                return replaced(graph, node, rule.op, inputs, attributes)
    return node


def replaced(graph: FloatGraph, node: Node, op: str, inputs: tuple[str, ...], attributes: Found | dict[str, object]) -> Node:
    """``op`` in place of all that makes ``node``'s result from ``inputs``."""
    return Node(node.name, op, inputs, node.outputs[:1], attributes, "", sources_between(graph, inputs, node.outputs[0]))


def sources_between(graph: FloatGraph, inputs: Sequence[str], output: str) -> tuple[str, ...]:
    """The file's nodes between values, in their order."""
    seen: set[str] = set(inputs)
    todo, found = [output], []
    while todo:
        name = todo.pop()
        maker = graph.makers.get(name)
        if name in seen or maker is None:
            continue
        seen.add(name)
        found.append(maker)
        todo += maker.inputs
    order = {node.name: position for position, node in enumerate(graph.nodes)}
    found.sort(key=lambda node: order[node.name])
    return tuple(dict.fromkeys(source for node in found for source in node.sources))
