"""The queue of resolved instructions in front of one engine."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import SEMAPHORE_BITS
from presilicon.rtl.engine import PC_BITS, payload


def entry(opcode: str) -> data.StructLayout:
    """What a queue holds an instruction: its fields, its masks, where it stood; ``sync`` has masks alone."""
    return data.StructLayout(
        {
            "payload": payload(opcode),
            "wait_mask": unsigned(SEMAPHORE_BITS),
            "signal_mask": unsigned(SEMAPHORE_BITS),
            "sync": unsigned(1),
            "pc": unsigned(PC_BITS),
        }
    )


class Queue(Component):
    """First in, first out, ``depth`` entries (a power of two) of ``shape``.

    An entry pushed in cycle p is at the head, ``visible``, from max(p + 2, pop of the one before + 1). ``push`` only where
    ``room``, ``pop`` only where ``visible``. ``empty``: no entry as of the cycle before.
    """

    def __init__(self, shape: Any, depth: int) -> None:
        assert depth in (2, 4, 8, 16), depth
        self._shape, self._depth = shape, depth
        super().__init__(
            {
                "push": In(1),
                "entry": In(shape),
                "room": Out(1),
                "pop": In(1),
                "visible": Out(1),
                "head": Out(shape),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self._depth
        m.submodules.storage = storage = Memory(shape=self._shape, depth=depth, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        count = Signal(range(depth + 1))
        first, free = Signal(range(depth)), Signal(range(depth))
        left = Signal(range(depth + 1))
        m.d.comb += [
            write.addr.eq(free),
            write.data.eq(self.entry),
            write.en.eq(self.push),
            read.addr.eq(first),
            self.head.eq(read.data),
            self.room.eq(count < depth),
            self.empty.eq(count == 0),
            left.eq(count - self.pop),
        ]
        m.d.sync += [
            count.eq(left + self.push),
            self.visible.eq(left != 0),
            free.eq(free + self.push),
            first.eq(first + self.pop),
        ]
        return m
