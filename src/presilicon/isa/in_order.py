"""The meaning of a whole program without time: its instructions one after another, in program order."""

from __future__ import annotations

from collections.abc import Callable

from presilicon.isa.corners import Executed
from presilicon.isa.definition import alu, execute
from presilicon.isa.overlay import link
from presilicon.isa.program import Program
from presilicon.isa.state import State


def in_order(state: State, program: Program, visit: Callable[[Executed], None] | None = None) -> None:
    """Runs a program on ``state`` and shows ``visit`` each instruction before it is executed.

    What must come out of a program that orders its engines well. IsaError where an instruction cannot be executed.
    """
    instructions = link(program.instructions, state.core, program.address)
    pc = 0
    # First instruction of each open loop, and how often it is still to run.
    loops: list[list[int]] = []
    while True:
        item = instructions[pc]
        fields = item.resolve(state.scalars)
        if visit is not None:
            kernel = state.kernel(fields["kernel"]) if item.op == "vector" else ()
            visit(Executed(state.core, item, fields, kernel, len(loops)))
        pc += 1
        if item.op == "halt":
            return
        if item.op == "loop":
            if fields["count"]:
                loops.append([pc, fields["count"]])
            else:
                pc += fields["length"]
        elif item.op == "end":
            loops[-1][1] -= 1
            if loops[-1][1]:
                pc = loops[-1][0]
            else:
                loops.pop()
        elif item.op == "set":
            state.scalars[fields["to"]] = alu(fields["op"], state.scalars[fields["a"]], fields["value"])
        elif item.op not in ("sync", "barrier"):
            execute(state, item.op, fields)
