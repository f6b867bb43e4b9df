"""Where each field of each instruction and micro-operation lies: the one table that encoder, decoder and RTL read.

An instruction is 512 bits. Word 0 is common: opcode, then the semaphores it waits for and signals, a bit per engine of
``template.ENGINES``. Then eight slots: slot 0 of 40 bits, slots 1 to 7 of 24, each with the number of a register that the
sequencer adds to it (register 0 is always 0): loop counters, addresses and masks may so depend on runtime arguments.
What follows are plain fields of the opcode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INSTRUCTION_BITS = 512
UOP_BITS = 128
OPCODE_BITS = 8
SEMAPHORE_BITS = 5
REGISTER_BITS = 4
SLOT_BITS = (40, 24, 24, 24, 24, 24, 24, 24)
WAIT_AT = OPCODE_BITS
SIGNAL_AT = WAIT_AT + SEMAPHORE_BITS
SLOTS_AT = 32
PLAIN_AT = SLOTS_AT + sum(bits + REGISTER_BITS for bits in SLOT_BITS)


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name, first bit, width, whether two's complement; ``register_at`` is the slot's register, or -1."""

    name: str
    at: int
    bits: int
    signed: bool = False
    register_at: int = -1
    meaning: str = ""

    @property
    def low(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value."""
        return (1 << (self.bits - self.signed)) - 1


def slot_at(slot: int) -> int:
    """First bit of a slot's value; its register follows the value."""
    return SLOTS_AT + sum(bits + REGISTER_BITS for bits in SLOT_BITS[:slot])


def _fields(slots: Mapping[int, tuple[str, bool, str]], plain: list[tuple[str, int, bool, str]]) -> tuple[Field, ...]:
    made = []
    for slot, (name, signed, meaning) in slots.items():
        at = slot_at(slot)
        made.append(Field(name, at, SLOT_BITS[slot], signed, at + SLOT_BITS[slot], meaning))
    at = PLAIN_AT
    for name, bits, signed, meaning in plain:
        made.append(Field(name, at, bits, signed, -1, meaning))
        at += bits
    assert at <= INSTRUCTION_BITS, (slots, at)
    return tuple(made)


_U, _S = False, True
_STRIDES = [
    ("stride1", 32, _S, "bytes in DRAM from one row to the next"),
    ("stride2", 32, _S, "bytes in DRAM along the second count"),
    ("stride3", 32, _S, "bytes in DRAM along the third count"),
    ("n3", 16, _U, "third count (outermost), at least 1"),
    ("pitch", 24, _U, "bytes in the scratchpad from one row to the next, over all counts in order"),
]

LAYOUT: Mapping[str, tuple[Field, ...]] = {
    "load": _fields(
        {
            0: ("dram", _U, "byte address in DRAM of the first row"),
            1: ("spad", _U, "byte address in the target memory (instruction, kernel and index memories: D-aligned bytes)"),
            2: ("n1", _U, "rows, at least 1"),
            3: ("n2", _U, "second count, at least 1"),
            4: ("run", _U, "contiguous bytes of a row in DRAM, at least 1"),
            5: (
                "y0",
                _S,
                "number of the first row, for the range check: a row outside 0 <= y0 + i1 < limit is all fill",
            ),
            6: ("limit", _U, "rows that exist; 0: no range check"),
        },
        [
            *_STRIDES,
            ("left", 16, _U, "fill bytes before each row"),
            ("right", 16, _U, "fill bytes after each row"),
            ("fill", 8, _U, "the byte that fills"),
            ("gather", 1, _U, "1: row i starts at dram + index[index0 + i] * stride1, n2 = n3 = 1"),
            ("index0", 12, _U, "first entry of the index memory"),
            ("target", 3, _U, "0 scratchpad, 1 tables, 2 kernels, 3 index memory, 4 instruction memory"),
        ],
    ),
    "store": _fields(
        {
            0: ("dram", _U, "byte address in DRAM of the first row"),
            1: ("spad", _U, "byte address in the scratchpad"),
            2: ("n1", _U, "rows, at least 1"),
            3: ("n2", _U, "second count, at least 1"),
            4: ("run", _U, "contiguous bytes of a row, at least 1"),
        },
        [*_STRIDES],
    ),
    "matmul": _fields(
        {
            1: ("x", _U, "byte address in the scratchpad of the moving operand"),
            2: ("w", _U, "byte address of the stationary operand"),
            3: ("acc", _U, "first accumulator row"),
            4: ("m0", _U, "moving rows, inner count, at least 1"),
            5: ("kb", _U, "blocks of array_rows along k, at least 1"),
            6: ("tail", _U, "valid bytes of the last of the kb blocks, 1 to array_rows"),
            7: ("groups", _U, "int4: byte address of the group multipliers"),
        },
        [
            ("x_stride0", 24, _S, "bytes from one moving row to the next"),
            ("m1", 16, _U, "moving rows, outer count, at least 1"),
            ("x_stride1", 24, _S, "bytes along m1"),
            ("k1", 16, _U, "outer count of k, at least 1: kb blocks each"),
            ("k_stride1", 24, _S, "bytes of the moving operand along k1"),
            ("bank", 1, _U, "accumulator bank"),
            ("accumulate", 1, _U, "0: the first block overwrites the accumulators; 1: it adds to them"),
            ("weights", 2, _U, "0 packed int8, 1 packed int4, 2 strided rows, 3 transposed"),
            ("w_pitch", 24, _U, "strided, transposed: bytes from one row (one column) of the stationary operand to the next"),
            ("group_blocks", 8, _U, "int4: blocks of k that share a row of multipliers, at least 1"),
        ],
    ),
    "vector": _fields(
        {
            0: ("stream0", _U, "byte address of stream 0 in the scratchpad (low 24 bits)"),
            1: ("stream1", _U, "byte address of stream 1"),
            2: ("stream2", _U, "byte address of stream 2"),
            3: ("stream3", _U, "byte address of stream 3"),
            4: ("rows", _U, "rows, at least 1"),
            5: ("strips", _U, "strips of `lanes` columns, at least 1"),
            6: ("columns", _U, "columns that are written: elements beyond are not"),
            7: ("valid", _U, "columns that count: a masked micro-operation passes operand c through beyond them"),
        },
        [
            ("pitch0", 24, _U, "bytes from one row of stream 0 to the next"),
            ("pitch1", 24, _U, "stream 1"),
            ("pitch2", 24, _U, "stream 2"),
            ("pitch3", 24, _U, "stream 3"),
            ("formats", 8, _U, "2 bits a stream: 0 fp32, 1 int8, 2 int32 (writes only)"),
            ("fixed", 4, _U, "a bit a stream: 1: the address does not depend on the strip"),
            ("kernel", 8, _U, "first micro-operation"),
            ("by_strips", 1, _U, "0: a group is 8 rows of one strip; 1: a group is 8 strips of one row"),
            ("causal", 1, _U, "1: row r has `valid` + r valid columns"),
            ("zero_point", 8, _S, "added to what is written as int8"),
            ("bank", 1, _U, "accumulator bank that is read"),
            ("acc", 16, _U, "first accumulator row"),
            ("acc_step", 16, _U, "accumulator rows from one block of array_cols columns to the next"),
        ],
    ),
    "sync": _fields({}, [("engine", 3, _U, "the engine in whose queue it stands: it only waits and signals")]),
    "loop": _fields(
        {1: ("count", _U, "how often; 0 skips the body")},
        [("length", 16, _U, "instructions of the body, the `end` included")],
    ),
    "end": _fields({}, []),
    "set": _fields(
        {0: ("value", _U, "immediate second operand plus its register")},
        [
            ("to", 4, _U, "register that is written, 1 to 15"),
            ("a", 4, _U, "register of the first operand"),
            ("op", 4, _U, "see ALU"),
        ],
    ),
    "barrier": _fields({}, []),
    "halt": _fields({}, []),
}

OPCODES: Mapping[str, int] = {name: i + 1 for i, name in enumerate(LAYOUT)}
# set: to = a op value, on 40-bit unsigned registers (add, sub and mul wrap at 2^40; shifts use the low 6 bits).
ALU = ("add", "sub", "mul", "and", "shl", "shr", "min", "max")
# The names of numbered choices, in text and in constructors.
TARGETS = ("scratchpad", "tables", "kernels", "indices", "instructions")
WEIGHTS = ("packed", "int4", "strided", "transposed")
FORMATS = ("fp32", "int8", "int32")


def _uop(*fields: tuple[str, int, str]) -> tuple[Field, ...]:
    made, at = [], 0
    for name, bits, meaning in fields:
        made.append(Field(name, at, bits, False, -1, meaning))
        at += bits
    assert at <= UOP_BITS
    return tuple(made)


# One micro-operation of a vector kernel: p = (-)(a * b), then r = second(p, (-)c); one dual issue a cycle.
UOP: tuple[Field, ...] = _uop(
    ("imm", 32, "fp32 bits of the operand kind `imm`"),
    ("op", 4, "see UOPS"),
    ("a_kind", 2, "0 register, 1 accumulator (int32 to fp32), 2 read stream, 3 accumulator plus the int32 in register a_reg"),
    ("a_reg", 4, "register"),
    ("b_kind", 2, "0 register, 1 imm, 2 read stream, 3 register of the lane whose number differs by the bit b_xor"),
    ("b_reg", 4, "register"),
    ("b_xor", 3, "lane distance is 2^b_xor"),
    ("c_kind", 2, "0 register, 1 imm, 2 read stream, 3 zero (+0)"),
    ("c_reg", 4, "register"),
    ("negate_p", 1, "change the sign of the product"),
    ("negate_c", 1, "change the sign of c"),
    ("masked", 1, "elements at or beyond `valid` give c (unchanged, before negate_c) instead"),
    ("to_en", 1, "write a register"),
    ("to", 4, "register that is written"),
    ("read_stream", 2, "stream of an operand of kind read stream"),
    ("write_en", 1, "write the result to a stream"),
    ("write_stream", 2, "which"),
    ("offset", 3, "strips ahead of the loop's strip"),
    ("loop_begin", 1, "first of a loop over the strips"),
    ("loop_end", 1, "last of it"),
    ("step", 4, "with loop_end: strips one pass of the loop takes, 1 to 8"),
    ("last", 1, "last of the kernel"),
    ("once", 1, "outside loops only: executed for the first group alone (column parameters stay in registers for all groups)"),
)
# p = (-)(a*b) is rounded, c' = (-)c; every result is canonical but for `move`.
UOPS: Mapping[str, int] = {
    "add": 0,  # p + c'
    "max": 1,  # the larger of p and c'
    "product": 2,  # p
    "move": 3,  # the raw bits of a
    "select": 4,  # b where a >= 0 (-0 counts, NaN does not), else c'
    "round": 5,  # p rounded to the nearest whole number, ties to even
    "table0": 6,  # entry sat8(round(p)) + 128 of table 0
    "table1": 7,  # of table 1
    "recip": 8,  # seed of 1 / a, 7 bits
    "rsqrt": 9,  # seed of 1 / sqrt(a), 7 bits
}

# What the status register says of the error that stopped a core; 0 where none did.
ERROR_CODES: Mapping[int, str] = {
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
