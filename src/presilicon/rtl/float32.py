"""fp32 blocks of a vector lane; their values are those of ``presilicon.float32``.

Values are 32 bits of IEEE 754 binary32. Multiplier and adder are pipelines without a stall: one operation a cycle. The
other blocks are combinational.
"""

from __future__ import annotations

from amaranth.hdl import C, Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.float32 import INFINITY, NAN, reciprocal_root_table, reciprocal_table

_INF31 = INFINITY
_BIAS = 127


def leading_zeros(m: Module, value: Value, name: str) -> Signal:
    """Zeros above the highest one of ``value`` (a power of two of bits); all ones where it is 0. A binary search."""
    width = len(value)
    count = Signal(range(width), name=name)
    parts = []
    while width > 1:
        width //= 2
        high, low = value[width:], value[:width]
        empty = ~high.any()
        parts.append(empty)
        step = Signal(width, name=f"{name}_{width}")
        m.d.comb += step.eq(Mux(empty, low, high))
        value = step
    m.d.comb += count.eq(Cat(parts[::-1]))
    return count


def is_nan(value: Value) -> Value:
    """Whether bits are a NaN."""
    return value[23:31].all() & value[:23].any()


def flushed(value: Value) -> Value:
    """Subnormals to zero with their sign."""
    return Cat(value[:31] & value[23:31].any().replicate(31), value[31])


def canonical(value: Value) -> Value:
    """Subnormals to zero with their sign, every NaN to the one."""
    return Mux(is_nan(value), C(NAN, 32), flushed(value))


def shifted_right(value: Value, amount: Value) -> tuple[Value, Value]:
    """``value`` shifted right, and whether a one was lost."""
    lost: Value = C(0, 1)
    for k in reversed(range(len(amount))):
        step = min(1 << k, len(value))
        lost = lost | (amount[k] & value[:step].any())
        value = Mux(amount[k], value[step:], value)
    return value, lost


class FromInt(wiring.Component):
    """An integer as fp32 before its rounding: the packed magnitude, and one bit that is yet to be added to it.

    ``bits`` of the integer: 8 or 32 (of 8 bits the one bit is always 0).
    """

    def __init__(self, bits: int = 32) -> None:
        self.bits = bits
        super().__init__({"value": In(bits), "sign": Out(1), "magnitude": Out(31), "increment": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Absolute value, normalising shift."""
        m = Module()
        bits = self.bits
        positive, normal, exponent = Signal(bits), Signal(bits), Signal(8)
        m.d.comb += self.sign.eq(self.value[-1])
        m.d.comb += positive.eq((self.value ^ self.sign.replicate(bits)) + self.sign)
        zeros = leading_zeros(m, positive, "zeros")
        m.d.comb += normal.eq(positive << zeros)
        m.d.comb += exponent.eq(Mux(normal[-1], _BIAS + bits - 1 - zeros, 0))
        below = Cat(C(0, 32 - bits), normal)
        m.d.comb += self.magnitude.eq(Cat(below[8:31], exponent))
        m.d.comb += self.increment.eq(below[7] & (below[:7].any() | below[8]))
        return m


class Multiplier(wiring.Component):
    """``p = (-)(a * b)``: operands in cycle t, ``p`` in a register in t+2."""

    def __init__(self) -> None:
        super().__init__({"a": In(32), "b": In(32), "negate": In(1), "p": Out(32)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Product of the significands; then one shift, rounding and the special values."""
        m = Module()
        a, b = self.a, self.b
        zero_a, zero_b = ~a[23:31].any(), ~b[23:31].any()
        top_a, top_b = a[23:31].all(), b[23:31].all()
        infinite_a, infinite_b = top_a & ~a[:23].any(), top_b & ~b[:23].any()
        product = Signal(48, reset_less=True)
        exponent = Signal(9, reset_less=True)
        sign, zero, infinite, nan = (Signal(name=n, reset_less=True) for n in ("sign", "zero", "infinite", "nan"))
        m.d.sync += [
            product.eq(Cat(a[:23], 1) * Cat(b[:23], 1)),
            exponent.eq(a[23:31] + b[23:31]),
            sign.eq(a[31] ^ b[31] ^ self.negate),
            zero.eq(zero_a | zero_b),
            infinite.eq(top_a | top_b),
            nan.eq(is_nan(a) | is_nan(b) | (infinite_a & zero_b) | (zero_a & infinite_b)),
        ]
        high = product[47]
        kept, guard, sticky = Signal(24), Signal(), Signal()
        biased, increment, rounded = Signal(11), Signal(), Signal(34)
        m.d.comb += [
            kept.eq(Mux(high, product[24:], product[23:47])),
            guard.eq(Mux(high, product[23], product[22])),
            sticky.eq(product[:22].any() | (high & product[22])),
            # Two's complement: -126 to 382.
            biased.eq(exponent + high - _BIAS),
            # Half a unit below the lowest normal number counts as it: there a rounding to subnormals would end too.
            increment.eq((guard & (sticky | kept[0])) | (kept.all() & ~biased.any())),
            rounded.eq(Cat(kept[:23], biased) + increment),
        ]
        tiny = rounded[33] | ~rounded[23:33].any()
        huge = ~rounded[33] & (rounded[31] | rounded[32] | rounded[23:31].all())
        p = Signal(32, reset_less=True)
        m.d.comb += self.p.eq(p)
        with m.If(nan):
            m.d.sync += p.eq(NAN)
        with m.Elif(infinite | (huge & ~zero)):
            m.d.sync += p.eq(Cat(C(_INF31, 31), sign))
        with m.Elif(zero | tiny):
            m.d.sync += p.eq(Cat(C(0, 31), sign))
        with m.Else():
            m.d.sync += p.eq(Cat(rounded[:31], sign))
        return m


class Adder(wiring.Component):
    """``sum = x + y``: operands in cycle t, ``sum`` in t+2 after the last stage's logic; ``larger``, the maximum, in t.

    ``x`` is canonical, ``y`` any bits.
    """

    def __init__(self) -> None:
        super().__init__({"x": In(32), "y": In(32), "larger": Out(32), "sum": Out(32)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Compare and align; add; normalise and round."""
        m = Module()
        x, y = self.x, flushed(self.y)
        bigger_y, subtract = Signal(), Signal()
        big, small = Signal(31), Signal(31)
        m.d.comb += [
            bigger_y.eq(y[:31] > x[:31]),
            big.eq(Mux(bigger_y, y[:31], x[:31])),
            small.eq(Mux(bigger_y, x[:31], y[:31])),
            subtract.eq(x[31] ^ y[31]),
        ]
        any_nan = is_nan(x) | is_nan(y)
        takes_y = Mux(subtract, x[31], bigger_y ^ x[31])
        m.d.comb += self.larger.eq(Mux(any_nan, C(NAN, 32), Mux(takes_y, y, x)))
        # 24 bits and two more; what is shifted beyond them is one sticky bit.
        distance = Signal(8)
        m.d.comb += distance.eq(big[23:31] - small[23:31])
        far, present = distance[5:].any(), small[23:31].any()
        aligned, lost = shifted_right(Cat(C(0, 2), small[:23], present), distance[:5])

        def register(value: Value, name: str) -> Signal:
            stage = Signal(len(value), name=name, reset_less=True)
            m.d.sync += stage.eq(value)
            return stage

        big_1 = register(Cat(big[:23], big[23:31].any()), "big_1")
        small_1 = register(Mux(far, present, Cat(lost, aligned)), "small_1")
        subtract_1 = register(subtract, "subtract_1")
        exponent_1 = register(big[23:31], "exponent_1")
        sign_1 = register(Mux(bigger_y, y[31], x[31]), "sign_1")
        top_x, top_y = x[23:31].all(), y[23:31].all()
        nan_1 = register(any_nan | (top_x & top_y & subtract), "nan_1")

        total = Signal(28)
        m.d.comb += total.eq(Cat(C(0, 3), big_1) + (Cat(small_1, C(0, 1)) ^ subtract_1.replicate(28)) + subtract_1)
        zeros = leading_zeros(m, Cat(C(0xF, 4), total), "zeros")
        total_2 = register(total, "total_2")
        zeros_2 = register(zeros, "zeros_2")
        exponent_2 = register(exponent_1, "exponent_2")
        sign_2 = register(sign_1 & ~(subtract_1 & ~total.any()), "sign_2")
        nan_2 = register(nan_1, "nan_2")

        normal, biased, rounded = Signal(28), Signal(10), Signal(33)
        m.d.comb += [
            normal.eq(total_2 << zeros_2),
            biased.eq(exponent_2 + 1 - zeros_2),
            rounded.eq(Cat(normal[4:27], biased) + (normal[3] & (normal[:3].any() | normal[4]))),
        ]
        tiny = rounded[32] | ~rounded[23:32].any() | ~normal[27]
        with m.If(nan_2):
            m.d.comb += self.sum.eq(NAN)
        with m.Elif(exponent_2.all() | (~rounded[32] & (rounded[31] | rounded[23:31].all()))):
            m.d.comb += self.sum.eq(Cat(C(_INF31, 31), sign_2))
        with m.Elif(tiny):
            m.d.comb += self.sum.eq(Cat(C(0, 31), sign_2))
        with m.Else():
            m.d.comb += self.sum.eq(Cat(rounded[:31], sign_2))
        return m


class RoundEven(wiring.Component):
    """The nearest whole number as fp32, ties to even, of a canonical value: rounds the packed bits where the unit lies."""

    def __init__(self) -> None:
        super().__init__({"value": In(32), "rounded": Out(32)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Fraction bits are below bit 150 - exponent of the packed magnitude."""
        m = Module()
        exponent, fraction = self.value[23:31], self.value[:23]
        below, total = Signal(23), Signal(31)
        m.d.comb += below.eq(Cat(exponent <= 149 - bit for bit in range(23)))
        unit = Cat(C(0, 1), below) & ~Cat(below, C(0, 1))
        m.d.comb += total.eq(self.value[:31] + below[1:] + (self.value[:24] & unit).any())
        with m.If(exponent >= 150):
            m.d.comb += self.rounded.eq(self.value)
        with m.Elif(exponent >= 127):
            m.d.comb += self.rounded.eq(Cat(total[:23] & ~below, total[23:], self.value[31]))
        with m.Elif((exponent == 126) & fraction.any()):
            m.d.comb += self.rounded.eq(Cat(C(0x3F800000, 31), self.value[31]))
        with m.Else():
            m.d.comb += self.rounded.eq(Cat(C(0, 31), self.value[31]))
        return m


class TableIndex(wiring.Component):
    """Entry of a table of 256: the nearest whole number of ``value``, saturated to int8, plus 128; of NaN entry 128."""

    def __init__(self) -> None:
        super().__init__({"value": In(32), "index": Out(8)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Seven whole bits and a half of the significand at exponent 133 (below 128), shifted right below it."""
        m = Module()
        exponent, sign = self.value[23:31], self.value[31]
        upper, lost = shifted_right(Cat(self.value[16:23], 1), (_BIAS + 6 - exponent)[:3])
        whole, half = upper[1:8], upper[0]
        increment = half & (lost | self.value[:16].any() | whole[0])
        rounded = Signal(8)
        with m.If(is_nan(self.value) | (exponent < 126)):
            m.d.comb += rounded.eq(0)
        with m.Elif(exponent >= 134):
            m.d.comb += rounded.eq(Mux(sign, 0x80, 0x7F))
        with m.Elif(sign):
            m.d.comb += rounded.eq(~Cat(whole, C(0, 1)) + ~increment)
        with m.Else():
            m.d.comb += rounded.eq(Mux(whole.all() & increment, whole, whole + increment))
        m.d.comb += self.index.eq(rounded ^ 0x80)
        return m


class ToInt(wiring.Component):
    """Nearest integers, ties to even, saturated: ``value`` in cycle t, ``int32`` and ``int8`` by logic in t+1.

    ``zero_point`` (in t+1) is added to ``int8`` before it saturates. NaN counts as 0.
    """

    def __init__(self) -> None:
        super().__init__({"value": In(32), "zero_point": In(8), "int32": Out(32), "int8": Out(8)})

    def elaborate(self, platform: object) -> Elaboratable:
        """31 whole bits and a half of the significand at exponent 157, shifted right; then rounding and sign."""
        m = Module()
        exponent, nan = self.value[23:31], is_nan(self.value)
        # 157 - exponent in its low bits is 31 - (exponent + 2).
        aligned, lost = shifted_right(Cat(C(0, 8), self.value[:23], 1), ~(exponent + 2)[:5])
        shifted, sticky = Signal(32, reset_less=True), Signal(reset_less=True)
        sign, huge = Signal(reset_less=True), Signal(reset_less=True)
        small = (exponent < 126) | nan
        m.d.sync += [
            shifted.eq(aligned & (~small).replicate(32)),
            sticky.eq(lost & ~small),
            sign.eq(self.value[31] & ~nan),
            huge.eq((exponent >= 158) & ~nan),
        ]
        whole = Signal(31)
        carry = Signal()
        m.d.comb += [
            whole.eq(shifted[1:]),
            carry.eq((shifted[0] & (sticky | whole[0])) ^ sign),
        ]
        signed_whole = Signal(32)
        m.d.comb += signed_whole.eq((Cat(whole, 0) ^ sign.replicate(32)) + carry)
        m.d.comb += self.int32.eq(Mux(huge, Cat((~sign).replicate(31), sign), signed_whole))
        low = Cat(whole[:8], C(0, 1)) ^ sign.replicate(9)
        total = Signal(11)
        m.d.comb += total.eq(Cat(low, sign, sign) + self.zero_point.as_signed() + carry)
        with m.If(huge | whole[8:].any() | (total[7:11] != total[7].replicate(4))):
            beyond = Mux(huge | whole[8:].any(), sign, total[10])
            m.d.comb += self.int8.eq(Mux(beyond, 0x80, 0x7F))
        with m.Else():
            m.d.comb += self.int8.eq(total)
        return m


class Seed(wiring.Component):
    """1 / ``value`` or, with ``root``, 1 / sqrt(``value``), to 7 bits."""

    def __init__(self) -> None:
        super().__init__({"value": In(32), "root": In(1), "seed": Out(32)})

    def elaborate(self, platform: object) -> Elaboratable:
        """One table of 256 entries of 7 bits."""
        m = Module()
        sign, exponent, fraction = self.value[31], self.value[23:31], self.value[:23]
        table = [*reciprocal_table(), *reciprocal_root_table()]
        entries = C(sum(entry << 7 * i for i, entry in enumerate(table)), 7 * len(table))
        address, entry, biased = Signal(8), Signal(7), Signal(8)
        m.d.comb += [
            address.eq(Mux(self.root, Cat(fraction[17:], exponent[0], 1), Cat(fraction[16:], 0))),
            entry.eq(entries.word_select(address, 7)),
            biased.eq(Mux(self.root, (380 - exponent) >> 1, 253 - exponent)),
        ]
        zero, top = ~exponent.any(), exponent.all()
        with m.If(is_nan(self.value) | (self.root & sign & ~zero)):
            m.d.comb += self.seed.eq(NAN)
        with m.Elif(zero):
            m.d.comb += self.seed.eq(Cat(C(_INF31, 31), sign))
        with m.Elif(top | (~self.root & (exponent[1:].all() | (exponent == 253)))):
            m.d.comb += self.seed.eq(Cat(C(0, 31), sign))
        with m.Else():
            m.d.comb += self.seed.eq(Cat(C(0, 16), entry, biased, sign))
        return m
