"""What the verifier lets pass gives the same result however its engines happen to run; what it refuses often would not."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from isa_drawn import core

from presilicon.errors import IsaError
from presilicon.isa import Instruction, Kernel, Program, Region, State, execute, halt, kernel_text, load, matmul, store, verify
from presilicon.isa import vector as vector_
from presilicon.template import ENGINES

TILES = 4
KERNELS = (Kernel("out", 0, kernel_text("r1 = acc * imm(0.01)\nstream0 = r1\nr1 = r1 * r1\nstream1 = r1")),)


def base() -> Program:
    """Four tiles through two buffers: loads run ahead of matmuls, those ahead of vectors, those ahead of stores."""
    code = [
        load(dram=0x8000, spad=0, run=64, target="kernels", signal=("vector",)),
        load(dram=0, spad=0x8000, run=1024),
    ]
    for tile in range(TILES):
        odd, late = tile % 2, tile >= 2
        code += [
            load(dram=0x1000 + 512 * tile, spad=0x1000 * odd, run=512, wait=("matmul",) if late else (), signal=("matmul",)),
            matmul(
                x=0x1000 * odd,
                w=0x8000,
                m0=8,
                kb=4,
                tail=16,
                x_stride0=64,
                bank=odd,
                wait=("load", "vector") if late else ("load",),
                signal=("vector", "load") if tile + 2 < TILES else ("vector",),
            ),
            vector_(
                kernel=0,
                rows=8,
                strips=1,
                columns=16,
                streams=(0x4000 + 0x2000 * odd, 0x4800 + 0x2000 * odd),
                pitches=(64, 64),
                bank=odd,
                wait=("matmul", *(("load",) if tile == 0 else ()), *(("store",) if late else ())),
                signal=("store", "matmul") if tile + 2 < TILES else ("store",),
            ),
            store(
                dram=0x4000 + 512 * tile,
                spad=0x4000 + 0x2000 * odd,
                run=512,
                wait=("vector",),
                signal=("vector",) if tile + 2 < TILES else (),
            ),
        ]
    regions = (Region("w", "input", "int8", (0x3000,), 0), Region("y", "output", "int8", (0x800,), 0x4000))
    return Program.build(core(), [*code, halt()], kernels=KERNELS, regions=regions, address=0x9000, kernel_address=0x8000)


def run(program: Program, rng: np.random.Generator) -> tuple[bytes, ...]:
    """The memories after a run in which every engine is as fast or slow as chance has it, within the hardware's order.

    What an instruction does happens at once, somewhere between its issue and its end.
    """
    state = State(core(), program.memory())
    state.dram[:0x3000] = np.random.default_rng(0).integers(0, 256, 0x3000)
    queues: list[deque[Instruction]] = [deque() for _ in ENGINES]
    flying: list[deque[list]] = [deque() for _ in ENGINES]
    tokens = np.zeros((5, 5), int)
    coming = deque(program.instructions)

    def finish(engine: int) -> None:
        one, done = flying[engine].popleft()
        if not done:
            execute(state, one.op, one.resolve())
        for target in one.signal:
            tokens[engine, ENGINES.index(target)] += 1

    def do_now(engine: int) -> None:
        for item in flying[engine]:
            if not item[1]:
                execute(state, item[0].op, item[0].resolve())
                item[1] = True

    while coming[0].op != "halt" or any(queues) or any(flying):
        action, engine = rng.integers(4), int(rng.integers(4))
        if action == 0 and coming[0].op != "halt":
            number = ENGINES.index(coming[0].engine)
            if len(queues[number]) < 4:
                queues[number].append(coming.popleft())
        elif action == 1 and queues[engine] and len(flying[engine]) < (1 if engine == 3 else 8):
            waits = [ENGINES.index(name) for name in queues[engine][0].wait]
            if all(tokens[source, engine] for source in waits):
                for source in waits:
                    tokens[source, engine] -= 1
                flying[engine].append([queues[engine].popleft(), False])
        elif action == 2 and flying[engine]:
            finish(engine)
        elif action == 3:
            do_now(engine)
    return state.dram.tobytes(), state.spad.tobytes(), state.accumulators.tobytes()


def changed(program: Program, rng: np.random.Generator) -> Program:
    """The program with a wait or signal less, two instructions swapped, or an address moved."""
    code = list(program.instructions)
    at = int(rng.integers(2, len(code) - 2))
    kind = rng.integers(3)
    if kind == 0:
        signals = [(i, e) for i, one in enumerate(code) for e in sorted(one.signal)]
        giver, target = signals[rng.integers(len(signals))]
        source = code[giver].engine
        code[giver] = replace(code[giver], signal=code[giver].signal - {target})
        takers = [i for i, one in enumerate(code) if one.engine == target and source in one.wait]
        taker = takers[rng.integers(len(takers))]
        code[taker] = replace(code[taker], wait=code[taker].wait - {source})
    elif kind == 1:
        code[at], code[at + 1] = code[at + 1], code[at]
    else:
        names = {"load": 1, "store": 1, "matmul": 0, "vector": 0}
        values = list(code[at].values)
        field = names[code[at].op]
        values[field] = int(rng.choice([0, 0x200, 0x1000, 0x2000, 0x4000, 0x6000, 0x8000, 0xA000]))
        code[at] = replace(code[at], values=tuple(values))
    return replace(program, instructions=tuple(code))


def test_the_base_passes_and_is_the_same_at_any_speed():
    program = base()
    verify(program, core())
    assert len({run(program, np.random.default_rng(seed)) for seed in range(6)}) == 1


@pytest.mark.parametrize("seed", range(8))
def test_what_passes_is_the_same_at_any_speed(seed: int):
    rng = np.random.default_rng(seed)
    program = base()
    taken = 0
    for _ in range(25):
        one = changed(changed(program, rng) if rng.integers(2) else program, rng)
        try:
            verify(one, core())
        except IsaError:
            continue
        taken += 1
        assert len({run(one, np.random.default_rng(s)) for s in range(4)}) == 1, one.instructions
    assert taken


def test_what_is_refused_can_differ():
    program = base()
    code = list(program.instructions)
    at = next(i for i, one in enumerate(code) if one.op == "store")
    code[at] = replace(code[at], wait=frozenset())
    loose = replace(program, instructions=tuple(code))
    with pytest.raises(IsaError, match=r"in no order|never written"):
        verify(loose, core())
    assert len({run(loose, np.random.default_rng(seed)) for seed in range(20)}) > 1
