"""``presilicon synth``: the keys that scripts rely on, the text, and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from presilicon.economics.area import logic_gates

pytest.importorskip("amaranth")
from presilicon.rtl import liberty, synthesis, timing

SMALL = """library (small) {
cell (NAND2) { area : 2; pin (A) { direction : input; } pin (B) { direction : input; } pin (Y) { direction : output; } } }
"""


@pytest.fixture
def library(tmp_path: Path) -> str:
    path = tmp_path / "small.lib"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A synthesis that finds what the model says, and 100 more NANDs of lanes."""

    def found(core, library):
        areas = {block: 2.0 * gates for block, gates in logic_gates(core).items()}
        areas["vector_lanes"] += 200.0
        return synthesis.Synthesis(library=library, netlists={}, block_area_um2=areas, flip_flop_area_um2=9.0, cells=7)

    monkeypatch.setattr(synthesis, "synthesise", found)
    monkeypatch.setattr(timing, "timing", lambda _: None)


def test_keys(run, made, library: str) -> None:
    found = run("synth", "core-8x8", "--liberty", library, "--json")
    assert found.code == 0
    told = found.json
    assert told["schema"] == "presilicon/synth/1"
    assert told["cell_area_um2"] == pytest.approx(told["model_area_um2"] + 200.0)
    assert told["critical_path_ns"] is None
    assert 0.0 < told["vector_unit"]["share"] < 1.0
    assert sum(block["cell_area_um2"] for block in told["blocks"].values()) == pytest.approx(told["cell_area_um2"])
    assert sum(block["model_area_um2"] for block in told["blocks"].values()) == pytest.approx(told["model_area_um2"])


def test_text(run, made, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESILICON_LIBERTY", library)
    path = timing.Timing(timing.Route(3.25, "a/x", "b/y"), "", {"b": 3.25})
    monkeypatch.setattr(timing, "timing", lambda _: path)
    found = run("synth", "core-8x8")
    assert found.code == 0
    assert "vector_lanes" in found.out
    assert "3.25 ns, a/x to b/y" in found.out
    assert max(map(len, found.out.splitlines())) <= 100


def test_without_a_library_gates_are_counted(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import Counter

    monkeypatch.delenv("PRESILICON_LIBERTY", raising=False)
    monkeypatch.setattr(liberty, "OSU018", Path("none.lib"))
    monkeypatch.setattr(synthesis, "gate_count", lambda _: Counter({"AND": 30, "DFF_P": 12}))
    told = run("synth", "core-8x8", "--json").json
    assert (told["cell_area_um2"], told["critical_path_ns"], told["gates"]) == (None, None, {"AND": 30, "DFF_P": 12})
    assert "42 gates" in run("synth", "core-8x8").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["h100"], "not of the template"),
        (["core-8x8", "--liberty", "none.lib"], "no such liberty file"),
        ([], "missing argument"),
    ],
)
def test_what_is_refused(run, arguments: list[str], told: str) -> None:
    found = run("synth", *arguments)
    assert found.code == 2
    assert told in found.err
    assert "Traceback" not in found.err


def test_power(run, made, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on gates that use twice what the model says."""
    from presilicon.economics.actions import ACTIONS, MEMORIES, Measured, energy_j
    from presilicon.rtl import measure_energy

    def ran(core, _, tasks):
        (task,) = tasks
        did = measure_energy.counted(core, task.program, task.arguments, task.memory, task.cycles)
        model = energy_j(core, did)
        row = Measured(
            core=core,
            program=task.name,
            cycles=task.cycles,
            actions=did.actions,
            energy_j={block: 2.0 * sum(model[block]) for block in ACTIONS},
            clock_j={block: 2.0 * model[block][0] for block in ACTIONS},
            memory_bytes=dict.fromkeys(MEMORIES, 8.0),
        )
        return [row]

    monkeypatch.setattr(measure_energy, "run", ran)
    told = run("synth", "core-8x8", "--liberty", library, "--power", "gemm:9x9x9", "--json").json["power"]
    assert told["program"] == "gemm-9x9x9"
    assert told["energy_j"] == pytest.approx(2.0 * told["model_energy_j"])
    assert told["energy_j"] == pytest.approx(told["cycles"] * told["energy_j_per_cycle"])
    assert sum(block["energy_j"] for block in told["blocks"].values()) == pytest.approx(told["energy_j"])
    found = run("synth", "core-8x8", "--liberty", library, "--power", "gemm:9x9x9")
    assert "gemm-9x9x9 on the gates" in found.out
    assert "-50.0 %" in found.out
    assert max(map(len, found.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("chip", "power", "told"),
    [
        ("core-16x16-x2", "gemm:9x9x9", "runs one core"),
        ("core-8x8", "random:2", "2 programs"),
        ("core-8x8", "nothing", "cannot be checked"),
    ],
)
def test_power_that_is_refused(run, made, library: str, chip: str, power: str, told: str) -> None:
    found = run("synth", chip, "--liberty", library, "--power", power)
    assert found.code == 2
    assert told in found.err
