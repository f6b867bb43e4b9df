"""What every engine has at its edge: the payload it is started with, and the ports towards its issue unit.

An engine is a ``wiring.Component`` whose signature begins with ``engine_ports(opcode)``.
"""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from presilicon.isa.layout import LAYOUT

PC_BITS = 16
ERROR_CODES = {
    1: "illegal opcode",
    2: "illegal field",
    3: "scratchpad address",
    4: "accumulator row",
    5: "read conflict",
    6: "write conflict",
    7: "semaphore overflow",
    8: "loop nesting",
    9: "bus read",
    10: "bus write",
    11: "watchdog",
    12: "kernel",
    13: "alignment",
    14: "index out of range",
}
"""What the error codes of STATUS mean (0: none)."""


def payload(opcode: str) -> data.StructLayout:
    """The fields of an instruction as an engine gets them: names, widths and order of ``LAYOUT``, registers added."""
    return data.StructLayout({f.name: signed(f.bits) if f.signed else unsigned(f.bits) for f in LAYOUT[opcode]})


def engine_ports(opcode: str) -> dict[str, In | Out]:
    """The ports of the engine that executes ``opcode``, as members of its signature.

    ``start`` is a pulse: ``payload`` is taken in this cycle; it comes only where ``ready`` is high. ``done`` is a pulse an
    instruction, in order. ``error`` is a pulse with its code and info. ``stop``: an error happened somewhere, start nothing,
    finish the AXI bursts in flight. ``idle``: nothing in flight.
    """
    return {
        "start": In(1),
        "payload": In(payload(opcode)),
        "ready": Out(1),
        "done": Out(1),
        "error": Out(1),
        "error_code": Out(8),
        "error_info": Out(32),
        "stop": In(1),
        "idle": Out(1),
    }
