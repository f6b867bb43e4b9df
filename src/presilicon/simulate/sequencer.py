"""The sequencer in time: one instruction after the other, three cycles each where nothing is waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from presilicon.errors import IsaError
from presilicon.isa import INSTRUCTION_CYCLES, Instruction, alu, check_fields
from presilicon.simulate.engines import Engine, Entry, Tokens
from presilicon.template import ENGINES, Core

# From the fetch of an instruction to the cycle that executes it.
EXECUTE = INSTRUCTION_CYCLES - 1
SEQUENCER = ENGINES.index("sequencer")
LOOP_DEPTH = 4
_NUMBER = {name: number for number, name in enumerate(ENGINES)}
_ZEROS = [0] * 16


@dataclass(slots=True)
class Decoded:
    """An instruction as the sequencer meets it: what does not change is computed once."""

    instruction: Instruction
    op: str
    engine: int
    wait: tuple[int, ...]
    signal: tuple[int, ...]
    # Field values where no register is added; None otherwise.
    fixed: dict[str, int] | None


def decode(instruction: Instruction, core: Core) -> Decoded:
    """An instruction, decoded; IsaError where its fields break a law on this core."""
    fixed = None if any(instruction.registers) else instruction.resolve(_ZEROS)
    if fixed is not None:
        check_fields(core, instruction.op, fixed)
    return Decoded(
        instruction,
        instruction.op,
        _NUMBER[instruction.engine],
        tuple(sorted(_NUMBER[name] for name in instruction.wait)),
        tuple(sorted(_NUMBER[name] for name in instruction.signal)),
        fixed,
    )


class Sequencer:
    """Walks the program; ``run`` goes on until it needs something that is not known yet.

    ``cycle`` is the fetch cycle of the next instruction; ``halted`` the cycle of the run's end, None before.
    """

    __slots__ = (
        "_decoded",
        "arrived",
        "core",
        "cycle",
        "engines",
        "executed",
        "halted",
        "loops",
        "pc",
        "program",
        "registers",
        "tokens",
    )

    def __init__(
        self, core: Core, program: Sequence[Instruction], engines: list[Engine], tokens: Tokens, registers: list[int]
    ) -> None:
        self.core = core
        self.program = program
        self._decoded: list[Decoded | None] = [None] * len(program)
        self.engines = engines
        self.tokens = tokens
        self.registers = registers
        self.pc = 0
        self.cycle: int | None = None
        self.halted: int | None = None
        self.loops: list[tuple[int, int, int]] = []
        self.executed = 0
        # Cycle in which the core stands at a barrier; None where it does not.
        self.arrived: int | None = None

    def boot(self, program_bytes: int) -> Entry:
        """The load that brings the first instructions, pushed in cycle 1."""
        run = min(program_bytes, self.core.instruction_slots * 64)
        values = {"dram": 0, "spad": 0, "n1": 1, "n2": 1, "n3": 1, "run": run, "target": 4, "gather": 0}
        values |= {"y0": 0, "limit": 0, "stride1": 0, "stride2": 0, "stride3": 0, "pitch": 0}
        values |= {"left": 0, "right": 0, "fill": 0, "index0": 0}
        return Entry(-1, "load", values, (), (SEQUENCER,), 1)

    def run(self) -> bool:
        """Executes what can be executed; True where anything was."""
        if self.halted is not None:
            return False
        moved = False
        if self.cycle is None:
            ready = self.tokens.ready((0,), SEQUENCER)
            if ready is None:
                return False
            self.tokens.take((0,), SEQUENCER)
            self.cycle = max(ready, 2) + 1
            moved = True
        while self._step():
            moved = True
            if self.halted is not None:
                break
        return moved

    def _step(self) -> bool:
        assert self.cycle is not None
        if not 0 <= self.pc < len(self.program):
            raise IsaError("the program ends without halt", code=1, where=f"instruction {self.pc}")
        item = self._decoded[self.pc]
        if item is None:
            item = self._decoded[self.pc] = decode(self.program[self.pc], self.core)
        op, execute = item.op, self.cycle + EXECUTE
        if item.engine != SEQUENCER:
            engine = self.engines[item.engine]
            room = engine.room()
            if room is None:
                return False
            execute = max(execute, room)
            values = item.fixed
            if values is None:
                values = item.instruction.resolve(self.registers)
                check_fields(self.core, op, values)
            engine.push(Entry(self.pc, op, values, item.wait, item.signal, execute))
            self.pc += 1
        elif op == "set":
            values = item.instruction.resolve(self.registers)
            self.registers[values["to"]] = alu(values["op"], self.registers[values["a"]], values["value"])
            self.pc += 1
        elif op == "loop":
            values = item.instruction.resolve(self.registers)
            if values["count"]:
                if len(self.loops) == LOOP_DEPTH:
                    raise IsaError("loops are nested deeper than 4", code=8, where=f"instruction {self.pc}")
                self.loops.append((self.pc + 1, self.pc + values["length"], values["count"] - 1))
                self.pc += 1
            else:
                self.pc += 1 + values["length"]
        elif op == "end":
            if not self.loops:
                raise IsaError("`end` outside a loop", code=8, where=f"instruction {self.pc}")
            first, last, left = self.loops.pop()
            if left:
                self.loops.append((first, last, left - 1))
                self.pc = first
            else:
                self.pc += 1
        elif op == "sync":
            ready = self.tokens.ready(item.wait, SEQUENCER)
            if ready is None:
                return False
            execute = max(execute, ready)
            self.tokens.take(item.wait, SEQUENCER)
            self.tokens.give(SEQUENCER, item.signal, execute)
            self.pc += 1
        else:
            idle = self._idle()
            if idle is None:
                return False
            execute = max(execute, idle)
            if op == "halt":
                self.halted = execute
            elif self.arrived is None:
                # The machine releases the barrier when every core stands at it.
                self.arrived = execute
                return False
            else:
                return False
        self.executed += 1
        self.cycle = execute + 1
        return True

    def release(self, cycle: int) -> None:
        """The barrier is passed: every core has arrived in ``cycle`` at the latest."""
        self.arrived = None
        self.cycle = cycle + 1
        self.pc += 1
        self.executed += 1

    def _idle(self) -> int | None:
        """First cycle in which every engine is idle with an empty queue; None while it is not known."""
        cycles = [engine.drained() for engine in self.engines]
        known = [cycle for cycle in cycles if cycle is not None]
        return max(known) if len(known) == len(cycles) else None
