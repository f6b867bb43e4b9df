"""Reference, simulator and RTL agree in every byte and, on one core, in every cycle of every instruction.

``benchmarks/agreement.py`` runs the same on every core of the library.
"""

import pytest

from levels import EVERY_CORE, MEMORIES, PAIRS, core, machine
from presilicon.check import compare
from presilicon.compiler.corpus import CORPUS, prepare, random_case
from presilicon.isa import verify

CORES = EVERY_CORE[:2]
RANDOM = 44


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", CORES)
def test_corpus(name: str, memory: str) -> None:
    for case_name in CORPUS:
        case = prepare(case_name, core(name), seed=3)
        checked = compare(case, core(name), machine=machine(name, memory), options=MEMORIES[memory])
        assert checked.mismatches == {"reference_simulate": 0, "simulate_rtl": 0}, case_name
        assert checked.parted is None, (case_name, checked.parted)
        assert checked.cycles["rtl"] == checked.cycles["simulate"], case_name


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("name", CORES)
def test_random_programs(name: str, memory: str) -> None:
    for seed in range(RANDOM):
        case = random_case(core(name), 1000 * list(MEMORIES).index(memory) + seed)
        verify(case.program, core(name))
        checked = compare(case, core(name), machine=machine(name, memory), options=MEMORIES[memory])
        assert checked.mismatches == {"reference_simulate": 0, "simulate_rtl": 0}, case.name
        assert checked.parted is None, (case.name, checked.parted)


@pytest.mark.parametrize("memory", MEMORIES)
def test_two_cores(memory: str) -> None:
    """Two cores contend for one memory: values equal, cycles within 2 % at worst and 1 % in the mean."""
    pair = core(PAIRS[0])
    errors = []
    for case in [*(prepare(c, pair) for c in CORPUS), *(random_case(pair, seed) for seed in range(20))]:
        checked = compare(case, pair, machine=machine(PAIRS[0], memory), options=MEMORIES[memory])
        assert checked.agrees, case.name
        errors.append(abs(checked.cycles["simulate"] / checked.cycles["rtl"] - 1))
    assert max(errors) <= 0.02
    assert sum(errors) / len(errors) <= 0.01
