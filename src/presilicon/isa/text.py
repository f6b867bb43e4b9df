"""The text of a program: ``disassemble`` writes it, ``assemble`` reads it; each is the inverse of the other.

    core 0123456789abcdef                 # digest of the core it is for
    dram 65536                            # bytes it needs
    input x int8 64x16 at 0x1000          # also output, state, scratch; `at 0x0 + r1`: plus a register
    data at 0x2000: 00ff10 ...            # bytes in hexadecimal, also on the lines that follow
    kernels at 0x3000
    kernel scale at 0:
      stream0 = acc * imm(0.125)
    code at 0x4000:
      load dram=scale spad=0 run=16 target=kernels signal(vector)
      loop r2 {
        vector kernel=scale stream0=r3+0x100 rows=8 strips=1 columns=16 valid=16 wait(load)
      }
      halt

``#`` begins a comment. Addresses, ``core`` and ``dram`` may be left out: parts are placed one behind the other. A ``dram``
may be a region's or kernel's name, plus an offset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from presilicon.errors import IsaError
from presilicon.isa.instruction import CHOICES, Instruction, Slot, make, reg
from presilicon.isa.layout import FORMATS, LAYOUT
from presilicon.isa.overlay import blocks
from presilicon.isa.program import KINDS, Kernel, Program, Region, Segment
from presilicon.isa.uop import UOP_BYTES
from presilicon.isa.uop_text import kernel_lines, parse_kernel
from presilicon.template import Core

_NUMBER = r"-?(?:0[xX][0-9a-fA-F]+|\d+)"
_VALUE = re.compile(rf"(?P<name>[A-Za-z_]\w*)?(?P<number>(?(name)(?:[+-](?:0[xX][0-9a-fA-F]+|\d+))?|{_NUMBER}))")
_WORD = re.compile(r"(?P<field>\w+)=(?P<value>[^\s()]+)|(?P<what>wait|signal)\((?P<engines>[^()]*)\)")
_SET = re.compile(r"set +(?P<to>r\d+) *= *(?P<a>r\d+) +(?P<op>\w+) +(?P<value>\S+)")
_LOOP = re.compile(r"loop +(?P<count>\S+) *\{")
_DATA_BYTES = 64
# Lines that begin a part or stand alone, by what they are.
_HEADS = {
    "core": re.compile(r"core +([0-9a-f]{16})"),
    "dram": re.compile(r"dram +(\d+)"),
    "kernels": re.compile(rf"kernels +at +({_NUMBER})"),
    "region": re.compile(rf"({'|'.join(KINDS)}) +(\S+) +(\w+) +([\dx]+) +at +({_NUMBER})(?: *\+ *r(\d+))?"),
    "data": re.compile(rf"data +at +({_NUMBER}) *:(.*)"),
    "kernel": re.compile(r"kernel +(\w+)(?: +at +(\d+))? *:"),
    "code": re.compile(rf"code(?: +at +({_NUMBER}))? *:"),
}

Line = tuple[int, str]


# Writing ---------------------------------------------------------------------------------------------------------------


def disassemble(program: Program, data: bool = True) -> str:
    """A program as text; without ``data`` the constant bytes are only counted, and the text is for readers alone."""
    lines = [f"core {program.core_digest}", f"dram {program.dram_bytes}"]
    for r in program.regions:
        register = f" + r{r.register}" if r.register else ""
        lines.append(f"{r.kind} {r.name} {r.dtype} {'x'.join(map(str, r.shape))} at {r.address:#x}{register}")
    for s in program.data:
        if not data:
            lines.append(f"# data at {s.address:#x}: {len(s.data)} bytes")
            continue
        lines.append(f"data at {s.address:#x}:")
        lines += [f"  {s.data[at : at + _DATA_BYTES].hex()}" for at in range(0, len(s.data), _DATA_BYTES)]
    lines.append(f"kernels at {program.kernel_address:#x}")
    for k in program.kernels:
        lines += [f"kernel {k.name} at {k.start}:", *kernel_lines(k.uops)]
    lines.append(f"code at {program.address:#x}:")
    lines += _code(program.instructions, {k.start: k.name for k in program.kernels})
    return "\n".join(lines) + "\n"


def _code(instructions: tuple[Instruction, ...], kernels: Mapping[int, str]) -> Iterator[str]:
    try:
        blocks(instructions)
        nested = True
    except IsaError:
        nested = False
    depth = 1
    for one in instructions:
        text = str(one)
        if nested and one.op == "loop":
            text = f"loop {one.shown('count')} {{"
        elif nested and one.op == "end":
            text = "}"
            depth -= 1
        elif one.op == "vector" and (name := kernels.get(one["kernel"])):
            text = re.sub(r" kernel=\d+", "", text).replace("vector", f"vector kernel={name}", 1)
        yield "  " * depth + text
        depth += nested and one.op == "loop"


# Reading ---------------------------------------------------------------------------------------------------------------


def _int(text: str) -> int:
    """A number, decimal (leading zeros and all) or hexadecimal."""
    return int(text, 16 if "x" in text.lower() else 10)


@dataclass(slots=True)
class _Source:
    """The parts of a text before they are put together."""

    digest: str = ""
    dram: int = 0
    address: int | None = None
    kernel_address: int | None = None
    regions: list[Region] = field(default_factory=list)
    data: list[tuple[int, list[Line]]] = field(default_factory=list)
    kernels: list[tuple[str, int | None, list[Line]]] = field(default_factory=list)
    code: list[Line] | None = None


def _head(source: _Source, kind: str, match: re.Match[str]) -> list[Line] | None:
    """Takes up a line that begins a part; the list to which the lines that follow belong."""
    if kind == "core":
        source.digest = match[1]
    elif kind == "dram":
        source.dram = int(match[1])
    elif kind == "kernels":
        source.kernel_address = _int(match[1])
    elif kind == "region":
        shape = tuple(int(n) for n in match[4].split("x") if n)
        source.regions.append(Region(match[2], match[1], match[3], shape, _int(match[5]), int(match[6] or 0)))
    elif kind == "data":
        source.data.append((_int(match[1]), [(0, match[2])]))
        return source.data[-1][1]
    elif kind == "kernel":
        source.kernels.append((match[1], int(match[2]) if match[2] else None, []))
        return source.kernels[-1][2]
    else:
        if source.code is not None:
            raise IsaError("the code begins a second time")
        source.address = _int(match[1]) if match[1] else None
        source.code = []
        return source.code
    return None


def _split(text: str) -> _Source:
    source = _Source()
    lines: list[Line] | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        try:
            kind, match = next(((k, m) for k, form in _HEADS.items() if (m := form.fullmatch(line))), ("", None))
            if match is not None:
                lines = _head(source, kind, match)
            elif lines is not None:
                lines.append((number, line))
            else:
                raise IsaError(f"cannot read {line!r}", hint="code:, kernel NAME:, data at ADDRESS:, input NAME ...")
        except IsaError as error:
            raise error.at(f"line {number}") from None
    return source


def _data(address: int, lines: list[Line]) -> Segment:
    try:
        return Segment(address, bytes.fromhex(" ".join(line for _, line in lines)))
    except ValueError:
        raise IsaError(f"the data at {address:#x} is not in hexadecimal") from None


def assemble(text: str, core: Core) -> Program:
    """The program in a text, for ``core``; IsaError says in which line what cannot be read."""
    source = _split(text)
    if source.digest and source.digest != core.digest():
        raise IsaError(f"the text is for the core {source.digest}, this is {core.digest()}")
    if source.code is None:
        raise IsaError("the text has no code", hint="code:, then an instruction a line")
    kernels: list[Kernel] = []
    free = 0
    for name, start, lines in source.kernels:
        kernels.append(Kernel(name, free if start is None else start, parse_kernel(lines)))
        free = max(free, kernels[-1].start + kernels[-1].slots)
    known = {k.name: k.start for k in kernels}
    data = [_data(address, lines) for address, lines in source.data]
    # Names of kernels are addresses that depend on the length of the code: read it once to know that.
    address, addresses = source.address or 0, {r.name: r.address for r in source.regions} | dict.fromkeys(known, 0)
    while True:
        program = Program.build(
            core,
            _instructions(source.code, known, addresses),
            kernels=kernels,
            data=data,
            regions=source.regions,
            address=address,
            kernel_address=source.kernel_address,
            dram_bytes=source.dram,
        )
        placed, at = dict(addresses), program.kernel_address
        for k in kernels:
            placed[k.name] = at
            at += k.slots * UOP_BYTES
        if placed == addresses:
            return program
        addresses = placed


def _instructions(lines: list[Line], kernels: Mapping[str, int], addresses: Mapping[str, int]) -> list[Instruction]:
    made: list[Instruction] = []
    loops: list[tuple[int, object, int]] = []
    for number, line in lines:
        try:
            if match := _LOOP.fullmatch(line):
                loops.append((len(made), _value("loop", "count", match["count"], kernels, addresses), number))
                made.append(make("loop"))
            elif line == "}":
                if not loops:
                    raise IsaError("} closes no loop")
                at, count, _ = loops.pop()
                made.append(make("end"))
                made[at] = make("loop", count=count, length=len(made) - 1 - at)
            else:
                made.append(_instruction(line, kernels, addresses))
        except IsaError as error:
            raise error.at(f"line {number}") from None
    if loops:
        raise IsaError("the loop is not closed", where=f"line {loops[-1][2]}", hint="}")
    return made


def _instruction(line: str, kernels: Mapping[str, int], addresses: Mapping[str, int]) -> Instruction:
    if match := _SET.fullmatch(line):
        to, a = (reg(match[name]).register for name in ("to", "a"))
        return make("set", to=to, a=a, op=match["op"], value=_value("set", "value", match["value"], kernels, addresses))
    op, _, rest = line.partition(" ")
    if op not in LAYOUT:
        make(op)
    given: dict[str, object] = {}
    waits: dict[str, list[str]] = {"wait": [], "signal": []}
    at = 0
    for match in _WORD.finditer(rest):
        if rest[at : match.start()].strip():
            break
        at = match.end()
        if match["what"]:
            waits[match["what"]] += [name for name in re.split(r"[,\s]+", match["engines"]) if name]
        elif match["field"] in given:
            raise IsaError(f"{match['field']} is given twice")
        else:
            given[match["field"]] = _value(op, match["field"], match["value"], kernels, addresses)
    if rest[at:].strip():
        raise IsaError(f"cannot read {rest[at:].strip()!r}", hint="field=value, wait(...) or signal(...)")
    return make(op, waits["wait"], waits["signal"], **given)


def _value(
    op: str, name: str, text: str, kernels: Mapping[str, int], addresses: Mapping[str, int]
) -> Slot | int | tuple[str, ...] | str:
    if name == "formats" and text.split(",")[0] in FORMATS:
        return tuple(text.split(","))
    if text in CHOICES.get((op, name), ()):
        return text
    if name == "kernel" and text in kernels:
        return kernels[text]
    match = _VALUE.fullmatch(text)
    if match is None:
        raise IsaError(f"{name} is {text!r}", hint="a number, a register such as r3+128, or a name")
    number = _int(match["number"] or "0")
    word = match["name"]
    if word is None:
        return number
    if re.fullmatch(r"r\d+", word):
        return reg(word) + number
    if name == "dram" and word in addresses:
        return addresses[word] + number
    known = [*CHOICES.get((op, name), ()), *(kernels if name == "kernel" else addresses if name == "dram" else ())]
    raise IsaError(f"{name} is {text!r}, which is no name known here", hint=", ".join(known) or "a number or a register")
