"""The sequencer alone: boot, three cycles an instruction, loops, `set`, waits, barrier, halt, and what it refuses."""

import random
from dataclasses import dataclass, field

import pytest
from amaranth.sim import Simulator

from presilicon.isa import alu, barrier, end, halt, load, loop, make, matmul, reg, set_, store, sync
from presilicon.isa.layout import ALU, INSTRUCTION_BITS, LAYOUT, OPCODE_BITS, OPCODES, REGISTER_BITS
from presilicon.rtl.decode import Decode
from presilicon.rtl.sequencer import QUEUED, Sequencer
from presilicon.template import ENGINES, Core

CORE = Core(4, 4, 4, 16, 4, 1 << 14, 4, 64)
SEQUENCER = ENGINES.index("sequencer")
BOOTED = 20  # cycle in which the signal of the boot load is seen


def words(program) -> list[int]:
    return [i if isinstance(i, int) else int.from_bytes(i.encode(), "little") for i in program]


@dataclass
class Run:
    """What a run of the sequencer did, and in which cycle."""

    pushes: list[tuple[int, str, dict]] = field(default_factory=list)
    fetches: list[tuple[int, int]] = field(default_factory=list)
    takes: list[tuple[int, int]] = field(default_factory=list)
    signals: list[tuple[int, int]] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)
    done: int | None = None
    error: tuple[int, int, int, int] | None = None  # cycle, code, pc, info
    registers: list[int] = field(default_factory=list)


def run(program, *, arguments=(), core=CORE, cycles=3000, room=None, positive=None, idle=None, release=None, size=None) -> Run:
    """Run a program to its end; the rest of the core is functions of the cycle."""
    memory = words(program)
    memory += [0] * (core.instruction_slots - len(memory))
    sequencer = Sequencer(core)
    found = Run()

    async def bench(ctx):
        for number, value in enumerate(arguments, 1):
            for high, part in ((0, value & 0xFFFFFFFF), (1, value >> 32)):
                ctx.set(sequencer.argument, number)
                ctx.set(sequencer.argument_high, high)
                ctx.set(sequencer.argument_data, part)
                ctx.set(sequencer.argument_en, 1)
                await ctx.tick()
            assert ctx.get(sequencer.argument_value) == value
        ctx.set(sequencer.argument_en, 0)
        ctx.set(sequencer.program_address, 0x12_3456_7890)
        ctx.set(sequencer.program_bytes, 64 * len(program) if size is None else size)
        fetched = 0
        for cycle in range(cycles):
            ctx.set(sequencer.start, cycle == 0)
            ctx.set(sequencer.fetch_data, fetched)
            ctx.set(sequencer.room, room(cycle) if room else 15)
            booting = 1 if cycle == BOOTED else 0
            ctx.set(sequencer.positive, booting | (positive(cycle) if positive else 0))
            ctx.set(sequencer.engines_idle, idle(cycle) if idle else 1)
            arrive = ctx.get(sequencer.barrier_arrive)
            ctx.set(sequencer.barrier_release, release(cycle) if release else arrive)
            if arrive:
                found.arrivals.append(cycle)
            push = ctx.get(sequencer.push)
            assert push & ~ctx.get(sequencer.room) == 0
            for number, name in enumerate(QUEUED):
                if push >> number & 1:
                    payload = ctx.get(getattr(sequencer, name))
                    entry = {f.name: payload[f.name] for f in LAYOUT[name]}
                    for port in ("wait_mask", "signal_mask", "sync", "pc"):
                        entry[port] = ctx.get(getattr(sequencer, port))
                    found.pushes.append((cycle, name, entry))
            if ctx.get(sequencer.take):
                found.takes.append((cycle, ctx.get(sequencer.take)))
            if ctx.get(sequencer.signals):
                found.signals.append((cycle, ctx.get(sequencer.signals)))
            if ctx.get(sequencer.fetch_en):
                pc = ctx.get(sequencer.fetch_address)
                found.fetches.append((cycle, pc))
                fetched = memory[pc]
            if ctx.get(sequencer.error):
                ports = sequencer.error_code, sequencer.pc, sequencer.error_info
                found.error = (cycle, *(ctx.get(port) for port in ports))
            ended = ctx.get(sequencer.done)
            await ctx.tick()
            if ended or found.error:
                found.done = cycle if ended else None
                break
        await ctx.tick().repeat(2)
        assert found.done is None or not ctx.get(sequencer.running)
        for number in range(16):
            ctx.set(sequencer.argument, number)
            found.registers.append(ctx.get(sequencer.argument_value))

    simulator = Simulator(sequencer)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def test_boot_loads_the_program_and_halt_ends_the_run():
    found = run([halt()])
    cycle, name, entry = found.pushes[0]
    assert (cycle, name) == (1, "load")
    given = {"dram": 0x12_3456_7890, "n1": 1, "n2": 1, "n3": 1, "run": 64, "target": 4, "signal_mask": 1 << SEQUENCER}
    assert entry == dict.fromkeys(entry, 0) | given
    assert found.takes == [(BOOTED, 1)]
    assert found.fetches == [(BOOTED + 1, 0)]
    assert found.done == BOOTED + 3


def test_boot_loads_no_more_than_the_memory_holds():
    assert run([halt()], size=1 << 20).pushes[0][2]["run"] == 64 * CORE.instruction_slots


def test_each_engine_gets_its_fields_with_registers_added():
    program = [
        load(dram=reg(1) + 64, spad=reg("r2"), n1=3, n2=reg("r3"), run=5, stride1=-7, y0=reg("r4") - 1, limit=9, left=2),
        store(dram=reg(5), spad=12, n1=1, run=16, stride3=-1),
        matmul(x=reg(2) + 5, w=7, acc=reg(3), m0=1, kb=2, tail=4, x_stride0=-4, bank=1, w_pitch=99),
        make("vector", stream0=reg(5) + 3, rows=reg(3), strips=2, columns=7, kernel=3, zero_point=-3, acc=65535),
        sync("matmul", wait=("load",), signal=("vector", "store")),
        halt(),
    ]
    arguments = [0xFF_FFFF_FFF0, 0x1_000010, 3, 0, 0x80_0000_0000]
    found = run(program, arguments=arguments)
    registers = [0, *arguments, *[0] * 10]
    assert [cycle for cycle, _, _ in found.pushes] == [1, *(BOOTED + 3 + 3 * i for i in range(5))]
    assert found.done == BOOTED + 3 + 15
    for i, (_, _, entry) in enumerate(found.pushes[1:5]):
        fields = program[i].resolve(registers)
        assert entry == fields | {"wait_mask": 0, "signal_mask": 0, "sync": 0, "pc": i}
    _, name, entry = found.pushes[5]
    assert name == "matmul"
    assert [entry[k] for k in ("wait_mask", "signal_mask", "sync", "pc")] == [1, 0b1010, 1, 4]


def test_set_computes_as_the_instruction_set_says_and_the_next_instruction_sees_it():
    draw = random.Random(3)
    values = [0, 1, 39, 40, 64, (1 << 40) - 1, 1 << 39, (1 << 20) - 1, *(draw.randrange(1 << 40) for _ in range(7))]
    program, registers = [], [0, *values]
    for op in ALU:
        for _ in range(18):
            to, a, b = draw.randrange(1, 16), draw.randrange(16), draw.randrange(16)
            immediate = draw.choice([0, 1, 5, draw.randrange(1 << 40)])
            program.append(set_(f"r{to}", f"r{a}", op, reg(b) + immediate))
            registers[to] = alu(ALU.index(op), registers[a], (registers[b] + immediate) % (1 << 40))
    found = run([*program, halt()], arguments=values, cycles=4000)
    assert found.registers == registers
    assert found.done == BOOTED + 3 + 3 * len(program)


def test_loops_nest_four_deep_and_count_from_registers():
    body = [store(dram=0, spad=0, n1=1, run=1)]
    program = [
        loop(2, 8), loop(reg(1), 6), loop(1, 4), loop(2, 2), *body, end(), end(), end(), *body, end(),
        loop(0, 2), *body, end(), halt(),
    ]  # fmt: skip
    found = run(program, arguments=[3])

    def walk():
        pc, stack, order = 0, [], []
        while True:
            order.append(pc)
            one = program[pc]
            if one.op == "loop":
                count = one.resolve([0, 3, *[0] * 14])["count"]
                if count:
                    stack.append([pc + 1, count])
                    pc += 1
                else:
                    pc += 1 + one["length"]
            elif one.op == "end":
                stack[-1][1] -= 1
                if stack[-1][1]:
                    pc = stack[-1][0]
                else:
                    stack.pop()
                    pc += 1
            elif one.op == "halt":
                return order
            else:
                pc += 1

    order = walk()
    assert [pc for _, pc in found.fetches] == order
    assert [cycle for cycle, _ in found.fetches] == [BOOTED + 1 + 3 * i for i in range(len(order))]
    assert found.error is None


@pytest.mark.parametrize("slots", [8, 12])
def test_the_pc_wraps_at_the_end_of_the_memory(slots):
    core = Core(4, 4, 4, 16, 4, 1 << 14, 4, 64, instruction_slots=slots)
    # Slots 4 to the end, then slot 0 again: slot 1 jumps over 2 and 3 in both rounds, and only a second round sets r2.
    program = [set_("r3", "r3", "add", 1), loop(reg(4), 2), halt(), end(), *[set_("r2", "r2", "add", 1)] * (slots - 4)]
    found = run(program, core=core, cycles=120)
    assert [pc for _, pc in found.fetches][: slots + 1] == [0, 1, *range(4, slots), 0, 1, 4]
    # A jump over the end of the memory: from slot 2 behind a body of slots - 2, to slot 1.
    program = [loop(reg(4), 1), halt(), loop(reg(4), slots - 2), *[end()] * (slots - 3)]
    found = run(program, core=core)
    assert [pc for _, pc in found.fetches] == [0, 2, 1]
    assert found.done is not None


def test_exec_holds_while_the_queue_is_full_or_semaphores_are_zero():
    program = [
        store(dram=0, spad=0, n1=1, run=1),
        sync("sequencer", wait=("store", "vector"), signal=("load", "sequencer")),
        halt(),
    ]
    found = run(
        program,
        room=lambda t: 15 if t < 5 or t >= 40 else 13,
        positive=lambda t: (2 if t >= 50 else 0) | (8 if 45 <= t < 48 or t >= 60 else 0),
        idle=lambda t: t >= 77,
    )
    assert found.pushes[1][:2] == (40, "store")
    assert found.takes[1:] == [(60, 0b1010)]
    assert found.signals == [(60, 0b10001)]
    assert found.done == 77


def test_barrier_waits_for_the_engines_and_then_for_the_cores():
    found = run([barrier(), halt()], idle=lambda t: t >= 30, release=lambda t: t in (25, 40))
    assert found.arrivals == list(range(30, 41))
    assert found.fetches[-1] == (41, 1)
    assert found.done == 43
    alone = run([barrier(), halt()], idle=lambda t: t >= 30)
    assert (alone.arrivals, alone.done) == ([30], 33)


def broken(instruction, **changes: int) -> int:
    """The word of an instruction with plain fields set to values that its constructor would refuse."""
    word = int.from_bytes(instruction.encode(), "little")
    for name, value in changes.items():
        f = next(f for f in LAYOUT[instruction.op] if f.name == name)
        word &= ~(((1 << f.bits) - 1) << f.at)
        word |= value << f.at
    return word


@pytest.mark.parametrize(
    ("program", "code", "pc"),
    [
        ([0], 1, 0),
        ([halt(), len(OPCODES) + 1], None, None),
        ([end()], 8, 0),
        ([loop(1, 5), loop(1, 4), loop(1, 3), loop(1, 2), loop(1, 1)], 8, 4),
        ([broken(loop(1, 1), length=0)], 2, 0),
        ([broken(loop(1, 1), length=CORE.instruction_slots)], 2, 0),
        ([set_("r1"), broken(set_("r1"), to=0)], 2, 1),
        ([broken(set_("r1"), op=len(ALU))], 2, 0),
        ([broken(sync("load"), engine=5)], 2, 0),
        *(([broken(one) | 1 << bit], 2, 0) for one in (halt(), barrier(), set_("r1"), loop(1, 1)) for bit in (8, 17)),
    ],
)
def test_what_is_illegal_stops_the_sequencer_and_says_where(program, code, pc):
    found = run(program)
    if code is None:
        assert found.error is None
        return
    assert found.error is not None
    assert found.error[1:] == (code, pc, words(program)[pc] & 0xFFFFFFFF)
    assert found.error[0] == BOOTED + 3 + 3 * pc


def test_a_reserved_bit_makes_an_opcode_illegal():
    decode = Decode(CORE.instruction_slots)

    async def bench(ctx):
        for name, code in OPCODES.items():
            covered = set(range(18)) | {i for f in LAYOUT[name] for i in range(f.at, f.at + f.bits)}
            covered |= {f.register_at + i for f in LAYOUT[name] if f.register_at >= 0 for i in range(REGISTER_BITS)}
            for bit in range(OPCODE_BITS, INSTRUCTION_BITS):
                ctx.set(decode.word, code | 1 << bit)
                assert ctx.get(decode.illegal_opcode) == (bit not in covered), (name, bit)
        for code in range(256):
            ctx.set(decode.word, code)
            assert ctx.get(decode.illegal_opcode) == (code not in OPCODES.values())

    simulator = Simulator(decode)
    simulator.add_testbench(bench)
    simulator.run()
