"""What a core and its DRAM hold: the memories that instructions change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from presilicon import float32
from presilicon.errors import IsaError
from presilicon.isa.instruction import INSTRUCTION_BYTES, REGISTERS
from presilicon.isa.layout import TARGETS
from presilicon.isa.uop import UOP_BYTES, Uop, sections
from presilicon.template import GROUP, Core

TABLE_ENTRIES = 512
VECTOR_REGISTERS = 16
Bytes = NDArray[np.uint8]
# Reads of whole array rows may reach past the last valid byte of the scratchpad; what they find there does not count.
_SLACK = 256


class State:
    """The memories of one core, and the DRAM that it shares; numpy arrays to look into and to change.

    ``dram`` uint8 [bytes], ``spad`` uint8 [scratchpad_bytes], ``accumulators`` int32 [2, accumulator_rows, cols],
    ``registers`` uint32 [16, 8, lanes] (fp32 bits), ``tables`` uint32 [512] (fp32 bits), ``kernels`` uint8 [kernel_slots, 16],
    ``indices`` uint32 [index_slots], ``instructions`` uint8 [instruction_slots, 64], ``scalars`` 16 ints of 40 bits.
    All begin as zeros. ``values=False``: only what timing depends on is kept up: kernels, indices, instructions, scalars.
    """

    def __init__(self, core: Core, dram: Bytes | int = 0, values: bool = True) -> None:
        self.core = core
        self.values = values
        self.dram: Bytes = np.zeros(dram, np.uint8) if isinstance(dram, int) else dram
        self.spad: Bytes = np.zeros(core.scratchpad_bytes + _SLACK if values else 0, np.uint8)[: core.scratchpad_bytes]
        self.accumulators: NDArray[np.int32] = np.zeros((2, core.accumulator_rows if values else 0, core.cols), np.int32)
        self.registers: NDArray[np.uint32] = np.zeros((VECTOR_REGISTERS, GROUP, core.lanes), np.uint32)
        self.tables: NDArray[np.uint32] = np.zeros(TABLE_ENTRIES, np.uint32)
        self.kernels: Bytes = np.zeros((core.kernel_slots, UOP_BYTES), np.uint8)
        self.indices: NDArray[np.uint32] = np.zeros(core.index_slots, np.uint32)
        self.instructions: Bytes = np.zeros((core.instruction_slots, INSTRUCTION_BYTES), np.uint8)
        self.scalars = [0] * REGISTERS
        self._kernels: dict[int, tuple[Uop, ...]] = {}

    def target(self, number: int) -> Bytes:
        """The memory that a load with this target writes, as bytes."""
        memories = self.spad, self.tables, self.kernels, self.indices, self.instructions
        return memories[number].reshape(-1).view(np.uint8)

    def written(self, number: int) -> None:
        """To be called after a change of a target's bytes: tables are made canonical, decoded kernels forgotten."""
        if TARGETS[number] == "kernels":
            self._kernels.clear()
        elif TARGETS[number] == "tables":
            self.tables[:] = float32.canonical(self.tables)

    def kernel(self, start: int) -> tuple[Uop, ...]:
        """The kernel that begins in a slot of the kernel memory, up to `last`; IsaError (code 12) where there is none."""
        found = self._kernels.get(start)
        if found is None:
            uops = []
            for slot in range(start, self.core.kernel_slots):
                uops.append(Uop.decode(self.kernels[slot].tobytes()))
                if uops[-1].last:
                    break
            else:
                raise IsaError(f"the kernel in slot {start} runs past the {self.core.kernel_slots} of kernel memory", code=12)
            found = tuple(uops)
            sections(found)
            self._kernels[start] = found
        return found
