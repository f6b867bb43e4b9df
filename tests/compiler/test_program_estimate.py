"""The estimate of whole programs against the simulator: encoders, decoders' steps with loops, several cores, other memories."""

from dataclasses import replace

import pytest
from emission_checks import SIZES
from encoder_models import encoder

from levels import core
from presilicon.compiler.compiled import memory
from presilicon.compiler.corpus import CORPUS, prepare
from presilicon.compiler.emission import emit
from presilicon.dram import DramOptions
from presilicon.errors import IsaError
from presilicon.estimate.program import program_estimate
from presilicon.isa import Program, halt, load
from presilicon.simulate.machine import run

# The bar is 5 %.
CLOSE = 0.03


def ratio(programs, one, arguments=None, latency=40, num=1):
    """Estimated over simulated cycles."""
    options = DramOptions(latency=latency, num=num)
    dram = memory(tuple(programs))
    done = run(programs, one, arguments=arguments, dram=dram, values=False, options=options)
    guess = program_estimate(programs, one, arguments, latency=latency, beat_cycles=float(num))
    # Every instruction has its times; the boot's load has no number.
    assert {(e.core, e.pc) for e in guess.events} == {
        (number, e.pc) for number, events in enumerate(done.events) for e in events if e.pc >= 0 and e.op != "sync"
    }
    return guess.cycles / done.cycles


@pytest.mark.parametrize("name", ["core-8x8", "core-16x16", "core-16x32", "core-32x32", "core-16x16-x2"])
@pytest.mark.parametrize("tokens", [1, 40])
def test_encoders(name, tokens):
    model = encoder(tokens=tokens, width=96, heads=3, layers=2, hidden=192, length=True)
    assert ratio(emit(model, core(name)).programs, core(name), {1: tokens}) == pytest.approx(1.0, abs=CLOSE)


@pytest.mark.parametrize("strands", [1, 2])
def test_an_encoder_of_minilms_sizes(strands):
    model = encoder(tokens=128, layers=1)
    programs = emit(model, core("core-32x32"), strands=strands).programs
    assert ratio(programs, core("core-32x32")) == pytest.approx(1.0, abs=CLOSE)


@pytest.mark.parametrize(("latency", "num"), [(120, 1), (40, 2), (10, 1)])
def test_other_memories(latency, num):
    model = encoder(tokens=24, width=96, heads=3, layers=1, hidden=192)
    programs = emit(model, core("core-16x16")).programs
    assert ratio(programs, core("core-16x16"), latency=latency, num=num) == pytest.approx(1.0, abs=CLOSE)


def test_several_cores_that_share_the_memory():
    one = replace(SIZES["16x16"], cores=4)
    model = encoder(tokens=64, width=96, heads=3, layers=1, hidden=192)
    assert ratio(emit(model, one).programs, one) == pytest.approx(1.0, abs=2 * CLOSE)


@pytest.mark.parametrize("name", [name for name in CORPUS if name != "exchange"])
def test_programs_of_the_corpus_within_15_percent(name):
    """Programs of a few hundred cycles, most of them the memory's latency."""
    case = prepare(name, core("core-8x8"))
    arguments = case.arguments[0]
    assert ratio((case.program,), core("core-8x8"), arguments) == pytest.approx(1.0, abs=0.15)


def test_a_wait_for_what_comes_later_is_refused():
    program = Program.build(core("core-4x4"), [load(dram=0, spad=0, run=16, wait=("matmul",)), halt()])
    with pytest.raises(IsaError, match="waits for a signal of matmul that comes behind it"):
        program_estimate([program], core("core-4x4"))
