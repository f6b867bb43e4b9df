"""Micro-operations whose registers are still variables, and the registers they get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from presilicon.errors import CheckError
from presilicon.isa import Uop
from presilicon.isa.state import VECTOR_REGISTERS


@dataclass(slots=True)
class Operation:
    """A micro-operation: its fields but for registers, the variables it reads by field, what it writes, its loop (-1: none).

    ``read`` and ``write`` are names of streams.
    """

    fields: dict[str, Any]
    reads: dict[str, int]
    to: int | None
    loop: int
    once: bool = False
    read: str = ""
    write: str = ""


def allocated(ops: list[Operation], steps: list[int], streams: Mapping[str, int]) -> tuple[Uop, ...]:
    """Micro-operations with registers: a linear scan over lifetimes; CheckError where sixteen are too few."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    bounds = [[i for i, op in enumerate(ops) if op.loop == number] for number in range(len(steps))]
    ends = {number: where[-1] for number, where in enumerate(bounds) if where}
    begins = {number: where[0] for number, where in enumerate(bounds) if where}
    for i, op in enumerate(ops):
        for one in op.reads.values():
            # What a loop reads and has not made stays for all its passes.
            until = ends[op.loop] if op.loop >= 0 and first[one] < begins[op.loop] else i
            last[one] = max(last.get(one, i), until)
        if op.to is not None:
            first.setdefault(op.to, i)
            last[op.to] = max(last.get(op.to, i), i)
            if op.once:
                last[op.to] = len(ops)
    made: list[Uop] = []
    free = list(range(VECTOR_REGISTERS))
    held: dict[int, int] = {}
    unused = {op.to for op in ops if op.to is not None} - {one for op in ops for one in op.reads.values()}
    for i, op in enumerate(ops):
        fields = dict(op.fields) | {name: held[one] for name, one in op.reads.items()}
        for one in [one for one in held if last[one] <= i]:
            free.append(held.pop(one))
        if op.to is not None and op.to not in unused:
            if op.to not in held:
                if not free:
                    raise CheckError(f"a kernel needs more than {VECTOR_REGISTERS} registers", hint="two steps instead of one")
                free.sort()
                held[op.to] = free.pop(0)
            fields |= {"to_en": True, "to": held[op.to]}
            if last[op.to] <= i:
                free.append(held.pop(op.to))
        if op.read:
            fields["read_stream"] = streams[op.read]
        if op.write:
            fields |= {"write_en": True, "write_stream": streams[op.write]}
        if op.loop >= 0 and i == begins[op.loop]:
            fields["loop_begin"] = True
        if op.loop >= 0 and i == ends[op.loop]:
            fields |= {"loop_end": True, "step": steps[op.loop]}
        made.append(Uop(**fields, once=op.once, last=i == len(ops) - 1))
    assert all(not b.once or a.once for a, b in pairwise(made))
    return tuple(made)
