"""Values that flow through an ONNX graph: shape, number format and, where small and known before the run, contents."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import BF16, FP8, FP8_E5M2, FP16, FP32, INT4, INT8, INT32, MXFP4, NVFP4, NumberFormat
from presilicon.errors import ModelError
from presilicon.graph import Operator

KNOWN_ELEMENTS = 1 << 16
"""Largest value whose contents are followed (shapes, indices, masks); anything larger is only a shape."""

MOST_ELEMENTS = 1 << 53
"""Largest tensor: beyond it a count is no longer exact in a double, and no memory holds it."""

FLOATS = (FP32, FP16, BF16)
"""Formats that the caller's ``Formats`` replace; all others are a quantisation that the file fixes."""

# TensorProto.DataType -> (bits in the file, format in memory). Double runs as fp32; 16-bit, 32-bit and 64-bit integers
# (indices, positions, lengths) count 4 bytes; strings, complex numbers and 6-bit floats have no format here.
ELEMENT_TYPES: Mapping[int, tuple[int, NumberFormat]] = {
    1: (32, FP32), 2: (8, INT8), 3: (8, INT8), 4: (16, INT32), 5: (16, INT32), 6: (32, INT32), 7: (64, INT32), 9: (8, INT8),
    10: (16, FP16), 11: (64, FP32), 12: (32, INT32), 13: (64, INT32), 16: (16, BF16), 17: (8, FP8), 18: (8, FP8),
    19: (8, FP8_E5M2), 20: (8, FP8_E5M2), 21: (4, INT4), 22: (4, INT4), 23: (4, NVFP4), 24: (8, FP8), 25: (2, INT4),
    26: (2, INT4),
}  # fmt: skip
FLOAT_TYPES = frozenset({1, 10, 11, 16})
QUANTISED_TYPES = frozenset({2, 3, 17, 18, 19, 20, 21, 22, 23, 25, 26})


def words(text: str) -> tuple[str, ...]:
    """The words of a text: a readable way to write down a long table of names."""
    return tuple(text.split())


_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor of the graph.

    ``format`` is how its bytes lie in memory: a dequantised tensor keeps its integer format. ``stored``: it depends on
    the file alone, so it is there before the run. ``origin`` names the bytes of a stored value, ``buffer`` those of any
    value: a reshaped value has the buffer of what it was made from. ``data`` is known only up to ``KNOWN_ELEMENTS``.
    """

    shape: tuple[int, ...]
    dtype: int
    format: NumberFormat
    data: NDArray[Any] | None = None
    stored: bool = False
    origin: str = ""
    buffer: int = field(default_factory=lambda: next(_numbers))

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the graph computes with it as a real number (a dequantised one too)."""
        return self.dtype in FLOAT_TYPES

    @property
    def is_parameter(self) -> bool:
        """Whether it counts as parameters: stored, a real or quantised number, and more than one."""
        return self.stored and self.elements > 1 and (self.is_float or self.dtype in QUANTISED_TYPES)


def value(shape: tuple[int, ...], dtype: int, where: str, **more: Any) -> Value:
    """A Value whose type has a number format and whose size is one; ModelError otherwise."""
    if dtype not in ELEMENT_TYPES:
        raise ModelError(f"its tensor has element type {_type_name(dtype)}, which has no number format here", where=where)
    if any(size < 0 for size in shape) or math.prod(shape) > MOST_ELEMENTS or any(s > MOST_ELEMENTS for s in shape):
        sizes = " x ".join(f"{size:d}" for size in shape[:8])
        raise ModelError(f"its tensor of {sizes} elements is impossible", where=where, hint="sizes from 0 to 2^53 in all")
    return Value(shape, dtype, more.pop("format", ELEMENT_TYPES[dtype][1]), **more)


def _type_name(dtype: int) -> str:
    import onnx

    return str(onnx.TensorProto.DataType.Name(dtype)).lower() if dtype in onnx.TensorProto.DataType.values() else f"{dtype}"


def stored_bytes(dtype: int, elements: int) -> int:
    """Bytes of ``elements`` packed elements of a type in a file."""
    return -(-ELEMENT_TYPES[dtype][0] * elements // 8)


def contents(tensor: Any) -> NDArray[Any] | None:
    """The contents of a small in-file TensorProto; None where they cannot be read or need not be known."""
    from onnx import numpy_helper

    try:
        if math.prod(tensor.dims) > KNOWN_ELEMENTS:
            return None
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, OverflowError, AttributeError, KeyError, MemoryError):
        return None


def block_format(dtype: int, block: int, own: NumberFormat) -> NumberFormat:
    """The format of blocks of 4-bit floats by their length: 32 is mxfp4, 16 nvfp4."""
    return own if dtype != 23 else MXFP4 if block == 32 else NVFP4


@dataclass(slots=True, eq=False)
class Step:
    """One node that does work: what it reads and writes, how often it runs, and the operators that stand for it."""

    name: str
    op: str
    attributes: Mapping[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    times: int = 1
    operators: list[Operator] = field(default_factory=list)

    def input(self, position: int) -> Value | None:
        """The input at ``position``, None where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def need(self, position: int) -> Value:
        """The input at ``position``; ModelError where it is left out."""
        found = self.input(position)
        if found is None:
            raise ModelError(f"input {position} is missing", where=self.name)
        return found

    @property
    def out(self) -> Value:
        """The first output; ModelError where there is none."""
        if not self.outputs or self.outputs[0] is None:
            raise ModelError("its first output is not used or has no shape", where=self.name)
        return self.outputs[0]

    @property
    def moving(self) -> Iterator[Value]:
        """Inputs that are there only at run time."""
        return (v for v in self.inputs if v is not None and not v.stored)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        found = self.attributes.get(name, default)
        if not isinstance(found, int):
            raise ModelError(f"attribute {name} is {type(found).__name__}, not an integer", where=self.name)
        return found

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """A list of integers as an attribute."""
        found = self.attributes.get(name, default)
        if not isinstance(found, list | tuple) or not all(isinstance(i, int) for i in found):
            raise ModelError(f"attribute {name} is not a list of integers", where=self.name)
        return tuple(found)

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        found = self.attributes.get(name, default)
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
