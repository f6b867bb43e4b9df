"""Patterns of operators, written as Python expressions: ``Mul(x, Sigmoid(x))``.

A lower-case name stands for any value, the same one wherever it appears; a number for a constant of that number; ``(c := ...)``
names what it stands before. Operands of Add and Mul may stand in either order. ``{a|b}`` are alternatives.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Iterator, Mapping

from presilicon.compiler.importing.graph import FloatGraph

Found = Mapping[str, str]
"""Names of the pattern to values of the graph."""

_EITHER_ORDER = frozenset({"Add", "Mul"})


def patterns(text: str) -> tuple[ast.expr, ...]:
    """The patterns of a text, one for each choice of its alternatives."""
    parts = re.split(r"\{([^{}]*)\}", " ".join(text.split()))
    choices = [[part] if number % 2 == 0 else part.split("|") for number, part in enumerate(parts)]
    return tuple(ast.parse("".join(chosen), mode="eval").body for chosen in itertools.product(*choices))


def matches(graph: FloatGraph, value: str, pattern: ast.expr, found: Found | None = None) -> Iterator[Found]:
    """Every way in which a value is of a pattern."""
    found = found or {}
    match pattern:
        case ast.NamedExpr(target=target, value=inner):
            for more in matches(graph, value, target, found):
                yield from matches(graph, value, inner, more)
        case ast.Name(id=name):
            if found.get(name, value) == value:
                yield {**found, name: value}
        case ast.Constant(value=number) | ast.UnaryOp(operand=ast.Constant(value=number)):
            wanted = -float(number) if isinstance(pattern, ast.UnaryOp) else float(number)  # type: ignore[arg-type]
            held = graph.number(value)
            if held is not None and math.isclose(held, wanted, rel_tol=1e-3, abs_tol=1e-12):
                yield found
        case ast.Call(func=ast.Name(id=op), args=arguments):
            node = graph.makers.get(value)
            if node is None or node.op != op or node.domain or len(node.inputs) != len(arguments) or node.outputs[0] != value:
                return
            orders = itertools.permutations(node.inputs) if op in _EITHER_ORDER else iter([node.inputs])
            for inputs in orders:
                yield from _each(graph, inputs, arguments, found)


def _each(graph: FloatGraph, inputs: tuple[str, ...], arguments: list[ast.expr], found: Found) -> Iterator[Found]:
    if not arguments:
        yield found
        return
    for more in matches(graph, inputs[0], arguments[0], found):
        yield from _each(graph, inputs[1:], arguments[1:], more)
