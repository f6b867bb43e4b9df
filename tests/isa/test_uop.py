"""Micro-operations and kernels: bytes, text, laws."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isa_drawn import kernels, uops

from presilicon.errors import IsaError
from presilicon.isa import Uop, imm, kernel, kernel_text, sections
from presilicon.isa.uop_text import imm_bits, kernel_lines, parse_uop


@settings(deadline=None)
@given(uops())
def test_bytes_and_text_say_the_same(u: Uop):
    assert len(u.encode()) == 16
    assert Uop.decode(u.encode()) == u
    assert parse_uop(str(u)) == u


@settings(deadline=None)
@given(kernels())
def test_a_kernel_reads_back_from_its_lines(uops: tuple[Uop, ...]):
    assert kernel_text("\n".join(kernel_lines(uops))) == uops


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_any_bytes_are_a_micro_operation_or_refused(data: bytes):
    with contextlib.suppress(IsaError):
        assert Uop.decode(data).encode() == data


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_immediate_keeps_its_bits(bits: int):
    text = str(Uop(b_kind=1, imm=bits)).partition("imm(")[2].partition(")")[0]
    assert imm_bits(text) == bits


def test_what_the_text_means():
    one = parse_uop("r3, stream1 = max(-(acc * imm(0.125)), -r4) masked @2")
    assert one == Uop(
        op="max",
        a_kind=1,
        b_kind=1,
        imm=imm(0.125),
        c_reg=4,
        negate_p=True,
        negate_c=True,
        masked=True,
        to_en=True,
        to=3,
        write_en=True,
        write_stream=1,
        offset=2,
    )
    assert imm(0.125) == int(np.float32(0.125).view(np.uint32))
    assert parse_uop("_ = r0 * swap(r1, 4)").b_xor == 2
    assert parse_uop("r1 = acc(r5) * r0").a_kind == 3
    assert [u.op for u in kernel_text("r1 = stream0\nr1 = recip(r1)\nr1 = round(r1 * r1)\nstream1 = select(r1, r1, zero)")] == [
        "move",
        "recip",
        "round",
        "select",
    ]


def test_a_kernel_is_loops_and_what_stands_between():
    body = kernel_text("r1 = stream0 once\nr2 = r1\nloop step 2 {\nr3 = stream1\nr4 = r3 @1\n}\nstream2 = r3\n")
    parts = sections(body)
    assert [(len(p.uops), p.step) for p in parts] == [(2, 0), (2, 2), (1, 0)]
    assert [u.last for u in body] == [False] * 4 + [True]
    assert body[0].once
    assert body[1].reads == (1,)


REFUSED_TEXT = {
    "cannot read 'r3 +'": "r3 + ",
    "cannot read 'frob": "r3 = frob(r1)",
    "cannot be operand a": "r1 = imm(3) * r1",
    "cannot be operand b": "r1 = r1 * acc",
    "reads one stream": "r1 = stream0 * stream1",
    "reads one immediate": "r1 = r1 * imm(1) + imm(2)",
    "cannot be exchanged": "r1 = r1 * swap(r1, 3)",
    "is no number": "r1 = r1 * imm(one)",
    "has a c of its own": "r1 = r1 * r1 + r2 masked(r3)",
    "has no c": "r1 = r1 * r1 masked",
    "a_reg is 16": "r1 = r16",
    "write_stream is 4": "stream4 = r1",
    "line 2: cannot read": "r1 = r0\nr2 = ?\n",
    "line 2: a loop begins in a loop": "loop {\nloop {\nr1 = r1\n}\n}",
    "does not end": "loop {\nr1 = r0",
    "line 2: } closes no loop": "r1 = r0\n}",
    "with a micro-operation in it": "loop {\n}",
    "a loop's step is 9": "loop step 9 {\nr1 = r0\n}",
    "stands in a loop": "loop {\nr1 = r0 once\n}",
    "stands behind a micro-operation without": "r1 = r0\nr2 = r0 once",
    "ends with its only": "",
}


@pytest.mark.parametrize("message", REFUSED_TEXT)
def test_text_that_means_nothing_is_refused(message: str):
    with pytest.raises(IsaError) as caught:
        kernel_text(REFUSED_TEXT[message])
    assert message in str(caught.value)


REFUSED = {
    "no micro-operation 'mull'": {"op": "mull"},
    "b_kind is 1 and does not count": {"op": "recip", "b_kind": 1},
    "negate_c is True and does not count": {"negate_c": True},
    "to is 3 and does not count": {"to": 3},
    "step is 1 and does not count": {"step": 1},
    "imm is 5": {"imm": 5},
    "offset is 8": {"offset": 8},
}


@pytest.mark.parametrize("message", REFUSED)
def test_fields_that_do_not_count_are_zero(message: str):
    with pytest.raises(IsaError) as caught:
        Uop(**REFUSED[message])
    assert message in str(caught.value)


def test_last_stands_on_the_last_alone():
    one = Uop(to_en=True)
    with pytest.raises(IsaError, match="only `last`"):
        sections((one, one))
    with pytest.raises(IsaError, match="does not end"):
        kernel([Uop(loop_begin=True)])
    with pytest.raises(IsaError, match="did not begin"):
        kernel([Uop(loop_end=True, step=1)])
