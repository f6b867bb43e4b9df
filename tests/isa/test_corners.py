"""The corpus and random programs meet every corner of every instruction."""

from collections import Counter

from isa_drawn import core

from presilicon.check import met
from presilicon.compiler.corpus import CORPUS, prepare, random_case
from presilicon.isa import LAYOUT, barrier, halt, load, loop, reg
from presilicon.isa.corners import CORNERS, Executed, corners


def test_every_instruction_has_corners() -> None:
    assert CORNERS.keys() == LAYOUT.keys()


def test_corpus_and_random_programs_meet_every_corner() -> None:
    found: Counter[tuple[str, str]] = Counter()
    small = core(4, 4, 4)
    for case in [*(prepare(name, small) for name in CORPUS), *(random_case(small, seed) for seed in range(80))]:
        found.update(met(case, small))
    assert {(op, name) for op, names in CORNERS.items() for name in names} == found.keys()


def test_corners_of_one_load() -> None:
    one = load(dram=reg("r1") + 4090, spad=17, n1=3, run=10, stride1=-20, limit=2, signal=("matmul",))
    names = {name for _, name in corners(Executed(core(), one, one.resolve([0, 0, *[0] * 14])))}
    assert names == {
        "strided",
        "negative stride",
        "DRAM not aligned",
        "scratchpad not aligned",
        "shorter than a beat",
        "row cut at 4 KB",
        "address by register",
        "rows out of range",
        "to scratchpad",
        "signals",
    }


def test_depth_is_nesting() -> None:
    one = loop(2, 1)
    assert ("loop", "nested") in corners(Executed(core(), one, one.resolve(), depth=1))
    assert ("loop", "nested") not in corners(Executed(core(), one, one.resolve()))
    assert corners(Executed(core(), halt(), {})) == [("halt", "any")]
    assert corners(Executed(core(), barrier(), {})) == [("barrier", "any")]
