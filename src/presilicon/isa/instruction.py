"""One instruction: its fields with their laws, its 64 bytes, its line of text.

The bits stand in ``layout``, the meaning of each opcode in ``definition`` and the modules it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from presilicon.errors import IsaError, nearest
from presilicon.isa.layout import (
    ALU,
    FORMATS,
    INSTRUCTION_BITS,
    LAYOUT,
    OPCODE_BITS,
    OPCODES,
    REGISTER_BITS,
    SEMAPHORE_BITS,
    SIGNAL_AT,
    TARGETS,
    WAIT_AT,
    WEIGHTS,
    Field,
)
from presilicon.template import ENGINES, Core

INSTRUCTION_BYTES = INSTRUCTION_BITS // 8
REGISTERS = 1 << REGISTER_BITS
# Fields whose numbers have names in text and in the constructors.
CHOICES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("load", "target"): TARGETS,
    ("matmul", "weights"): WEIGHTS,
    ("sync", "engine"): ENGINES,
    ("set", "op"): ALU,
}
_ADDRESSES = frozenset(("dram", "spad", "x", "w", "groups", "stream0", "stream1", "stream2", "stream3"))
_NAMES = {op: tuple(f.name for f in fields) for op, fields in LAYOUT.items()}
_AT_LEAST_1 = frozenset(
    ("n1", "n2", "n3", "run", "m0", "m1", "kb", "k1", "tail", "group_blocks", "rows", "strips", "length", "to")
)
_NO_ENGINE = frozenset(("loop", "end", "set", "barrier", "halt"))


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot's value: an immediate plus a scalar register (0: the register that is always 0)."""

    value: int
    register: int = 0

    def __add__(self, other: int) -> Slot:
        return Slot(self.value + other, self.register)

    def __sub__(self, other: int) -> Slot:
        return Slot(self.value - other, self.register)


def reg(name: str | int) -> Slot:
    """Scalar register ``"r3"`` or ``3`` as a slot's value; add an int for an offset."""
    number = name if isinstance(name, int) else int(name[1:]) if name[:1] == "r" and name[1:].isdecimal() else -1
    if not 0 <= number < REGISTERS:
        raise IsaError(f"there is no register {name}", hint="r0 to r15; r0 is always 0")
    return Slot(0, number)


@dataclass(frozen=True, slots=True)
class Law:
    """What must hold for ``fields`` of an instruction; ``code`` is what the hardware answers where it does not."""

    fields: tuple[str, ...]
    holds: Callable[..., bool]
    text: str
    code: int = 2
    needs_core: bool = False


def _at_least_1(*names: str) -> tuple[Law, ...]:
    return tuple(Law((name,), lambda value: value >= 1, f"{name} is at least 1") for name in names)


LAWS: Mapping[str, tuple[Law, ...]] = {
    "load": (
        *_at_least_1("n1", "n2", "n3", "run"),
        Law(("target",), lambda target: target < len(TARGETS), f"target is {', '.join(TARGETS)}"),
        Law(("gather", "n2", "n3"), lambda gather, n2, n3: not gather or n2 == n3 == 1, "a gather has n2 = n3 = 1"),
        Law(
            ("target", "left", "right", "limit"),
            lambda target, left, right, limit: target == 0 or left == right == limit == 0,
            "only the scratchpad takes left, right or limit",
        ),
        Law(
            ("target", "dram", "spad", "run", "pitch", "stride1", "stride2", "stride3"),
            lambda core, target, *values: target == 0 or not any(value % core.bus_bytes for value in values),
            "what goes to another memory than the scratchpad is aligned to the bus: dram, spad, run, pitch and strides",
            code=13,
            needs_core=True,
        ),
    ),
    "store": _at_least_1("n1", "n2", "n3", "run"),
    "matmul": (
        *_at_least_1("m0", "m1", "kb", "k1", "tail", "group_blocks"),
        Law(("tail",), lambda core, tail: tail <= core.rows, "tail is at most array_rows", needs_core=True),
    ),
    "vector": _at_least_1("rows", "strips"),
    "sync": (Law(("engine",), lambda engine: engine < len(ENGINES), f"engine is {', '.join(ENGINES)}"),),
    "loop": _at_least_1("length"),
    "end": (),
    "set": (
        Law(("to",), lambda to: to >= 1, "to is r1 to r15: r0 is always 0"),
        Law(("op",), lambda op: op < len(ALU), f"op is {', '.join(ALU)}"),
    ),
    "barrier": (),
    "halt": (),
}


def check_fields(core: Core, op: str, fields: Mapping[str, int]) -> None:
    """IsaError (with the hardware's code) where the resolved ``fields`` of an ``op`` break one of its laws on ``core``."""
    for law in LAWS[op]:
        values = map(fields.__getitem__, law.fields)
        if not (law.holds(core, *values) if law.needs_core else law.holds(*values)):
            told = ", ".join(f"{name} {fields[name]}" for name in law.fields)
            raise IsaError(f"{op} with {told}", hint=law.text, code=law.code)


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction with its immediates, slot registers, and the engines whose semaphores it waits for and signals.

    ``values`` are in the order of ``LAYOUT[op]``, ``registers`` those of its slots in that order. IsaError where a value is
    outside of its field's bits or, where no register is added, breaks a law; laws that need a core wait for `check_fields`.
    """

    op: str
    values: tuple[int, ...]
    registers: tuple[int, ...] = ()
    wait: frozenset[str] = field(default=frozenset())
    signal: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        if self.op not in LAYOUT:
            raise IsaError(f"there is no instruction {self.op!r}", hint=nearest(self.op, list(LAYOUT)), code=1)
        fields, slots = LAYOUT[self.op], _SLOTS[self.op]
        if len(self.values) != len(fields) or len(self.registers) != slots:
            raise IsaError(f"{self.op} has {len(fields)} fields and {slots} slots")
        for (low, high), value in zip(_BOUNDS[self.op], self.values, strict=True):
            if not low <= value <= high:
                f = next(f for f, one in zip(fields, self.values, strict=True) if not f.low <= one <= f.high)
                raise IsaError(f"{self.op}: {f.name} is {value}", hint=f"{f.low} to {f.high}: {f.meaning}", code=2)
        for register in self.registers:
            if not 0 <= register < REGISTERS:
                raise IsaError(f"{self.op}: there is no register r{register}")
        for engine in self.wait | self.signal:
            if engine not in ENGINES:
                raise IsaError(f"{self.op}: there is no engine {engine!r}", hint=", ".join(ENGINES))
        if self.op in _NO_ENGINE and (self.wait or self.signal):
            raise IsaError(f"{self.op} neither waits nor signals", hint="a sync before or after it does", code=2)
        if not any(self.registers):
            values = dict(zip(_NAMES[self.op], self.values, strict=True))
        else:
            added = self.registers + (0,) * (len(fields) - slots)
            values = {f.name: v for f, v, r in zip(fields, self.values, added, strict=True) if not r}
        for law in LAWS[self.op]:
            if not law.needs_core and all(name in values for name in law.fields):
                shown = [values[name] for name in law.fields]
                if not law.holds(*shown):
                    told = ", ".join(f"{name} {value}" for name, value in zip(law.fields, shown, strict=True))
                    raise IsaError(f"{self.op} with {told}", hint=law.text, code=law.code)

    def ordered(self, wait: frozenset[str], signal: frozenset[str]) -> Instruction:
        """The same instruction with other waits and signals: names of engines, of an instruction that may have them.

        Its fields are not checked anew.
        """
        made = object.__new__(Instruction)
        for name, value in zip(
            ("op", "values", "registers", "wait", "signal"),
            (self.op, self.values, self.registers, wait, signal),
            strict=True,
        ):
            object.__setattr__(made, name, value)
        return made

    def __getitem__(self, name: str) -> int:
        """A field's immediate value."""
        return self.values[_NAMES[self.op].index(name)]

    @property
    def engine(self) -> str:
        """The engine in whose queue it stands; ``sequencer`` for what the sequencer does itself."""
        if self.op == "sync":
            return ENGINES[self.values[0]]
        return "sequencer" if self.op in _NO_ENGINE else self.op

    def register(self, name: str) -> int:
        """The register that is added to a slot's value; 0 where none is or the field is no slot."""
        at = _NAMES[self.op].index(name)
        return self.registers[at] if at < len(self.registers) else 0

    def resolve(self, registers: Sequence[int] = ()) -> dict[str, int]:
        """All fields by name, ``registers`` (16 values) added to the slots and cut to their width, as the sequencer does."""
        fields = dict(zip(_NAMES[self.op], self.values, strict=True))
        if any(self.registers):
            for f, register in zip(LAYOUT[self.op], self.registers, strict=False):
                if register:
                    fields[f.name] = _wrap(f, fields[f.name] + registers[register])
        return fields

    def encode(self) -> bytes:
        """The 64 bytes, little endian."""
        word = OPCODES[self.op]
        word |= _mask(self.wait) << WAIT_AT | _mask(self.signal) << SIGNAL_AT
        for f, value in zip(LAYOUT[self.op], self.values, strict=True):
            word |= (value & ((1 << f.bits) - 1)) << f.at
        for f, register in zip(LAYOUT[self.op], self.registers, strict=False):
            word |= register << f.register_at
        return word.to_bytes(INSTRUCTION_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> Instruction:
        """The instruction in 64 bytes; IsaError where the opcode is unknown, a reserved bit is set or a law is broken."""
        if len(data) != INSTRUCTION_BYTES:
            raise IsaError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(data)}")
        word = int.from_bytes(data, "little")
        number = word & ((1 << OPCODE_BITS) - 1)
        if not 1 <= number <= len(OPCODES):
            raise IsaError(f"there is no opcode {number}", hint=f"1 to {len(OPCODES)}", code=1)
        op = _OPS[number - 1]
        used = _USED[op]
        if word & ~used:
            raise IsaError(f"{op} has reserved bits set: {word & ~used:#x}", code=1)
        fields = LAYOUT[op]
        values = tuple(_wrap(f, word >> f.at) for f in fields)
        registers = tuple((word >> f.register_at) & (REGISTERS - 1) for f in fields if f.register_at >= 0)
        return cls(op, values, registers, _names(word >> WAIT_AT), _names(word >> SIGNAL_AT))

    def shown(self, name: str) -> str:
        """A field's value as text: with its register, by its name where it has one, addresses in hexadecimal."""
        value, register = self[name], self.register(name)
        if (self.op, name) in CHOICES and value < len(CHOICES[self.op, name]):
            return CHOICES[self.op, name][value]
        if name == "formats" and all(value >> 2 * i & 3 < len(FORMATS) for i in range(4)):
            names = [FORMATS[value >> 2 * i & 3] for i in range(4)]
            while len(names) > 1 and names[-1] == FORMATS[0]:
                names.pop()
            return ",".join(names)
        if self.op == "set" and name in ("to", "a"):
            return f"r{value}"
        bits = next(f.bits for f in LAYOUT[self.op] if f.name == name)
        if register and value >= 1 << (bits - 1):
            value -= 1 << bits
        number = hex(value) if name in _ADDRESSES and abs(value) > 9 else str(value)
        if not register:
            return number
        return f"r{register}" if value == 0 else f"r{register}{'' if value < 0 else '+'}{number}"

    def __str__(self) -> str:
        if self.op == "set":
            return f"set {self.shown('to')} = {self.shown('a')} {self.shown('op')} {self.shown('value')}"
        words = [self.op]
        for name, value in zip(_NAMES[self.op], self.values, strict=True):
            if value != default(name) or self.register(name):
                words.append(f"{name}={self.shown(name)}")
        if self.op == "sync" and len(words) == 1:
            words.append(f"engine={self.shown('engine')}")
        for what, engines in (("wait", self.wait), ("signal", self.signal)):
            if engines:
                words.append(f"{what}({','.join(e for e in ENGINES if e in engines)})")
        return " ".join(words)


_SLOTS = {op: sum(f.register_at >= 0 for f in fields) for op, fields in LAYOUT.items()}
_BOUNDS = {op: tuple((f.low, f.high) for f in fields) for op, fields in LAYOUT.items()}
_OPS = tuple(OPCODES)
_ENGINE_BITS = {name: 1 << i for i, name in enumerate(ENGINES)}
_SETS = tuple(frozenset(n for n in ENGINES if mask & _ENGINE_BITS[n]) for mask in range(1 << SEMAPHORE_BITS))


def _used(op: str) -> int:
    used = (1 << (SIGNAL_AT + SEMAPHORE_BITS)) - 1
    for f in LAYOUT[op]:
        used |= ((1 << f.bits) - 1) << f.at
        if f.register_at >= 0:
            used |= (REGISTERS - 1) << f.register_at
    return used


_USED = {op: _used(op) for op in LAYOUT}


def _mask(engines: Iterable[str]) -> int:
    return sum(_ENGINE_BITS[name] for name in engines)


def _names(mask: int) -> frozenset[str]:
    return _SETS[mask & ((1 << SEMAPHORE_BITS) - 1)]


def _wrap(f: Field, value: int) -> int:
    value &= (1 << f.bits) - 1
    return value - (1 << f.bits) if f.signed and value >> (f.bits - 1) else value


def default(name: str) -> int:
    """What a field is where it is left out: its least legal value."""
    return 1 if name in _AT_LEAST_1 else 0


_DEFAULTS = {op: tuple((f, default(f.name)) for f in fields) for op, fields in LAYOUT.items()}


def make(op: str, wait: Iterable[str] = (), signal: Iterable[str] = (), /, **given: object) -> Instruction:
    """An instruction from its fields by name; those left out take `default`. Choices may be given by name.

    A slot's value may be an int or `reg` plus an int (a negative sum wraps, as the sequencer's addition does).
    """
    if op not in LAYOUT:
        raise IsaError(f"there is no instruction {op!r}", hint=nearest(op, list(LAYOUT)), code=1)
    for name in given:
        if name not in _NAMES[op]:
            raise IsaError(f"{op} has no field {name!r}", hint=nearest(name, list(_NAMES[op])) or ", ".join(_NAMES[op]))
    values, registers = [], []
    for f, otherwise in _DEFAULTS[op]:
        value = given.get(f.name, otherwise)
        register = 0
        if type(value) is int:
            pass
        elif isinstance(value, Slot):
            if value.register and f.register_at < 0:
                raise IsaError(f"{op}: {f.name} is no slot and takes no register", hint=f"{f.low} to {f.high}")
            register, value = value.register, value.value
            if register and not f.signed and -(1 << (f.bits - 1)) <= value < 0:
                value += 1 << f.bits
        elif isinstance(value, str):
            value = _choice(op, f.name, value)
        elif f.name == "formats" and isinstance(value, tuple | list):
            value = sum(_choice(op, "formats", name) << 2 * i for i, name in enumerate(value))
        if not isinstance(value, int):
            raise IsaError(f"{op}: {f.name} is {value!r}", hint="a whole number")
        values.append(int(value))
        if f.register_at >= 0:
            registers.append(register)
    return Instruction(op, tuple(values), tuple(registers), frozenset(wait), frozenset(signal))


def _choice(op: str, name: str, value: str) -> int:
    if name == "formats":
        if value in FORMATS:
            return FORMATS.index(value)
        raise IsaError(f"there is no stream format {value!r}", hint=", ".join(FORMATS))
    choices = CHOICES.get((op, name), ())
    if value not in choices:
        raise IsaError(f"{op}: {name} cannot be {value!r}", hint=", ".join(choices) or "a whole number")
    return choices.index(value)
