"""Frozen values of the compiler as JSON and back: steps, their vector programs, tensors, ports.

A dataclass is an object that names its class under ``is``. Operands of vector programs are written once, in a table, and
referred to by number: a value that is used twice stays one value.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from presilicon.compiler import ports, steps, vectors
from presilicon.errors import IsaError

_OPERANDS = (vectors.Stream, vectors.Column, vectors.Sum, vectors.Scalar, vectors.Constant, vectors.Swapped, vectors.Value)
_PLAIN = (
    vectors.Loop,
    vectors.Scalars,
    vectors.Output,
    vectors.VectorProgram,
    steps.Tensor,
    steps.Binding,
    steps.Product,
    steps.Convolution,
    steps.Rows,
    steps.Attention,
    steps.Gather,
    steps.Move,
    steps.Pool,
    steps.Reduce,
    ports.Port,
)
_CLASSES: Mapping[str, type] = {cls.__name__: cls for cls in (*_OPERANDS, *_PLAIN)}


def to_json(value: Any) -> dict[str, Any]:
    """A tree of frozen values, tuples, mappings, numbers and texts as JSON."""
    table: list[Any] = []
    return {"value": _encode(value, table, {}), "operands": table}


def _encode(value: Any, table: list[Any], known: dict[Any, int]) -> Any:
    if isinstance(value, _OPERANDS):
        if value not in known:
            # Operands of an operand come before it in the table.
            entry = _object(value, table, known)
            known[value] = len(table)
            table.append(entry)
        return {"operand": known[value]}
    if isinstance(value, _PLAIN):
        return _object(value, table, known)
    if isinstance(value, bytes):
        return {"bytes": b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {"map": {str(key): _encode(one, table, known) for key, one in value.items()}}
    if isinstance(value, tuple | list):
        return [_encode(one, table, known) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} is not written")


def _object(value: Any, table: list[Any], known: dict[Any, int]) -> dict[str, Any]:
    given = {f.name: _encode(getattr(value, f.name), table, known) for f in fields(value) if f.init}
    return {"is": type(value).__name__, **given}


def from_json(written: Mapping[str, Any]) -> Any:
    """What ``to_json`` was given, lists as tuples; IsaError where it is none of its trees."""
    try:
        table: list[Any] = []
        for entry in written["operands"]:
            table.append(_decode(entry, table))
        return _decode(written["value"], table)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        raise IsaError("the file's steps cannot be read") from None


def _decode(value: Any, table: list[Any]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(one, table) for one in value)
    if not isinstance(value, dict):
        return value
    if "operand" in value:
        return table[value["operand"]]
    if "bytes" in value:
        return b64decode(value["bytes"])
    if "map" in value:
        return {key: _decode(one, table) for key, one in value["map"].items()}
    cls = _CLASSES[value["is"]]
    return cls(**{key: _decode(one, table) for key, one in value.items() if key != "is"})
