"""The instruction page, made from the definitions: ``python -m presilicon.isa.page > docs/isa.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from presilicon.isa import binary, layout, text, uop_text
from presilicon.isa.definition import DEFINITIONS, Definition
from presilicon.isa.instruction import CHOICES
from presilicon.isa.layout import ERROR_CODES, SIGNAL_AT, SLOT_BITS, SLOTS_AT, UOP, UOPS, WAIT_AT, Field
from presilicon.template import ENGINES, GROUP

_INTRODUCTION = """# Instruction set

<!-- made by python -m presilicon.isa.page -->

A program is a row of instructions of 64 bytes. The sequencer runs them in order: its own at once, the others it puts into the
queue of their engine: load, store, matmul, vector. Engines run at the same time, each in the order of its queue. Who must wait
for whom, the program says with semaphores: `signal(vector)` on a load gives the vector unit a token when all that the load
writes can be read; `wait(load)` on a vector takes one before it begins. There is one counter for each pair of engines, 6 bits.
What is not ordered so may happen in any order; `presilicon.isa.verify` refuses programs where that could matter.

Sixteen scalar registers of 40 bits, `r0` always 0, hold runtime arguments (positions, lengths, addresses, masks). Most fields
have a slot: an immediate to which the sequencer adds a register (`n1=r2+16`), cut to the slot's width.

R is array_rows, C array_cols, L vector_lanes, D bus_bytes of the chip."""

_TIME = """## Order and time

- The sequencer takes 3 cycles an instruction (fetch, decode, execute) where it need not wait. A queue has 4 places; an
  instruction pushed in p is at its head in p + 2, or the cycle after the one before it left.
- An engine issues its head when it is ready and every counter that the instruction waits for is above 0; those go down by one.
  Signals go out in the cycle the instruction is done, in order; a dependent may issue in the next.
- A loop's body is the next `length` instructions, the last of which is `end`; loops nest 4 deep.
- The start loads the instructions from DRAM, up to the size of the instruction memory. Longer programs load the rest over what
  has run (`presilicon.isa.link` puts these loads in); the program counter wraps."""


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return [*lines, *(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows)]


def _bits(f: Field) -> str:
    return f"{f.at}-{f.at + f.bits - 1}" if f.bits > 1 else str(f.at)


def _field(op: str, f: Field) -> tuple[object, ...]:
    meaning = f.meaning
    if choices := CHOICES.get((op, f.name)):
        meaning = ", ".join(f"{i} `{name}`" for i, name in enumerate(choices))
    register = f"{f.register_at}-{f.register_at + layout.REGISTER_BITS - 1}" if f.register_at >= 0 else ""
    return f"`{f.name}`", _bits(f), register, "yes" if f.signed else "", meaning


def _instruction(definition: Definition) -> Iterator[str]:
    yield f"### {definition.op}"
    yield ""
    yield f"{definition.summary} Opcode {definition.opcode}."
    yield ""
    yield f"    {definition.example}"
    yield ""
    if definition.fields:
        yield from _table(
            ("field", "bits", "register", "signed", "what"), (_field(definition.op, f) for f in definition.fields)
        )
        yield ""
    if definition.meaning:
        yield f"Meaning: {definition.meaning}"
        yield ""
    yield f"Cycles: {definition.cycles}"
    yield ""
    if definition.laws:
        yield "Laws: " + "; ".join(f"{law.text} (error {law.code})" for law in definition.laws) + "."
        yield ""


def _encoding() -> Iterator[str]:
    yield "## Encoding"
    yield ""
    yield "512 bits, little endian. Bits that no field of the opcode has are 0."
    yield ""
    rows: list[tuple[object, ...]] = [
        (f"0-{layout.OPCODE_BITS - 1}", "opcode"),
        (f"{WAIT_AT}-{SIGNAL_AT - 1}", "waits for: a bit each for " + ", ".join(ENGINES)),
        (f"{SIGNAL_AT}-{SIGNAL_AT + layout.SEMAPHORE_BITS - 1}", "signals, likewise"),
        (
            f"{SLOTS_AT}-{layout.PLAIN_AT - 1}",
            f"slots: {SLOT_BITS[0]} bits, then {SLOT_BITS[1]} each, each with its register",
        ),
        (f"{layout.PLAIN_AT}-511", "plain fields of the opcode"),
    ]
    yield from _table(("bits", "what"), rows)
    yield ""
    names = _table(("opcode", "instruction", ""), ((d.opcode, f"[{d.op}](#{d.op})", d.summary) for d in DEFINITIONS.values()))
    yield from names
    yield ""


def _uops() -> Iterator[str]:
    yield "## Kernels of the vector unit"
    yield ""
    yield (
        f"A kernel is a row of micro-operations of 16 bytes, each on a group of {GROUP} rows of one strip (L columns), or of"
        f" {GROUP} strips of one row. One multiplies, p = (-)(a * b), then does a second thing with p and c. Every result is"
        " rounded to nearest even; subnormals are zero, every NaN is 0x7FC00000, max(-0, +0) is +0. A lane has 16 registers for"
        f" each of the {GROUP} elements."
    )
    yield ""
    seconds = {
        "add": "`a * b + c`, `-(a * b) - c`: p plus c",
        "max": "`max(a * b, c)`: the larger; NaN where either is",
        "product": "`a * b`: p",
        "move": "`a`: the bits of a",
        "select": "`select(a, b, c)`: b where a >= 0, else c",
        "round": "`round(a * b)`: the nearest whole number, ties to even",
        "table0": "`table0(a * b)`: entry round(p) + 128 of table 0, saturated to 0 to 255; NaN: 128",
        "table1": "`table1(a * b)`: of table 1",
        "recip": "`recip(a)`: 1 / a to 7 bits",
        "rsqrt": "`rsqrt(a)`: 1 / sqrt(a) to 7 bits",
    }
    yield from _table(("op", "name", "text and meaning"), ((number, name, seconds[name]) for name, number in UOPS.items()))
    yield ""
    yield from _table(("field", "bits", "what"), ((f"`{f.name}`", _bits(f), f.meaning) for f in UOP))
    yield ""
    yield "A kernel as text:"
    yield ""
    yield from _example(uop_text.__doc__ or "")
    yield ""


def _example(doc: str) -> Iterator[str]:
    """The indented lines of a docstring."""
    lines = doc.splitlines()
    at = [number for number, line in enumerate(lines) if line.startswith("    ")]
    yield from lines[at[0] : at[-1] + 1]


def page() -> str:
    """The whole page."""
    lines = [_INTRODUCTION, "", *_encoding(), _TIME, "", "## Instructions", ""]
    for definition in DEFINITIONS.values():
        lines += _instruction(definition)
    lines += _uops()
    lines += ["## Text", "", "A program as text (`presilicon.isa.assemble` reads it, `disassemble` writes it):", ""]
    lines += [*_example(text.__doc__ or ""), "", "Fields that are left out are 0, counts 1."]
    lines += [
        "",
        "## Errors",
        "",
        "An error stops the core; the status register says its code, the engine and the instruction.",
        "",
    ]
    lines += _table(("code", "what"), ERROR_CODES.items())
    lines += ["", "## File", "", f"The file of a program, version {binary.VERSION} (`Program.write`, `Program.read`):", ""]
    lines += [*_example(binary.__doc__ or "")]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
