"""Instructions in program order, to which the waits and signals between engines are added.

Builders say what shall happen, one instruction after the other, as if they ran one by one. The emitter reads each
instruction's footprint and orders it behind every earlier one of another engine that touches the same bytes, or that uses
the same port of a scratchpad bank, with as few semaphores as that needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from presilicon.errors import CheckError
from presilicon.isa import Instruction, Kernel, Uop, sync
from presilicon.isa.footprint import Box, footprint
from presilicon.isa.products import sums_are_written
from presilicon.template import ENGINES, Core

# What an engine reads and what it writes.
Touches = tuple[Sequence[Box], Sequence[Box]]
# Accesses remembered one by one for each memory, engine and direction; older ones are put together into one box.
REMEMBERED = 48


class _Accesses:
    """Accesses of one engine to one memory in one direction: first unit, unit behind the last, box, number of the instruction.

    Oldest first.
    """

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[tuple[int, int, Box, int]] = []

    def add(self, box: Box, number: int) -> None:
        items, start, end = self.items, box.start, box.end
        if box.rows == 1:
            # What a later access of the same engine covers wholly is ordered with it.
            items[:] = [one for one in items if one[0] < start or one[1] > end]
        items.append((start, end, box, number))
        if len(items) > REMEMBERED:
            half = items[: REMEMBERED // 2]
            start, end = min(one[0] for one in half), max(one[1] for one in half)
            items[: REMEMBERED // 2] = [(start, end, Box(box.memory, start, end - start), half[-1][3])]

    def latest(self, box: Box, known: int) -> int:
        """Number of the latest instruction after ``known`` whose access overlaps ``box``; -1 where none does."""
        start, end = box.start, box.end
        for first, last, other, number in reversed(self.items):
            if number <= known:
                return -1
            if first < end and start < last and other.overlaps(box):
                return number
        return -1

    def forget(self, number: int) -> None:
        """Drops accesses up to ``number``: every engine is already behind them."""
        self.items[:] = [one for one in self.items if one[3] > number]


class Emitter:
    """Collects a program; ``finish`` returns its instructions with waits and signals.

    ``registers`` are the largest values that runtime registers may have: footprints are taken with them.
    """

    def __init__(self, core: Core, kernels: Sequence[Kernel] = (), registers: Sequence[int] = ()) -> None:
        self.core = core
        # What stands in the kernel memory; who loads other kernels changes it.
        self.kernels: dict[int, tuple[Uop, ...]] = {kernel.start: kernel.uops for kernel in kernels}
        self.registers = list(registers) or [0] * 16
        # Of the instruction added last: the latest of each other engine that must be done before it.
        self.needs: dict[str, int] = {}
        self._items: list[Instruction] = []
        self._waits: list[set[str]] = []
        self._signals: list[set[str]] = []
        # clock[e][f]: number of the latest instruction of engine f that is done when engine e takes its next one.
        self._clock: dict[str, dict[str, int]] = {e: dict.fromkeys(ENGINES, -1) for e in ENGINES}
        self._clocks: list[dict[str, int]] = []
        self._reads: dict[tuple[str, str], _Accesses] = {}
        self._writes: dict[tuple[str, str], _Accesses] = {}
        self._ports: dict[tuple[int, str, bool], int] = {}
        # Latest instruction of an engine whose completion a later one of the same engine has waited for.
        self._own = {"load": -1, "matmul": -1}
        # The matmul before: its number, its fields, and the banks of its moving operand.
        self._matmul: tuple[int, Mapping[str, int], set[int]] = (-1, {}, set())

    def __len__(self) -> int:
        """Instructions so far."""
        return len(self._items)

    def add(self, instruction: Instruction, dram: Box | None = None) -> int:
        """Adds one instruction behind all before it; returns its number.

        ``dram``: all that it may touch there, where its address comes from a register that the program sets.
        """
        number, engine = len(self._items), instruction.engine
        fields = instruction.resolve(self.registers)
        uops = self.kernels[fields["kernel"]] if instruction.op == "vector" else ()
        reads, writes = footprint(self.core, instruction.op, fields, uops)
        if dram is not None:
            reads = [dram if box.memory == "dram" else box for box in reads]
            writes = [dram if box.memory == "dram" else box for box in writes]
        ports = self._ports_of(instruction.op, reads, False) | self._ports_of(instruction.op, writes, True)
        self.needs = self._needs(engine, reads, writes, ports)
        self._order(engine, number, self.needs)
        self._order_itself(engine, number, fields, reads)
        self._items.append(instruction)
        self._remember(engine, number, reads, writes, ports)
        return number

    def block(self, instructions: Sequence[Instruction], touches: Mapping[str, Touches]) -> None:
        """Adds instructions that order themselves, such as loops over a count that only the run knows.

        Their waits and signals stay: they must be balanced among themselves, however often the loops run. ``touches`` says
        for each of their engines all that it reads and writes. What came before is ordered at one ``sync`` an engine in
        front, what comes later refers to one behind.
        """
        own = {(item.engine, target) for item in instructions for target in item.signal}
        behind = {engine: self._clock[engine][engine] for engine in touches}
        for engine, (reads, writes) in touches.items():
            needs = self._needs(engine, reads, writes, self._block_ports(reads, writes))
            # Tokens are told apart by their order alone: none from before may be taken in the block or behind it.
            for source in [source for source, target in own if target == engine]:
                needs[source] = max(needs.get(source, -1), behind[source])
            self._sync(engine, needs)
        for item in instructions:
            self._items.append(item)
            self._waits.append(set(item.wait))
            self._signals.append(set(item.signal))
            self._clocks.append({})
        for engine, (reads, writes) in touches.items():
            number = self._sync(engine, {})
            self._remember(engine, number, reads, writes, self._block_ports(reads, writes))
            if engine == "matmul":
                self._matmul = number, {}, set()

    def _sync(self, engine: str, needs: Mapping[str, int]) -> int:
        """A sync with the waits that ``needs`` asks for; its number."""
        number = len(self._items)
        self._order(engine, number, needs)
        self._items.append(sync(engine))
        return number

    def _needs(self, engine: str, reads: Sequence[Box], writes: Sequence[Box], ports: set[tuple[int, bool]]) -> dict[str, int]:
        """The latest instruction of each other engine that must be done before these accesses."""
        needs: dict[str, int] = {}
        for box in reads:
            self._conflicts(self._writes, box, engine, needs)
        for box in writes:
            self._conflicts(self._writes, box, engine, needs)
            self._conflicts(self._reads, box, engine, needs)
        for bank, writing in ports:
            for other in ENGINES:
                if other != engine:
                    latest = self._ports.get((bank, other, writing), -1)
                    needs[other] = max(needs.get(other, -1), latest)
        return needs

    def _remember(
        self, engine: str, number: int, reads: Sequence[Box], writes: Sequence[Box], ports: set[tuple[int, bool]]
    ) -> None:
        for table, boxes in ((self._reads, reads), (self._writes, writes)):
            for box in boxes:
                table.setdefault((box.memory, engine), _Accesses()).add(box, number)
        for bank, writing in ports:
            self._ports[bank, engine, writing] = number

    def _conflicts(self, table: dict[tuple[str, str], _Accesses], box: Box, engine: str, needs: dict[str, int]) -> None:
        for other in ENGINES[:4]:
            if other != engine and (accesses := table.get((box.memory, other))):
                known = max(needs.get(other, -1), self._clock[engine][other])
                latest = accesses.latest(box, known)
                if latest > known:
                    needs[other] = latest

    def _order_itself(self, engine: str, number: int, fields: Mapping[str, int], reads: Sequence[Box]) -> None:
        """Instructions of one engine overlap.

        A gather waits for its index, a matmul for rows read in its weights' bank and for sums it would add to too soon.
        """
        latest = -1
        if engine == "load" and (table := self._writes.get(("indices", "load"))):
            latest = max((table.latest(box, -1) for box in reads if box.memory == "indices"), default=-1)
        elif engine == "matmul":
            boxes = [box for box in reads if box.memory == "scratchpad"]
            before, earlier, rows = self._matmul
            if rows & set().union(*(self._banks(box) for box in boxes[1:])) or self._adds_too_soon(earlier, fields):
                latest = before
            self._matmul = number, fields, self._banks(boxes[0])
        if latest > self._own.get(engine, latest):
            self._waits[number].add(engine)
            self._signals[latest].add(engine)
            self._own[engine] = latest

    def _adds_too_soon(self, before: Mapping[str, int], fields: Mapping[str, int]) -> bool:
        if not before or not fields["accumulate"] or fields["bank"] != before["bank"]:
            return False
        apart = fields["acc"] - before["acc"]
        overlap = -fields["m0"] * fields["m1"] < apart < before["m0"] * before["m1"]
        return overlap and not sums_are_written(self.core, before, fields)

    def _banks(self, box: Box) -> set[int]:
        bank_bytes = self.core.bank_bytes
        return set(range(box.start // bank_bytes, (box.end - 1) // bank_bytes + 1))

    def _ports_of(self, op: str, boxes: Sequence[Box], writing: bool) -> set[tuple[int, bool]]:
        """Scratchpad banks whose read (or write) port an instruction uses."""
        own = [self._banks(box) for box in boxes if box.memory == "scratchpad"]
        if op == "matmul" and not writing and own[0] & set().union(*own[1:]):
            raise CheckError("the moving and the stationary operand of a matmul lie in one scratchpad bank")
        return {(bank, writing) for bank in self._ports_in(boxes)}

    def _block_ports(self, reads: Sequence[Box], writes: Sequence[Box]) -> set[tuple[int, bool]]:
        return {(bank, writing) for boxes, writing in ((reads, False), (writes, True)) for bank in self._ports_in(boxes)}

    def _ports_in(self, boxes: Sequence[Box]) -> set[int]:
        """Banks of the scratchpad, and -1 and -2 for those of the accumulators: the matmul reads its own to add to it."""
        found = {-1 - int(box.memory[-1]) for box in boxes if box.memory.startswith("accumulator")}
        return found.union(*(self._banks(box) for box in boxes if box.memory == "scratchpad"))

    def _order(self, engine: str, number: int, needs: Mapping[str, int]) -> None:
        clock = self._clock[engine]
        wait: set[str] = set()
        # The latest first: what it knows may make the others needless.
        for other, latest in sorted(needs.items(), key=lambda item: -item[1]):
            if latest > clock[other]:
                wait.add(other)
                self._signals[latest].add(engine)
                for name, known in self._clocks[latest].items():
                    clock[name] = max(clock[name], known)
                clock[other] = max(clock[other], latest)
        self._waits.append(wait)
        self._signals.append(set())
        self._clocks.append(dict(clock) | {engine: number})
        clock[engine] = number
        if number % 64 == 63:
            self._forget()

    def _forget(self) -> None:
        """Accesses that every engine is behind can no longer order anything."""
        for table in (self._reads, self._writes):
            for (_, engine), accesses in table.items():
                accesses.forget(min(self._clock[other][engine] for other in ENGINES[:4] if other != engine))

    def finish(self, last: Instruction) -> tuple[Instruction, ...]:
        """All instructions with waits and signals, then ``last`` (a halt)."""
        made = [
            item.ordered(frozenset(wait), frozenset(signal))
            for item, wait, signal in zip(self._items, self._waits, self._signals, strict=True)
        ]
        return (*made, last)
