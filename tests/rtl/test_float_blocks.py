"""The fp32 blocks in Verilator against their numpy twin: a million random operands and all pairs of special ones."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.lib import wiring

from presilicon import float32
from presilicon.rtl.float32 import Adder, FromInt, Multiplier, RoundEven, Seed, TableIndex, ToInt
from streamed import Streamed

Words = np.ndarray[tuple[int, ...], np.dtype[np.uint32]]
RANDOM = 1 << 20


def special() -> Words:
    """Zeros, subnormals, neighbours of powers of two, int limits, ties; with both signs."""
    magnitudes = {0, 1, 2, 0x400000, 0x7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0x7FA5A5A5}
    for exponent in (1, 2, 24, 25, 64, 102, 103, 117, 118, *range(124, 137), 149, 150, 151, 157, 158, 159, 190, 252, 253, 254):
        magnitudes |= {
            exponent << 23 | fraction for fraction in (0, 1, 2, 0x200000, 0x3FFFFF, 0x400000, 0x400001, 0x7FFFFE, 0x7FFFFF)
        }
    for value in (0.5, 1.5, 2.5, 3.5, 126.5, 127.5, 128.5, 255.5, 3.3333333, 8388607.5, 4194303.5, 4194302.5):
        magnitudes.add(int(float32.bits(value)))
    all_magnitudes = np.array(sorted(magnitudes), np.uint32)
    return np.concatenate([all_magnitudes, all_magnitudes | np.uint32(0x80000000)])


def pairs(seed: int) -> tuple[Words, Words]:
    """All pairs of special values, then random ones: any bits, near exponents, few significant bits."""
    rng = np.random.default_rng(seed)
    values = special()
    a, b = (grid.reshape(-1) for grid in np.meshgrid(values, values))
    x, y = rng.integers(0, 1 << 32, (2, RANDOM), dtype=np.uint32)
    near = (x & 0x7F800000) + (rng.integers(-26, 27, RANDOM) << 23).astype(np.uint32)
    y = np.where(rng.random(RANDOM) < 0.4, (y & 0x807FFFFF) | (near & 0x7F800000), y)
    inverse = (np.uint32(253 << 23) - (x & 0x7F800000) + (rng.integers(0, 128, RANDOM) << 23).astype(np.uint32)) & 0x7F800000
    y = np.where(rng.random(RANDOM) < 0.2, (y & 0x807FFFFF) | inverse, y)
    for operand in (x, y):
        operand[rng.random(RANDOM) < 0.3] &= np.uint32(0xFFFFF000) << rng.integers(0, 9, dtype=np.uint32)
    return np.concatenate([a, x]), np.concatenate([b, y])


def run(block: wiring.Component, late: int, **inputs: Words | int) -> dict[str, Words]:
    """Outputs, ``late`` cycles after the inputs."""
    cycles = max(len(v) for v in inputs.values() if isinstance(v, np.ndarray))
    padded = {k: np.pad(v, (0, late)) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    return {k: v[late:].astype(np.uint32) for k, v in Streamed(block).run(cycles + late, **padded).items()}


def same(got: Words, wanted: Words, *operands: Words) -> None:
    """No bit differs; else the first operands that do."""
    wrong = np.flatnonzero(got != wanted.astype(np.uint32))
    assert not len(wrong), [f"{x[wrong[0]]:08x}" for x in (*operands, got, wanted.astype(np.uint32))] + [len(wrong)]


def test_multiplier() -> None:
    a, b = pairs(1)
    same(run(Multiplier(), 2, a=a, b=b)["p"], float32.multiply(a, b), a, b)
    negated = float32.multiply(a, b)
    negated = np.where(negated == float32.NAN, negated, float32.negate(negated))
    same(run(Multiplier(), 2, a=a, b=b, negate=1)["p"], negated, a, b)


def test_multiplier_of_integers() -> None:
    a, b = pairs(2)
    made = run(FromInt(), 0, value=a)
    unrounded = made["magnitude"] | made["sign"] << 31
    same(unrounded + made["increment"], float32.from_int32(a.view(np.int32)), a)
    product = run(Multiplier(), 2, a=unrounded, a_increment=made["increment"], b=b)["p"]
    same(product, float32.multiply(float32.from_int32(a.view(np.int32)), b), a, b)


def test_adder() -> None:
    a, b = pairs(3)
    a = float32.canonical(a)
    same(run(Adder(), 2, x=a, y=b)["sum"], float32.add(a, b), a, b)
    same(run(Adder(), 0, x=a, y=b)["larger"], float32.maximum(a, b), a, b)


def test_round_and_table_index() -> None:
    a = float32.canonical(pairs(4)[0])
    same(run(RoundEven(), 0, value=a)["rounded"], float32.round_even(a), a)
    index = float32.to_int8(a).astype(np.int32) + 128
    same(run(TableIndex(), 0, value=a)["index"], index.astype(np.uint32), a)
    every = np.arange(1 << 16, dtype=np.uint32) << 16 | 0x8000
    same(run(RoundEven(), 0, value=float32.canonical(every))["rounded"], float32.round_even(every), every)


@pytest.mark.parametrize("zero_point", [0, 5, 127, -128, -1])
def test_to_int(zero_point: int) -> None:
    a, _ = pairs(5)
    # Half of them where int8 does not saturate.
    a[::2] = (a[::2] & 0x807FFFFF) | (np.random.default_rng(6).integers(118, 136, len(a[::2])) << 23).astype(np.uint32)
    got = run(ToInt(), 1, value=a, zero_point=zero_point)
    same(got["int32"], float32.to_int32(a).view(np.uint32), a)
    same(got["int8"], float32.to_int8(a, zero_point).view(np.uint8), a)


def test_seeds() -> None:
    a, _ = pairs(7)
    same(run(Seed(), 0, value=a)["seed"], float32.reciprocal_seed(a), a)
    same(run(Seed(), 0, value=a, root=1)["seed"], float32.reciprocal_root_seed(a), a)
