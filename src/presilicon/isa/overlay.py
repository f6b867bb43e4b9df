"""Programs longer than the instruction memory: it is loaded half by half while the other half runs.

A program is a row of windows of half the instruction memory. The start loads windows 0 and 1. The first instruction of window
k loads window k + 1 over window k - 1, which has run, and the last holds the sequencer until it is there. A loop must stay in
one window, so the rest of a window into which it does not fit is jumped over.
"""

from __future__ import annotations

from collections.abc import Sequence

from presilicon.errors import IsaError
from presilicon.isa.constructors import end, load, loop, set_, sync
from presilicon.isa.instruction import INSTRUCTION_BYTES, Instruction
from presilicon.template import Core

_IDLE = set_("r1", "r1")
_HELD = sync("sequencer", wait=("load",))


def windows(count: int, core: Core) -> tuple[tuple[int, int], ...]:
    """First instruction and number of each part of a program that is loaded at once."""
    slots, half = core.instruction_slots, core.instruction_slots // 2
    found = [(0, min(count, slots))]
    return (*found, *((first, min(half, count - first)) for first in range(slots, count, half)))


def blocks(instructions: Sequence[Instruction]) -> list[tuple[int, int]]:
    """First instruction and number of each outermost loop or single instruction, in order.

    IsaError where a loop's body does not end with ``end``, reaches out of the loop around it, or an ``end`` ends nothing.
    """
    found: list[tuple[int, int]] = []
    ends: list[int] = []
    for number, one in enumerate(instructions):
        if not ends:
            found.append((number, 1))
        if one.op == "loop":
            last = number + one["length"]
            if last >= len(instructions) or instructions[last].op != "end" or (ends and last >= ends[-1]):
                raise IsaError(f"instruction {number}: the body of `{one}` does not end with an end of its own")
            ends.append(last)
        elif one.op == "end":
            if not ends or ends[-1] != number:
                raise IsaError(f"instruction {number}: end without a loop that ends here", code=8)
            ends.pop()
        if not ends:
            found[-1] = (found[-1][0], number + 1 - found[-1][0])
    return found


def _pad(count: int) -> list[Instruction]:
    """``count`` instructions that do nothing, jumped over at once."""
    return [_IDLE] if count == 1 else [loop(0, count - 1), *[_IDLE] * (count - 2), end()] if count else []


def _is_linked(instructions: tuple[Instruction, ...], core: Core, address: int) -> bool:
    half, count = core.instruction_slots // 2, len(instructions)
    return all(
        instructions[at] == _fetch(at + half, count, core, address) and instructions[at + half - 1] == _HELD
        for at in range(half, count - half, half)
    )


def _fetch(first: int, count: int, core: Core, address: int) -> Instruction:
    """The load of the window that begins with instruction ``first`` of ``count``."""
    return load(
        dram=address + first * INSTRUCTION_BYTES,
        spad=first % core.instruction_slots * INSTRUCTION_BYTES,
        run=INSTRUCTION_BYTES * min(core.instruction_slots // 2, count - first),
        target="instructions",
        signal=("sequencer",),
    )


def link(instructions: tuple[Instruction, ...], core: Core, address: int = 0) -> tuple[Instruction, ...]:
    """A program as it is laid out at DRAM ``address``: unchanged where it fits the instruction memory or is linked
    already, else with overlays.

    IsaError where a loop is longer than a window, or the program itself uses the semaphore from load to sequencer, which tells
    that a window is there.
    """
    if len(instructions) <= core.instruction_slots or _is_linked(instructions, core, address):
        return instructions
    for number, one in enumerate(instructions):
        if (one.engine == "load" and "sequencer" in one.signal) or (one.engine == "sequencer" and "load" in one.wait):
            raise IsaError(
                f"instruction {number}: `{one}` uses the semaphore from load to sequencer",
                hint=f"programs above {core.instruction_slots} instructions need it for their overlays",
            )
    half = core.instruction_slots // 2
    body = half - 2
    laid: list[list[Instruction]] = [[]]
    for first, count in blocks(instructions):
        if count > body:
            raise IsaError(
                f"instruction {first}: a loop of {count} instructions does not fit in half the instruction memory",
                hint=f"at most {body}, the loop itself and its end included",
            )
        if len(laid[-1]) + count > body:
            laid[-1] += _pad(body - len(laid[-1]))
            laid.append([])
        laid[-1] += instructions[first : first + count]
    total = half * (len(laid) - 1) + 1 + len(laid[-1])
    linked: list[Instruction] = []
    for number, window in enumerate(laid):
        following = (number + 1) * half
        if number == 0 or number == len(laid) - 1:
            # The start has loaded window 1; behind the last there is none.
            linked += [_IDLE, *window] if number else [*_pad(2), *window]
            continue
        linked += [_fetch(following, total, core, address), *window, _HELD]
    return tuple(linked)
