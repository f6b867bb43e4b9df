"""Programs: their parts, their file, and overlays of long ones."""

import hashlib
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isa_drawn import CORES, core, kernels, programs

from presilicon.errors import InputError, IsaError
from presilicon.isa import (
    Kernel,
    Program,
    Region,
    Segment,
    assemble,
    disassemble,
    end,
    halt,
    kernel_text,
    link,
    load,
    loop,
    place,
    set_,
    sync,
)
from presilicon.isa.binary import MAGIC


def small(**changes) -> Program:
    given = {"core_digest": core().digest(), "instructions": (halt(),), "dram_bytes": 4096}
    return Program(**(given | changes))


@settings(deadline=None, max_examples=50)
@given(st.data(), st.sampled_from(CORES))
def test_the_file_says_the_same(data: st.DataObject, machine):
    program = data.draw(programs(machine))
    assert Program.from_bytes(program.to_bytes()) == program


def test_a_file_is_read_back(tmp_path: Path):
    path = tmp_path / "a.program"
    program = small(kernels=(Kernel("k", 4, kernel_text("r1 = stream0")),), kernel_address=64)
    program.write(path)
    assert Program.read(path, core()) == program
    assert list(tmp_path.iterdir()) == [path]


def damaged(change) -> bytes:
    content = bytearray(small(data=(Segment(0x100, b"abc"),)).to_bytes()[:-32])
    change(content)
    return bytes(content) + hashlib.sha256(content).digest()


def version(content: bytearray) -> None:
    content[8:12] = struct.pack("<I", 9)


def meta(content: bytearray) -> None:
    at = content.index(b'"kernels":[]')
    content[at : at + 12] = b'"kernals":[]'


def opcode(content: bytearray) -> None:
    content[content.index(halt().encode())] = 77


FILES = {
    "this is no program": lambda: b"",
    "this is no program ": lambda: b"ELF" + bytes(1000),
    "cut off after 20 bytes": lambda: small().to_bytes()[:20],
    "of version 9": lambda: damaged(version),
    "checksum does not hold": lambda: small().to_bytes()[:-1] + b"x",
    "5 bytes follow": lambda: small().to_bytes() + b"12345",
    "contents are not those of a program": lambda: damaged(meta),
    "instruction 0: there is no opcode 77": lambda: damaged(opcode),
    "has 3 sections": lambda: damaged(lambda content: content.__setitem__(slice(28, 32), struct.pack("<I", 3))),
}


@pytest.mark.parametrize("message", FILES)
def test_a_damaged_file_is_refused_in_one_sentence(message: str, tmp_path: Path):
    path = tmp_path / "p"
    path.write_bytes(FILES[message]())
    with pytest.raises(IsaError) as caught:
        Program.read(path)
    assert message.strip() in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_every_cut_is_refused():
    whole = small(kernels=(Kernel("k", 0, kernel_text("r1 = stream0")),), kernel_address=64).to_bytes()
    assert whole.startswith(MAGIC)
    for length in range(len(whole)):
        with pytest.raises(IsaError, match=r"cut off|no program"):
            Program.from_bytes(whole[:length])


def test_no_file_and_another_chips_program(tmp_path: Path):
    with pytest.raises(IsaError, match="cannot be read"):
        Program.read(tmp_path / "none")
    small().write(tmp_path / "p")
    with pytest.raises(IsaError, match="made for another chip"):
        Program.read(tmp_path / "p", core(accumulator_rows=256))
    with pytest.raises(InputError, match="cannot be written"):
        small().write(tmp_path / "none" / "p")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 255), st.binary(max_size=4))
def test_a_spoilt_file_is_read_or_refused(at: int, value: int, more: bytes):
    def spoil(content: bytearray) -> None:
        content[at % len(content)] = value
        start = (at >> 8) % len(content)
        content[start : start + len(more)] = more

    with suppress(IsaError):
        Program.from_bytes(damaged(spoil))


KERNEL = kernel_text("r1 = stream0")
REFUSED = {
    "has no instruction": {"instructions": ()},
    "two kernels are named k": {"kernels": (Kernel("k", 0, KERNEL), Kernel("k", 4, KERNEL)), "kernel_address": 64},
    "multiples of 64": {"address": 32},
    "the instructions and the kernels overlap": {"kernels": (Kernel("k", 0, KERNEL),)},
    "beyond the 4096 bytes": {"data": (Segment(4090, b"1234567"),)},
    "region r reaches beyond": {"regions": (Region("r", "input", "float32", (2000,), 0),)},
    "two regions are named r": {"regions": (Region("r", "input", "int8", (1,), 0), Region("r", "output", "int8", (1,), 0))},
}


@pytest.mark.parametrize("message", REFUSED)
def test_parts_that_do_not_fit_are_refused(message: str):
    with pytest.raises(IsaError) as caught:
        small(**REFUSED[message])
    assert message in str(caught.value)


def test_the_image_and_what_it_is_made_of():
    one, two = Kernel("one", 0, KERNEL), Kernel("two", 8, kernel_text("r1 = stream0\n" * 5))
    program = Program.build(core(), [halt()], kernels=(one, two), data=(Segment(0x200, b"xyz"),), address=64)
    memory = program.memory()
    assert bytes(memory[64:128]) == halt().encode()
    assert program.kernel_at("one") == 128
    assert program.kernel_at("two") == 192
    assert bytes(memory[192:208]) == two.uops[0].encode()
    assert bytes(memory[0x200:0x203]) == b"xyz"
    assert program.dram_bytes == len(memory) == 0x240
    assert len(program.memory(5000)) == 5000
    with pytest.raises(IsaError, match="needs"):
        program.memory(100)
    with pytest.raises(IsaError, match="no kernel 'three'"):
        program.kernel_at("three")
    with pytest.raises(IsaError, match="no region"):
        program.region("x")
    with pytest.raises(IsaError, match="multiple of 4"):
        Kernel("k", 2, KERNEL)
    with pytest.raises(IsaError, match="cannot be named"):
        Kernel("a b", 0, KERNEL)
    with pytest.raises(IsaError, match="reaches slot 256"):
        small(kernels=(Kernel("k", 256, KERNEL),), kernel_address=64).check_core(core())


@settings(deadline=None, max_examples=40)
@given(st.lists(kernels(), max_size=5))
def test_kernels_are_placed_apart(bodies):
    placed = place([(f"k{i}", body) for i, body in enumerate(bodies)], core(kernel_slots=512))
    used = [slot for one in placed for slot in range(one.start, one.start + len(one.uops))]
    assert len(set(used)) == len(used)


def executed(program: Program, machine) -> list:
    """The instructions that the sequencer runs from its memory, loads of instructions and waits left out."""
    slots = machine.instruction_slots
    memory = [None] * slots
    memory[: min(slots, len(program.instructions))] = range(min(slots, len(program.instructions)))
    coming: list[tuple[int, int, int]] = []
    found, loops, pc = [], [], 0
    while True:
        assert memory[pc % slots] == pc
        one = program.instructions[pc]
        pc += 1
        if one.op == "load" and one.shown("target") == "instructions":
            coming.append((one["spad"] // 64, (one["dram"] - program.address) // 64, one["run"] // 64))
        elif one.op == "sync":
            slot, first, count = coming.pop(0)
            memory[slot : slot + count] = range(first, first + count)
        elif one.op == "loop":
            if one["count"]:
                loops.append([pc, one["count"]])
            else:
                pc += one["length"]
        elif one.op == "end":
            loops[-1][1] -= 1
            pc = loops[-1][0] if loops[-1][1] else pc
            if not loops[-1][1]:
                loops.pop()
        elif one.op == "halt":
            return found
        elif str(one) != "set r1 = r1 add 0":
            found.append(one)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from((16, 32, 256)))
def test_a_long_program_runs_from_a_small_memory(data: st.DataObject, slots: int):
    machine = core(instruction_slots=slots)
    parts = data.draw(
        st.lists(st.one_of(st.integers(1, 40), st.tuples(st.integers(1, slots // 2 - 4), st.integers(0, 3))), max_size=30)
    )
    code, expected = [], []
    for part in parts:
        length, times = (part, 1) if isinstance(part, int) else part
        body = [set_("r2", "r2", "add", len(code) + i + 1) for i in range(length)]
        expected += body * times
        code += body if isinstance(part, int) else [loop(times, length + 1), *body, end()]
    program = Program.build(machine, [*code, halt()], address=0x400)
    assert executed(program, machine) == expected
    assert link(program.instructions, machine, 0x400) == program.instructions
    assert assemble(disassemble(program), machine) == program
    windows = program.segments(machine)
    assert sum(count for _, count in windows) == len(program.instructions)
    assert windows[0] == (0, min(slots, len(program.instructions)))


def test_what_no_overlay_can_hold_is_refused():
    machine = core(instruction_slots=16)
    idle = [set_("r2", "r2")]
    with pytest.raises(IsaError, match="a loop of 7 instructions does not fit"):
        link((*idle * 20, loop(2, 6), *idle * 5, end(), halt()), machine)
    with pytest.raises(IsaError, match="uses the semaphore from load to sequencer"):
        link((load(dram=0, spad=0, run=1, signal=("sequencer",)), *idle * 20, halt()), machine)
    with pytest.raises(IsaError, match="uses the semaphore"):
        link((sync("sequencer", wait=("load",)), *idle * 20, halt()), machine)
    with pytest.raises(IsaError, match="instruction 0: the body of `loop count=2 length=3`"):
        link((loop(2, 3), *idle * 20, halt()), machine)
    with pytest.raises(IsaError, match="instruction 20: end without a loop"):
        link((*idle * 20, end(), halt()), machine)


def test_memory_is_bytes():
    assert small().memory().dtype == np.uint8
