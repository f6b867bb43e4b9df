"""Small pieces of hardware that several blocks are made of."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value


def register(name: str, width: int) -> Signal:
    """A register of data: it needs no reset, as nothing looks at it before it was loaded."""
    return Signal(width, name=name, reset_less=True)


def delayed(m: Module, value: Value, name: str, cycles: int, *, reset: bool = True) -> Value:
    """``value`` of ``cycles`` cycles ago, 0 after a reset; data that nothing looks at then need none (``reset`` False)."""
    for cycle in range(cycles):
        later = Signal(len(value), name=f"{name}_{cycle + 1}", reset_less=not reset)
        m.d.sync += later.eq(value)
        value = later
    return value


def any_of(values: list[Value]) -> Value:
    """The OR of values."""
    return reduce(or_, values)


def where(condition: Value, value: Value) -> Value:
    """``value``, or 0 where ``condition`` is 0."""
    return Mux(condition, value, 0)


def rotated(m: Module, lanes: Value, by: Value, name: str) -> Value:
    """``lanes`` (a power of two of bytes) rotated so that byte ``by`` (mod their number) comes first."""
    for bit in range((len(lanes) // 8).bit_length() - 1):
        step = Signal(len(lanes), name=f"{name}_{1 << bit}")
        m.d.comb += step.eq(Mux(by[bit], Cat(lanes[8 << bit :], lanes[: 8 << bit]), lanes))
        lanes = step
    return lanes


def rounded(width: int) -> int:
    """The power of two not below ``width``."""
    return 1 << (width - 1).bit_length()


def lanes_from(m: Module, first: Value, lanes: int, width: int) -> Value:
    """All ones in the lanes from ``first`` on, of ``lanes`` (a power of two) of ``width`` bits; a gate a lane and level."""
    if lanes == 1:
        return Const(-1, width)
    size = lanes // 2 * width
    below, all_lanes = lanes_from(m, first[:-1], lanes // 2, width), Signal(2 * size, name=f"lanes_{lanes}")
    m.d.comb += all_lanes.eq(Mux(first[-1], Cat(Const(0, size), below), Cat(below, Const((1 << size) - 1, size))))
    return all_lanes
