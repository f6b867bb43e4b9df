"""The fp32 blocks in Verilator against their numpy twin: a million random operands and all pairs of special ones."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from streamed import Streamed

from presilicon import float32
from presilicon.rtl.float32 import Adder, FromInt, Multiplier, RoundEven, Seed, TableIndex, ToInt

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


class Blocks(wiring.Component):
    """All blocks side by side on the same operands."""

    def __init__(self) -> None:
        words = ("product", "sum", "larger", "magnitude", "rounded", "int32", "seed")
        super().__init__(
            {
                "a": In(32),
                "b": In(32),
                "option": In(1),
                "zero_point": In(8),
                **dict.fromkeys(words, Out(32)),
                **dict.fromkeys(("magnitude8", "index", "int8"), Out(32)),
                **dict.fromkeys(("increment", "increment8"), Out(1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = Multiplier()
        m.submodules.adder = adder = Adder()
        m.submodules.from_int32 = from_int32 = FromInt()
        m.submodules.from_int8 = from_int8 = FromInt(8)
        m.submodules.rounder = rounder = RoundEven()
        m.submodules.table_index = table_index = TableIndex()
        m.submodules.to_int = to_int = ToInt()
        m.submodules.seed_block = seed = Seed()
        for value in (from_int32.value, from_int8.value, rounder.value, table_index.value, to_int.value, seed.value):
            m.d.comb += value.eq(self.a)
        m.d.comb += [
            multiplier.a.eq(self.a),
            multiplier.b.eq(self.b),
            multiplier.negate.eq(self.option),
            adder.x.eq(self.a),
            adder.y.eq(self.b),
            seed.root.eq(self.option),
            to_int.zero_point.eq(self.zero_point),
            self.product.eq(multiplier.p),
            self.sum.eq(adder.sum),
            self.larger.eq(adder.larger),
            self.magnitude.eq(Cat(from_int32.magnitude, from_int32.sign)),
            self.increment.eq(from_int32.increment),
            self.magnitude8.eq(Cat(from_int8.magnitude, from_int8.sign)),
            self.increment8.eq(from_int8.increment),
            self.rounded.eq(rounder.rounded),
            self.index.eq(table_index.index),
            self.int32.eq(to_int.int32),
            self.int8.eq(to_int.int8),
            self.seed.eq(seed.seed),
        ]
        return m


LATE = {"product": 2, "sum": 2, "int32": 1, "int8": 1}


@cache
def blocks() -> Streamed:
    return Streamed(Blocks())


def run(a: Words, b: Words | int = 0, **options: int) -> dict[str, Words]:
    """Outputs, each as many cycles after its inputs as the block takes."""
    got = blocks().run(len(a) + 2, a=np.pad(a, (0, 2)), b=np.pad(b, (0, 2)) if isinstance(b, np.ndarray) else b, **options)
    return {name: values[LATE.get(name, 0) :][: len(a)].astype(np.uint32) for name, values in got.items()}


def same(got: Words, wanted: Words, *operands: Words) -> None:
    """No bit differs; else the first operands that do."""
    wrong = np.flatnonzero(got != wanted.astype(np.uint32))
    assert not len(wrong), [f"{x[wrong[0]]:08x}" for x in (*operands, got, wanted.astype(np.uint32))] + [len(wrong)]


def test_multiplier() -> None:
    a, b = pairs(1)
    product = float32.multiply(a, b)
    same(run(a, b)["product"], product, a, b)
    same(run(a, b, option=1)["product"], np.where(product == float32.NAN, product, float32.negate(product)), a, b)


def test_adder() -> None:
    a, b = pairs(3)
    a = float32.canonical(a)
    got = run(a, b)
    same(got["sum"], float32.add(a, b), a, b)
    same(got["larger"], float32.maximum(a, b), a, b)


def test_from_int() -> None:
    a, _ = pairs(2)
    a[::3] >>= np.random.default_rng(8).integers(0, 32, len(a[::3]), dtype=np.uint32)
    got = run(a)
    same(got["magnitude"] + got["increment"], float32.from_int32(a.view(np.int32)), a)
    same(got["magnitude8"], float32.from_int32(a.astype(np.int8).astype(np.int32)), a)
    assert not got["increment8"].any()


def test_round_and_table_index() -> None:
    every = np.arange(1 << 16, dtype=np.uint32) << 16 | 0x8000
    a = float32.canonical(np.concatenate([pairs(4)[0], every]))
    got = run(a)
    same(got["rounded"], float32.round_even(a), a)
    same(got["index"], (float32.to_int8(a).astype(np.int32) + 128).astype(np.uint32), a)


@pytest.mark.parametrize("zero_point", [0, 5, 127, -128, -1])
def test_to_int(zero_point: int) -> None:
    a, _ = pairs(5)
    # Half of them where int8 does not saturate.
    a[::2] = (a[::2] & 0x807FFFFF) | (np.random.default_rng(6).integers(118, 136, len(a[::2])) << 23).astype(np.uint32)
    got = run(a, zero_point=zero_point)
    same(got["int32"], float32.to_int32(a).view(np.uint32), a)
    same(got["int8"], float32.to_int8(a, zero_point).view(np.uint8), a)


def test_seeds() -> None:
    a, _ = pairs(7)
    same(run(a)["seed"], float32.reciprocal_seed(a), a)
    same(run(a, option=1)["seed"], float32.reciprocal_root_seed(a), a)
