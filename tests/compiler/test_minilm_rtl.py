"""All of MiniLM-L6 on the generated hardware, and how well it uses it."""

from __future__ import annotations

import numpy as np
import pytest
from minilm import NAME, encoded, sentences

from presilicon.check_model import check_model
from presilicon.chip import load
from presilicon.compiler.compiled import memory
from presilicon.compiler.work import macs
from presilicon.flow import Built, build
from presilicon.simulate.machine import run


def sentence(number: int, tokens: int) -> dict[str, np.ndarray]:
    return encoded([sentences("judge")[number]], tokens)


@pytest.mark.parametrize(("chip", "number"), [("core-16x16", 3), ("core-32x32", 17)])
def test_reference_simulator_and_rtl_agree_in_every_byte_and_cycle(chip: str, number: int) -> None:
    done = check_model(build(NAME, load(chip), tokens=32).compiled, sentence(number, 32))
    assert done.mismatches == {"reference_simulate": 0, "simulate_rtl": 0}
    assert done.cycles["rtl"] == done.cycles["simulate"]
    assert abs(done.cycles["estimate"] / done.cycles["simulate"] - 1) < 0.05
    assert all(line.cycles["rtl"] == line.cycles["simulate"] for line in done.steps)


def timed(built: Built, tokens: int) -> tuple[int, float]:
    """Cycles with all tokens, and achieved over peak MACs."""
    (part,) = built.compiled.chip_parts
    core = built.compiled.core
    arguments = {part.lowered.register("length"): tokens}
    done = run(part.programs, core, arguments=arguments, dram=memory(part.programs), values=False, events=False)
    work = sum(macs(part.lowered, step) for step in part.lowered.steps)
    return done.cycles, work / (core.rows * core.cols * core.cores * done.cycles)


def test_the_array_works_three_quarters_of_the_time() -> None:
    """128 tokens, 32 bytes a cycle of memory, 32 lanes."""
    _, utilization = timed(build(NAME, load("core-32x32"), tokens=128), 128)
    assert utilization > 0.75


def test_two_cores_are_nearly_twice_as_fast() -> None:
    one, _ = timed(build(NAME, load("core-16x16"), tokens=128), 128)
    two, _ = timed(build(NAME, load("core-16x16-x2"), tokens=128), 128)
    assert one / two > 1.8
