"""A run's timeline as Chrome trace events, which Perfetto (ui.perfetto.dev) opens: a track an engine, a microsecond a cycle.

Format: "Trace Event Format", Google, 2016: complete events ``X`` with ``ts`` and ``dur`` in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from presilicon.isa import Program
from presilicon.template import ENGINES


class Event(Protocol):
    """What simulator and RTL say of an instruction: engine (number or name), program counter, issue and done cycle."""

    @property
    def pc(self) -> int: ...
    @property
    def issue(self) -> int: ...
    @property
    def done(self) -> int: ...


def timeline(levels: dict[str, Sequence[tuple[int, str, Event]]], program: Program) -> str:
    """JSON of the events of some levels, one process a level and core: ``levels[name]`` are (core, engine, event).

    A cycle is shown as a microsecond: Perfetto's ruler then counts cycles.
    """
    traced: list[dict[str, Any]] = []
    processes: dict[tuple[str, int], int] = {}
    for level, events in levels.items():
        for core, engine, event in events:
            process = processes.setdefault((level, core), len(processes) + 1)
            instruction = program.instructions[event.pc] if 0 <= event.pc < len(program.instructions) else None
            traced.append(
                {
                    "name": instruction.op if instruction else "boot",
                    "ph": "X",
                    "pid": process,
                    "tid": ENGINES.index(engine) + 1,
                    "ts": event.issue,
                    "dur": event.done - event.issue + 1,
                    "args": {"pc": event.pc, "instruction": str(instruction) if instruction else "load of the program"},
                }
            )
    names: list[dict[str, Any]] = []
    for (level, core), process in processes.items():
        names.append({"name": "process_name", "ph": "M", "pid": process, "args": {"name": f"{level}, core {core}"}})
        names += [
            {"name": "thread_name", "ph": "M", "pid": process, "tid": number + 1, "args": {"name": engine}}
            for number, engine in enumerate(ENGINES[:4])
        ]
    return json.dumps({"traceEvents": names + traced, "displayTimeUnit": "ms"})
