"""Which instruction a word is, and whether it is a legal one; combinational."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import (
    ALU,
    INSTRUCTION_BITS,
    LAYOUT,
    OPCODE_BITS,
    OPCODES,
    REGISTER_BITS,
    SEMAPHORE_BITS,
    SIGNAL_AT,
    WAIT_AT,
    Field,
)
from presilicon.template import ENGINES

UNMASKED = ("loop", "end", "set", "barrier", "halt")
"""Instructions of the sequencer that neither wait nor signal."""


def field(opcode: str, name: str) -> Field:
    """A field of an instruction by its name."""
    return next(f for f in LAYOUT[opcode] if f.name == name)


def plain(word: Value, opcode: str, name: str) -> Value:
    """The bits of a plain field (one that no register is added to)."""
    f = field(opcode, name)
    assert f.register_at < 0, name
    return word[f.at : f.at + f.bits]


def reserved_bits(opcode: str) -> Sequence[int]:
    """Bits that an opcode gives no meaning: they must be zero."""
    used = set(range(SIGNAL_AT + SEMAPHORE_BITS))
    for f in LAYOUT[opcode]:
        used.update(range(f.at, f.at + f.bits))
        if f.register_at >= 0:
            used.update(range(f.register_at, f.register_at + REGISTER_BITS))
    return [i for i in range(INSTRUCTION_BITS) if i not in used]


class Decode(Component):
    """The instruction ``word``: a flag for each opcode, and two errors.

    ``illegal_opcode``: unknown, or a reserved bit is set. ``illegal_field``: a field of an instruction that the sequencer
    executes itself breaks a law, for a memory of ``slots`` instructions. Engines check the laws of theirs.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        super().__init__(
            {
                "word": In(INSTRUCTION_BITS),
                "is_": Out(data.StructLayout(dict.fromkeys(OPCODES, 1))),
                "illegal_opcode": Out(1),
                "illegal_field": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word, is_ = self.word, self.is_
        m.d.comb += [is_[name].eq(word[:OPCODE_BITS] == code) for name, code in OPCODES.items()]
        # A bit that no opcode uses is tested once, for all of them.
        reserved = {name: frozenset(reserved_bits(name)) for name in OPCODES}
        never = frozenset.intersection(*reserved.values())
        broken = [Cat(word[i] for i in sorted(never)).any()]
        broken += [is_[name] & Cat(word[i] for i in sorted(bits - never)).any() for name, bits in reserved.items()]
        m.d.comb += self.illegal_opcode.eq(~Cat(is_[name] for name in OPCODES).any() | Cat(broken).any())

        masked = word[WAIT_AT : SIGNAL_AT + SEMAPHORE_BITS] != 0
        length, to, op = plain(word, "loop", "length"), plain(word, "set", "to"), plain(word, "set", "op")
        laws = [is_[name] & masked for name in UNMASKED]
        laws += [
            is_.loop & ((length == 0) | (length >= self._slots)),
            is_.set & ((to == 0) | (op >= len(ALU))),
            is_.sync & (plain(word, "sync", "engine") >= len(ENGINES)),
        ]
        m.d.comb += self.illegal_field.eq(Cat(laws).any())
        return m
