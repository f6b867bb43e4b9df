"""Reading a config.json: the file itself, and its values with every impossible one refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from presilicon.errors import ModelError
from presilicon.frontend.step import LARGEST

MOST_BYTES = 16 * 2**20
"""Largest config.json that is read; real ones have kilobytes."""
MOST_LAYERS = 10_000


def read_json(path: Path) -> dict[str, Any]:
    """The object in the JSON file at ``path``.

    ModelError where it cannot be read, is too large, not UTF-8, not JSON, nested too deep, has one key twice, or holds no
    object. NaN and Infinity pass here, as published files have them, and are refused where a value is read.
    """
    where = str(path)
    try:
        if not path.is_file():
            raise ModelError("there is no such file", where=where)
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ModelError(f"{size} bytes are too many for a configuration", where=where, hint=f"at most {MOST_BYTES}")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"byte {error.start} is not UTF-8", where=where) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ModelError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=where) from None
    try:
        found = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ModelError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}", where=where) from None
    except RecursionError:
        raise ModelError("nested too deep", where=where) from None
    except ValueError as error:
        raise ModelError(f"not JSON: {str(error)[:200]}", where=where) from None
    if not isinstance(found, dict):
        raise ModelError(f"holds {_kind(found)}, not an object", where=where)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} stands there twice")
        found[key] = value
    return found


def _kind(value: object) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a truth value",
        int: "a whole number",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(value), "something else")


def shown(value: object) -> str:
    """``value`` for a message, cut where it is long."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = _kind(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Config:
    """The values of one configuration, read by key; ``where`` names its file in every error.

    A value of null is the same as a missing key. Every getter takes several keys (the names that families use for one
    thing) and reads the first one present.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def fail(self, key: str, problem: str, hint: str = "") -> NoReturn:
        """Raise the ModelError that names file, key and value."""
        raise ModelError(problem, where=f"{self.where}: {key}", hint=hint)

    def find(self, *keys: str) -> tuple[str, Any]:
        """The first of ``keys`` that is present and not null, and its value; the first key and None without any."""
        for key in keys:
            if self.values.get(key) is not None:
                return key, self.values[key]
        return keys[0], None

    def has(self, *keys: str) -> bool:
        """Whether one of ``keys`` has a value."""
        return self.find(*keys)[1] is not None

    def size(self, *keys: str, default: int | None = None, lowest: int = 1, highest: int = LARGEST) -> int:
        """A whole number from ``lowest`` to ``highest``; ``default`` where no key is present, an error without one."""
        key, value = self.find(*keys)
        if value is None:
            if default is None:
                self.fail(key, "this key is missing", hint=f"a whole number from {lowest}")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            limit = f" to {highest}" if highest != LARGEST or (isinstance(value, int) and value > LARGEST) else ""
            self.fail(key, f"{shown(value)} is not a size", hint=f"a whole number from {lowest}{limit}")
        return value

    def number(self, key: str, lowest: float = 1e-3, highest: float = 1e3) -> float:
        """A number between ``lowest`` and ``highest``."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
            problem = "this key is missing" if value is None else f"{shown(value)} is not usable"
            self.fail(key, problem, hint=f"a number from {lowest:g} to {highest:g}")
        return float(value)

    def flag(self, *keys: str, default: bool) -> bool:
        """A truth value."""
        key, value = self.find(*keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(key, f"{shown(value)} is not a truth value", hint="true or false")
        return value

    def text(self, *keys: str, default: str | None = None) -> str:
        """A text."""
        key, value = self.find(*keys)
        if value is None:
            if default is None:
                self.fail(key, "this key is missing", hint="a text")
            return default
        if not isinstance(value, str):
            self.fail(key, f"{shown(value)} is not a text")
        return value

    def items(self, key: str, length: int | None = None) -> list[Any] | None:
        """A list (of ``length`` items), None where the key is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            self.fail(key, f"{shown(value)} is not a list")
        if length is not None and len(value) != length:
            self.fail(key, f"has {len(value)} items", hint=f"one for each of the {length} layers")
        return value

    def part(self, key: str) -> Config | None:
        """The object at ``key`` as a configuration of its own, None where the key is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict | Mapping):
            self.fail(key, f"{shown(value)} is not an object")
        return Config(value, f"{self.where}: {key}")

    def indices(self, key: str, length: int) -> frozenset[int]:
        """Numbers of layers, from 0 below ``length``; empty where the key is missing."""
        found = self.items(key) or []
        for value in found:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < length:
                self.fail(key, f"{shown(value)} is not a layer", hint=f"whole numbers from 0 to {length - 1}")
        return frozenset(found)

    def switches(self, key: str, length: int) -> list[bool] | None:
        """One truth value (or 0 and 1) a layer, None where the key is missing."""
        found = self.items(key, length)
        for value in found or []:
            if value not in (0, 1) or not isinstance(value, bool | int):
                self.fail(key, f"{shown(value)} is neither 0 nor 1")
        return None if found is None else [bool(v) for v in found]

    def choices(self, key: str, length: int, allowed: Mapping[str, bool]) -> list[bool] | None:
        """One name of ``allowed`` a layer, as the value it stands for; None where the key is missing."""
        found = self.items(key, length)
        if found is None:
            return None
        for value in found:
            if not isinstance(value, str) or value not in allowed:
                self.fail(key, f"{shown(value)} is not known", hint="one of " + ", ".join(allowed))
        return [allowed[v] for v in found]
