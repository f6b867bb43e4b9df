"""Inputs and outputs as the model's file has them, and how they are laid out as matrices of a lowered model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.steps import DTYPES, Lowered, Tensor
from presilicon.errors import ModelError, nearest

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of a model: ``dtype`` and ``shape`` of its file (0: free at run time), and what it is on the chip.

    ``tensor``: that tensor's elements, the file's axes in the order ``axes`` and then folded to rows and columns. ``length``: a
    mask whose leading ones are counted into the runtime ``argument``. ``position``: consecutive numbers, the first of which is
    the ``argument``. ``state``: a tensor that the chip keeps from run to run; it may be left out.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: Literal["tensor", "length", "position", "state"] = "tensor"
    tensor: str = ""
    argument: str = ""
    axes: tuple[int, ...] = ()
    rows: int = 0
    """Of indices: rows of the table that they look up; 0 for what is no index."""

    def __post_init__(self) -> None:
        if bool(self.argument) != (self.role in ("length", "position")) or bool(self.tensor) == bool(self.argument):
            raise ModelError(f"{self.role} has tensor {self.tensor!r} and argument {self.argument!r}", where=self.name)

    def described(self) -> str:
        """Its type and shape for a reader."""
        return f"{self.dtype} " + " x ".join(str(n) if n else "?" for n in self.shape)


def check_names(ports: Sequence[Port], given: Mapping[str, Array], where: str = "inputs") -> None:
    """ModelError where an input is missing (states may be) or is none of the model's."""
    names = [port.name for port in ports]
    for name in given:
        if name not in names:
            hint = nearest(name, names) or "the model takes " + ", ".join(names)
            raise ModelError(f"there is no input {name!r}", where=where, hint=hint)
    for port in ports:
        if port.name not in given and port.role != "state":
            raise ModelError(f"input {port.name} is missing", where=where, hint=f"an array of {port.described()}")


def taken(
    lowered: Lowered, ports: Sequence[Port], given: Mapping[str, Array], where: str = "inputs"
) -> tuple[dict[str, Array], dict[str, int]]:
    """Arrays of the file's inputs as tensors and runtime arguments.

    ModelError where a name, type or shape is wrong, a float is not finite, an integer is out of range, or a mask or position is
    none that the chip's program has.
    """
    check_names(ports, given, where)
    tensors: dict[str, Array] = {}
    arguments: dict[str, int] = {}
    for port in ports:
        if port.name not in given:
            continue
        value = _checked(port, np.asarray(given[port.name]), where)
        if port.role in ("tensor", "state"):
            tensors[port.tensor] = _matrix(lowered.tensors[port.tensor], port, value, where)
        else:
            read = _length if port.role == "length" else _position
            number = read(port, value, where)
            if arguments.setdefault(port.argument, number) != number:
                raise ModelError(
                    f"input {port.name} says {port.argument} {number}, another says {arguments[port.argument]}", where=where
                )
    for name, number in arguments.items():
        if number > lowered.arguments[name]:
            raise ModelError(
                f"{name} is {number}, the program was compiled for {lowered.arguments[name]} at most",
                where=where,
                hint="compile it for more",
            )
    return tensors, arguments


def _checked(port: Port, value: Array, where: str) -> Array:
    """The array, its type and shape those of the port."""
    kinds = {"f": "f", "i": "iub", "u": "iub", "b": "iub"}[np.dtype(port.dtype).kind]
    if value.dtype.kind not in kinds:
        raise ModelError(f"input {port.name} is of type {value.dtype}", where=where, hint=f"{port.dtype}")
    if value.ndim != len(port.shape) or any(want not in (0, got) for want, got in zip(port.shape, value.shape, strict=True)):
        shape = " x ".join(map(str, value.shape)) or "one number"
        raise ModelError(f"input {port.name} is {shape}", where=where, hint=port.described())
    if value.dtype.kind == "f" and not np.all(np.isfinite(value)):
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
        raise ModelError(f"input {port.name} holds {value[at]} at {list(at)}", where=where, hint="finite numbers")
    return value


def _matrix(tensor: Tensor, port: Port, value: Array, where: str) -> Array:
    laid = np.transpose(value, port.axes) if port.axes else value
    wide = laid.astype(np.float64) if laid.dtype.kind == "f" else laid.astype(np.int64)
    if tensor.dtype == "float32":
        if np.any(np.abs(wide) > np.finfo(np.float32).max):
            raise ModelError(f"input {port.name} holds a number beyond fp32", where=where)
        return wide.astype(np.float32).reshape(tensor.rows, tensor.columns)
    if laid.dtype.kind == "f":
        raise ModelError(f"input {port.name} is of type {value.dtype}", where=where, hint="whole numbers")
    limits = np.iinfo(np.dtype(DTYPES[tensor.dtype]))
    if wide.size and not limits.min <= int(wide.min()) <= int(wide.max()) <= limits.max:
        raise ModelError(f"input {port.name} reaches from {wide.min()} to {wide.max()}", where=where, hint=tensor.dtype)
    if port.rows and wide.size and not 0 <= int(wide.min()) <= int(wide.max()) < port.rows:
        at = wide.min() if wide.min() < 0 else wide.max()
        raise ModelError(
            f"input {port.name} holds {at}, its table has {port.rows} rows", where=where, hint=f"0 to {port.rows - 1}"
        )
    return wide.astype(DTYPES[tensor.dtype]).reshape(tensor.rows, tensor.columns)


def _length(port: Port, value: Array, where: str) -> int:
    """How many ones a mask begins with; every sequence of a batch the same."""
    rows = value.reshape(-1, value.shape[-1]) != 0
    count = int(rows[0].sum())
    if not count or not np.array_equal(rows, np.broadcast_to(np.arange(rows.shape[1]) < count, rows.shape)):
        raise ModelError(
            f"input {port.name} is no mask that the program can take",
            where=where,
            hint="ones, then zeros: padding on the right, as many tokens in every sequence",
        )
    return count


def _position(port: Port, value: Array, where: str) -> int:
    flat = value.reshape(-1, value.shape[-1]).astype(np.int64)
    first = int(flat[0, 0])
    if first < 0 or not np.array_equal(flat, np.broadcast_to(first + np.arange(flat.shape[1]), flat.shape)):
        raise ModelError(
            f"input {port.name} is not a row of consecutive positions", where=where, hint="0, 1, 2 ... or P, P+1 ..."
        )
    return first


def handed_out(lowered: Lowered, ports: Sequence[Port], values: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors as the arrays of the file's outputs; states are not among them."""
    found: dict[str, Array] = {}
    for port in ports:
        if port.role != "tensor":
            continue
        value = values[port.tensor]
        if port.axes:
            laid = value.reshape([port.shape[axis] for axis in port.axes])
            value = np.transpose(laid, np.argsort(port.axes))
        found[port.name] = np.ascontiguousarray(value.reshape(port.shape).astype(np.dtype(port.dtype)))
    return found
