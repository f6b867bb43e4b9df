"""What every engine looks like to the issue unit: start a payload, say done, say error, stop."""

from __future__ import annotations

from amaranth.hdl import Shape
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from presilicon.isa.layout import LAYOUT


def payload_layout(opcode: str) -> data.StructLayout:
    """Fields of an instruction as an engine gets them: in the table's order, signed where the table says so.

    Slots have their register added already; the common word (opcode, semaphores) and the registers are left out.
    """
    return data.StructLayout({field.name: Shape(field.bits, field.signed) for field in LAYOUT[opcode]})


def engine_members(opcode: str) -> dict[str, wiring.Member]:
    """Members that the engine of ``opcode`` has towards the issue unit, from the engine's side.

    ``start`` pulses for one cycle, only while ``ready``, with ``payload`` valid in that cycle. ``done`` pulses once for each
    instruction, in order. ``error`` pulses with its code (section 9 of the instruction page) and an address or index in
    ``error_info``; ``error_newest`` is 1 where it concerns the instruction that was issued last, 0 for the oldest in flight.
    While ``stop`` is high the engine starts nothing, finishes its AXI bursts, writes nothing and goes ``idle``.
    """
    return {
        "start": In(1),
        "payload": In(payload_layout(opcode)),
        "ready": Out(1),
        "done": Out(1),
        "idle": Out(1),
        "stop": In(1),
        "error": Out(1),
        "error_code": Out(8),
        "error_info": Out(32),
        "error_newest": Out(1),
    }
