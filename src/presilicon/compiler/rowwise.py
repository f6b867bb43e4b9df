"""Kernels over the rows of a matrix: softmax, norms, rotary positions, functions by table; and what they compute, exactly.

Each operation is a kernel text for a core and a numpy twin. Sums are 32 strided partial sums and a tree, so that the twin
needs to know nothing of the lanes; reciprocals are a seed and two Newton steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presilicon import float32 as f32
from presilicon.template import PARTIALS, Core

Bits = NDArray[np.uint32]
# Registers that the texts below use for constants and results of folds.
ONE, MAXIMUM, RESULT, SPARE = 0, 1, 2, 3
FIRST_PARTIAL = 8


def _imm(value: float) -> str:
    return f"imm({np.float32(value)!s})"


def constant(register: int, value: float, operand: str = "stream1") -> str:
    """Text that puts a constant into a register: both choices of a select by some operand."""
    return f"r{register} = select({operand}, {_imm(value)}, {_imm(value)})"


# Numpy twins ----------------------------------------------------------------------------------------------------------


def row_sum(values: Bits) -> Bits:
    """Sum over the last axis, kept as an axis of 1: element i into partial i mod 32, in order; then a tree of halves."""
    n = values.shape[-1]
    partial = np.zeros((*values.shape[:-1], PARTIALS), np.uint32)
    for start in range(0, n, PARTIALS):
        width = min(PARTIALS, n - start)
        partial[..., :width] = f32.add(values[..., start : start + width], partial[..., :width])
    while partial.shape[-1] > 1:
        half = partial.shape[-1] // 2
        partial = f32.add(partial[..., :half], partial[..., half:])
    return partial


def row_maximum(values: Bits) -> Bits:
    """Largest element of the last axis, kept as an axis of 1; of no element -infinity."""
    while (n := values.shape[-1]) > 1:
        half = (n + 1) // 2
        # The middle one of an odd number meets itself.
        values = f32.maximum(values[..., :half], values[..., n - half :])
    return f32.canonical(values) if values.shape[-1] else f32.bits(np.full((*values.shape[:-1], 1), -np.inf))


def reciprocal(values: Bits) -> Bits:
    """1 / x: the seed and two Newton steps y (2 - x y)."""
    guess = f32.reciprocal_seed(values)
    for _ in range(2):
        step = f32.add(f32.negate(f32.multiply(values, guess)), f32.bits(2.0))
        guess = f32.multiply(guess, step)
    return guess


def reciprocal_root(values: Bits) -> Bits:
    """1 / sqrt(x): the seed and two Newton steps y (1.5 - 0.5 x y y)."""
    guess = f32.reciprocal_root_seed(values)
    half = f32.multiply(values, f32.bits(0.5))
    for _ in range(2):
        square = f32.multiply(guess, guess)
        step = f32.add(f32.negate(f32.multiply(half, square)), f32.bits(1.5))
        guess = f32.multiply(guess, step)
    return guess


# Pieces of kernel text ------------------------------------------------------------------------------------------------


def fold_partials(core: Core, first: int) -> list[str]:
    """The tree over the 32 partial sums in registers ``first`` and on and their lanes: every lane ends with the sum."""
    lines = []
    count = core.partial_registers
    while count > 1:
        count //= 2
        lines += [f"r{first + i} = r{first + i} * r{ONE} + r{first + count + i}" for i in range(count)]
    distance = core.lanes // 2
    while distance:
        lines.append(f"r{first} = r{ONE} * swap(r{first}, {distance}) + r{first}")
        distance //= 2
    return lines


def fold_maximum(core: Core, register: int) -> list[str]:
    """The largest over the lanes, in every lane."""
    lines = []
    distance = core.lanes // 2
    while distance:
        lines.append(f"r{register} = max(r{ONE} * swap(r{register}, {distance}), r{register})")
        distance //= 2
    return lines


def newton_reciprocal(x: int, y: int, t: int) -> list[str]:
    """1 / r[x] into r[y]; r[t] is spare."""
    return [f"r{y} = recip(r{x})"] + 2 * [f"r{t} = -(r{x} * r{y}) + imm(2.0)", f"r{y} = r{y} * r{t}"]


def newton_reciprocal_root(x: int, y: int, t: int) -> list[str]:
    """1 / sqrt(r[x]) into r[y]; r[x] is halved, r[t] is spare."""
    steps = [f"r{t} = r{y} * r{y}", f"r{t} = -(r{x} * r{t}) + imm(1.5)", f"r{y} = r{y} * r{t}"]
    return [f"r{y} = rsqrt(r{x})", f"r{x} = r{x} * imm(0.5)", *steps, *steps]


def _sum_loop(core: Core, terms: Callable[[int], list[str]]) -> list[str]:
    """A loop over the strips whose body is unrolled once for each partial register: ``terms(p)`` for partial p."""
    lines = [f"loop step {core.partial_registers} {{"]
    for p in range(core.partial_registers):
        lines += [f"  {line} @{p}" if p else f"  {line}" for line in terms(p)]
    return [*lines, "}"]


def _zero_partials(core: Core) -> list[str]:
    return [constant(FIRST_PARTIAL + p, 0.0) for p in range(core.partial_registers)]


# Tables ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """A function on [low, high] by value and slope at 256 points, straight lines between: index = round(x * scale + shift).

    ``values`` and ``slopes`` are fp32 bits, entry i for index i - 128; slopes are per step.
    """

    scale: float
    shift: float
    values: Bits
    slopes: Bits

    @classmethod
    def of(cls, function: Callable[[float], float], low: float, high: float) -> Table:
        """The table of a function; beyond the ends its last values are held."""
        scale = float(np.float32(255.0 / (high - low)))
        shift = float(np.float32(-128.0 - low * scale))
        points = [(index - 128 - shift) / scale for index in range(256)]
        values = [function(x) for x in points]
        slopes = [0.5 * (function(x + 1 / scale) - function(x - 1 / scale)) for x in points]
        slopes[0] = slopes[-1] = 0.0
        return cls(scale, shift, f32.bits(values), f32.bits(slopes))

    def image(self) -> bytes:
        """The bytes that a load of the tables takes: values, then slopes."""
        return self.values.tobytes() + self.slopes.tobytes()

    def __call__(self, x: Bits) -> Bits:
        """The function on bits, as the kernel text of ``lookup`` computes it."""
        at = f32.add(f32.multiply(x, f32.bits(self.scale)), f32.bits(self.shift))
        index = f32.to_int8(at).astype(np.int64) + 128
        fraction = f32.add(f32.multiply(at, f32.bits(1.0)), f32.negate(f32.round_even(at)))
        return f32.add(f32.multiply(self.slopes[index], fraction), self.values[index])

    def lookup(self, operand: str, result: int, first: int) -> list[str]:
        """Text: function of ``operand`` (a register or stream) into r[result]; spare registers from ``first`` on (4)."""
        at, whole, slope, value = (f"r{first + i}" for i in range(4))
        return [
            # Scale and shift are two immediates: the shift is kept in a register by `shift_constant`.
            f"{at} = {operand} * {_imm(self.scale)} + r{SPARE}",
            f"{whole} = round({at} * r{ONE})",
            f"{value} = table0({at} * r{ONE})",
            f"{slope} = table1({at} * r{ONE})",
            f"{whole} = {at} * r{ONE} - {whole}",
            f"r{result} = {slope} * {whole} + {value}",
        ]

    def constants(self, operand: str = "stream1") -> list[str]:
        """Text that prepares the registers ``lookup`` reads."""
        return [constant(ONE, 1.0, operand), constant(SPARE, self.shift, operand)]


def gelu(x: float) -> float:
    """0.5 x (1 + erf(x / sqrt 2)): Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016."""
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + math.exp(-x))


def silu(x: float) -> float:
    """X sigmoid(x)."""
    return x * sigmoid(x)


# Below -16 an exponential is under 1.2e-7 of the row's largest: nothing of an fp32 sum of a thousand such.
EXPONENTIAL = Table.of(math.exp, -16.0, 0.0)
FUNCTIONS = {
    "gelu": Table.of(gelu, -6.0, 6.0),
    "silu": Table.of(silu, -12.0, 12.0),
    "tanh": Table.of(math.tanh, -5.0, 5.0),
    "sigmoid": Table.of(sigmoid, -10.0, 10.0),
}


# Operations -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pass:
    """One vector instruction: its kernel text, and what its streams are by name ("x", "y", "row", a parameter's name)."""

    text: str
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowOperation:
    """An operation on the rows of an fp32 matrix: its passes on a core, parameters of n columns, table, numpy twin.

    ``twin(x, parameters)`` takes and gives fp32 bits (m, n). The stream "row" is one strip of scratch a row.
    """

    name: str
    passes: Callable[[Core, int], tuple[Pass, ...]]
    twin: Callable[[Bits, Sequence[Bits]], Bits]
    parameters: tuple[str, ...] = ()
    table: Table | None = None


def _softmax_passes(core: Core, n: int) -> tuple[Pass, ...]:
    first = FIRST_PARTIAL
    table = EXPONENTIAL
    spare = 4

    def terms(p: int) -> list[str]:
        # masked lanes add nothing to the sum; what they write is not written.
        return [
            f"r{RESULT} = stream1 * r{ONE} - r{MAXIMUM}",
            *table.lookup(f"r{RESULT}", RESULT, spare),
            f"stream0 = r{RESULT}",
            f"r{first + p} = r{RESULT} * r{ONE} + r{first + p} masked",
        ]

    text = [
        *table.constants(),
        constant(MAXIMUM, -math.inf),
        "loop {",
        f"  r{MAXIMUM} = max(stream1 * r{ONE}, r{MAXIMUM}) masked",
        "}",
        *fold_maximum(core, MAXIMUM),
        *_zero_partials(core),
        *_sum_loop(core, terms),
        *fold_partials(core, first),
        *newton_reciprocal(first, RESULT, SPARE),
        f"stream2 = r{RESULT}",
    ]
    scale = ["r0 = stream2", "loop {", "  stream0 = stream1 * r0", "}"]
    return Pass("\n".join(text), ("t", "x", "row")), Pass("\n".join(scale), ("y", "t", "row"))


def _softmax_twin(x: Bits, parameters: Sequence[Bits]) -> Bits:
    exponent = EXPONENTIAL(f32.add(f32.canonical(x), f32.negate(row_maximum(x))))
    return f32.multiply(exponent, reciprocal(row_sum(exponent)))


def _mean_text(core: Core, n: int, term: Callable[[int], list[str]]) -> list[str]:
    first = FIRST_PARTIAL
    return [
        *_zero_partials(core),
        *_sum_loop(core, term),
        *fold_partials(core, first),
        f"r{first} = r{first} * {_imm(1.0 / n)}",
    ]


EPSILON = 1e-5


def _layer_norm_passes(core: Core, n: int) -> tuple[Pass, ...]:
    first = FIRST_PARTIAL
    text = [
        constant(ONE, 1.0),
        *_mean_text(core, n, lambda p: [f"r{first + p} = stream1 * r{ONE} + r{first + p} masked"]),
        f"r{MAXIMUM} = r{first} * r{ONE}",
        *_mean_text(
            core,
            n,
            lambda p: [
                f"r{SPARE} = stream1 * r{ONE} - r{MAXIMUM}",
                f"r{first + p} = r{SPARE} * r{SPARE} + r{first + p} masked",
            ],
        ),
        f"r{first} = r{first} * r{ONE} + {_imm(EPSILON)}",
        *newton_reciprocal_root(first, RESULT, SPARE),
        "loop {",
        f"  r{SPARE} = stream1 * r{ONE} - r{MAXIMUM}",
        f"  r{SPARE} = r{SPARE} * r{RESULT}",
        "  r4 = stream3",
        f"  stream0 = r{SPARE} * stream2 + r4",
        "}",
    ]
    return (Pass("\n".join(text), ("y", "x", "gamma", "beta")),)


def _layer_norm_twin(x: Bits, parameters: Sequence[Bits]) -> Bits:
    gamma, beta = parameters
    share = f32.bits(1.0 / x.shape[-1])
    mean = f32.multiply(row_sum(f32.canonical(x)), share)
    centred = f32.add(f32.canonical(x), f32.negate(mean))
    variance = f32.multiply(row_sum(f32.multiply(centred, centred)), share)
    root = reciprocal_root(f32.add(variance, f32.bits(EPSILON)))
    return f32.add(f32.multiply(f32.multiply(centred, root), gamma), beta)


def _rms_norm_passes(core: Core, n: int) -> tuple[Pass, ...]:
    first = FIRST_PARTIAL
    text = [
        constant(ONE, 1.0),
        *_mean_text(
            core,
            n,
            lambda p: [f"r{SPARE} = stream1", f"r{first + p} = r{SPARE} * r{SPARE} + r{first + p} masked"],
        ),
        f"r{first} = r{first} * r{ONE} + {_imm(EPSILON)}",
        *newton_reciprocal_root(first, RESULT, SPARE),
        "loop {",
        f"  r{SPARE} = stream1 * r{RESULT}",
        f"  stream0 = r{SPARE} * stream2",
        "}",
    ]
    return (Pass("\n".join(text), ("y", "x", "gamma")),)


def _rms_norm_twin(x: Bits, parameters: Sequence[Bits]) -> Bits:
    share = f32.bits(1.0 / x.shape[-1])
    root = reciprocal_root(f32.add(f32.multiply(row_sum(f32.multiply(x, x)), share), f32.bits(EPSILON)))
    return f32.multiply(f32.multiply(x, root), parameters[0])


def _function(name: str, table: Table) -> RowOperation:
    def passes(core: Core, n: int) -> tuple[Pass, ...]:
        text = [
            *table.constants(),
            "loop {",
            *(f"  {line}" for line in table.lookup("stream1", RESULT, 4)),
            f"  stream0 = r{RESULT}",
            "}",
        ]
        return (Pass("\n".join(text), ("y", "x")),)

    return RowOperation(name, passes, lambda x, parameters: table(x), table=table)


def _rope_passes(core: Core, n: int) -> tuple[Pass, ...]:
    """Pairs of neighbours: x0 cos - x1 sin, x1 cos + x0 sin; ``sin`` carries the sign of the first of each pair."""
    text = [
        constant(ONE, 1.0),
        "loop {",
        "  r4 = stream1",
        f"  r5 = r{ONE} * swap(r4, 1)",
        "  r6 = stream3",
        "  r5 = r5 * r6",
        "  stream0 = r4 * stream2 + r5",
        "}",
    ]
    return (Pass("\n".join(text), ("y", "x", "cos", "sin")),)


def _rope_twin(x: Bits, parameters: Sequence[Bits]) -> Bits:
    cosine, sine = parameters
    pairs = x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
    return f32.add(f32.multiply(x, cosine), f32.multiply(pairs, sine))


OPERATIONS = {
    operation.name: operation
    for operation in (
        RowOperation("softmax", _softmax_passes, _softmax_twin, table=EXPONENTIAL),
        RowOperation("layer-norm", _layer_norm_passes, _layer_norm_twin, ("gamma", "beta")),
        RowOperation("rms-norm", _rms_norm_passes, _rms_norm_twin, ("gamma",)),
        RowOperation("rope", _rope_passes, _rope_twin, ("cos", "sin")),
        *(_function(name, table) for name, table in FUNCTIONS.items()),
    )
}
