"""What a program does, counted from its instructions; and that gates which do anything else are refused."""

import numpy as np
import pytest

from levels import core
from presilicon.check import gate_task, simulate
from presilicon.compiler.corpus import prepare
from presilicon.economics.actions import ACTIONS, MEMORIES, names
from presilicon.rtl import measure_energy
from presilicon.rtl.measure_energy import as_csv, counted, run
from presilicon.rtl.netlist import Netlist
from presilicon.rtl.runner import RtlError
from presilicon.rtl.synthesis import Synthesis

CORE = core("core-4x4")


def test_actions_of_a_matmul() -> None:
    case = prepare("gemm-16x16x16", CORE)
    task = gate_task(case, CORE)
    did = counted(CORE, task.program, task.arguments, task.memory, task.cycles).actions
    done, _ = simulate(case, CORE)
    assert did["pe_operation"] == 16**3
    assert did["moving_byte"] == 16 * 16 * 4  # the rows once for each of the four blocks of columns
    assert did["weight_byte"] == 16 * 16
    # Every block of k adds a tile's sums and reads the ones before; the vector unit reads them once.
    assert did["sum_byte"] == 4 * 16 * 16 * (4 + 3 + 1)
    assert did["load_byte"] == done.dram_read_bytes - 64 * len(case.program.instructions)
    assert did["store_byte"] == done.dram_written_bytes
    assert did["instruction"] == len(case.program.instructions)


def test_elements_that_do_not_exist_do_nothing() -> None:
    few, many = (prepare(name, CORE) for name in ("gelu-1x5", "gelu-9x37"))
    did = {}
    for case in (few, many):
        task = gate_task(case, CORE)
        did[case.name] = counted(CORE, task.program, task.arguments, task.memory, task.cycles).actions
    # A row of 5, which the program rounds up to 8, and 9 rows of 37: the slots are of 8 rows by 4 lanes.
    ratio = did["gelu-9x37"]["vector_operation"] / did["gelu-1x5"]["vector_operation"]
    assert ratio == pytest.approx(9 * 37 / 8, rel=0.1)


class _Gates:
    """Gates whose one block is every block."""

    def __init__(self, *_: object) -> None: ...

    def energy(self) -> dict[str, tuple[float, float]]:
        return dict.fromkeys(ACTIONS, (2e-9, 1e-9))

    def memory_bytes(self) -> dict[str, tuple[float, float]]:
        return {"scratchpad": (3.0, 4.0)}


@pytest.mark.parametrize(("late", "wrong"), [(0, 0), (1, 0), (0, 3)])
def test_gates_must_do_what_the_simulator_does(monkeypatch: pytest.MonkeyPatch, late: int, wrong: int) -> None:
    task = gate_task(prepare("strided", CORE), CORE)

    class Run:
        def __init__(self, gates: _Gates, sizes: object, memory: np.ndarray) -> None:
            self.memory = memory

        def run(self, program: object, arguments: object, max_cycles: int) -> int:
            self.memory[:] = task.after
            self.memory[:wrong] += 1
            return task.cycles + late

    monkeypatch.setattr(measure_energy, "Gates", _Gates)
    monkeypatch.setattr(measure_energy, "GateRun", Run)
    netlists: dict[str, Netlist] = {}
    made = Synthesis(library=None, netlists=netlists, block_area_um2={}, flip_flop_area_um2=0.0, cells=0)  # type: ignore[arg-type]
    if late or wrong:
        with pytest.raises(RtlError, match=f"{wrong} bytes differ, {task.cycles + late} cycles"):
            run(CORE, made, [task])
        return
    (row,) = run(CORE, made, [task])
    assert row.whole_j == pytest.approx(3e-9 * len(ACTIONS))
    assert row.memory_bytes == dict.fromkeys(MEMORIES, 0.0) | {"scratchpad": 7.0}
    head, line = as_csv([row]).splitlines()[-2:]
    assert len(head.split(",")) == len(line.split(",")) > len(names())
