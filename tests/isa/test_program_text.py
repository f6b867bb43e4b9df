"""The text of programs: assembler and disassembler, golden texts."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isa_drawn import CORES, core, programs

from presilicon.errors import IsaError
from presilicon.isa import assemble, disassemble, verify

GOLDEN = Path(__file__).parent / "golden"
# UPDATE_GOLDEN=1 writes the golden texts anew.
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"


@settings(deadline=None, max_examples=50)
@given(st.data(), st.sampled_from(CORES))
def test_text_says_the_same(data: st.DataObject, machine):
    program = data.draw(programs(machine))
    assert assemble(disassemble(program), machine) == program


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.s")), ids=lambda p: p.stem)
def test_golden_texts_are_what_the_disassembler_writes(path: Path):
    """``NAME.s`` is written by hand, ``NAME.txt`` is the text of the program it makes."""
    program = assemble(path.read_text(encoding="utf-8"), core())
    verify(program, core(), {1: 3, 2: 40})
    whole = disassemble(program)
    # The first line is the digest of the core.
    text = whole.partition("\n")[2]
    golden = path.with_suffix(".txt")
    if UPDATE:
        golden.write_text(text, encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == text
    assert assemble(text, core()) == assemble(whole, core()) == program


def test_data_may_be_left_out_for_readers():
    program = assemble("data at 0x1000: 0102\ncode:\nhalt\n", core())
    assert "# data at 0x1000: 2 bytes" in disassemble(program, data=False)
    assert program.data[0].data == b"\1\2"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_spoilt_text_is_read_or_refused(data: st.DataObject):
    text = data.draw(st.sampled_from([path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("*.s"))]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        kind = data.draw(st.integers(0, 2))
        new = data.draw(st.sampled_from(" \n=,.:+-*(){}@#_0179xr")) if kind else ""
        text = text[:at] + new + text[at + (kind < 2) :]
    with suppress(IsaError):
        program = assemble(text, core())
        assert assemble(disassemble(program), core()) == program


REFUSED = {
    "line 1: cannot read 'hello'": "hello\n",
    "the text has no code": "kernel a:\n  r1 = stream0\n",
    "line 3: the code begins a second time": "code:\n  halt\ncode:\n",
    "line 2: there is no instruction 'lod'": "code:\n  lod dram=0\n",
    "line 2: load has no field 'rum'": "code:\n  load rum=1\n",
    "line 2: run is given twice": "code:\n  load run=1 run=2\n",
    "line 2: cannot read '?!'": "code:\n  load run=1 ?!\n",
    "line 2: dram is 'nowhere'": "code:\n  load dram=nowhere run=1\n",
    "line 2: kernel is 'k'": "code:\n  vector kernel=k\n",
    "line 2: spad is '1+2'": "code:\n  load spad=1+2 run=1\n",
    "line 2: target is 'moon'": "code:\n  load target=moon run=1\n",
    "line 4: } closes no loop": "code:\n  halt\n\n  }\n",
    "line 3: the loop is not closed": "code:\n  halt # stop\n  loop 3 {\n",
    "line 2: sync: there is no engine 'cpu'": "code:\n  sync engine=load wait(cpu)\n",
    "line 2: there is no stream format 'fp8'": "code:\n  vector formats=fp32,fp8\n",
    "line 2: cannot read 'r2 +' as a value": "kernel a:\n  r1 = r2 +\ncode:\n halt\n",
    "line 1: region x has elements of 'fp8'": "input x fp8 3x4 at 0\ncode:\nhalt\n",
    "is not in hexadecimal": "data at 0x1000: xyz\ncode:\nhalt\n",
    "two kernels are named a": "kernel a:\n_ = imm\ncode:\nhalt\n".replace("_ = imm", "r1 = stream0")
    + "kernel a:\nr1 = stream0\n",
    "the text is for the core 0123456789abcdef": "core 0123456789abcdef\ncode:\nhalt\n",
    "overlap": "data at 0: 00\ncode at 0:\nhalt\n",
    "has no instruction": "code:\n",
}


@pytest.mark.parametrize("message", REFUSED)
def test_text_that_cannot_be_read_says_where(message: str):
    with pytest.raises(IsaError) as caught:
        assemble(REFUSED[message], core())
    assert message in str(caught.value)
