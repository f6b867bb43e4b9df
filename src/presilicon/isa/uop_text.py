"""The text of vector kernels: ``r3 = max(acc * imm(0.125), r3) masked``, a micro-operation a line, loops in braces.

``uop_text`` and ``kernel_lines`` write it, ``parse_uop`` and ``parse_kernel`` read it: each is the inverse of the other.

    r4 = stream2 once                     # first group only
    r2, stream1 = -(acc * r4) - r2        # to a register and a stream
    loop step 2 {
      r1 = max(acc * imm(0.125), r1) masked
      stream0 = swap(r1, 4) @1            # ... of the lane at distance 4; a strip ahead
    }

Operands: ``r0`` to ``r15``, ``imm(number)`` or ``imm(0x bits)``, ``streamN``, ``acc``, ``acc(r5)`` (plus the int32 in r5),
``swap(r5, 4)``, ``zero``. A sum is ``a * b + c``; ``masked`` passes the written c, or what stands in ``masked(c)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from presilicon.errors import IsaError
from presilicon.isa.layout import UOPS
from presilicon.isa.uop import A_KINDS, RAW, WITH_C, Uop, kernel

_OPERAND = r"r\d+|imm\([^()]*\)|stream\d|acc(?:\(r\d+\))?|swap\(r\d+, *\d+\)|zero"
_PRODUCT = rf"(?P<minus>-\()?(?P<a>{_OPERAND}) *\* *(?P<b>{_OPERAND})(?(minus)\))"
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("add", re.compile(rf"{_PRODUCT} *(?P<sign>[+-]) *(?P<c>{_OPERAND})")),
    ("max", re.compile(rf"max\({_PRODUCT}, *(?P<sign>-)?(?P<c>{_OPERAND})\)")),
    ("product", re.compile(_PRODUCT)),
    ("move", re.compile(rf"(?P<a>{_OPERAND})")),
    ("select", re.compile(rf"select\((?P<a>{_OPERAND}), *(?P<b>{_OPERAND}), *(?P<sign>-)?(?P<c>{_OPERAND})\)")),
    *((op, re.compile(rf"{op}\({_PRODUCT}\)")) for op in ("round", "table0", "table1")),
    *((op, re.compile(rf"{op}\((?P<a>{_OPERAND})\)")) for op in ("recip", "rsqrt")),
)
_LINE = re.compile(
    r"(?:(?P<to>r\d+))?(?:(?(to), *)stream(?P<stream>\d))?(?P<none>_)? *= *(?P<value>.*?)"
    rf"(?P<masked> +masked(?:\((?P<other>{_OPERAND})\))?)?(?: +@(?P<offset>\d+))?(?P<once> +once)?"
)
_LOOP = re.compile(r"loop(?: +step +(\d+))? *\{")


def imm_bits(text: str) -> int:
    """The bits in ``imm(...)``: hexadecimal bits or a number that is rounded to fp32."""
    if text.lower().startswith("0x"):
        return int(text, 16)
    with np.errstate(over="ignore"):
        return int(np.float32(text).view(np.uint32))


def imm(value: float) -> int:
    """The fp32 bits of a number: for ``Uop(imm=...)``."""
    return int(np.float32(value).view(np.uint32))


def _imm_text(bits: int) -> str:
    number = str(np.uint32(bits).view(np.float32))
    return number if imm_bits(number) == bits else f"{bits:#010x}"


def _operand(u: Uop, which: str, kind: str) -> str:
    number = getattr(u, f"{which}_reg")
    return {
        "register": f"r{number}",
        "accumulator": "acc",
        "sum": f"acc(r{number})",
        "imm": f"imm({_imm_text(u.imm)})",
        "stream": f"stream{u.read_stream}",
        "exchange": f"swap(r{number}, {1 << u.b_xor})",
        "zero": "zero",
    }[kind]


def uop_text(u: Uop) -> str:
    """One micro-operation as text, without the braces of loops and without ``last``."""
    a = _operand(u, "a", A_KINDS[u.a_kind])
    b = _operand(u, "b", u.b) if u.b else ""
    c = _operand(u, "c", u.c) if u.c else ""
    product = f"-({a} * {b})" if u.negate_p else f"{a} * {b}"
    minus = "-" if u.negate_c else ""
    value = {
        "add": f"{product} {minus or '+'} {c}",
        "max": f"max({product}, {minus}{c})",
        "product": product,
        "move": a,
        "select": f"select({a}, {b}, {minus}{c})",
        "recip": f"recip({a})",
        "rsqrt": f"rsqrt({a})",
    }.get(u.op, f"{u.op}({product})")
    to = [f"r{u.to}"] if u.to_en else []
    to += [f"stream{u.write_stream}"] if u.write_en else []
    words = [", ".join(to) or "_", "=", value]
    if u.masked:
        words.append("masked" if u.op in WITH_C else f"masked({c})")
    if u.offset:
        words.append(f"@{u.offset}")
    if u.once:
        words.append("once")
    return " ".join(words)


def kernel_lines(uops: Sequence[Uop], indent: str = "  ") -> list[str]:
    """A kernel as lines of text."""
    lines, depth = [], 1
    for number, u in enumerate(uops):
        if u.loop_begin:
            step = next((v.step for v in uops[number:] if v.loop_end), 1)
            lines.append(f"{indent * depth}loop {'{' if step == 1 else f'step {step} {{'}")
            depth += 1
        lines.append(indent * depth + uop_text(u))
        if u.loop_end:
            depth -= 1
            lines.append(f"{indent * depth}}}")
    return lines


class _Operands:
    """Collects the fields that operands take, and refuses two streams, two immediates or two accumulator reads."""

    def __init__(self) -> None:
        self.fields: dict[str, int] = {}

    def put(self, name: str, value: int, what: str) -> None:
        if self.fields.setdefault(name, value) != value:
            raise IsaError(f"a micro-operation reads one {what}")

    def add(self, which: str, text: str) -> None:
        word, _, inside = text.rstrip(")").partition("(")
        kinds = {"a": ("r", "acc", "stream"), "b": ("r", "imm", "stream", "swap"), "c": ("r", "imm", "stream", "zero")}[which]
        family = "stream" if word.startswith("stream") else "r" if re.fullmatch(r"r\d+", word) else word
        if family not in kinds:
            raise IsaError(f"{text} cannot be operand {which}", hint=f"{which} of p = a * b, then c: {', '.join(kinds)}")
        self.fields[f"{which}_kind"] = 3 if inside and family == "acc" else kinds.index(family)
        if family == "stream":
            self.put("read_stream", int(word[6:]), "stream")
        elif family == "imm":
            try:
                self.put("imm", imm_bits(inside), "immediate")
            except ValueError:
                raise IsaError(f"imm({inside}) is no number", hint="imm(0.125) or imm(0x3e000000)") from None
        elif family == "r" or inside:
            number, _, distance = inside.partition(",")
            self.fields[f"{which}_reg"] = int((number or word)[1:])
            if distance:
                lanes = int(distance)
                if lanes not in (1, 2, 4, 8, 16):
                    raise IsaError(f"lanes at distance {lanes} cannot be exchanged", hint="1, 2, 4, 8 or 16")
                self.fields["b_xor"] = lanes.bit_length() - 1


def parse_uop(text: str) -> Uop:
    """One micro-operation from its line; IsaError says what cannot be read."""
    line = _LINE.fullmatch(text.strip())
    if line is None or not (line["to"] or line["stream"] or line["none"]):
        raise IsaError(
            f"cannot read {text.strip()!r} as a micro-operation", hint="such as r3 = max(acc * imm(0.125), r3) masked"
        )
    op, match = next(((op, match) for op, form in _FORMS if (match := form.fullmatch(line["value"]))), ("", None))
    if match is None:
        raise IsaError(
            f"cannot read {line['value']!r} as a value", hint=f"a * b + c, a * b, a, or {', '.join(UOPS)} of such operands"
        )
    named = match.groupdict()
    operands = _Operands()
    for which in ("a", "b", "c"):
        if named.get(which):
            operands.add(which, named[which])
    if line["other"]:
        if op in WITH_C:
            raise IsaError(f"{op} has a c of its own", hint="masked")
        operands.add("c", line["other"])
    elif line["masked"] and op not in WITH_C:
        raise IsaError(
            f"{op} has no c for masked elements", hint="masked(r1), masked(zero), masked(imm(...)) or masked(streamN)"
        )
    return Uop(
        op=op,
        **operands.fields,  # type: ignore[arg-type]
        negate_p=op not in RAW and bool(named.get("minus")),
        negate_c=named.get("sign") == "-",
        masked=bool(line["masked"]),
        to_en=bool(line["to"]),
        to=int(line["to"][1:]) if line["to"] else 0,
        write_en=bool(line["stream"]),
        write_stream=int(line["stream"] or 0),
        offset=int(line["offset"] or 0),
        once=bool(line["once"]),
    )


def parse_kernel(lines: Iterable[tuple[int, str]]) -> tuple[Uop, ...]:
    """A kernel from numbered lines without comments; IsaError carries the line's number in ``where``."""
    uops: list[Uop] = []
    step, begin, number = 0, False, 0
    for number, text in lines:
        try:
            if match := _LOOP.fullmatch(text):
                if step:
                    raise IsaError("a loop begins in a loop", hint="loops over the strips do not nest")
                step, begin = int(match[1] or 1), True
            elif text == "}":
                if not step or begin:
                    raise IsaError("} closes no loop with a micro-operation in it")
                uops[-1] = replace(uops[-1], loop_end=True, step=step)
                step = 0
            else:
                uops.append(replace(parse_uop(text), loop_begin=begin))
                begin = False
        except IsaError as error:
            raise error.at(f"line {number}") from None
    if step:
        raise IsaError("a loop over the strips does not end", where=f"line {number}", hint="}")
    return kernel(uops)


def kernel_text(text: str) -> tuple[Uop, ...]:
    """A kernel from text: a micro-operation a line, ``#`` begins a comment."""
    lines = ((n, line.partition("#")[0].strip()) for n, line in enumerate(text.splitlines(), 1))
    return parse_kernel((n, line) for n, line in lines if line)
