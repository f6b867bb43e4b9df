"""The corpus: programs that use every instruction and corner of the template, each with inputs and what must come out.

One list for every level: ``prepare`` makes a case for a core from a seed; reference values come from numpy twins that know
nothing of instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from presilicon import float32 as f32
from presilicon.compiler.corpus import moves
from presilicon.compiler.corpus.attention import CachedAttention, cached_attention_model
from presilicon.compiler.corpus.edges import edge_program
from presilicon.compiler.corpus.exchange import exchange
from presilicon.compiler.corpus.gemm import Weights, gemm
from presilicon.compiler.corpus.random_program import random_program
from presilicon.compiler.corpus.rows import row_program
from presilicon.compiler.emission import emit
from presilicon.compiler.emission.cache_plan import Sizes
from presilicon.compiler.meaning import reference
from presilicon.compiler.packing import unpacked
from presilicon.compiler.rowwise import OPERATIONS
from presilicon.isa import ALU, Program, State
from presilicon.isa.in_order import in_order
from presilicon.template import Core
from presilicon.tiling import MatmulPlan, plan

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Case:
    """A program ready to run: inputs by region, registers of each core, the outputs it must give; a matmul's MACs and tiles."""

    name: str
    program: Program
    inputs: Arrays
    expected: Arrays
    arguments: tuple[Mapping[int, int], ...] = ({},)
    macs: int = 0
    plan: MatmulPlan | None = None


def gemm_case(core: Core, rng: np.random.Generator, m: int, k: int, n: int, int4: bool = False) -> Case:
    """A matmul with random weights, scales that use the whole int8 range, and a zero point."""
    x = rng.integers(-128, 128, (m, k), dtype=np.int8)
    group_blocks = max(1, -(-64 // core.rows))
    multipliers = None
    if int4:
        values = rng.integers(-8, 8, (k, n), dtype=np.int8)
        groups = -(-k // (core.rows * group_blocks))
        multipliers = rng.integers(1, 16, (groups, n), dtype=np.uint8)
    else:
        values = rng.integers(-128, 128, (k, n), dtype=np.int8)
    spread = 100.0 / (70.0 * 70.0 * np.sqrt(k))
    weights = Weights(
        values=values,
        scale=rng.uniform(0.5 * spread, 1.5 * spread, n).astype(np.float32),
        bias=rng.integers(-1000, 1000, n, dtype=np.int32),
        zero_point=int(rng.integers(-20, 21)),
        multipliers=multipliers,
        group_blocks=group_blocks if int4 else 0,
    )
    tiles = plan(core, m, k, n, int4=int4, group_blocks=weights.group_blocks)
    sums = x.astype(np.int32) @ unpacked(core, tiles, values, multipliers).astype(np.int32) + weights.bias
    y = f32.to_int8(f32.multiply(f32.from_int32(sums), f32.bits(weights.scale)), weights.zero_point)
    return Case(
        f"gemm{'-int4' if int4 else ''}-{m}x{k}x{n}", gemm(core, m, weights), {"x": x}, {"y": y}, macs=m * k * n, plan=tiles
    )


def row_case(core: Core, rng: np.random.Generator, name: str, m: int, n: int) -> Case:
    """A row operation on random rows, some of them with extreme values."""
    operation = OPERATIONS[name]
    x = rng.normal(0.0, 2.0, (m, n)).astype(np.float32)
    x[0] *= 10.0
    parameters: dict[str, NDArray[np.float32]] = {}
    for parameter in operation.parameters:
        if name == "rope":
            angle = np.repeat(rng.uniform(0.0, 6.0, (m, n // 2)), 2, axis=1)
            sign = np.tile([-1.0, 1.0], n // 2)
            parameters[parameter] = (np.cos(angle) if parameter == "cos" else np.sin(angle) * sign).astype(np.float32)
            rng = np.random.default_rng(7) if parameter == "cos" else rng
        else:
            parameters[parameter] = rng.normal(1.0, 0.2, n).astype(np.float32)
    y = operation.twin(f32.bits(x), [f32.bits(value) for value in parameters.values()])
    return Case(f"{name}-{m}x{n}", row_program(core, operation, m, n, parameters), {"x": x}, {"y": f32.numbers(y)})


def attention_case(core: Core, rng: np.random.Generator, keys: int, most: int, tokens: int = 1) -> Case:
    """Attention of ``tokens`` queries, the last of which sees ``keys`` in a cache for ``most``; 4 heads share 2 KV heads."""
    sizes = Sizes(tokens=tokens, keys=most, heads=4, kv_heads=2, dim=2 * core.rows)
    step = CachedAttention(sizes=sizes, score_scale=0.6 / (74 * 74 * np.sqrt(sizes.dim)), value_scale=2.0, zero_point=3)
    wide, narrow = sizes.heads * sizes.dim, sizes.kv_heads * sizes.dim
    q = rng.integers(-127, 128, (tokens, wide), dtype=np.int8)
    k, v = (rng.integers(-127, 128, (most, narrow), dtype=np.int8) for _ in range(2))
    position = keys - tokens
    model = cached_attention_model(step)
    y = reference(model, {"q": q}, arguments={"position": position}, states={"k": k, "v": v})["y"]
    # Where there are several cores each does the whole.
    program = replace(emit(model, replace(core, cores=1)).programs[0], core_digest=core.digest())
    return Case(f"attention-{keys}-of-{most}x{tokens}", program, {"q": q, "k": k, "v": v}, {"y": y}, ({1: position},))


def _move_case(core: Core, rng: np.random.Generator, kind: str) -> Case:
    def random(*shape: int) -> NDArray[np.uint8]:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    if kind == "strided":
        x = random(19, 203)
        return Case(kind, moves.strided(core, 19, 77, 203), {"x": x}, {"y": x[:, :77]})
    if kind == "transposed":
        x = random(13, 11)
        return Case(kind, moves.transposed(core, 13, 11), {"x": x}, {"y": x.T})
    if kind == "padded":
        x = random(9, 7, 5)
        y = np.pad(x, ((2, 2), (2, 2), (0, 0)), constant_values=129)
        return Case(kind, moves.padded(core, 9, 7, 5, 2, 129), {"x": x}, {"y": y})
    if kind == "computed":
        # Addresses of every operation of the scalar registers; more instructions than their memory holds.
        second = {"shl": 64, "shr": 64}
        names = [ALU[i % len(ALU)] for i in range(96)]
        operations = tuple((op, int(rng.integers(1 << 40)), int(rng.integers(second.get(op, 1 << 40)))) for op in names)
        x = random(4096 + 16)
        results = [_computed(*each) for each in operations]
        y = np.stack([x[value >> at & 4095 :][:16] for value in results for at in moves.PLACES])
        return Case(kind, moves.computed(core, 4096, 16, operations), {"x": x}, {"y": y})
    x, index = random(50, 45), rng.integers(0, 50, 24, dtype=np.int32)
    return Case(kind, moves.gathered(core, 50, 45, 24), {"x": x, "index": index}, {"y": x[index]})


def _computed(op: str, a: int, b: int) -> int:
    """A scalar operation on 40 bits, as Python knows it."""
    known = {"add": a + b, "sub": a - b, "mul": a * b, "and": a & b, "shl": a << b % 64, "shr": a >> b % 64}
    return known.get(op, min(a, b) if op == "min" else max(a, b)) % (1 << 40)


def _exchange_case(core: Core, rng: np.random.Generator) -> Case:
    x = rng.integers(0, 256, (core.cores, 1024), dtype=np.uint8)
    program, arguments = exchange(core, 1024)
    return Case("exchange", program, {"x": x}, {"y": np.roll(x, -1, axis=0)}, arguments)


def random_case(core: Core, seed: int) -> Case:
    """A random program; what must come out is what its instructions do one after another."""
    made = random_program(core, seed)
    return _in_order_case(f"random-{seed}", core, made.program, made.source)


def _edge_case(core: Core, rng: np.random.Generator) -> Case:
    return _in_order_case("edges", core, *edge_program(core, rng))


def _in_order_case(name: str, core: Core, program: Program, source: NDArray[np.uint8]) -> Case:
    """A program with one input ``source`` and one output ``y``: what its instructions write one after another."""
    memory = program.memory()
    memory[: source.size] = source
    in_order(State(core, memory), program)
    y = next(region for region in program.regions if region.name == "y")
    return Case(name, program, {"source": source}, {"y": memory[y.address : y.address + y.bytes].copy()})


Maker = Callable[[Core, np.random.Generator], Case]
# Sizes that are no multiple of anything, and one that is; all fit the smallest core.
_GEMMS = ((1, 7, 5), (3, 17, 33), (16, 16, 16), (37, 65, 29), (5, 130, 70), (64, 48, 96))
_ROWS = ((1, 5), (9, 37), (20, 64))
CORPUS: Mapping[str, Maker] = {
    **{f"gemm-{m}x{k}x{n}": partial(gemm_case, m=m, k=k, n=n) for m, k, n in _GEMMS},
    **{f"gemm-int4-{m}x{k}x{n}": partial(gemm_case, m=m, k=k, n=n, int4=True) for m, k, n in _GEMMS[2:]},
    **{kind: partial(_move_case, kind=kind) for kind in ("strided", "transposed", "padded", "gather", "computed")},
    **{
        f"{name}-{m}x{n}": partial(row_case, name=name, m=m, n=n)
        for name in OPERATIONS
        for m, n in _ROWS
        if name != "rope" or n % 2 == 0
    },
    **{f"attention-{keys}-of-40": partial(attention_case, keys=keys, most=40) for keys in (1, 2, 7, 16, 33, 40)},
    "attention-40-of-40x5": partial(attention_case, keys=40, most=40, tokens=5),
    "edges": _edge_case,
    "exchange": _exchange_case,
}


def prepare(name: str, core: Core, seed: int = 0) -> Case:
    """A case of the corpus for a core."""
    return CORPUS[name](core, np.random.default_rng(seed))
