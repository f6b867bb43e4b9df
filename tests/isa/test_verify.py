"""The verifier: what holds passes, and each thing that may not be is refused by its own case, naming both instructions."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from isa_drawn import core

from presilicon.errors import IsaError
from presilicon.isa import Instruction, Program, Region, assemble, barrier, halt, load, set_, store, verify

GOLDEN = Path(__file__).parent / "golden"
HEAD = """
input x int8 64x64 at 0x0
state w int8 64x64 at 0x1000
output y int32 64x16 at 0x2000
kernel out:
  stream0 = acc * imm(1)
kernel twice:
  stream1 = stream0 * imm(2)
kernel table:
  stream0 = table0(acc * imm(1))
"""
# A matmul of 16 rows whose operands are loaded and whose result is stored, with all the order it needs.
WHOLE = """code at 0x4000:
  load dram=w spad=0x8000 run=1024
  load dram=x n1=16 run=64 stride1=64 pitch=64 signal(matmul)
  load dram=out run=192 target=kernels signal(vector)
  matmul x=0 w=0x8000 m0=16 kb=4 tail=16 x_stride0=64 wait(load) signal(vector)
  sync engine=vector wait(load)
  vector kernel=out stream0=0x4000 rows=16 strips=1 columns=16 valid=16 pitch0=64 formats=int32 wait(matmul) signal(store)
  store dram=y spad=0x4000 n1=16 run=64 stride1=64 pitch=64 wait(vector)
  halt
"""


def program(code: str, **sizes) -> Program:
    machine = core(**sizes)
    code = code if "code" in code else "code at 0x4000:\n" + code
    return assemble(HEAD + code, machine)


def swapped(old: str, new: str) -> str:
    assert old in WHOLE
    return WHOLE.replace(old, new)


LOADED = "load dram=out run=192 target=kernels signal(vector)\nsync engine=vector wait(load)\n"
FILLED = "load dram=x spad={} run=1024 signal(matmul,vector,store)\n"
# What is refused: the message, then the code.
REFUSED = {
    # Reads of what was never written.
    "`store dram=0x2000 run=16` reads byte 0x0 of the scratchpad, which was never written": "store dram=y run=16\nhalt",
    "reads byte 0x2000 of DRAM, which was never written": "load dram=y run=16\nhalt",
    "reads byte 0x3000 of DRAM, which was never": "load dram=0x3000 run=16\nhalt",
    "reads row 0 of accumulator bank 1, which was never written": LOADED
    + "vector kernel=out rows=8 strips=1 columns=16 valid=16 pitch0=64 bank=1\nhalt",
    "of the tables, which was never written": swapped("kernel=out", "kernel=table").replace("formats=int32", "formats=fp32"),
    "of the index memory, which was never written": "load dram=x n1=2 run=16 stride1=16 pitch=16 gather=1\nhalt",
    "the kernel in slot 0 runs past": "vector rows=8 strips=1 columns=16 valid=16\nhalt",
    "from DRAM 0x0 to 0x3f, of which the program says nothing": "load dram=x run=64 target=kernels\nhalt",
    # Beyond a memory.
    "reaches scratchpad 0xfff0 to 0x1000f": "load dram=x spad=0xfff0 run=32\nhalt",
    "reaches dram": "load dram=0x100000 run=16\nhalt",
    "reaches accumulator0 0x78 to 0x87": swapped("matmul x=0", "matmul acc=120 x=0"),
    "reaches kernels": "load dram=out spad=4080 run=64 target=kernels\nhalt",
    "reaches indices 0x3fc to 0x403": "load dram=x spad=1008 run=16 target=indices signal(load)\n"
    "load dram=x n1=2 run=16 stride1=16 pitch=16 gather=1 index0=255 wait(load)\nhalt",
    "reaches scratchpad 0x10000 to": swapped("w=0x8000 m0", "w=0x10000 m0"),
    "matmul with m0 0": swapped("m0=16", "m0=r1"),
    # Order between engines.
    "`matmul w=0x8000 m0=16 kb=4 tail=16 x_stride0=64 signal(vector)` reads byte 0x0 of the scratchpad in no order with"
    " instruction 1": swapped("wait(load) signal(vector)", "signal(vector)").replace(" signal(matmul)", ""),
    "reads accumulator bank 0 in no order with instruction 3 `matmul": swapped("wait(matmul) ", ""),
    "reads row 0 of accumulator bank 0 in no order with instruction 3 `matmul": swapped("wait(matmul) ", "").replace(
        "kb=4 tail=16", "tail=16"
    ),
    "reads byte 0x8000 of the scratchpad in no order with instruction 4 `load": swapped(
        "  sync engine=vector wait", "  load dram=w spad=0x8000 run=1024\n  sync engine=vector wait"
    ),
    "reads byte 0x0 of the kernel memory in no order with instruction 2 `load": swapped(
        "  sync engine=vector wait(load)\n", ""
    ).replace("target=kernels signal(vector)", "target=kernels"),
    "reads byte 0x0 of the kernel memory in no order with instruction 6 `load": swapped(
        "  store", "  load dram=out run=192 target=kernels\n  store"
    ),
    "of the index memory in no order with instruction 0 `load": "load dram=x run=16 target=indices\n"
    "load dram=x n1=2 run=16 stride1=16 pitch=16 gather=1\nhalt",
    "writes byte 0x1000 of DRAM in no order with instruction 2 `load": FILLED.format(0)
    + "store dram=w run=16 wait(load)\nload dram=w spad=0x4000 run=16\nhalt",
    # Ports.
    "reads scratchpad bank 0 in no order with instruction 7 `matmul": swapped(
        "  store",
        "  vector kernel=twice stream0=0 stream1=0x6000 rows=8 strips=1 columns=16 valid=16 pitch0=64 pitch1=64\n"
        "  matmul x=0 w=0x8000 m0=16 tail=16 x_stride0=64 bank=1\n  store",
    ),
    "writes scratchpad bank 2 in no order": swapped("  store", "  load dram=w spad=0x5000 run=16\n  store"),
    "fetches its stationary operand from scratchpad bank 0": swapped("w=0x8000 m0", "w=0x400 m0").replace(
        "spad=0x8000", "spad=0x400"
    ),
    "reads accumulator bank 0 in no order with": swapped(
        "  store", "  matmul x=0 w=0x8000 acc=32 m0=16 kb=4 tail=16 x_stride0=64\n  store"
    ),
    "row 15 of accumulator bank 0 in no order with instruction 3": swapped(
        "  sync", "  matmul x=0 w=0x8000 acc=15 m0=4 kb=4 tail=16 x_stride0=64 accumulate=1\n  sync"
    ),
    # Semaphores.
    "the program deadlocks: instruction 0 `matmul": "matmul x=0 w=0 m0=1 tail=1 wait(load)\nhalt",
    "waits for load; the sequencer stands at instruction 2 `halt`": "sync engine=load wait(store) signal(store)\n"
    "sync engine=store wait(load) signal(load)\nhalt",
    "the sequencer stands at instruction 0 `sync engine=sequencer wait(vector)`": "sync engine=sequencer wait(vector)\nhalt",
    "the semaphore from load to store may overflow": "loop 64 {\nsync engine=load signal(store)\n}\nloop 64 {\n"
    "sync engine=store wait(load)\n}\nhalt",
    # Loops.
    "loops nest deeper than 4": "loop 2 {\n" * 5 + "set r1 = r1 add 1\n" + "}\n" * 5 + "halt",
    "does not end with an end of its own": "loop count=2 length=2\nset r1 = r1 add 1\nset r1 = r1 add 1\nhalt",
    "end without a loop": "end\nhalt",
    "has not ended after 5000 instructions": "loop 100000 {\nset r1 = r1 add 1\n}\nhalt",
    "runs on behind its last instruction": "set r1 = r1 add 1",
}


def test_what_is_ordered_passes():
    assert verify(program(WHOLE), core()).instructions == (8,)


@pytest.mark.parametrize("message", REFUSED)
def test_what_may_not_be_is_refused(message: str):
    with pytest.raises(IsaError) as caught:
        verify(program(REFUSED[message]), core(), {1: 0}, most=5000)
    assert message in str(caught.value), str(caught.value)


# What is wrong, the kernel, and fields other than those of `kernel_program`.
KERNELS = (
    ("reads r2, which the kernel has not written", "r1 = r2 * r2", {}),
    ("the core has 16 lanes", "r1 = stream0\nr1 = r1 * swap(r1, 16)", {}),
    ("has an offset", "r1 = stream0 @1", {"by_strips": 1}),
    ("reads a stream that is not fp32 or int8", "r1 = stream0", {"formats": "int32"}),
    ("writes a stream that is not", "stream1 = stream0", {"formats": 12}),
    ("2 `r1 = stream0` may read what 1 `stream0 = r2` has written", "r2 = stream1\nstream0 = r2\nr1 = stream0", {}),
    ("0 `stream0 = stream0 * imm(2.0)` may read what 0", "stream0 = stream0 * imm(2)", {"pitch0": 3}),
    ("may read what 1 `stream1 = r1` has written", "r1 = stream0\nstream1 = r1", {"stream1": 16}),
    ("may read what 1 `stream0 = r1` has written", "loop {\nr1 = stream0\nstream0 = r1\n}", {"fixed": 1}),
    ("may read what 1 `stream0 = r1 @1` has written", "loop {\nr1 = stream0\nstream0 = r1 @1\n}", {"strips": 2}),
)


def kernel_program(body: str, **fields) -> Program:
    given = {"stream1": 0x2000, "pitch0": 64, "pitch1": 64, "strips": 1, "columns": 16, "valid": 16} | fields
    return assemble(
        f"""
        input x int8 64x64 at 0
        kernel k:
        {body}
        code at 0x4000:
          load dram=k run=64 target=kernels
          load dram=x run=4096 signal(vector)
          vector kernel=k rows=8 {" ".join(f"{name}={value}" for name, value in given.items())} wait(load)
          halt
        """,
        core(),
    )


@pytest.mark.parametrize(("message", "body", "fields"), KERNELS)
def test_what_a_kernel_may_not_do(message: str, body: str, fields: dict[str, object]):
    with pytest.raises(IsaError) as caught:
        verify(kernel_program(body, **fields), core())
    assert message in str(caught.value)


def test_a_kernel_may_write_where_it_has_read():
    body = "loop step 2 {\nr1 = stream0 @1\nr2 = stream0\nstream0 = r2 * imm(2)\nstream0 = r1 * imm(2) @1\n}"
    verify(kernel_program(body, pitch0=256, strips=4, columns=64, valid=64), core())


def pairs(code: tuple[Instruction, ...]) -> list[tuple[str, str, int, int]]:
    """Every token of a program without waits in loops: from, to, and the instructions that give and take it."""
    given: dict[tuple[str, str], list[int]] = {}
    taken: dict[tuple[str, str], list[int]] = {}
    for number, one in enumerate(code):
        for engine in one.signal:
            given.setdefault((one.engine, engine), []).append(number)
        for engine in one.wait:
            taken.setdefault((engine, one.engine), []).append(number)
    return [(*key, a, b) for key, takers in taken.items() for a, b in zip(given[key], takers, strict=False)]


@pytest.mark.parametrize("name", ["product", "softmax", "whole"])
def test_no_token_can_be_taken_away(name: str):
    whole = program(WHOLE) if name == "whole" else assemble((GOLDEN / f"{name}.s").read_text(encoding="utf-8"), core())
    verify(whole, core(), {1: 3, 2: 40})
    code = whole.instructions
    for source, target, giver, taker in pairs(code):
        changed = list(code)
        changed[giver] = replace(changed[giver], signal=changed[giver].signal - {target})
        changed[taker] = replace(changed[taker], wait=changed[taker].wait - {source})
        with pytest.raises(IsaError, match=r"in no order|never written"):
            verify(replace(whole, instructions=tuple(changed)), core(), {1: 3, 2: 40})


def test_an_engines_own_order_is_known():
    """A later matmul may add to what the one before left where the rows are far enough apart in time; vectors always."""
    near = swapped("  sync", "  matmul x=0 w=0x8000 m0=16 kb=4 tail=16 x_stride0=64 accumulate=1 signal(vector)\n  sync")
    near = near.replace("wait(load) signal(vector)", "wait(load)")
    verify(program(near), core())


def test_sixty_three_signals_fit():
    code = "loop {} {{\nsync engine=load signal(store)\n}}\nloop {} {{\nsync engine=store wait(load)\n}}\nhalt"
    verify(program(code.format(63, 63)), core())


def test_indices_known_to_the_program_are_followed():
    data = "data at 0x3000: " + "".join(n.to_bytes(4, "little").hex() for n in (0, 3, 100, 2)) + "\n"
    code = (
        "code at 0x4000:\nload dram=0x3000 run=16 target=indices signal(load)\n"
        "load dram=x n1={} run=16 stride1=64 pitch=16 gather=1 wait(load)\nhalt"
    )
    verify(assemble(HEAD + data + code.format(2), core()), core())
    with pytest.raises(IsaError, match=r"reads byte 0x1900 of DRAM"):
        verify(assemble(HEAD.replace("state w int8 64x64 at 0x1000\n", "") + data + code.format(3), core()), core())
    far = HEAD + data.replace("64000000", "ffffff00") + code.format(3)
    with pytest.raises(IsaError, match="gathers from DRAM"):
        verify(assemble(far, core()), core())


def test_an_array_may_end_within_the_last_beat_of_a_small_memory():
    text = "input index int32 {} at 0x100\ncode at 0x4000:\nload dram=0x100 run=64 target=indices\nhalt"
    verify(assemble(text.format(13), core()), core())
    with pytest.raises(IsaError, match="byte 0x130 of DRAM, which was never written"):
        verify(assemble(text.format(12), core()), core())


def test_indices_of_the_run_stay_in_their_array():
    code = (
        "code at 0x4000:\nload dram=w run=16 target=indices signal(load)\n"
        "load dram={} n1=2 run=16 stride1=64 pitch=16 gather=1 wait(load)\nhalt"
    )
    verify(assemble(HEAD + code.format("x"), core()), core())
    with pytest.raises(IsaError, match="where no region"):
        verify(assemble(HEAD + code.format("0x3000"), core()), core())


def test_runtime_arguments_steer_it():
    text = HEAD + "code at 0x4000:\nloop r2 {\nload dram=r1 run=16\nset r1 = r1 add 16\n}\nhalt"
    one = assemble(text, core())
    assert verify(one, core(), {1: 0, 2: 100}).instructions == (302,)
    with pytest.raises(IsaError, match="byte 0x2000 of DRAM"):
        verify(one, core(), {1: 0x1FF0, 2: 2})
    moved = replace(one, regions=(Region("x", "input", "int8", (4096,), 0x100, 3),))
    verify(moved, core(), {1: 0x8100, 2: 3, 3: 0x8000}, dram_bytes=1 << 16)
    with pytest.raises(IsaError, match="region x lies at"):
        verify(moved, core(), {1: 0x8100, 3: 0x8000})


def test_long_programs_are_followed_through_their_overlays():
    machine = core(instruction_slots=16)
    code = [load(dram=64 * (i % 8), spad=0, run=16) for i in range(100)]
    regions = (Region("x", "input", "int8", (4096,), 0),)
    linked = Program.build(machine, [*code, halt()], address=0x4000, regions=regions)
    assert verify(linked, machine).instructions[0] > 101
    with pytest.raises(IsaError, match="is not in the instruction memory: slot 0 holds instruction 0"):
        verify(replace(linked, instructions=(*code, halt())), machine)
    hurried = [one if one.op != "sync" else set_("r1", "r1") for one in linked.instructions]
    with pytest.raises(IsaError, match=r"in no order|is not in the instruction memory"):
        verify(replace(linked, instructions=tuple(hurried)), machine)


def two(first: list[Instruction], second: list[Instruction]) -> tuple[list[Program], object]:
    machine = core(cores=2)
    regions = (Region("x", "input", "int8", (4096,), 0), Region("y", "scratch", "int8", (4096,), 0x1000))
    made = [
        Program.build(machine, code, address=0x4000 + 0x1000 * i, regions=regions, dram_bytes=0x8000)
        for i, code in enumerate((first, second))
    ]
    return made, machine


def test_cores_are_ordered_by_barriers():
    write = [load(dram=0, spad=0, run=64, signal=("store",)), store(dram=0x1000, spad=0, run=64, wait=("load",))]
    read = [load(dram=0x1000, spad=0, run=64)]
    made, machine = two([*write, barrier(), halt()], [barrier(), *read, halt()])
    assert verify(made, machine).instructions == (4, 3)
    made, machine = two([*write, barrier(), halt()], [*read, barrier(), halt()])
    with pytest.raises(IsaError, match=r"core 1: instruction 0 .* and core 0 touch byte 0x1000 of DRAM without a barrier"):
        verify(made, machine)
    made, machine = two([barrier(), *write, halt()], [barrier(), *read, halt()])
    with pytest.raises(IsaError, match="without a barrier"):
        verify(made, machine)
    made, machine = two([halt()], [barrier(), halt()])
    with pytest.raises(IsaError, match="core 1 waits at a barrier, core 0 has halted"):
        verify(made, machine)
    with pytest.raises(IsaError, match="3 sets of arguments for 2 programs"):
        verify(made, machine, [{}, {}, {}])


def test_another_chips_program_is_refused():
    with pytest.raises(IsaError, match="made for another chip"):
        verify(program(WHOLE), core(accumulator_rows=256))


def test_messages_name_the_instruction_its_text_and_the_other_one():
    with pytest.raises(IsaError) as caught:
        verify(program(swapped("wait(matmul) ", "")), core())
    numbers = re.findall(r"instruction (\d+) `(\w+) ", str(caught.value))
    assert numbers == [("5", "vector"), ("3", "matmul")]


def test_ten_thousand_instructions_take_seconds():
    body = swapped("run=1024", "run=1024 wait(store)").replace("wait(vector)", "wait(vector) signal(load)")
    body = body.partition("\n")[2].replace("  halt\n", "")
    text = HEAD + "code at 0x4000:\n  sync engine=store signal(load)\n  loop 1250 {\n" + body + "  }\n  halt\n"
    one = assemble(text, core())
    begin = time.process_time()
    assert verify(one, core()).instructions[0] > 10_000
    assert time.process_time() - begin < 4
