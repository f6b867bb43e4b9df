"""Instructions: bits, laws, bytes and text."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isa_drawn import core, instructions

from presilicon.errors import IsaError
from presilicon.isa import (
    ALU,
    LAYOUT,
    OPCODES,
    Instruction,
    alu,
    barrier,
    check_fields,
    end,
    halt,
    load,
    loop,
    make,
    matmul,
    reg,
    set_,
    store,
    sync,
    vector,
)
from presilicon.isa.layout import INSTRUCTION_BITS, SIGNAL_AT, SLOTS_AT, UOP, UOP_BITS
from presilicon.isa.text import _instruction


def test_fields_do_not_overlap_and_fit():
    for op, fields in LAYOUT.items():
        used = set(range(SIGNAL_AT + 5))
        for f in fields:
            bits = set(range(f.at, f.at + f.bits)) | (
                set(range(f.register_at, f.register_at + 4)) if f.register_at >= 0 else set()
            )
            assert not used & bits, (op, f.name)
            assert max(bits) < INSTRUCTION_BITS
            assert min(bits) >= SLOTS_AT
            used |= bits
    at = [b for f in UOP for b in range(f.at, f.at + f.bits)]
    assert len(set(at)) == len(at)
    assert max(at) < UOP_BITS


@settings(deadline=None)
@given(instructions())
def test_bytes_say_the_same(one: Instruction):
    data = one.encode()
    assert len(data) == 64
    assert Instruction.decode(data) == one
    assert data[0] == OPCODES[one.op]


@settings(deadline=None)
@given(instructions())
def test_text_says_the_same(one: Instruction):
    assert _instruction(str(one), {}, {}) == one


@settings(deadline=None)
@given(st.binary(min_size=64, max_size=64), st.integers(0, 12), st.booleans())
def test_any_bytes_are_an_instruction_or_refused(data: bytes, opcode: int, sparse: bool):
    data = bytes([opcode]) + (bytes(63) if sparse else data[1:])
    with suppress(IsaError):
        assert Instruction.decode(data).encode() == data


@settings(deadline=None)
@given(instructions(("load", "store", "matmul", "vector")), st.lists(st.integers(0, (1 << 40) - 1), min_size=16, max_size=16))
def test_a_register_is_added_and_cut_to_the_slot(one: Instruction, registers: list[int]):
    registers[0] = 0
    fields = one.resolve(registers)
    for f in LAYOUT[one.op]:
        value = one[f.name] + (registers[one.register(f.name)] if f.register_at >= 0 else 0)
        assert (fields[f.name] - value) % (1 << f.bits) == 0
        assert f.low <= fields[f.name] <= f.high


def test_constructors_write_what_they_say():
    assert str(
        load(dram=reg("r1") + 0x1000, spad=64, run=256, n1=4, target="kernels", wait=("matmul",), signal=("vector",))
    ) == ("load dram=r1+0x1000 spad=0x40 n1=4 run=256 target=kernels wait(matmul) signal(vector)")
    assert str(store(dram=reg(2) - 16, spad=0, run=1)) == "store dram=r2-0x10"
    assert str(matmul(x=0, w=4096, m0=reg("r3"), tail=16, x_stride0=-64, weights="int4")) == (
        "matmul w=0x1000 m0=r3 tail=16 x_stride0=-64 weights=int4"
    )
    one = vector(kernel=3, rows=8, strips=2, columns=20, streams=(0, 100), formats=("int8", "fp32", "int32"), fixed=(1,))
    assert str(one) == "vector stream1=0x64 rows=8 strips=2 columns=20 valid=20 formats=int8,fp32,int32 fixed=2 kernel=3"
    assert str(sync("load")) == "sync engine=load"
    assert str(sync("sequencer", wait=("load", "store"))) == "sync engine=sequencer wait(load,store)"
    assert str(set_("r3", "r4", "mul", reg("r5") + 7)) == "set r3 = r4 mul r5+7"
    assert str(loop(reg("r2"), 5)) == "loop count=r2 length=5"
    assert [str(one) for one in (end(), barrier(), halt())] == ["end", "barrier", "halt"]


REFUSED = {
    "there is no instruction 'lode'": lambda: make("lode"),
    "did you mean run": lambda: make("load", rum=3),
    "run is at least 1": lambda: load(dram=0, spad=0, run=0),
    "-8388608 to 8388607": lambda: matmul(x=0, w=0, m0=1, tail=1, x_stride0=1 << 24),
    "takes no register": lambda: make("load", pitch=reg("r1"), run=1),
    "there is no register r16": lambda: reg("r16"),
    "there is no register x1": lambda: reg("x1"),
    "there is no engine 'array'": lambda: sync("load", wait=("array",)),
    "target cannot be 'moon'": lambda: load(dram=0, spad=0, run=1, target="moon"),
    "target is scratchpad, tables, kernels": lambda: load(dram=0, spad=0, run=1, target=7),
    "n2 = n3 = 1": lambda: load(dram=0, spad=0, run=1, n2=2, gather=1),
    "only the scratchpad": lambda: load(dram=0, spad=0, run=16, left=1, target="kernels"),
    "there is no stream format 'fp8'": lambda: vector(kernel=0, rows=1, strips=1, columns=1, formats=("fp8",)),
    "neither waits nor signals": lambda: Instruction("halt", (), (), frozenset(("load",))),
    "to is r1 to r15": lambda: set_("r0", "r1"),
    "op cannot be 'xor'": lambda: set_("r1", "r1", "xor"),
    "length 0": lambda: loop(3, 0),
    "a whole number": lambda: make("load", run=1.5),
    "has 5 fields and 4 slots": lambda: Instruction("load", (1,), ()),
    "has 64 bytes, not 3": lambda: Instruction.decode(b"123"),
    "no opcode 0": lambda: Instruction.decode(bytes(64)),
    "reserved bits set": lambda: Instruction.decode(bytes([OPCODES["halt"]]) + bytes(62) + b"\1"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_is_refused(message: str):
    with pytest.raises(IsaError) as caught:
        REFUSED[message]()
    expected = "fields and" if "fields and" in message else message
    assert expected in str(caught.value)


def test_laws_hold_behind_the_registers_too():
    machine = core()
    one = matmul(x=0, w=0, m0=reg("r1"), tail=16, x_stride0=1)
    check_fields(machine, "matmul", one.resolve([0, 5] + [0] * 14))
    with pytest.raises(IsaError, match="m0 0") as caught:
        check_fields(machine, "matmul", one.resolve([0] * 16))
    assert caught.value.code == 2
    with pytest.raises(IsaError, match="array_rows"):
        check_fields(machine, "matmul", matmul(x=0, w=0, m0=1, tail=17, x_stride0=1).resolve())
    with pytest.raises(IsaError, match="aligned") as caught:
        check_fields(machine, "load", load(dram=8, spad=0, run=16, target="kernels").resolve())
    assert caught.value.code == 13


@pytest.mark.parametrize("number", range(len(ALU)))
def test_the_registers_arithmetic(number: int):
    a, b, mask = (1 << 40) - 3, 70, (1 << 40) - 1
    expected = [a + b, a - b, a * b, a & b, a << 6, a >> 6, min(a, b), max(a, b)][number] & mask
    assert alu(number, a, b) == alu(ALU[number], a, b) == expected
