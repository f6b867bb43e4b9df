"""DRAM as simulator and RTL harness see it: bursts served one after another, all in integers (section 6 of the template).

``rtl/harness.cpp`` does the same arithmetic in C++; ``tests/test_dram.py`` compares the two.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from presilicon.errors import InputError

_MASK = (1 << 64) - 1
AR, R, AW, W, B = range(5)
"""Channels of the port, as ``Dram.passes`` numbers them."""


def splitmix64(x: int) -> int:
    """A 64-bit number that looks random, from a 64-bit number (Steele, Lea, Flood 2014: SplitMix's output of state x)."""
    z = (x + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class DramOptions:
    """How the memory behaves; all times in cycles of the core's clock. InputError where the options contradict themselves.

    A beat takes ``num`` / ``den`` cycles, the first arrives after ``latency``. A burst that changes the open row (of
    ``row_bytes``, one in each of ``banks``) waits ``row_miss`` longer; every ``refresh_interval`` cycles the memory refuses to
    begin a burst for ``refresh_cycles``; of ``stall_percent`` of the bursts each waits 1 to ``stall_max`` longer. Each ready
    and valid that the memory drives is low in ``back_pressure`` percent of the cycles in which it could be high, channel by
    channel and beat by beat. 0 switches an option off. ``stall_seed`` is the seed of both.
    """

    latency: int = 40
    num: int = 1
    den: int = 1
    row_bytes: int = 0
    banks: int = 8
    row_miss: int = 0
    refresh_interval: int = 0
    refresh_cycles: int = 0
    stall_seed: int = 0
    stall_max: int = 0
    stall_percent: int = 0
    back_pressure: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 1 if name in ("latency", "num", "den", "banks") else 0
            if not least <= value < 1 << 31:
                raise InputError(f"{name} of the memory is {value}", hint=f"from {least} to 2^31 - 1")
        if self.refresh_cycles and self.refresh_cycles >= self.refresh_interval:
            raise InputError(
                f"refresh_cycles {self.refresh_cycles} is not below refresh_interval {self.refresh_interval}",
                hint="the memory must be free between refreshes",
            )
        if self.row_miss and not self.row_bytes:
            raise InputError("row_miss is given without row_bytes", hint="row_bytes such as 2048")
        if self.stall_percent > 100 or self.back_pressure > 90:
            raise InputError(
                f"stall_percent is {self.stall_percent}, back_pressure {self.back_pressure}",
                hint="at most 100 and at most 90 percent",
            )
        if self.stall_percent and not self.stall_max:
            raise InputError("stall_percent is given without stall_max", hint="stall_max of at least 1 cycle")

    def active(self) -> tuple[str, ...]:
        """What is not as by default, as ``name=value``: for reports, which must say it."""
        default = asdict(DramOptions())
        return tuple(f"{name}={value}" for name, value in asdict(self).items() if value != default[name])


class Dram:
    """State of the memory: when it is free, which rows are open, how many bursts it has served.

    Cores share the port's two data channels: ``read_until`` and ``written_until`` are the last cycles in which a beat of a
    burst so far passes them, kept by who moves the beats.
    """

    __slots__ = (
        "_banks",
        "_beat",
        "_held",
        "_open",
        "_row_bytes",
        "addressed",
        "free",
        "options",
        "read_until",
        "served",
        "written_until",
    )

    def __init__(self, options: DramOptions | None = None) -> None:
        self.options = options or DramOptions()
        self.free = 0
        self.served = 0
        self.addressed = -1
        self.read_until = 0
        self.written_until = 0
        self._beat = (self.options.num, self.options.den)
        self._held = splitmix64(self.options.stall_seed)
        self._row_bytes = self.options.row_bytes if self.options.row_miss else 0
        self._banks = self.options.banks
        self._open = [-1] * self._banks

    def serve(self, arrival: int, beats: int, address: int, write: bool = False) -> tuple[int, int]:
        """First cycle of a burst's data at the memory, and the cycle from which the memory is free again.

        ``arrival``: the cycle of the AR handshake, or of the last W beat's. ``address``: of the first beat. Bursts must be
        given in order of arrival, a read before a write of the same cycle.
        """
        options = self.options
        start = arrival + 1 if arrival + 1 > self.free else self.free
        if options.refresh_cycles:
            phase = start % options.refresh_interval
            if phase < options.refresh_cycles:
                start += options.refresh_cycles - phase
        if self._row_bytes:
            line = address // self._row_bytes
            row, bank = divmod(line, self._banks)
            if self._open[bank] != row:
                self._open[bank] = row
                start += options.row_miss
        if options.stall_percent:
            draw = splitmix64(options.stall_seed + self.served)
            if (draw & 0xFFFF) * 100 < options.stall_percent * 65536:
                start += 1 + (draw >> 16) % options.stall_max
        self.served += 1
        num, den = self._beat
        self.free = start + -(-beats * num // den)
        return start, self.free

    def passes(self, channel: int, cycle: int) -> int:
        """First cycle, from this one on, in which the memory's ready (AR, AW, W) or a new valid (R, B) is not held back."""
        percent = self.options.back_pressure
        if percent:
            while (splitmix64(self._held + 8 * cycle + channel) >> 32) % 100 < percent:
                cycle += 1
        return cycle

    def beat(self, start: int, number: int) -> int:
        """First cycle in which read beat ``number`` (from 0) of a burst that began at ``start`` is valid on R."""
        num, den = self._beat
        return start + self.options.latency + -(-(number + 1) * num // den) - 1

    def response(self, free: int) -> int:
        """Cycle in which B of a write is valid, ``free`` as from ``serve``."""
        return free + self.options.latency
