"""The single description of a chip, and systems of chips; no models.

A published chip fills what is published: a blank (None) stays blank, and ``Chip.need`` says which one is missing. Every
figure of a file is covered by one of its sources. Laws are stated in the constructors.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from presilicon.dtypes import FORMATS
from presilicon.errors import ChipError, nearest

SCHEMA = "presilicon/chip/1"


# Bounds of what can be meant, by the end of a field's name: outside them the unit is wrong (GHz for Hz, GB for bytes).
_PLAUSIBLE = {
    "clock_hz": (1e6, 1e11, "hertz: 1.83e9 for 1.83 GHz"),
    "memory.bytes": (1e6, 1e16, "bytes: 80e9 for 80 GB"),
    "bytes_per_s": (1e6, 1e16, "bytes a second: 3.35e12 for 3.35 TB/s"),
    "scratchpad_bytes": (64.0, 1e12, "bytes: 262144 for 256 KiB"),
    "shared_sram_bytes": (1e3, 1e12, "bytes: 50e6 for 50 MB"),
    "vector_ops_per_s": (1e6, 1e19, "operations a second: 66.9e12 for 66.9 TFLOP/s"),
    "die_area_mm2": (0.01, 1e5, "square millimetres"),
    "tdp_w": (1e-3, 1e5, "watts"),
    "idle_w": (1e-4, 1e5, "watts"),
    "transistors": (1e3, 1e14, "a count: 80e9 for 80 billion"),
    "cores": (1, 1e7, "a count"),
    "year": (1990, 2100, "a year"),
}
_PLAUSIBLE_RATE = (1e6, 1e20, "operations a second: 989e12 for 989 TFLOP/s")


def _plausible(path: str, value: float, where: str) -> None:
    """ChipError where a figure cannot be meant in the unit its field has."""
    ends = [bounds for end, bounds in _PLAUSIBLE.items() if path == end or path.endswith("." + end)]
    low, high, unit = ends[0] if ends else _PLAUSIBLE_RATE if path.startswith("peak_ops_per_s.") else (0.0, 1e30, "")
    if not low <= value <= high:
        raise ChipError(f"{path} is {value:g}, outside {low:g} to {high:g}", where=where, hint=f"in {unit}")


def _positive(owner: object, where: str) -> None:
    """Every number of ``owner`` is finite and above zero, counts are whole."""
    for f in fields(owner):  # type: ignore[arg-type]
        value = getattr(owner, f.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not 0 < value < 1e30:
            raise ChipError(f"{f.name} is {value:g}", where=where, hint="a finite number above zero")
        if f.name in ("cores", "dies", "chips", "year", "array_rows", "array_cols", "vector_lanes") and value != int(value):
            raise ChipError(f"{f.name} is {value:g}", where=where, hint="a whole number")


@dataclass(frozen=True, slots=True)
class Memory:
    """Off-chip memory: kind ("HBM3"), capacity and peak bandwidth."""

    kind: str = ""
    bytes: float | None = None
    bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        _positive(self, "memory")


@dataclass(frozen=True, slots=True)
class Link:
    """Links to other chips: bandwidth per chip and direction, all links together; how many chips share the fabric."""

    kind: str = ""
    bytes_per_s: float | None = None
    chips: int | None = None

    def __post_init__(self) -> None:
        _positive(self, "link")


@dataclass(frozen=True, slots=True)
class Price:
    """What one chip or card costs to buy, or to rent for an hour."""

    purchase_usd: float | None = None
    rent_usd_per_hour: float | None = None

    def __post_init__(self) -> None:
        _positive(self, "price")


@dataclass(frozen=True, slots=True)
class Template:
    """What a core of our own template has beyond the fields every chip has; ``presilicon.template.Core`` states the laws.

    ``bus_bytes`` are the AXI4 data bytes a cycle, ``accumulator_rows`` those of one of the two banks.
    """

    bus_bytes: int = 32
    weight_rows_per_cycle: int = 1
    scratchpad_banks: int = 8
    accumulator_rows: int = 256
    instruction_slots: int = 256
    kernel_slots: int = 256

    def __post_init__(self) -> None:
        _positive(self, "template")
        for f in fields(self):
            if getattr(self, f.name) != int(getattr(self, f.name)):
                raise ChipError(f"{f.name} is {getattr(self, f.name):g}", where="template", hint="a whole number")


@dataclass(frozen=True, slots=True)
class Source:
    """Where figures come from: the fields it covers (globs), the document, its address, its date, how far to trust it."""

    fields: tuple[str, ...]
    document: str
    url: str = ""
    date: str = ""
    confidence: str = "medium"

    def __post_init__(self) -> None:
        if self.confidence not in ("high", "medium", "low"):
            raise ChipError(f"confidence is {self.confidence!r}", where="source", hint="high, medium or low")
        if not self.document:
            raise ChipError("a source names no document", where="source")


@dataclass(frozen=True, slots=True)
class Chip:
    """One accelerator as software sees it: a package (or card) of one or more dies with its memory.

    ``cores`` are the units work is spread over (SMs, compute units, neural engines); ``scratchpad_bytes`` is private to
    one core, ``shared_sram_bytes`` is the last on-chip level. ``peak_ops_per_s`` is dense, 2 operations a MAC.
    ``family`` names the fitted software constants that hold for it; ``constants`` override single ones (calibration).
    """

    name: str
    title: str = ""
    vendor: str = ""
    family: str = "generic"
    year: int | None = None
    aliases: tuple[str, ...] = ()
    note: str = ""
    cores: int | None = None
    clock_hz: float | None = None
    array_rows: int | None = None
    array_cols: int | None = None
    vector_lanes: int | None = None
    vector_ops_per_s: float | None = None
    scratchpad_bytes: float | None = None
    shared_sram_bytes: float | None = None
    process_node: str = ""
    dies: int = 1
    die_area_mm2: float | None = None
    transistors: float | None = None
    tdp_w: float | None = None
    idle_w: float | None = None
    peak_ops_per_s: Mapping[str, float] = field(default_factory=dict)
    memory: Memory | None = None
    link: Link | None = None
    host: Link | None = None
    price: Price = field(default_factory=Price)
    template: Template | None = None
    constants: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise ChipError("the chip has no name")
        if not self.family:
            raise ChipError("family is empty", where=self.name, hint='"generic" where no family is known')
        _positive(self, self.name)
        for key, rate in self.peak_ops_per_s.items():
            if key not in FORMATS and key not in _OTHER_RATES:
                raise ChipError(f"peak_ops_per_s has no format {key!r}", where=self.name, hint=nearest(key, list(FORMATS)))
            if not 0 < rate < 1e30:
                raise ChipError(f"peak_ops_per_s.{key} is {rate:g}", where=self.name, hint="a finite number above zero")
        for path, value in self.figures().items():
            _plausible(path, value, self.name)
        if self.tdp_w and self.idle_w and self.idle_w >= self.tdp_w:
            raise ChipError(f"idle_w {self.idle_w:g} is not below tdp_w {self.tdp_w:g}", where=self.name)
        object.__setattr__(self, "peak_ops_per_s", MappingProxyType(dict(self.peak_ops_per_s)))
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))

    @property
    def on_chip_bytes(self) -> float:
        """All memory on the chip: shared, and private to its cores."""
        private = (self.scratchpad_bytes or 0.0) * (self.cores or 1)
        return (self.shared_sram_bytes or 0.0) + private

    def macs_per_cycle(self, number_format: str) -> float:
        """MACs the whole chip does a cycle in a format; ChipError where rate or clock is blank."""
        return self.need(f"peak_ops_per_s.{number_format}") / (2.0 * self.need("clock_hz"))

    def get(self, path: str) -> float | None:
        """The figure at ``path`` ("memory.bytes_per_s"), None where blank."""
        value: Any = self
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        return None if value is None else float(value)

    def need(self, path: str) -> float:
        """The figure at ``path``; ChipError where it is blank, naming it."""
        value = self.get(path)
        if value is None:
            raise ChipError(
                f"{path} is not published", where=self.name, hint=f"give {path} in a chip TOML of your own to estimate it"
            )
        return value

    def missing(self) -> tuple[str, ...]:
        """What an estimate needs and this chip leaves blank; empty when it can be estimated."""
        blank = []
        if not self.peak_ops_per_s:
            blank.append("peak_ops_per_s")
        if self.memory is not None and self.memory.bytes_per_s is None:
            blank.append("memory.bytes_per_s")
        return tuple(blank)

    def source_of(self, path: str) -> Source | None:
        """The source that covers a field."""
        for source in self.sources:
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in source.fields):
                return source
        return None

    def figures(self) -> dict[str, float]:
        """Every published number by its path."""
        found: dict[str, float] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("constants", "sources", "aliases"):
                continue
            if isinstance(value, Mapping):
                found |= {f"{f.name}.{k}": v for k, v in value.items()}
            elif isinstance(value, Memory | Link | Price | Template):
                parts = {f"{f.name}.{g.name}": getattr(value, g.name) for g in fields(value)}
                found |= {k: v for k, v in parts.items() if isinstance(v, int | float)}
            elif isinstance(value, int | float):
                found[f.name] = value
        return found

    def to_toml(self) -> str:
        """The TOML text that ``parse`` reads back to an equal chip."""
        table: dict[str, Any] = {"schema": SCHEMA}
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None or value == "" or value == () or f.name == "sources":
                continue
            if isinstance(value, Memory | Link | Price | Template):
                value = {g.name: getattr(value, g.name) for g in fields(value) if getattr(value, g.name) is not None}
            if isinstance(value, Mapping):
                value = dict(value)
                if not value:
                    continue
            table[f.name] = list(value) if isinstance(value, tuple) else value
        table["source"] = [
            {g.name: (list(v) if isinstance(v := getattr(s, g.name), tuple) else v) for g in fields(s)} for s in self.sources
        ]
        return tomli_w.dumps(table)


_OTHER_RATES = ("tf32", "mxfp6", "mxfp8", "fp64")
_PARTS: dict[str, type] = {"memory": Memory, "link": Link, "host": Link, "price": Price, "template": Template}


def _typed(cls: type, table: Mapping[str, Any], where: str) -> Any:
    """An instance of a dataclass from a TOML table, each key known and of the right type."""
    known = {f.name: f for f in fields(cls)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise ChipError(
                f"unknown field {key!r}", where=where, hint=nearest(key, list(known)) or "one of " + ", ".join(known)
            )
        kind = str(known[key].type)
        numeric = "float" in kind or "int" in kind
        if key == "fields" or key == "aliases":
            if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise ChipError(f"{key} is {value!r}", where=where, hint="a list of texts")
            values[key] = tuple(value)
        elif "Mapping" in kind:
            if not isinstance(value, dict):
                raise ChipError(f"{key} is {value!r}", where=where, hint=f"a table [{key}]")
            for name, number in value.items():
                if isinstance(number, bool) or not isinstance(number, int | float):
                    raise ChipError(f"{key}.{name} is {number!r}", where=where, hint="a plain number in SI units")
            values[key] = {name: float(number) for name, number in value.items()}
        elif key in _PARTS and cls is Chip:
            if not isinstance(value, dict):
                raise ChipError(f"{key} is {value!r}", where=where, hint=f"a table [{key}]")
            values[key] = _typed(_PARTS[key], value, f"{where}: {key}")
        elif numeric:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ChipError(f"{key} is {value!r}", where=where, hint="a plain number in SI units, such as 3.35e12")
            values[key] = int(value) if kind.startswith("int") and float(value).is_integer() else float(value)
        else:
            if not isinstance(value, str):
                raise ChipError(f"{key} is {value!r}", where=where, hint="a text")
            values[key] = value
    try:
        return cls(**values)
    except TypeError as error:
        raise ChipError(f"a field is missing ({error})", where=where) from None


def parse(text: str, where: str = "chip") -> Chip:
    """The chip a TOML text describes; ChipError says which line or field is wrong."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ChipError(f"not a TOML file: {error}", where=where) from None
    schema = table.pop("schema", None)
    if schema != SCHEMA:
        raise ChipError(f"schema is {schema!r}", where=where, hint=f'the file begins with schema = "{SCHEMA}"')
    sources = table.pop("source", [])
    if not isinstance(sources, list) or not all(isinstance(s, dict) for s in sources):
        raise ChipError("source is not a list of tables", where=where, hint="[[source]]")
    parsed = tuple(_typed(Source, s, f"{where}: source {i + 1}") for i, s in enumerate(sources))
    try:
        chip: Chip = _typed(Chip, table, where)
    except ChipError as error:
        raise error if error.where.startswith(where) else error.at(where) from None
    return replace(chip, sources=parsed)


def _library() -> Any:
    return resources.files("presilicon") / "data" / "chips"


@cache
def names() -> tuple[str, ...]:
    """Names of the library's chips, sorted."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in _library().iterdir() if p.name.endswith(".toml")))


@cache
def _by_name(name: str) -> Chip:
    return parse((_library() / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")


@cache
def _aliases() -> Mapping[str, str]:
    return {alias: name for name in names() for alias in _by_name(name).aliases}


def library() -> tuple[Chip, ...]:
    """Every chip of the library."""
    return tuple(_by_name(name) for name in names())


def load(name_or_path: str) -> Chip:
    """A library chip by name or alias, or the chip of a TOML file; ChipError offers the nearest names."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ChipError(f"cannot be read: {error}", where=name_or_path) from None
        return parse(text, name_or_path)
    key = name_or_path.strip().lower()
    if key in names():
        return _by_name(key)
    if key in _aliases():
        return _by_name(_aliases()[key])
    raise ChipError(
        f"unknown chip {name_or_path!r}",
        hint=nearest(name_or_path, [*names(), *_aliases()]) or "`presilicon chips` lists all of them; a file ends in .toml",
    )
