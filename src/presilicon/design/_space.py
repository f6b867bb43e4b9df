"""The space of designs: axes with allowed values, read from TOML; a design is one index an axis.

A file narrows or replaces the axes of a space of the library:

schema = "presilicon/space/1"
base = "accelerator"
[values]
node = ["n5"]
cores = [8, 16, 32]
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import WorkloadError, nearest

SCHEMA = "presilicon/space/1"
Value = float | str
Indices = NDArray[np.int64]

# What an axis may hold at most: above it a unit is wrong, and the estimate was never asked.
_MOST = {
    "cores": 4096.0,
    "array": 512.0,
    "array_rows": 128.0,
    "array_cols": 128.0,
    "vector_lanes": 4096.0,
    "scratchpad_bytes": 1e9,
    "shared_sram_bytes": 4e9,
    "stacks": 64.0,
    "link_bytes_per_s": 1e13,
    "clock_hz": 1e10,
    "power_share": 1.0,
    "batch": 65536.0,
    "chips": 1024.0,
    "bus_bytes": 64.0,
    "weight_rows_per_cycle": 128.0,
    "accumulator_rows": 32768.0,
}
_TEXTS = ("node", "memory", "formats", "parallelism")
_WHOLE = ("cores", "array", "array_rows", "array_cols", "vector_lanes", "stacks", "batch", "chips", "bus_bytes",
          "weight_rows_per_cycle", "accumulator_rows")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axis:
    """One field of a design and the values it may take, numbers in ascending order; where its bounds are from."""

    name: str
    values: tuple[Value, ...]
    source: str = ""

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise WorkloadError(f"{self.name} has no values, or one twice", where="space", hint="a list of different values")
        if self.is_text:
            if not all(isinstance(v, str) for v in self.values):
                raise WorkloadError(f"{self.name} holds {self.values!r}", where="space", hint="a list of texts")
            return
        for value in self.values:
            if isinstance(value, str | bool) or not 0 < value <= _MOST[self.name]:
                raise WorkloadError(
                    f"{self.name} holds {value!r}", where="space", hint=f"numbers above zero, at most {_MOST[self.name]:g}"
                )
            if self.name in _WHOLE and value != int(value):
                raise WorkloadError(f"{self.name} holds {value:g}", where="space", hint="whole numbers")
        if list(self.values) != sorted(self.values):
            object.__setattr__(self, "values", tuple(sorted(self.values)))

    @property
    def is_text(self) -> bool:
        """Whether the values have no order."""
        return self.name in _TEXTS

    def array(self) -> NDArray[Any]:
        """The values as an array."""
        return np.array(self.values, dtype=np.str_ if self.is_text else np.float64)


@dataclass(frozen=True, slots=True)
class Space:
    """Axes by name, in the order of the design's indices; ``template``: chips of this project's template."""

    name: str
    axes: tuple[Axis, ...]
    template: bool = False

    @property
    def size(self) -> int:
        """Number of designs."""
        total = 1
        for axis in self.axes:
            total *= len(axis.values)
        return total

    @property
    def shape(self) -> tuple[int, ...]:
        """Values on each axis."""
        return tuple(len(axis.values) for axis in self.axes)

    def axis(self, name: str) -> Axis:
        """An axis by name; WorkloadError where there is none."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        known = [axis.name for axis in self.axes]
        raise WorkloadError(f"the space {self.name} has no axis {name!r}", hint=nearest(name, known) or ", ".join(known))

    def place(self, name: str) -> int:
        """Which index of a design belongs to an axis."""
        return [axis.name for axis in self.axes].index(self.axis(name).name)

    def only(self, name: str, values: Sequence[Value]) -> Space:
        """The space with fewer values on one axis."""
        axis = self.axis(name)
        return replace(self, axes=tuple(replace(a, values=tuple(values)) if a is axis else a for a in self.axes))

    def column(self, name: str, designs: Indices) -> NDArray[Any]:
        """Values of one axis for designs of shape (n, axes)."""
        place = self.place(name)
        values: NDArray[Any] = self.axes[place].array()[designs[:, place]]
        return values

    def values(self, design: Indices) -> dict[str, Value]:
        """The values of one design by axis."""
        return {axis.name: axis.values[int(at)] for axis, at in zip(self.axes, design, strict=True)}

    def numbers(self, designs: Indices) -> NDArray[np.int64]:
        """Each design as one number from 0 to ``size`` - 1."""
        numbers: NDArray[np.int64] = np.asarray(np.ravel_multi_index(tuple(designs.T), self.shape), dtype=np.int64)
        return numbers

    def designs(self, numbers: NDArray[np.int64]) -> Indices:
        """The designs that ``numbers`` stand for, shape (n, axes)."""
        return np.stack(np.unravel_index(numbers, self.shape), axis=1).astype(np.int64)

    def blocks(self, size: int) -> Iterator[Indices]:
        """Every design, ``size`` at a time."""
        for start in range(0, self.size, size):
            yield self.designs(np.arange(start, min(start + size, self.size), dtype=np.int64))

    def digest(self) -> str:
        """Sixteen hex digits that name what may be chosen."""
        text = json.dumps([self.template, [(a.name, a.values) for a in self.axes]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _library() -> Any:
    return resources.files("presilicon") / "data" / "spaces"


@cache
def names() -> tuple[str, ...]:
    """The spaces of the library."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in _library().iterdir() if p.name.endswith(".toml")))


def load(name_or_path: str) -> Space:
    """A space of the library by name, or that of a TOML file; WorkloadError says which field is wrong."""
    if name_or_path in names():
        return parse((_library() / f"{name_or_path}.toml").read_text(encoding="utf-8"), name_or_path)
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise WorkloadError(
            f"no space is called {name_or_path!r}", hint=nearest(name_or_path, list(names())) or "a file ends in .toml"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"cannot be read: {error}", where=name_or_path) from None
    return parse(text, name_or_path)


def parse(text: str, where: str) -> Space:
    """The space a TOML text describes."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WorkloadError(f"not a TOML file: {error}", where=where) from None
    if table.pop("schema", None) != SCHEMA:
        raise WorkloadError("is not a space", where=where, hint=f'the file begins with schema = "{SCHEMA}"')
    base = table.pop("base", None)
    values, sources = table.pop("values", {}), table.pop("sources", {})
    template = table.pop("template", False)
    if table:
        raise WorkloadError(f"unknown field {next(iter(table))!r}", where=where, hint="base, [values] and [sources]")
    if not isinstance(values, dict) or not all(isinstance(v, list) for v in values.values()):
        raise WorkloadError("values is not a table of lists", where=where, hint='[values] and under it node = ["n5"]')
    try:
        if base is not None:
            return _over(load(str(base)), values, where)
        unknown = [name for name in values if name not in (*_MOST, *_TEXTS)]
        if unknown:
            raise WorkloadError(f"unknown field {unknown[0]!r}", hint=nearest(unknown[0], [*_MOST, *_TEXTS]))
        axes = tuple(Axis(name, _numbers(given), sources.get(name, "")) for name, given in values.items())
    except WorkloadError as error:
        raise WorkloadError(error.message, where=where, hint=error.hint) from None
    return Space(where, axes, bool(template))


def _numbers(given: list[Any]) -> tuple[Value, ...]:
    return tuple(v if isinstance(v, str | bool) else float(v) if isinstance(v, int | float) else str(v) for v in given)


def _over(base: Space, values: Mapping[str, list[Any]], where: str) -> Space:
    for name, given in values.items():
        base = base.only(name, _numbers(given))
    return replace(base, name=Path(where).stem)
