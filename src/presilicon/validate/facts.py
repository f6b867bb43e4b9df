"""Tables of published figures and measurements, read strictly and told apart by their header.

A table is a CSV file in UTF-8 whose first line names its columns, in any order; columns it does not need are kept as text.
Every cell is checked: a broken one is a FactsError that names file, line and column.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import FORMATS, number_format
from presilicon.errors import FactsError, FormatError, nearest

VARIABLE = "PRESILICON_FACTS"
_COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "alltoall")


@dataclass(frozen=True, slots=True)
class Kind:
    """What the cells of a column may be: a test that returns the value, and the words for what is right."""

    read: Callable[[str], Any]
    words: str
    dtype: type = str


def _text(cell: str) -> str:
    if not cell:
        raise ValueError
    return cell


def _number(cell: str, low: float, high: float) -> float:
    if "_" in cell:  # Python reads 1_000 as a number; a table's typing error it is
        raise ValueError
    value = float(cell)
    if not low <= value <= high:
        raise ValueError
    return value


def _whole(cell: str, low: float) -> float:
    value = _number(cell, low, 1e12)
    if value != int(value):
        raise ValueError
    return value


def _one_of(*names: str) -> Callable[[str], str]:
    def read(cell: str) -> str:
        if cell not in names:
            raise ValueError
        return cell

    return read


def _format(cell: str) -> str:
    return number_format(cell).name


TEXT = Kind(_text, "a text")
FORMAT = Kind(_format, "one of " + ", ".join(FORMATS))
COUNT = Kind(lambda cell: _whole(cell, 1), "a whole number from 1 to 1e12", float)
COUNT_OR_ZERO = Kind(lambda cell: _whole(cell, 0), "a whole number from 0 to 1e12", float)
SECONDS = Kind(lambda cell: _number(cell, 1e-12, 1e9), "seconds from 1e-12 to 1e9", float)
WATTS = Kind(lambda cell: _number(cell, 1e-6, 1e9), "watts above zero", float)
AMOUNT = Kind(lambda cell: _number(cell, 1e-12, 1e15), "a number above zero", float)
FLAG = Kind(lambda cell: _whole(cell, 0) if cell in ("0", "1") else _whole("", 0), "0 or 1", float)
PHASE = Kind(_one_of("prefill", "decode"), "prefill or decode")
COLLECTIVE = Kind(_one_of(*_COLLECTIVES), "one of " + ", ".join(_COLLECTIVES))

_GEMM = {"chip": TEXT, "dtype": FORMAT, "m": COUNT, "n": COUNT, "k": COUNT, "latency_s": SECONDS}
COLUMNS: Mapping[str, Mapping[str, Kind]] = {
    "gemm": _GEMM,
    "power": {**_GEMM, "power_w": WATTS},
    "attention": {
        "chip": TEXT,
        "phase": PHASE,
        "batch_size": COUNT,
        "query_tokens": COUNT,
        "kv_tokens": COUNT,
        "num_heads": COUNT,
        "num_key_value_heads": COUNT,
        "head_dim": COUNT,
        "window_size": COUNT_OR_ZERO,
        "attn_dtype": FORMAT,
        "kv_cache_dtype": FORMAT,
        "latency_s": SECONDS,
    },
    "collective": {"chip": TEXT, "collective": COLLECTIVE, "chips": COUNT, "message_bytes": COUNT, "latency_s": SECONDS},
    "serving": {
        "chip": TEXT,
        "model": TEXT,
        "precision": Kind(lambda cell: _format(cell) and cell, FORMAT.words),
        "input_tokens": COUNT,
        "output_tokens": COUNT,
        "total_concurrency": COUNT,
        "gpus": COUNT,
        "tensor_parallel": COUNT,
        "data_parallel": COUNT,
        "expert_parallel": COUNT,
        "ttft_s": SECONDS,
        "tpot_s": SECONDS,
    },
    "mlperf": {
        "round": TEXT,
        "accelerator": TEXT,
        "total_accelerators": COUNT,
        "benchmark": TEXT,
        "scenario": TEXT,
        "unit": TEXT,
        "value": AMOUNT,
        "inferred": FLAG,
        "power_tuned": FLAG,
    },
}
"""Columns of each table that must be there."""

# Files of a facts folder that must be the table their name says; any other file there is read if its header is known.
_NAMED = {
    "kernels_gemm.csv": "gemm",
    "kernels_power.csv": "power",
    "kernels_attention.csv": "attention",
    "kernels_collective.csv": "collective",
    "serving.csv": "serving",
    "mlperf.csv": "mlperf",
}


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One table as column arrays of shape (rows,): numbers as float64, the rest as text.

    ``lines`` are the rows' line numbers in the file at ``path``.
    """

    kind: str
    path: str
    lines: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def take(self, rows: NDArray[Any]) -> Table:
        """The rows of a mask or of indices, in that order."""
        return Table(self.kind, self.path, self.lines[rows], {name: values[rows] for name, values in self.columns.items()})

    def row(self, index: int) -> dict[str, Any]:
        """One row, by column name."""
        return {name: values[index] for name, values in self.columns.items()}


def _broken(path: str, line: int, column: str, message: str, hint: str) -> FactsError:
    place = f"{path}, line {line}" + (f", column {column}" if column else "")
    return FactsError(message, where=place, hint=hint)


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")


def kind_of(header: Sequence[str]) -> str | None:
    """The table a header belongs to: the one with most columns of those all of whose columns are there."""
    held = set(header)
    fitting = [kind for kind, columns in COLUMNS.items() if held >= set(columns)]
    return max(fitting, key=lambda kind: len(COLUMNS[kind]), default=None)


def _unknown_header(path: str, header: Sequence[str], expected: str | None) -> FactsError:
    closest = expected or max(COLUMNS, key=lambda kind: len(set(COLUMNS[kind]) & set(header)))
    missing = [name for name in COLUMNS[closest] if name not in header]
    found = [name for name in COLUMNS[closest] if name in header]
    if not found:
        known = "; ".join(f"{kind}: {','.join(columns)}" for kind, columns in COLUMNS.items())
        return _broken(path, 1, "", "the header is of no known table", known)
    near = nearest(missing[0], [name for name in header if name not in COLUMNS[closest]])
    hint = f"a {closest} table has the columns " + ", ".join(COLUMNS[closest])
    return _broken(path, 1, missing[0], f"column {missing[0]} is missing", f"{near} {hint}".strip())


def _laws(table: Table) -> None:
    """What cells of one row must be to each other."""
    if table.kind != "attention":
        return
    heads, kv_heads = table["num_heads"], table["num_key_value_heads"]
    laws = (
        (heads % kv_heads != 0, "num_key_value_heads", "{num_key_value_heads:g} does not divide num_heads {num_heads:g}"),
        (table["query_tokens"] > table["kv_tokens"], "query_tokens", "{query_tokens:g} is more than kv_tokens {kv_tokens:g}"),
    )
    for wrong, column, message in laws:
        if wrong.any():
            row = int(np.argmax(wrong))
            told = message.format(**table.row(row))
            raise _broken(table.path, int(table.lines[row]), column, told, "see the row's other cells")


def _decode(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        raise _broken(path, line, "", f"byte {error.start - start + 1} is not UTF-8", "save the table as UTF-8") from None


def _rows(path: str, text: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows and their line numbers; blank lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            if cells and any(cell.strip() for cell in cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise _broken(path, reader.line_num + 1, "", f"not a CSV row: {error}", 'cells with commas stand in "quotes"') from None
    if not rows:
        raise _broken(path, 1, "", "the file is empty", "a header and at least one row")
    return [cell.strip() for cell in rows[0]], rows[1:], lines[1:]


def parse(text: str, path: str, expected: str | None = None) -> Table:
    """The table of a CSV text; FactsError names line and column of the first broken cell.

    ``expected`` is the kind it must be, where the file's name says so.
    """
    header, rows, lines = _rows(path, text)
    for position, name in enumerate(header):
        if name in header[:position]:
            raise _broken(path, 1, name, f"column {name} stands twice", "each column once")
    kind = kind_of(header)
    if kind is None or expected not in (None, kind):
        raise _unknown_header(path, header, expected)
    if not rows:
        raise _broken(path, 2, "", "the table has no rows", "at least one row below the header")
    for cells, line in zip(rows, lines, strict=True):
        if len(cells) != len(header):
            raise _broken(path, line, "", f"{len(cells)} cells, the header has {len(header)}", "one cell per column")
    columns: dict[str, NDArray[Any]] = {}
    for position, name in enumerate(header):
        cells = [row[position].strip() for row in rows]
        columns[name] = _column(path, lines, name, cells, COLUMNS[kind].get(name))
    table = Table(kind, path, np.array(lines), columns)
    _laws(table)
    return table


def _column(path: str, lines: list[int], name: str, cells: list[str], kind: Kind | None) -> NDArray[Any]:
    if kind is None:
        return np.array(cells, dtype=str)
    known: dict[str, Any] = {}
    for line, cell in zip(lines, cells, strict=True):
        if cell in known:
            continue
        try:
            known[cell] = kind.read(cell)
        except (ValueError, OverflowError, FormatError):
            message = f"{_shown(cell)} is not {kind.words}" if cell else "the cell is empty"
            raise _broken(path, line, name, message, kind.words) from None
    return np.array([known[cell] for cell in cells], dtype=kind.dtype)


def read(path: str | Path, expected: str | None = None) -> Table:
    """The table in a file; FactsError where it cannot be read or has a broken row."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FactsError(
            f"cannot be read: {error.strerror}", where=str(path), hint="a CSV file; a folder goes to --facts"
        ) from None
    return parse(_decode(str(path), data), str(path), expected)


def folder(given: str | Path | None = None) -> Path | None:
    """The folder of the facts: the one given, else the environment's, else one beside the checkout; None where there is none.

    FactsError where a given folder does not exist.
    """
    named = given if given is not None else os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_dir():
            origin = "--facts" if given is not None else VARIABLE
            raise FactsError("no such folder", where=str(named), hint=f"{origin} names the folder of kernels_gemm.csv")
        return Path(named)
    checkout = Path(__file__).resolve().parents[3]
    for base in (checkout.parent, Path.cwd().parent):
        if (base / "shared" / "facts").is_dir():
            return base / "shared" / "facts"
    return None


def shipped(name: str) -> Table:
    """A table of published figures that the project carries itself (``mlperf``)."""
    path = resources.files("presilicon") / "data" / "published" / f"{name}.csv"
    return parse(path.read_text(encoding="utf-8"), f"{name}.csv", name)


def tables(paths: Sequence[str | Path] = (), facts: Path | None = None) -> list[Table]:
    """The tables of the files given; with none, those of the facts folder and MLPerf's, which the project carries."""
    if paths:
        return [read(path) for path in paths]
    found: dict[str, Table] = {}
    for path in sorted(facts.glob("*.csv")) if facts else []:
        expected = _NAMED.get(path.name)
        if expected or _known_header(path):
            table = read(path, expected)
            found.setdefault(table.kind, table)
    found.setdefault("mlperf", shipped("mlperf"))
    return [found[kind] for kind in COLUMNS if kind in found]


def _known_header(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(100_000).decode("utf-8-sig", errors="replace")
    return kind_of([cell.strip() for cell in next(csv.reader([first]), [])]) is not None
