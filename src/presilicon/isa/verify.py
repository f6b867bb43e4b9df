"""The verifier: refuses a program that could do something else than it says.

It walks the expanded program for given runtime arguments (see `walk`) and follows every byte: what is read must have been
written, and two accesses to the same bytes, of which one is a write, must be ordered by the semaphores; so must two engines
on a port of a memory bank (see `ports`). Messages name the instruction, its text, and the other one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import IsaError
from presilicon.isa.footprint import Access, accesses
from presilicon.isa.instruction import INSTRUCTION_BYTES
from presilicon.isa.kernel_check import check_lanes, check_registers, check_streams
from presilicon.isa.moves import execute_load, row_addresses
from presilicon.isa.overlay import blocks
from presilicon.isa.ports import Ports
from presilicon.isa.products import sums_are_written
from presilicon.isa.program import Program, Segment
from presilicon.isa.shadow import NEVER, Event, Shadow
from presilicon.isa.state import TABLE_ENTRIES, State
from presilicon.isa.uop import UOP_BYTES, Uop
from presilicon.isa.walk import LOAD, MATMUL, Step, Walk
from presilicon.template import ENGINES, Core

MOST_INSTRUCTIONS = 2_000_000
# What the hardware answers to an access beyond a memory; 3 for the others.
_BEYOND = {"dram": 9, "accumulator0": 4, "accumulator1": 4, "indices": 14}


@dataclass(frozen=True, slots=True)
class Checked:
    """A program that holds: how many instructions were walked on each core."""

    instructions: tuple[int, ...]


class _Image:
    """DRAM as far as it is known before the start: slices of it as bytes, zeros elsewhere."""

    def __init__(self, parts: Sequence[Segment], size: int) -> None:
        self.parts = parts
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, where: slice) -> NDArray[np.uint8]:
        data = np.zeros(where.stop - where.start, np.uint8)
        for part in self.parts:
            low, high = max(part.address, where.start), min(part.end, where.stop)
            if low < high:
                data[low - where.start : high - where.start] = np.frombuffer(part.data, np.uint8)[
                    low - part.address : high - part.address
                ]
        return data

    def knows(self, low: int, high: int) -> bool:
        """Whether all of a range is constant data of the program."""
        while low < high:
            part = next((p for p in self.parts if p.address <= low < p.end), None)
            if part is None:
                return False
            low = part.end
        return True


class _Core:
    """One core: its walk and its private memories."""

    def __init__(
        self, number: int, program: Program, core: Core, arguments: Mapping[int, int], most: int, checker: _Checker
    ) -> None:
        self.number = number
        self.program = program
        self.core = core
        self.checker = checker
        self.dram = _Image(program.image(), checker.dram.size)
        self.state = State(core, self.dram, values=False)  # type: ignore[arg-type]
        self.shadows = {
            "scratchpad": Shadow(core.scratchpad_bytes),
            "accumulator0": Shadow(core.accumulator_rows),
            "accumulator1": Shadow(core.accumulator_rows),
            "tables": Shadow(4 * TABLE_ENTRIES),
            "kernels": Shadow(UOP_BYTES * core.kernel_slots),
            "indices": Shadow(4 * core.index_slots),
            "instructions": Shadow(INSTRUCTION_BYTES * core.instruction_slots),
            "dram": checker.dram,
        }
        self.origin = [-1] * core.instruction_slots
        self.known_indices = False
        self.walk = Walk(program, core, arguments, self.visit, self.fetched, most)
        self.ports = Ports(core, self.walk.steps)
        # Fields of the vectors that have been checked, of the kernels as they are now.
        self._checked: set[tuple[int, ...]] = set()

    # One instruction ---------------------------------------------------------------------------------------------------

    def visit(self, step: Step) -> None:
        """Follows an instruction's accesses."""
        op, fields = step.instruction.op, step.fields
        uops: tuple[Uop, ...] = ()
        try:
            if op == "vector":
                uops = self.state.kernel(fields["kernel"])
                self.check_kernel(fields, uops)
            found = accesses(self.core, op, fields, uops)
            for access in found:
                size = self.shadows[access.memory].size
                if (access.low < 0 or access.high > size) and (access.data or access.memory != "dram"):
                    reach = f"reaches {access.memory} {access.low:#x} to {access.high - 1:#x}"
                    raise IsaError(reach, hint=f"it has {size}", code=_BEYOND.get(access.memory, 3))
        except IsaError as error:
            raise error.at(str(step)) from None
        self.ports.take(step, found)
        for access in found:
            if access.data:
                self.touch(step, access)
        if op == "load":
            self.load(step, fields)

    def check_kernel(self, fields: Mapping[str, int], uops: tuple[Uop, ...]) -> None:
        key = tuple(fields.values())
        if key not in self._checked:
            self._checked.add(key)
            check_registers(uops)
            check_lanes(self.core, fields, uops)
            check_streams(self.core, fields, uops)

    def touch(self, step: Step, access: Access, runs: tuple[tuple[int, int], ...] | None = None) -> None:
        shadow = self.shadows[access.memory]
        event = (self.number * len(ENGINES) + step.engine, step.number, self.checker.epoch)

        def check(old: Event, at: int) -> None:
            if old == NEVER:
                # What is loaded into a small memory comes in whole beats: an array may end within the last.
                bus = self.core.bus_bytes
                if step.fields.get("target") and at % bus and at - at % bus + bus >= access.high:
                    return
                raise IsaError(f"{step} reads {_place(access, at)}, which was never written")
            other, number, epoch = old
            core, engine = divmod(other, len(ENGINES))
            if core != self.number:
                if epoch == self.checker.epoch:
                    raise IsaError(f"{step} and core {core} touch {_place(access, at)} without a barrier between them")
                return
            earlier = self.walk.steps[engine][number]
            if not step.after(engine, number) and not self.in_order(earlier, step, access):
                raise IsaError(
                    f"{step} {'writes' if access.write else 'reads'} {_place(access, at)} in no order with {earlier}",
                    hint=f"a wait for {ENGINES[engine]} and a signal to {ENGINES[step.engine]}",
                )

        do = shadow.write if access.write else shadow.read
        do(access.runs() if runs is None else runs, access.start, event, check)

    def in_order(self, earlier: Step, step: Step, access: Access) -> bool:
        """Whether an engine's own order is enough between two of its instructions."""
        if earlier.engine != step.engine:
            return False
        if step.engine == LOAD:
            return access.write or access.memory != "indices"
        if step.engine == MATMUL and not access.write and access.memory.startswith("accumulator"):
            between = sum(s.instruction.op == "matmul" for s in self.walk.steps[MATMUL][earlier.number + 1 : step.number])
            return between > 0 or sums_are_written(self.core, earlier.fields, step.fields)
        return True

    def load(self, step: Step, fields: Mapping[str, int]) -> None:
        """What a load of a memory that steers the machine leaves there; and the rows of a gather."""
        target = fields["target"]
        if fields["gather"]:
            self.gather(step, fields)
        if target < 2:
            return
        low, high = self.dram_range(fields)
        known = self.dram.knows(low, high)
        if target == 3:
            self.known_indices = known
        elif not known:
            raise IsaError(f"{step} loads from DRAM {low:#x} to {high - 1:#x}, of which the program says nothing")
        execute_load(self.state, fields)
        self._checked.clear()
        if target == 4:
            self.overlay(step, fields)

    def dram_range(self, fields: Mapping[str, int]) -> tuple[int, int]:
        rows = row_addresses({**fields, "gather": 0})
        return int(rows.min()), int(rows.max()) + fields["run"]

    def gather(self, step: Step, fields: Mapping[str, int]) -> None:
        if self.known_indices:
            rows = row_addresses(fields, self.state.indices).reshape(-1).tolist()
            for row in rows:
                if row + fields["run"] > self.checker.dram.size:
                    raise IsaError(f"{step} gathers from DRAM {row:#x}", hint=f"it has {self.checker.dram.size} bytes", code=9)
                self.touch(step, Access("dram", row, fields["run"]))
            return
        # Only the run knows the indices: any row of the array in which the first lies.
        base = fields["dram"]
        span = next((s for s in self.checker.spans if s[0] <= base < s[1]), None)
        if span is None:
            raise IsaError(f"{step} gathers from {base:#x}, where no region and no data of a program lies")
        self.touch(step, Access("dram", span[0], span[1] - span[0]))

    # Instruction memory --------------------------------------------------------------------------------------------------

    def overlay(self, step: Step, fields: Mapping[str, int]) -> None:
        first = (fields["dram"] - self.program.address) // INSTRUCTION_BYTES
        slot = fields["spad"] // INSTRUCTION_BYTES
        count = fields["run"] // INSTRUCTION_BYTES
        if fields["n1"] * fields["n2"] * fields["n3"] > 1 or (fields["dram"] - self.program.address) % INSTRUCTION_BYTES:
            raise IsaError(f"{step} loads instructions that are not a row of the program's")
        self.origin[slot : slot + count] = range(first, first + count)

    def fetched(self, step: Step, slot: int) -> None:
        """The sequencer reads an instruction slot: it must hold what the program means, loaded before."""
        self.touch(step, Access("instructions", slot * INSTRUCTION_BYTES, INSTRUCTION_BYTES))
        if self.origin[slot] != step.pc:
            raise IsaError(f"{step} is not in the instruction memory: slot {slot} holds instruction {self.origin[slot]}")


def _place(access: Access, at: int) -> str:
    if access.memory.startswith("accumulator"):
        return f"row {at} of accumulator bank {access.memory[-1]}"
    if access.memory == "instructions":
        return f"slot {at // INSTRUCTION_BYTES} of the instruction memory"
    memory = {"dram": "DRAM", "scratchpad": "the scratchpad", "indices": "the index memory", "kernels": "the kernel memory"}
    return f"byte {at:#x} of {memory.get(access.memory, 'the ' + access.memory)}"


class _Checker:
    """All cores, the DRAM they share, and the number of barriers they have passed."""

    def __init__(
        self, programs: Sequence[Program], core: Core, arguments: Sequence[Mapping[int, int]], size: int, most: int
    ) -> None:
        self.epoch = 0
        self.dram = Shadow(size)
        # Arrays of all programs: first address and the one behind.
        self.spans: list[tuple[int, int]] = []
        for program, given in zip(programs, arguments, strict=True):
            for part in program.image():
                self.dram.define(part.address, part.end)
            self.spans += [(part.address, part.end) for part in program.data]
            for region in program.regions:
                start = region.address + (given.get(region.register, 0) if region.register else 0)
                self.spans.append((start, start + region.bytes))
                if region.kind in ("input", "state"):
                    if start + region.bytes > size:
                        raise IsaError(f"region {region.name} lies at {start:#x}, beyond the {size} bytes of DRAM")
                    self.dram.define(start, start + region.bytes)
        self.cores = [
            _Core(number, program, core, given, most, self)
            for number, (program, given) in enumerate(zip(programs, arguments, strict=True))
        ]

    def run(self) -> None:
        """Every core from barrier to barrier, until all have halted."""
        while True:
            for one in self.cores:
                try:
                    one.walk.run()
                except IsaError as error:
                    raise (error.at(f"core {one.number}") if len(self.cores) > 1 else error) from None
            halted = [one.number for one in self.cores if one.walk.halted]
            if len(halted) == len(self.cores):
                return
            if halted:
                waiting = next(one.number for one in self.cores if not one.walk.halted)
                raise IsaError(f"the program deadlocks: core {waiting} waits at a barrier, core {halted[0]} has halted")
            self.epoch += 1


def verify(
    program: Program | Sequence[Program],
    core: Core,
    arguments: Mapping[int, int] | Sequence[Mapping[int, int]] | None = None,
    dram_bytes: int | None = None,
    most: int = MOST_INSTRUCTIONS,
) -> Checked:
    """Checks a program (or one for each core) with these runtime registers (number to value; for all cores or for each).

    ``dram_bytes``: of the memory, or what the programs say they need. ``most``: instructions of a core after which it is
    refused as endless. IsaError says which instruction does what it must not, and with which other.
    """
    programs = [program] * core.cores if isinstance(program, Program) else list(program)
    given = [arguments or {}] * len(programs) if arguments is None or isinstance(arguments, Mapping) else list(arguments)
    if len(given) != len(programs):
        raise IsaError(f"{len(given)} sets of arguments for {len(programs)} programs")
    for one in programs:
        one.check_core(core)
        blocks(one.instructions)
    checker = _Checker(programs, core, given, dram_bytes or max(one.dram_bytes for one in programs), most)
    checker.run()
    return Checked(tuple(most - one.walk.left for one in checker.cores))
