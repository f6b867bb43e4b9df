"""The instruction set of the template: the narrow waist between compiler, simulator and RTL."""

from presilicon.isa.constructors import barrier, end, halt, load, loop, matmul, set_, store, sync, vector
from presilicon.isa.definition import (
    DECODE,
    DEFINITIONS,
    EXEC,
    FETCH,
    INSTRUCTION_CYCLES,
    QUEUE_CYCLES,
    Definition,
    actions,
    alu,
    execute,
)
from presilicon.isa.footprint import Access, Box, accesses, footprint
from presilicon.isa.instruction import INSTRUCTION_BYTES, LAWS, Instruction, Law, Slot, check_fields, make, reg
from presilicon.isa.kernels import VectorTime, vector_slots, vector_time
from presilicon.isa.layout import ALU, FORMATS, LAYOUT, OPCODES, TARGETS, UOP, UOPS, WEIGHTS
from presilicon.isa.moves import (
    GATHER_START,
    LOAD_DONE,
    MOVE_START,
    Entries,
    load_entries,
    store_bursts,
    table_beat_cycles,
)
from presilicon.isa.overlay import link
from presilicon.isa.products import MatmulTime, matmul_time
from presilicon.isa.program import Kernel, Program, Region, Segment, place
from presilicon.isa.state import State
from presilicon.isa.text import assemble, disassemble
from presilicon.isa.uop import UOP_BYTES, Uop, kernel, sections
from presilicon.isa.uop_text import imm, kernel_text
from presilicon.isa.verify import Checked, verify

__all__ = [
    "ALU",
    "DECODE",
    "DEFINITIONS",
    "EXEC",
    "FETCH",
    "FORMATS",
    "GATHER_START",
    "INSTRUCTION_BYTES",
    "INSTRUCTION_CYCLES",
    "LAWS",
    "LAYOUT",
    "LOAD_DONE",
    "MOVE_START",
    "OPCODES",
    "QUEUE_CYCLES",
    "TARGETS",
    "UOP",
    "UOPS",
    "UOP_BYTES",
    "WEIGHTS",
    "Access",
    "Box",
    "Checked",
    "Definition",
    "Entries",
    "Instruction",
    "Kernel",
    "Law",
    "MatmulTime",
    "Program",
    "Region",
    "Segment",
    "Slot",
    "State",
    "Uop",
    "VectorTime",
    "accesses",
    "actions",
    "alu",
    "assemble",
    "barrier",
    "check_fields",
    "disassemble",
    "end",
    "execute",
    "footprint",
    "halt",
    "imm",
    "kernel",
    "kernel_text",
    "link",
    "load",
    "load_entries",
    "loop",
    "make",
    "matmul",
    "matmul_time",
    "place",
    "reg",
    "sections",
    "set_",
    "store",
    "store_bursts",
    "sync",
    "table_beat_cycles",
    "vector",
    "vector_slots",
    "vector_time",
    "verify",
]
