"""The registers of a core: the one table from which the hardware, the register map, the C header and its text derive.

All are 32 bits wide in the core's 4 KB page; a register of more than 32 bits takes two words, the low one first. Reading the
low word of a counter keeps its high word for the next read, so that a pair read in this order belongs together.
"""

from __future__ import annotations

from dataclasses import dataclass

from presilicon.rtl.engine import ERROR_CODES
from presilicon.template import ENGINES

PAGE_BYTES = 4096
IDENTITY = 0x4C495350  # "PSIL" as bytes in the order of their addresses
VERSION = 0x0001_0000  # of this map: major in the upper half, minor in the lower
ARGUMENTS = 15
COUNTER_BITS = 48


@dataclass(frozen=True, slots=True)
class Bits:
    """A field of a register."""

    name: str
    at: int
    bits: int
    meaning: str


@dataclass(frozen=True, slots=True)
class Register:
    """A register: ``bits`` of it exist. Access "r", "rw", "w" (reads as 0) or "w1c" (a 1 clears its bit)."""

    name: str
    offset: int
    bits: int
    access: str
    meaning: str
    fields: tuple[Bits, ...] = ()

    @property
    def words(self) -> int:
        """32-bit words it takes."""
        return -(-self.bits // 32)

    def word_names(self) -> tuple[str, ...]:
        """A name for each word."""
        return (self.name,) if self.words == 1 else (f"{self.name}_LO", f"{self.name}_HI")


COUNTERS = (
    ("CYCLES", "cycles since `start`; stands still from the cycle in which `halt` ends or an error is kept"),
    *((f"BUSY_{name.upper()}", f"cycles in which the {name} engine had instructions in flight") for name in ENGINES[:4]),
    ("MOVING_ROWS", "rows of the moving operand that entered the array"),
    ("WAITS", "engines kept back by semaphores alone, summed over cycles"),
    ("READ_BYTES", "bytes of the beats read from DRAM"),
    ("WRITE_BYTES", "bytes of the beats written to DRAM"),
    ("BUS_STALLS", "address and write channels that the bus kept waiting, summed over cycles"),
)
"""Counters of one run, and what they count."""

_EVENTS = (Bits("DONE", 0, 1, "the program has ended"), Bits("ERROR", 1, 1, "an error has stopped the core"))
_CODES = ", ".join(f"{code} {meaning}" for code, meaning in ERROR_CODES.items())

REGISTERS = (
    Register("ID", 0x000, 32, "r", "what this is: the bytes PSIL"),
    Register("VERSION", 0x004, 32, "r", "version of this map, major in the upper half"),
    Register("DIGEST", 0x008, 64, "r", "name of the core's sizes, as programs carry it"),
    Register(
        "CORES", 0x010, 32, "r", "cores of the chip",
        (Bits("COUNT", 0, 16, "how many"), Bits("NUMBER", 16, 16, "which one this page is of")),
    ),
    Register(
        "CONTROL", 0x014, 3, "w", "starts and resets",
        (
            Bits("START", 0, 1, "start the program; refused while the core is busy or in error"),
            Bits("RESET", 1, 1, "stop and reset the core; takes effect when its bursts have ended, RESETTING falls then"),
            Bits("START_ALL", 2, 1, "start every core of the chip in the same cycle; one that is busy or in error is not"),
        ),
    ),
    Register(
        "STATUS", 0x018, 24, "r", "how the core is",
        (
            Bits("BUSY", 0, 1, "a program runs"),
            Bits("DONE", 1, 1, "a program has ended since the last start or reset"),
            Bits("ERROR", 2, 1, "an error has stopped the core: only RESET helps"),
            Bits("RESETTING", 3, 1, "a reset waits for bursts to end"),
            Bits("CODE", 8, 8, f"of the first error: {_CODES}"),
            Bits("ENGINE", 16, 3, "of the first error: " + ", ".join(f"{i} {name}" for i, name in enumerate(ENGINES))),
        ),
    ),
    Register("ERROR_PC", 0x01C, 16, "r", "of the first error: slot of its instruction in the instruction memory"),
    Register("ERROR_INFO", 0x020, 32, "r", "of the first error: the address, index or instruction word it is about"),
    Register("IRQ_ENABLE", 0x024, 2, "rw", "events that raise the interrupt", _EVENTS),
    Register("IRQ_STATUS", 0x028, 2, "w1c", "events that have happened", _EVENTS),
    Register("PROGRAM_BYTES", 0x02C, 32, "rw", "size of the program, a multiple of 64"),
    Register("PROGRAM", 0x030, 40, "rw", "address of the program in DRAM, a multiple of the bus width"),
    Register("WATCHDOG", 0x038, 40, "rw", "cycles after which a run is stopped with error 11; 0: never"),
    *(
        Register(f"ARG{i}", 0x080 + 8 * i, 40, "rw", f"register r{i} of the program; written only while the core is not busy")
        for i in range(1, ARGUMENTS + 1)
    ),
    *(Register(name, 0x100 + 8 * i, 64, "r", meaning) for i, (name, meaning) in enumerate(COUNTERS)),
)  # fmt: skip
"""Every register, by rising offset."""


def register(name: str) -> Register:
    """A register by its name."""
    return next(r for r in REGISTERS if r.name == name)


def offset(name: str) -> int:
    """Offset of a register's (first) word in the core's page."""
    return register(name).offset


def _laws() -> None:
    """Words do not overlap and fit the page, fields fit their register."""
    end = 0
    for r in REGISTERS:
        assert r.offset >= end, r
        assert r.offset % 4 == 0, r
        assert all(f.at + f.bits <= r.bits for f in r.fields), r
        end = r.offset + 4 * r.words
    assert end <= PAGE_BYTES


_laws()
