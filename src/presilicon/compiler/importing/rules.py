"""What exporters write out, as the operators it stands for: a table of patterns, tried until none applies.

Patterns are of the normal form (``normal``): divisions by constants are products, roots under a fraction are Rsqrt.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from presilicon.compiler.importing.graph import FloatGraph
from presilicon.compiler.importing.match import Found, patterns

Attributes = Callable[[FloatGraph, Found], Mapping[str, Any] | None]
"""The new operator's attributes; None where the match is none after all."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern, the operator in its place, its inputs by their names in the pattern, and its attributes."""

    op: str
    inputs: str
    text: str
    attributes: Attributes = field(default=lambda graph, found: {})

    def patterns(self) -> tuple[ast.expr, ...]:
        """The pattern, once for each choice of its alternatives."""
        return patterns(self.text)


def _constants(*names: str) -> Attributes:
    """The rule holds where these are constants."""
    return lambda graph, found: {} if all(found[n] in graph.constants for n in names) else None


def _vector(graph: FloatGraph, found: Found, name: str) -> bool:
    """Whether a value is a constant of one number a column of the last axis."""
    array = graph.constants.get(found[name])
    return array is not None and array.size == graph.shape(found["x"])[-1] == array.shape[-1]


def _norm(graph: FloatGraph, found: Found) -> Mapping[str, Any] | None:
    """A norm over the last axis, its mean and square taken there, with the epsilon of the pattern."""
    epsilon = graph.number(found["eps"])
    last = len(graph.shape(found["x"])) - 1
    means = [node for n in ("m", "v") if n in found and (node := graph.makers.get(found[n])) is not None]
    if epsilon is None or any(node.attributes.get("axes") != (last,) for node in means):
        return None
    return {"epsilon": epsilon}


def _scaled_norm(*vectors: str) -> Attributes:
    """A norm whose result is scaled or shifted by vectors; it keeps its own attributes."""

    def attributes(graph: FloatGraph, found: Found) -> Mapping[str, Any] | None:
        node = graph.makers[found["n"]]
        return dict(node.attributes) if all(_vector(graph, found, v) for v in vectors) else None

    return attributes


def _bias(graph: FloatGraph, found: Found) -> Mapping[str, Any] | None:
    """A constant added to a Linear: one number a column."""
    node, bias = graph.makers[found["y"]], graph.constants.get(found["b"])
    columns = graph.shape(found["y"])[-1]
    fits = bias is not None and bias.size == columns == bias.shape[-1] and len(graph.readers[found["y"]]) == 1
    return dict(node.attributes) if fits else None


def _l2(graph: FloatGraph, found: Found) -> Mapping[str, Any] | None:
    """A row divided by its length."""
    last = len(graph.shape(found["x"])) - 1
    return {} if graph.makers[found["r"]].attributes["axes"] == (last,) else None


def _low(graph: FloatGraph, found: Found) -> Mapping[str, Any] | None:
    """Of a clip between 0 and 6."""
    node = graph.makers[found["c"]]
    return {} if (node.attributes["low"], node.attributes["high"]) == (0.0, 6.0) else None


def _sixth(graph: FloatGraph, found: Found) -> Mapping[str, Any] | None:
    """Of a hard sigmoid with a slope of 1/6, as hard-swish takes it."""
    node = graph.makers[found["h"]]
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return {} if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5 else None


def _alpha(graph: FloatGraph, found: Found) -> Mapping[str, Any] | None:
    alpha = graph.number(found["a"])
    return None if alpha is None else {"alpha": alpha}


def _like(approximate: str) -> Attributes:
    return lambda graph, found: {"approximate": approximate}


# 0.5 x (1 + f(x)) in its three orders.
_HALF = "{Mul(Mul(x, Add(f, 1)), 0.5)|Mul(Mul(x, 0.5), Add(f, 1))|Mul(x, Mul(Add(f, 1), 0.5))}"
_ROOT = "Rsqrt(Add((v := ReduceMean(Mul({0}, {0}))), eps))"
_TANH = "Tanh(Mul(Add(x, Mul(Pow(x, 3), 0.044715)), 0.7978846))"
_ERF = "Erf(Mul(x, 0.70710678))"

RULES: tuple[Rule, ...] = (
    Rule("LayerNormalization", "x", "Mul((c := Sub(x, (m := ReduceMean(x)))), " + _ROOT.format("c") + ")", _norm),
    # Keras: x i + (beta - mean i), i = gamma / sqrt(var + eps).
    Rule(
        "LayerNormalization",
        "x gamma beta",
        "Add(Mul(x, (i := Mul(" + _ROOT.format("Sub(x, (m := ReduceMean(x)))") + ", gamma))), Sub(beta, Mul(m, i)))",
        _norm,
    ),
    Rule("RMSNormalization", "x", "Mul(x, " + _ROOT.format("x") + ")", _norm),
    Rule("LayerNormalization", "x gamma", "Mul((n := LayerNormalization(x)), gamma)", _scaled_norm("gamma")),
    Rule("LayerNormalization", "x gamma beta", "Add((n := LayerNormalization(x, gamma)), beta)", _scaled_norm("gamma", "beta")),
    Rule("RMSNormalization", "x gamma", "Mul((n := RMSNormalization(x)), gamma)", _scaled_norm("gamma")),
    Rule("Gelu", "x", _HALF.replace("f", _ERF), _like("none")),
    Rule("Gelu", "x", _HALF.replace("f", _TANH), _like("tanh")),
    Rule("QuickGelu", "x", "Mul(x, Sigmoid(Mul(x, a)))", _alpha),
    Rule("Silu", "x", "Mul(x, Sigmoid(x))"),
    Rule("Mish", "x", "Mul(x, Tanh(Softplus(x)))"),
    Rule("HardSwish", "x", "Mul(Mul(x, (c := Clip(Add(x, 3)))), 0.16666667)", _low),
    Rule("HardSwish", "x", "Mul(x, Mul((c := Clip(Add(x, 3))), 0.16666667))", _low),
    Rule("HardSwish", "x", "Mul(x, (h := HardSigmoid(x)))", _sixth),
    Rule("Linear", "x w b", "Add((y := Linear(x, w)), b)", _bias),
    Rule("L2Normalization", "x", "Div(x, {Clip(r := ReduceL2(x))|Max((r := ReduceL2(x)), e)|(r := ReduceL2(x))})", _l2),
    Rule("L2Normalization", "x", "Div(x, Expand(Clip(r := ReduceL2(x))))", _l2),
    Rule("L2Normalization", "x", "Mul(x, Rsqrt(r := ReduceSum(Mul(x, x))))", _l2),
)  # fmt: skip
