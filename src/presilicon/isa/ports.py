"""Ports of memory banks: each bank reads one and writes one access a cycle, so two engines must not be there at once."""

from __future__ import annotations

from collections.abc import Sequence

from presilicon.errors import IsaError
from presilicon.isa.footprint import Access
from presilicon.isa.walk import MATMUL, SEQUENCER, Step
from presilicon.template import Core


def banks(core: Core, access: Access) -> set[int]:
    """Banks whose port an access takes: of the scratchpad from 0 on, accumulators -1 and -2; none for other memories."""
    if access.memory.startswith("accumulator"):
        return {-1 - int(access.memory[-1])}
    if access.memory != "scratchpad":
        return set()
    runs = access.runs()
    if len(runs) > 4 * core.scratchpad_banks:
        runs = ((access.low - access.start, access.high - access.start),) if _dense(core, access) else runs
    found: set[int] = set()
    for low, high in runs:
        found.update(range((access.start + low) // core.bank_bytes, (access.start + high - 1) // core.bank_bytes + 1))
    return found


def _dense(core: Core, access: Access) -> bool:
    """Whether no bank lies between two runs of an access untouched."""
    return all(abs(stride) <= core.bank_bytes for n, stride in access.nest if n > 1)


class Ports:
    """The last instruction of each engine on each port of each bank of a core."""

    def __init__(self, core: Core, steps: Sequence[Sequence[Step]]) -> None:
        self.core = core
        self.steps = steps
        self._last: dict[tuple[int, bool], list[int]] = {}
        # The last matmul and the banks of its moving operand.
        self._moving: tuple[Step, set[int]] | None = None

    def take(self, step: Step, found: Sequence[Access]) -> None:
        """An instruction takes the ports of its accesses; IsaError (code 5 or 6) where another engine may be on one."""
        operands: dict[str, set[int]] = {"x": set(), "w": set()}
        used: set[tuple[int, bool]] = set()
        for access in found:
            touched = banks(self.core, access)
            used.update((bank, access.write) for bank in touched)
            if access.port in operands:
                operands[access.port] |= touched
        for port in used:
            last = self._last.setdefault(port, [-1] * SEQUENCER)
            for engine, number in enumerate(last):
                if number >= 0 and engine != step.engine and not step.after(engine, number):
                    bank, write = port
                    kind = f"accumulator bank {-1 - bank}" if bank < 0 else f"scratchpad bank {bank}"
                    raise IsaError(
                        f"{step} {'writes' if write else 'reads'} {kind} in no order with {self.steps[engine][number]}",
                        hint="a bank has one port to read and one to write: use another bank, or a wait and a signal",
                        code=6 if write else 5,
                    )
            last[step.engine] = step.number
        if step.engine == MATMUL:
            self._operands(step, operands["x"], operands["w"])

    def _operands(self, step: Step, x: set[int], w: set[int]) -> None:
        """The tile of a block is fetched while the rows of the block before are read: they need banks of their own."""
        shared = x & w if step.fields["kb"] * step.fields["k1"] > 1 else set()
        if not shared and self._moving is not None and not step.after(MATMUL, self._moving[0].number):
            shared = self._moving[1] & w
        if shared:
            raise IsaError(
                f"{step} fetches its stationary operand from scratchpad bank {min(shared)} while moving rows are read there",
                hint="x and w in different banks",
                code=5,
            )
        self._moving = step, x
