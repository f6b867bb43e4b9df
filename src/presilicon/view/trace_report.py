"""The report of a run: what each unit did when, by level, from the Chrome trace events that `run` and `check` write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from presilicon.errors import InputError
from presilicon.trace import Span
from presilicon.view.document import Document, Section, zoomable
from presilicon.view.replay_report import read_json
from presilicon.view.timeline import timeline

MOST_LEVELS = 8
WIDTH = 820.0


def read_trace_events(path: Path, *, made_by: str) -> Document:
    """The report of a file of trace events; InputError where it holds none."""
    found = read_json(path)
    try:
        levels = spans_by_level(found)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a file of trace events ({error})", where=str(path)) from None
    if not levels:
        raise InputError("it holds no events", where=str(path), hint="a file that --trace of `presilicon run` or `check` wrote")
    cycles = {level: max(span.end for span in spans) for level, spans in levels.items()}
    picture = timeline(
        levels, source=f"{path.name}, a cycle of the trace a cycle here", width=WIDTH, title="What each unit did"
    )
    busiest = max(picture.rows, key=lambda row: float(row[4].removesuffix(" %")))
    most = max(levels, key=lambda level: len(levels[level]))
    agree = len(set(cycles.values())) == 1 and len(cycles) > 1
    return Document(
        title="A run, cycle by cycle",
        subtitle=f"presilicon trace: {path.name}",
        summary=(
            "; ".join(f"{level} took {n:,} cycles" for level, n in cycles.items()) + ".",
            f"{sum(map(len, levels.values())):,} instructions in {len(levels)} run{'s' if len(levels) > 1 else ''}.",
            f"Busiest: {busiest[1]} ({busiest[0]}), at work {busiest[4]} of the time.",
            "All levels took the same number of cycles." if agree else f"Most instructions: {most}.",
            "A block is an instruction from issue to done; a pointer on it reads which.",
        ),
        figures=(),
        sections=(Section("Timeline", "Larger steps show shorter stretches; the picture scrolls.", [zoomable(picture)]),),
        command=f"presilicon report {path.name}",
        made_by=made_by,
    )


def spans_by_level(found: Mapping[str, Any]) -> dict[str, list[Span]]:
    """Spans of each process of the events ("simulate, core 0"), their unit the thread."""
    events = found["traceEvents"]
    processes = {e["pid"]: str(e["args"]["name"]) for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): str(e["args"]["name"]) for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    levels: dict[str, list[Span]] = {}
    for e in events:
        if e["ph"] != "X":
            continue
        level = processes.get(e["pid"], f"process {e['pid']}")
        unit = threads.get((e["pid"], e["tid"]), f"thread {e['tid']}")
        start = int(e["ts"])
        span = Span(unit, start, start + int(e["dur"]), str(e["name"]), e.get("args", {}))
        levels.setdefault(level, []).append(span)
    return dict(list(levels.items())[:MOST_LEVELS])
