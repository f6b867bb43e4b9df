"""What the tests of the levels share: cores by name, and one RTL model for each in a process."""

from dataclasses import replace
from functools import cache

import numpy as np

from presilicon import chip as chips
from presilicon.dram import DramOptions
from presilicon.rtl.runner import RtlMachine
from presilicon.template import Core

EVERY_CORE = ("core-4x4", "core-8x8", "core-16x16", "core-16x32", "core-32x16", "core-32x32")
PAIRS = ("core-4x4-x2", "core-16x16-x2")
# Options of the memory that a run may meet: none, seeded stalls with misses and refresh, beats that are held back.
STALLED = DramOptions(
    latency=25,
    stall_seed=11,
    stall_percent=40,
    stall_max=60,
    row_bytes=2048,
    row_miss=7,
    refresh_interval=900,
    refresh_cycles=60,
)
MEMORIES = {"plain": DramOptions(), "stalled": STALLED, "held back": DramOptions(back_pressure=25, stall_seed=7)}
MEMORY_BYTES = 4 << 20


@cache
def core(name: str) -> Core:
    """A core of the library; the pair of the smallest is made here."""
    if name == "core-4x4-x2":
        return replace(core("core-4x4"), cores=2)
    return Core.of(chips.load(name))


@cache
def machine(name: str, memory: str = "plain") -> RtlMachine:
    """The RTL of a core with a memory of these options."""
    return RtlMachine(core(name), np.zeros(MEMORY_BYTES, np.uint8), MEMORIES[memory])
