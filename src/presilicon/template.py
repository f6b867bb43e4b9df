"""A core of our template: every size and latency that the hardware fixes, derived from one ``Chip``.

The instruction set's timing, the simulator, the RTL and the compiler read these properties and hold no constant of their
own. Chips that are not of the template are refused by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

from presilicon.chip import Chip
from presilicon.errors import ChipError

# Strips one micro-operation of the vector unit covers, one a cycle: as many as its pipeline is deep from register read
# to register write, so that a dependent micro-operation follows without a gap.
GROUP = 8
# A sum is 32 partial sums, element i into partial i mod 32, and then a tree: its order is the same for 4 to 32 lanes.
PARTIALS = 32
ENGINES = ("load", "store", "matmul", "vector", "sequencer")


@dataclass(frozen=True, slots=True)
class Core:
    """Sizes of one core of the template; ``Core.of(chip)`` derives them, laws are stated in the constructor.

    ``rows`` x ``cols`` int8 PEs, ``lanes`` fp32 vector lanes, ``bus_bytes`` of AXI4 data a cycle, and memories by their
    entries. All accesses to the scratchpad are at byte addresses, up to ``width_bytes`` wide.
    """

    rows: int
    cols: int
    lanes: int
    bus_bytes: int
    weight_rows_per_cycle: int
    scratchpad_bytes: int
    scratchpad_banks: int
    accumulator_rows: int
    instruction_slots: int = 256
    kernel_slots: int = 256
    index_slots: int = 256
    queue_slots: int = 4
    outstanding: int = 8
    cores: int = 1

    def __post_init__(self) -> None:
        for name, value in (("array_rows", self.rows), ("array_cols", self.cols)):
            if not (4 <= value <= 128 and value % 4 == 0):
                raise ChipError(f"{name} is {value}", hint="a multiple of 4 from 4 to 128")
        if self.lanes not in (4, 8, 16, 32) or self.cols % self.lanes:
            raise ChipError(
                f"vector_lanes is {self.lanes} with array_cols {self.cols}", hint="4, 8, 16 or 32, and a divisor of array_cols"
            )
        if self.bus_bytes not in (16, 32, 64):
            raise ChipError(f"bus_bytes is {self.bus_bytes}", hint="16, 32 or 64 (AXI4 of 128, 256 or 512 bits)")
        if not 1 <= self.weight_rows_per_cycle <= self.rows:
            raise ChipError(f"weight_rows_per_cycle is {self.weight_rows_per_cycle}", hint=f"1 to array_rows ({self.rows})")
        if self.weight_rows_per_cycle * self.cols < self.bus_bytes:
            raise ChipError(
                f"array_cols {self.cols} * weight_rows_per_cycle {self.weight_rows_per_cycle} is below the {self.bus_bytes}"
                " bytes a cycle of the memory: a matrix-vector product could not use its bandwidth"
            )
        banks, size = self.scratchpad_banks, self.scratchpad_bytes
        if banks & (banks - 1) or not 2 <= banks <= 64:
            raise ChipError(f"scratchpad_banks is {banks}", hint="a power of two from 2 to 64")
        if size & (size - 1) or not banks * 4 * self.width_bytes <= size <= 1 << 24:
            raise ChipError(
                f"scratchpad_bytes is {size}",
                hint=f"a power of two from {banks * 4 * self.width_bytes} ({banks} banks of four rows of {self.width_bytes} B)"
                " to 2^24",
            )
        rows = self.accumulator_rows
        if rows & (rows - 1) or not 16 <= rows <= 1 << 15:
            raise ChipError(f"accumulator_rows is {rows}", hint="a power of two from 16 to 32768, in each of the two banks")

    @classmethod
    def of(cls, chip: Chip) -> Core:
        """The core of a chip; ChipError where the chip is not of our template, naming what says so."""
        template = chip.template
        if template is None:
            raise ChipError(
                f"{chip.name} is not of the template: it has no RTL, no simulator and no compiler here",
                where=chip.name,
                hint="a template chip such as core-16x16, or a TOML file with a [template] table",
            )
        try:
            return cls(
                rows=int(chip.need("array_rows")),
                cols=int(chip.need("array_cols")),
                lanes=int(chip.need("vector_lanes")),
                bus_bytes=template.bus_bytes,
                weight_rows_per_cycle=template.weight_rows_per_cycle,
                scratchpad_bytes=int(chip.need("scratchpad_bytes")),
                scratchpad_banks=template.scratchpad_banks,
                accumulator_rows=template.accumulator_rows,
                instruction_slots=template.instruction_slots,
                kernel_slots=template.kernel_slots,
                cores=int(chip.need("cores")),
            )
        except ChipError as error:
            raise error.at(chip.name) from None

    # Widths -----------------------------------------------------------------------------------------------------------

    @property
    def width_bytes(self) -> int:
        """Widest access to the scratchpad, rounded up to a power of two: the width of one of its SRAM rows."""
        widest = max(self.rows, self.cols * self.weight_rows_per_cycle, 4 * self.lanes, self.bus_bytes)
        return 1 << (widest - 1).bit_length()

    @property
    def bank_bytes(self) -> int:
        """Bytes of one scratchpad bank, a contiguous range of addresses."""
        return self.scratchpad_bytes // self.scratchpad_banks

    @property
    def chunks(self) -> int:
        """Vector-wide pieces of one accumulator row."""
        return self.cols // self.lanes

    @property
    def accumulator_bytes(self) -> int:
        """Both banks."""
        return 2 * self.accumulator_rows * self.cols * 4

    @property
    def partial_registers(self) -> int:
        """Registers of a lane that hold the 32 partial sums of one row."""
        return PARTIALS // self.lanes

    @property
    def weight_words(self) -> int:
        """Scratchpad reads that load one packed weight tile."""
        return -(-self.rows // self.weight_rows_per_cycle)

    # Latencies, in cycles ---------------------------------------------------------------------------------------------

    @property
    def scratchpad_read_cycles(self) -> int:
        """From the address of a read to its data in a register: SRAM, bank select, rotate."""
        return 3

    @property
    def scratchpad_write_cycles(self) -> int:
        """From a write at the port until a read at the port finds the bytes: rotate, SRAM."""
        return 3

    @property
    def tree_levels(self) -> int:
        """Registered levels of a column's adder tree."""
        return (self.rows - 1).bit_length()

    @property
    def accumulate_cycles(self) -> int:
        """Least distance of two additions to the same accumulator row: read, add, write, visible."""
        return 4

    @property
    def matmul_drain_cycles(self) -> int:
        """From the read of a moving row until its sums are written; the vector unit may read them in the cycle after.

        Scratchpad, broadcast register, product register, tree, sum of the accumulator.
        """
        return self.scratchpad_read_cycles + 1 + 1 + self.tree_levels + 1

    @property
    def vector_start_cycles(self) -> int:
        """From issue of a vector instruction to the first slot."""
        return 2

    @property
    def vector_drain_cycles(self) -> int:
        """From the first cycle of a slot's last element until the instruction is done.

        Address, scratchpad, the lane's ten stages (three quantise): 13 to the scratchpad's write port. What is issued in the
        cycle after ``done`` reads at the earliest two cycles after it, which is ``scratchpad_write_cycles`` after the write.
        """
        return 13 + self.scratchpad_write_cycles - 2

    def digest(self) -> str:
        """Sixteen hex digits that name this core: programs carry them, the hardware answers with them."""
        text = ",".join(f"{k}={v}" for k, v in sorted(asdict(self).items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
