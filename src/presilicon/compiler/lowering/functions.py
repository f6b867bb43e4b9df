"""Functions of one number as expressions: exact ones by arithmetic, the others by a table over the range they are met in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from presilicon.compiler.lowering.pending import Pending
from presilicon.compiler.rowwise import Table, gelu, sigmoid, silu
from presilicon.compiler.vectors import (
    Constant,
    Operand,
    Value,
    fused,
    larger,
    minus,
    plus,
    product,
    reciprocal,
    reciprocal_root,
    smaller,
)

Attributes = Mapping[str, object]


def _number(attributes: Attributes, name: str, default: float) -> float:
    return float(attributes.get(name, default))  # type: ignore[arg-type]


def _clip(x: Operand, low: float, high: float) -> Operand:
    above = larger(x, Constant(low)) if low > -math.inf else x
    return smaller(above, Constant(high)) if high < math.inf else above


def _root(x: Operand) -> Operand:
    """The square root as x / sqrt(x): 0 at 0, since the product with a number near the smallest fp32 stands in for it."""
    return product(x, reciprocal_root(larger(x, Constant(1e-30))))


EXACT: Mapping[str, Callable[[Operand, Attributes], Operand]] = {
    "Relu": lambda x, a: larger(x, Constant(0.0)),
    "Neg": lambda x, a: product(x, Constant(-1.0)),
    "Abs": lambda x, a: Value("max", x, Constant(-1.0), x),
    "Clip": lambda x, a: _clip(x, _number(a, "low", -math.inf), _number(a, "high", math.inf)),
    "LeakyRelu": lambda x, a: _leaky(x, _number(a, "alpha", 0.01)),
    "HardSigmoid": lambda x, a: _clip(
        fused(x, Constant(_number(a, "alpha", 0.2)), Constant(_number(a, "beta", 0.5))), 0.0, 1.0
    ),
    "HardSwish": lambda x, a: product(x, _clip(fused(x, Constant(1 / 6), Constant(0.5)), 0.0, 1.0)),
    "Sqrt": lambda x, a: _root(x),
    "Rsqrt": lambda x, a: reciprocal_root(x),
    "Reciprocal": lambda x, a: reciprocal(x),
    "Square": lambda x, a: product(x, x),
    "Floor": lambda x, a: _floor(x),
    "Round": lambda x, a: Value("round", x, Constant(1.0)),
}
"""Operators whose arithmetic the vector unit has."""


def _leaky(x: Operand, slope: float) -> Operand:
    """The larger of x and a part of it; by its sign where the slope is no part."""
    if 0 <= slope <= 1:
        return Value("max", x, Constant(slope), x)
    return Value("select", x, x, product(x, Constant(slope)))


def _floor(x: Operand) -> Operand:
    """The nearest whole number, less 1 where that is above x."""
    near = Value("round", x, Constant(1.0))
    return plus(near, Value("select", minus(x, near), Constant(0.0), Constant(-1.0)))


@dataclass(frozen=True, slots=True)
class Curve:
    """A function by table: ``low`` and ``high`` are where it no longer changes (or infinite), beyond which ends are held.

    ``times_x``: it is x times ``factor``(x), a function that no longer changes on both sides; so the table needs no range.
    """

    function: Callable[[float], float]
    low: float = -math.inf
    high: float = math.inf
    factor: Callable[[float], float] | None = None

    @property
    def bounded(self) -> bool:
        """Whether it no longer changes on both sides."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def _gelu_tanh(x: float) -> float:
    return 0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _normal(x: float) -> float:
    """The normal distribution's share below x."""
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


CURVES = ("Gelu", "QuickGelu", "Silu", "Mish", "Sigmoid", "Tanh", "Erf", "Exp", "Log", "Softplus", "Sin", "Cos", "Elu")
"""Operators that are curves."""


def curve(op: str, attributes: Attributes) -> Curve | None:
    """The curve of an operator; None where it is none."""
    if op == "Gelu":
        if attributes.get("approximate") == "tanh":
            return Curve(_gelu_tanh, -6.0, factor=lambda x: _gelu_tanh(x) / x if x else 0.5)
        return Curve(gelu, -6.0, factor=_normal)
    if op == "QuickGelu":
        alpha = _number(attributes, "alpha", 1.702)
        return Curve(lambda x: x * sigmoid(alpha * x), -16.0 / alpha, factor=lambda x: sigmoid(alpha * x))
    if op == "Elu":
        alpha = _number(attributes, "alpha", 1.0)
        return Curve(lambda x: x if x > 0 else alpha * math.expm1(x), -16.0)
    return _CURVES.get(op)


_CURVES: Mapping[str, Curve] = {
    "Silu": Curve(silu, -16.0, factor=sigmoid),
    "Mish": Curve(lambda x: x * math.tanh(_softplus(x)), -16.0, factor=lambda x: math.tanh(_softplus(x))),
    "Sigmoid": Curve(sigmoid, -16.0, 16.0),
    "Tanh": Curve(math.tanh, -8.0, 8.0),
    "Erf": Curve(math.erf, -4.0, 4.0),
    "Exp": Curve(math.exp, -87.0),
    "Log": Curve(lambda x: math.log(max(x, 1e-37)), 1e-37),
    "Softplus": Curve(_softplus, -16.0),
    "Sin": Curve(math.sin),
    "Cos": Curve(math.cos),
}


def by_table(x: Pending, found: Curve, low: float, high: float, whole: bool, *sources: str) -> Pending:
    """A curve of ``x``, which is met between ``low`` and ``high``; ``whole``: by one table even where a factor would do.

    A table is finer the narrower its range; what lies beyond takes the value at its end. A factor's range is where it
    changes, so that x beyond is exact.
    """
    if found.factor is not None and not whole:
        reach = -found.low
        share = x.function(Table.of(found.factor, max(-reach, min(low, -1.0)), min(reach, max(high, 1.0))), *sources)
        return share.of(product(share.operand, x.operand))
    first, last = max(low, found.low), min(high, found.high)
    least = 1e-6 * max(1.0, abs(first), abs(last))
    if last - first < least:
        first, last = first - least, last + least
    return x.function(Table.of(found.function, first, last), *sources)
