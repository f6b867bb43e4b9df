"""What the chip is to do for a model, step by step, in exact integers and fp32 bits: between the lowering and the emission.

A `Lowered` model is a row of steps over named matrices. Each step's exact meaning is its ``twin`` in ``meaning``; how it is
done is the emission's. Tensors are matrices (rows, columns), row-major and dense: tokens x features, or pixels x channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.vectors import VectorProgram
from presilicon.errors import CheckError

DTYPES: Mapping[str, type[np.generic]] = {"int8": np.int8, "int32": np.int32, "float32": np.float32}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A matrix: int8 stands for ``scale`` * (q - ``zero_point``); where columns differ in scale, the steps know them."""

    name: str
    rows: int
    columns: int
    dtype: Literal["int8", "int32", "float32"] = "float32"
    scale: float = 1.0
    zero_point: int = 0

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or self.dtype not in DTYPES:
            raise CheckError(f"{self.rows} x {self.columns} {self.dtype} is no tensor", where=self.name)
        if not -128 <= self.zero_point <= 127 or (self.dtype != "int8" and self.zero_point):
            raise CheckError(f"zero_point is {self.zero_point}", where=self.name, hint="-128 to 127, of int8 alone")
        if not 0 < self.scale < float("inf"):
            raise CheckError(f"scale is {self.scale}", where=self.name, hint="a finite number above zero")

    @property
    def bytes(self) -> int:
        """Its size in DRAM."""
        return self.rows * self.columns * np.dtype(DTYPES[self.dtype]).itemsize


@dataclass(frozen=True, slots=True)
class Binding:
    """A vector program's stream, column, bias or output ``name`` is the tensor or constant ``tensor`` from ``column`` on.

    Rows begin at the value of the runtime argument ``row`` where one is named: rows of a cache, or of a table by position.
    """

    name: str
    tensor: str
    column: int = 0
    row: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vectored:
    """A step with a vector program: where its streams, columns (biases too) and outputs are."""

    name: str
    program: VectorProgram
    streams: tuple[Binding, ...] = ()
    columns: tuple[Binding, ...] = ()
    outputs: tuple[Binding, ...]

    def _check_bindings(self) -> None:
        p = self.program
        for what, bound, wanted in (
            ("streams", self.streams, p.streams),
            ("columns", self.columns, (*p.columns, *p.biases)),
            ("outputs", self.outputs, tuple(output.name for output in p.outputs)),
        ):
            names = [binding.name for binding in bound]
            if sorted(names) != sorted(set(wanted)):
                raise CheckError(f"{what} are {names}, the program has {list(wanted)}", where=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(_Vectored):
    """``x`` (m, k) int8, from ``x_column`` on, times constant ``weights`` (k, n), then the program on the int32 sums.

    ``weights`` are int8, or int4 values in int8 with constant ``multipliers`` (k / ``group``, n) uint8 of 1 to 15.
    The program's bias holds the zero point of x through the column sums of the weights.
    """

    x: str
    weights: str
    multipliers: str = ""
    group: int = 0
    x_column: int = 0

    def __post_init__(self) -> None:
        self._check_bindings()
        if bool(self.multipliers) != bool(self.group):
            raise CheckError("int4 weights have multipliers and a group", where=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution(_Vectored):
    """A convolution of an image ``x`` (height * width, channels) int8, then the program on the sums (pixels, out_channels).

    Constant ``weights`` (kernel_h * kernel_w * channels / groups, out_channels) int8, rows in the order (y, x, channel);
    ``padding`` top, left, bottom, right is filled with x's zero point. ``batch`` images lie one behind the other in rows.
    """

    x: str
    weights: str
    height: int
    width: int
    channels: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        self._check_bindings()
        if self.channels % self.groups or self.out_channels % self.groups:
            raise CheckError(f"{self.groups} groups do not divide {self.channels} and {self.out_channels}", where=self.name)

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return window_count(self.height, self.width, self.kernel, self.stride, self.padding, self.dilation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(_Vectored):
    """A vector program on whole rows of fp32 or int8 tensors: norms, softmax, functions, sums of tensors."""

    valid: str = ""
    """Runtime argument: columns that count; all where none is named."""

    def __post_init__(self) -> None:
        self._check_bindings()
        if self.program.accumulates:
            raise CheckError("the program reads accumulators and no product comes before it", where=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """softmax(q k^T * ``score_scale``) v for each head, then * ``value_scale``: ``out`` (tokens, heads * dim) int8.

    ``q`` (tokens, ...) int8, ``k`` and ``v`` (keys, ...) int8, all symmetric, from their columns on: head h of q at
    q_column + h * dim, of k and v at that of KV head h // (heads / kv_heads). Query i sees the first ``valid`` keys: all of k's
    rows; the value of the runtime argument ``length``; or, where ``causal``, position + i + 1 with the runtime argument
    ``position`` (0 where none is named). ``batch`` sequences lie one behind the other in rows of q, k, v and out.
    """

    name: str
    q: str
    k: str
    v: str
    out: str
    heads: int
    kv_heads: int
    dim: int
    score_scale: float
    value_scale: float
    q_column: int = 0
    k_column: int = 0
    v_column: int = 0
    causal: bool = False
    length: str = ""
    position: str = ""
    batch: int = 1

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise CheckError(f"{self.kv_heads} KV heads do not divide {self.heads} heads", where=self.name)
        if self.length and self.causal:
            raise CheckError("a causal attention takes position, not length", where=self.name)
        if self.position and not self.causal:
            raise CheckError("position is given and the attention is not causal", where=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Rows of ``table`` (a constant or tensor) by ``index`` (n, 1) int32: ``out`` (n, columns) of the table's dtype."""

    name: str
    table: str
    index: str
    out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Elements copied: out[out_start + i . out_strides] = source[start + i . strides] for i below ``shape``, in elements.

    At most four axes, the last with strides of 1 best. A runtime argument times a stride may be added to each side:
    ``source_row`` * ``source_pitch`` and ``out_row`` * ``out_pitch``, as for rows of a KV cache. Elements of ``out`` that no
    move writes stay what they were: several moves may make one tensor.
    """

    name: str
    source: str
    out: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    out_strides: tuple[int, ...]
    start: int = 0
    out_start: int = 0
    source_row: str = ""
    source_pitch: int = 0
    out_row: str = ""
    out_pitch: int = 0

    def __post_init__(self) -> None:
        if not len(self.shape) == len(self.strides) == len(self.out_strides) <= 4:
            raise CheckError(f"shape {self.shape}, strides {self.strides} and {self.out_strides}", where=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Largest element or mean over windows of an image ``x`` (height * width, channels), fp32 or int8: ``out`` alike.

    Windows are gone through in order (y, x); what lies in the padding does not count. The mean is the sum times
    1 / elements of the window (padding counted where ``count_padding``), fp32 alone.
    """

    name: str
    x: str
    out: str
    kind: Literal["max", "mean"]
    height: int
    width: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_padding: bool = False
    batch: int = 1

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the result."""
        return window_count(self.height, self.width, self.kernel, self.stride, self.padding, (1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce:
    """Sum or largest over rows, in their order, of fp32 ``x``: ``out`` (batch, columns), one row a sequence.

    The first ``length`` rows of each sequence (a runtime argument) or all. ``scale`` multiplies a sum: 1 / rows for a mean;
    where ``mean_of_length`` is set, the reciprocal (seed and two Newton steps) of ``length`` does.
    """

    name: str
    x: str
    out: str
    kind: Literal["sum", "max"] = "sum"
    scale: float = 1.0
    length: str = ""
    mean_of_length: bool = False
    batch: int = 1


Step = Product | Convolution | Rows | Attention | Gather | Move | Pool | Reduce


def window_count(
    height: int,
    width: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[int, int]:
    """Windows of a convolution or pooling along height and width."""
    sizes = height + padding[0] + padding[2], width + padding[1] + padding[3]
    counts = [(size - d * (k - 1) - 1) // s + 1 for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)]
    return counts[0], counts[1]


def reads(step: Step) -> tuple[str, ...]:
    """Tensors and constants that a step reads."""
    match step:
        case Product() | Convolution():
            given = [b.tensor for b in (*step.streams, *step.columns)]
            more = [step.multipliers] if isinstance(step, Product) and step.multipliers else []
            return (step.x, step.weights, *more, *given)
        case Rows():
            return tuple(b.tensor for b in (*step.streams, *step.columns))
        case Attention():
            return (step.q, step.k, step.v)
        case Gather():
            return (step.table, step.index)
        case Move():
            return (step.source,)
        case _:
            return (step.x,)


def writes(step: Step) -> tuple[str, ...]:
    """Tensors that a step writes."""
    return tuple(b.tensor for b in step.outputs) if isinstance(step, _Vectored) else (step.out,)


def arguments_of(step: Step) -> tuple[str, ...]:
    """Runtime arguments that a step reads."""
    match step:
        case Product() | Convolution() | Rows():
            found = [b.row for b in (*step.streams, *step.columns, *step.outputs)]
            found += [step.valid] if isinstance(step, Rows) else []
        case Attention():
            found = [step.length, step.position]
        case Move():
            found = [step.source_row, step.out_row]
        case Reduce():
            found = [step.length]
        case _:
            found = []
    return tuple(name for name in found if name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A model as steps: its tensors, constants by name, inputs, outputs and states (kept from run to run), in order.

    ``arguments`` are the runtime arguments with their largest value; argument i is scalar register i + 1. ``origin`` maps a
    step to the nodes of the file it came from. CheckError where a step reads what nothing has written, or names are unknown.
    """

    name: str
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, NDArray[np.generic]]
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[str, ...] = ()
    arguments: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ready = {*self.inputs, *self.states, *self.constants}
        names = [step.name for step in self.steps]
        if len(set(names)) != len(names):
            raise CheckError("two steps have one name", where=next(n for n in names if names.count(n) > 1))
        if both := set(self.tensors) & set(self.constants):
            raise CheckError(f"{sorted(both)[0]} is a tensor and a constant", where=self.name)
        for step in self.steps:
            for name in reads(step):
                if name not in ready:
                    raise CheckError(f"{name} is read and was never written", where=step.name)
            for name in writes(step):
                if name not in self.tensors:
                    raise CheckError(f"there is no tensor {name}", where=step.name)
                ready.add(name)
            for name in arguments_of(step):
                if name not in self.arguments:
                    raise CheckError(f"there is no runtime argument {name}", where=step.name)
        for name in (*self.inputs, *self.outputs, *self.states):
            if name not in self.tensors or name not in ready:
                raise CheckError(f"{name} is no tensor, or was never written", where=self.name)

    def register(self, argument: str) -> int:
        """The scalar register of a runtime argument."""
        return list(self.arguments).index(argument) + 1

    def last_use(self) -> Iterator[tuple[str, int]]:
        """Each tensor with the number of the last step that touches it."""
        found: dict[str, int] = {}
        for number, step in enumerate(self.steps):
            for name in (*reads(step), *writes(step)):
                if name in self.tensors:
                    found[name] = number
        return iter(found.items())
