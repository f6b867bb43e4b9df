"""Request traces: Azure's CSV, Mooncake's JSON lines, and a plain CSV; every broken line is named.

Azure (2023, 2024): TIMESTAMP,ContextTokens,GeneratedTokens with dates. Mooncake (FAST 2025): one object a line with timestamp
(ms), input_length, output_length and, where prefixes are told, hash_ids of blocks of 512 tokens. Plain:
arrival_s,input_tokens,output_tokens.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from presilicon.errors import WorkloadError, nearest
from presilicon.replay.requests import LONGEST, Request

MOONCAKE_BLOCK = 512
"""Tokens of one of Mooncake's hashed blocks (FAST 2025, section 4.1)."""
_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_PLAIN = ("arrival_s", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: its number, seconds on the trace's own clock, lengths, hashes of its prompt's blocks."""

    line: int
    time_s: float
    input_tokens: int
    output_tokens: int
    prefix: tuple[int, ...] = ()


def read_trace(path: str | Path, *, most: int | None = None, speed: float = 1.0) -> list[Request]:
    """Requests of a trace, the first at 0 s; ``most`` of them at most, arriving ``speed`` times as fast.

    WorkloadError names file and line where one cannot be read, is out of order, or has no tokens.
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise WorkloadError(f"cannot be read: {reason}", where=name, hint="a CSV file or JSON lines") from None
    rows = _json_lines(text, name) if text.lstrip()[:1] == "{" else _table(text, name)
    found: list[Request] = []
    start = last = 0.0
    for row in rows:
        if not found:
            start = last = row.time_s
        if row.time_s < last:
            raise WorkloadError(
                f"{row.time_s:.6f} s comes after {last:.6f} s", where=f"{name}, line {row.line}", hint="rows sorted by time"
            )
        last = row.time_s
        arrival = (row.time_s - start) / speed
        found.append(Request(len(found), arrival, row.input_tokens, row.output_tokens, row.prefix, MOONCAKE_BLOCK))
        if most is not None and len(found) >= most:
            break
    if not found:
        raise WorkloadError("the trace has no requests", where=name, hint="at least one row below the header")
    return found


def _tokens(value: Any, name: str, place: str) -> int:
    try:
        number = float(value)
        whole = int(number)
    except (TypeError, ValueError, OverflowError):
        number, whole = 0.0, 0
    if isinstance(value, bool) or number != whole or not 1 <= whole <= LONGEST:
        shown = repr(value) if len(repr(value)) < 40 else repr(value)[:37] + "..."
        raise WorkloadError(f"{name} is {shown}", where=place, hint="a whole number from 1")
    return whole


def _seconds(value: Any, name: str, place: str, scale: float = 1.0) -> float:
    try:
        number = float(value) * scale
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not isfinite(number) or number < 0.0:
        raise WorkloadError(f"{name} is {str(value)[:40]!r}", where=place, hint="a time from 0")
    return number


def _json_lines(text: str, name: str) -> Iterator[_Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            raise WorkloadError("not a JSON object", where=place, hint='one object a line, as {"timestamp": 0, ...}') from None
        if not isinstance(row, dict):
            raise WorkloadError("not a JSON object", where=place, hint='one object a line, as {"timestamp": 0, ...}')
        for key in ("timestamp", "input_length", "output_length"):
            if key not in row:
                raise WorkloadError(f"{key} is missing", where=place, hint="timestamp (ms), input_length, output_length")
        hashes = row.get("hash_ids", [])
        if not isinstance(hashes, list) or not all(isinstance(h, int | str) for h in hashes):
            raise WorkloadError("hash_ids is not a list of numbers", where=place, hint="one for each block of 512 tokens")
        yield _Row(
            number,
            _seconds(row["timestamp"], "timestamp", place, 1e-3),
            _tokens(row["input_length"], "input_length", place),
            _tokens(row["output_length"], "output_length", place),
            tuple(hashes),
        )


def _table(text: str, name: str) -> Iterator[_Row]:
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        wanted, read = _columns(header, name)
        places = [header.index(column) for column in wanted]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            place = f"{name}, line {reader.line_num}"
            if len(cells) != len(header):
                raise WorkloadError(f"{len(cells)} cells, the header has {len(header)}", where=place)
            time, prompt, answer = (cells[i].strip() for i in places)
            yield _Row(reader.line_num, read(time, wanted[0], place), _tokens(prompt, wanted[1], place),
                       _tokens(answer, wanted[2], place))  # fmt: skip
    except csv.Error as error:
        raise WorkloadError(f"not a CSV row: {error}", where=f"{name}, line {max(reader.line_num, 1)}") from None


def _columns(header: list[str], name: str) -> tuple[tuple[str, ...], Callable[[str, str, str], float]]:
    """The columns of the trace a header belongs to, and how its times are read."""
    azure, plain = ([c for c in columns if c in header] for columns in (_AZURE, _PLAIN))
    columns = _AZURE if len(azure) > len(plain) else _PLAIN
    for column in columns:
        if column not in header:
            near = nearest(column, header)
            hint = f"{near} a trace has the columns {','.join(_PLAIN)} or {','.join(_AZURE)}".strip()
            raise WorkloadError(f"column {column} is missing", where=f"{name}, line 1", hint=hint)
    return columns, _date if columns == _AZURE else _seconds


def _date(value: str, name: str, place: str) -> float:
    try:
        return (datetime.fromisoformat(value).replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds()
    except ValueError:
        raise WorkloadError(f"{name} is {value[:40]!r}", where=place, hint="a date such as 2023-11-16 18:15:46.68") from None
