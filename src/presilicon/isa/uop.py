"""One micro-operation of a vector kernel: its fields with their laws, its 16 bytes, and the checks of a whole kernel.

``p = (-)(a * b)``, then ``second(p, (-)c)``; ``layout.UOPS`` says which seconds there are, ``kernel`` what they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from presilicon.errors import IsaError, nearest
from presilicon.isa.layout import UOP, UOP_BITS, UOPS

UOP_BYTES = UOP_BITS // 8
# Kinds of operand a, b and c, by number.
A_KINDS = ("register", "accumulator", "stream", "sum")
B_KINDS = ("register", "imm", "stream", "exchange")
C_KINDS = ("register", "imm", "stream", "zero")
# Seconds that take no product: b does not count, nor its sign (`select` has b as a value of its own).
RAW = frozenset(("move", "recip", "rsqrt", "select"))
NO_B = frozenset(("move", "recip", "rsqrt"))
WITH_C = frozenset(("add", "max", "select"))
_OPS = tuple(UOPS)
_FLAGS = frozenset(f.name for f in UOP if f.bits == 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uop:
    """A micro-operation; fields as in ``layout.UOP``, ``op`` by its name.

    IsaError where a field is outside of its bits, or where one that does not count is not zero (so that text and bytes say
    the same): an operand the operation does not take, a stream that is not read, a destination that is not written.
    """

    op: str = "product"
    imm: int = 0
    a_kind: int = 0
    a_reg: int = 0
    b_kind: int = 0
    b_reg: int = 0
    b_xor: int = 0
    c_kind: int = 0
    c_reg: int = 0
    negate_p: bool = False
    negate_c: bool = False
    masked: bool = False
    to_en: bool = False
    to: int = 0
    read_stream: int = 0
    write_en: bool = False
    write_stream: int = 0
    offset: int = 0
    loop_begin: bool = False
    loop_end: bool = False
    step: int = 0
    last: bool = False
    once: bool = False

    def __post_init__(self) -> None:
        if self.op not in UOPS:
            raise IsaError(f"there is no micro-operation {self.op!r}", hint=nearest(self.op, list(UOPS)), code=12)
        for f in UOP:
            if f.name != "op" and not 0 <= (value := getattr(self, f.name)) <= f.high:
                raise IsaError(f"micro-operation {self.op}: {f.name} is {value}", hint=f"0 to {f.high}: {f.meaning}", code=12)
        kinds = (A_KINDS[self.a_kind], self.b, self.c)
        idle = {
            "a_reg": kinds[0] not in ("register", "sum"),
            "b_kind": self.op in NO_B,
            "b_reg": kinds[1] not in ("register", "exchange"),
            "b_xor": kinds[1] != "exchange",
            "c_kind": not self.takes_c,
            "c_reg": kinds[2] != "register",
            "imm": "imm" not in kinds,
            "read_stream": "stream" not in kinds,
            "negate_p": self.op in RAW,
            "negate_c": self.op not in WITH_C,
            "to": not self.to_en,
            "write_stream": not self.write_en,
            "step": not self.loop_end,
        }
        for name, unused in idle.items():
            if unused and getattr(self, name):
                raise IsaError(f"micro-operation {self.op}: {name} is {getattr(self, name)} and does not count here", hint="0")

    @property
    def takes_c(self) -> bool:
        """Whether operand c counts: the operation takes it, or masked elements give it."""
        return self.op in WITH_C or self.masked

    @property
    def b(self) -> str:
        """The kind of operand b by name; empty where the operation takes none."""
        return "" if self.op in NO_B else B_KINDS[self.b_kind]

    @property
    def c(self) -> str:
        """The kind of operand c by name; empty where it does not count."""
        return C_KINDS[self.c_kind] if self.takes_c else ""

    @property
    def reads(self) -> tuple[int, ...]:
        """Registers it reads."""
        found = []
        if A_KINDS[self.a_kind] in ("register", "sum"):
            found.append(self.a_reg)
        if self.b in ("register", "exchange"):
            found.append(self.b_reg)
        if self.c == "register":
            found.append(self.c_reg)
        return tuple(found)

    @property
    def reads_stream(self) -> bool:
        """Whether it reads ``read_stream``."""
        return A_KINDS[self.a_kind] == "stream" or self.b == "stream" or self.c == "stream"

    @property
    def reads_accumulator(self) -> bool:
        """Whether it reads the accumulators."""
        return A_KINDS[self.a_kind] in ("accumulator", "sum")

    def encode(self) -> bytes:
        """The 16 bytes, little endian."""
        word = 0
        for f in UOP:
            word |= (UOPS[self.op] if f.name == "op" else int(getattr(self, f.name))) << f.at
        return word.to_bytes(UOP_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> Uop:
        """The micro-operation in 16 bytes; IsaError where it cannot be one."""
        if len(data) != UOP_BYTES:
            raise IsaError(f"a micro-operation has {UOP_BYTES} bytes, not {len(data)}")
        return _decode(bytes(data))

    def __str__(self) -> str:
        from presilicon.isa.uop_text import uop_text

        return uop_text(self)


@lru_cache(maxsize=4096)
def _decode(data: bytes) -> Uop:
    word = int.from_bytes(data, "little")
    fields = {f.name: word >> f.at & f.high for f in UOP}
    number = fields.pop("op")
    if number >= len(_OPS):
        raise IsaError(f"there is no micro-operation number {number}", hint=f"0 to {len(_OPS) - 1}", code=12)
    if word >> (UOP[-1].at + UOP[-1].bits):
        raise IsaError("a micro-operation has reserved bits set", code=12)
    flags = {name: bool(value) for name, value in fields.items() if name in _FLAGS}
    numbers = {name: value for name, value in fields.items() if name not in _FLAGS}
    return Uop(op=_OPS[number], **numbers, **flags)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Section:
    """Consecutive micro-operations of a kernel: a loop over the strips, ``step`` at a time, or (step 0) what stands outside."""

    uops: tuple[Uop, ...]
    step: int = 0


@lru_cache(maxsize=1024)
def sections(uops: tuple[Uop, ...]) -> tuple[Section, ...]:
    """A kernel as its loops and what stands between them, in order.

    IsaError where loops nest, do not end, have no step, where ``once`` stands in a loop or behind another, or ``last`` not on
    the last alone.
    """
    if not uops or [u.last for u in uops] != [False] * (len(uops) - 1) + [True]:
        raise IsaError("a kernel ends with its only `last`", code=12)
    found: list[Section] = []
    body: list[Uop] = []
    inside = False
    for number, u in enumerate(uops):
        where = f"micro-operation {number}"
        if u.loop_begin:
            if inside:
                raise IsaError("a loop begins in a loop", where=where, hint="loops over the strips do not nest", code=12)
            if body:
                found.append(Section(tuple(body)))
            body, inside = [], True
        if inside and u.once:
            raise IsaError("`once` stands in a loop", where=where, hint="it belongs outside of loops", code=12)
        if u.once and number and not uops[number - 1].once:
            raise IsaError("`once` stands behind a micro-operation without it", where=where, hint="those come first", code=12)
        body.append(u)
        if u.loop_end:
            if not inside:
                raise IsaError("a loop ends that did not begin", where=where, code=12)
            if not 1 <= u.step <= 8:
                raise IsaError(f"a loop's step is {u.step}", where=where, hint="1 to 8", code=12)
            found.append(Section(tuple(body), u.step))
            body, inside = [], False
    if inside:
        raise IsaError("a loop over the strips does not end", code=12)
    if body:
        found.append(Section(tuple(body)))
    return tuple(found)


def kernel(uops: Sequence[Uop]) -> tuple[Uop, ...]:
    """``uops`` as a kernel: ``last`` is set on the last alone, and its loops are checked (see `sections`)."""
    whole = tuple(replace(u, last=i == len(uops) - 1) for i, u in enumerate(uops))
    sections(whole)
    return whole
