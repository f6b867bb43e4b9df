"""A design that the search saw and the chip that is written of it are the same to every command."""

from dataclasses import fields

import numpy as np
import pytest

from design.problems import narrowed, small, template
from presilicon import chip, design, frontend
from presilicon.design import FIGURES, Problem
from presilicon.design._chip import parts
from presilicon.design._problem import parallelism
from presilicon.economics.cost import blocks
from presilicon.economics.policy import policy_class
from presilicon.errors import ChipError, WorkloadError
from presilicon.estimate import Load, machine, report_of, steady_cost

PLACE = {name: at for at, name in enumerate(FIGURES)}


def drawn(problem: Problem, number: int = 4000, seed: int = 1):
    """Random designs that hold all limits, and their figures."""
    rng = np.random.default_rng(seed)
    found = np.stack([rng.integers(0, values, number) for values in problem.space.shape], axis=1)
    figures = design.evaluate(problem, found)
    good = figures[:, PLACE["violation"]] == 0.0
    return found[good][:12], figures[good][:12]


def test_the_chip_of_a_design_gives_the_same_bits() -> None:
    problem = design.problem(frontend.load("llama-3.1-8b"), node="n5")
    found, figures = drawn(problem)
    assert len(found) == 12
    for row, told in zip(found, figures, strict=True):
        values = problem.space.values(row)
        written = chip.parse(design.chip_of(values, volume=problem.volume).to_toml())
        load, p = Load(values["batch"], 1024, 128), parallelism(str(values["parallelism"]))
        cost = steady_cost(machine(written), problem.model, load, formats=problem.formats(values["formats"]), parallelism=p)
        for name in ("tokens_per_s", "time_to_first_token_s", "time_per_output_token_s", "energy_j_per_token", "power_w"):
            assert float(getattr(cost, name)) == told[PLACE[name]], name
        assert written.die_area_mm2 == told[PLACE["area_mm2"]]
        assert sum(parts(values)[0].values()) == pytest.approx(written.die_area_mm2)
        assert sum(parts(values)[1].values()) == pytest.approx(told[PLACE["unit_usd"]])
        assert policy_class(written).tpp > 0


def test_the_estimate_of_a_template_chip_is_what_the_search_saw() -> None:
    problem = template()
    found, figures = drawn(problem)
    for row, told in zip(found[:4], figures[:4], strict=True):
        values = problem.space.values(row)
        written = chip.parse(design.chip_of(values).to_toml())
        report = report_of(
            problem.model, written, batch=int(values["batch"]), input_tokens=32, weights="int8", activations="int8",
            kv_cache="int8",
        )  # fmt: skip
        assert report.latency_s == told[PLACE["latency_s"]]
        assert report.energy_j / report.batch == pytest.approx(told[PLACE["energy_j_per_token"]], rel=1e-12)
        assert sum(blocks(written).values()) == pytest.approx(told[PLACE["area_mm2"]])


def test_figures_do_not_depend_on_the_block() -> None:
    problem = design.problem(frontend.load("openai/gpt-oss-20b"), chips=4)
    rng = np.random.default_rng(5)
    found = np.stack([rng.integers(0, values, 60) for values in problem.space.shape], axis=1)
    whole = design.evaluate(problem, found)
    assert np.array_equal(np.concatenate([design.evaluate(problem, row[None]) for row in found]), whole)
    assert np.all(np.isfinite(whole))


def test_more_of_a_resource_costs_area_and_power() -> None:
    problem = small()
    base = problem.space.designs(np.array([0]))
    for axis in problem.space.axes:
        if axis.is_text or axis.name == "batch" or len(axis.values) == 1:
            continue
        steps = np.repeat(base, len(axis.values), axis=0)
        steps[:, problem.space.place(axis.name)] = np.arange(len(axis.values))
        figures = design.evaluate(problem, steps)
        for name in ("area_mm2", "unit_usd", "tdp_w"):
            assert np.all(np.diff(figures[:, PLACE[name]]) >= 0), (axis.name, name)


def test_laws_refuse_a_chip_by_their_numbers() -> None:
    values = {
        "node": "n16", "formats": "bf16", "cores": 304.0, "array": 128.0, "vector_lanes": 1024.0, "scratchpad_bytes": 65536.0,
        "shared_sram_bytes": 4194304.0, "clock_hz": 1e9, "memory": "HBM3E", "stacks": 1.0, "link_bytes_per_s": 64e9,
        "power_share": 0.5,
    }  # fmt: skip
    with pytest.raises(ChipError, match="reticle"):
        design.chip_of(values)
    with pytest.raises(ChipError, match="die's edge"):
        design.chip_of(values | {"cores": 1.0, "node": "n5", "array": 32.0, "stacks": 6.0})
    with pytest.raises(WorkloadError, match="power_share"):
        design.chip_of({name: value for name, value in values.items() if name != "power_share"})
    with pytest.raises(WorkloadError, match="colour"):
        design.chip_of(values | {"colour": 1.0})
    core = template().space.values(np.zeros(len(template().space.axes), dtype=np.int64))
    with pytest.raises(ChipError, match="weight_rows_per_cycle"):
        design.chip_of(core)


def test_a_language_model_needs_sixteen_bits() -> None:
    with pytest.raises(WorkloadError, match="16-bit"):
        design.problem(frontend.load("llama-3.1-8b"), space="template")


def test_every_figure_is_named_once() -> None:
    assert len(set(FIGURES)) == len(FIGURES)
    problem = narrowed(small(), {"batch": [1.0]})
    assert {f.name for f in fields(problem)} >= {"model", "space", "objective", "limits", "operation"}
    assert design.evaluate(problem, problem.space.designs(np.arange(3))).shape == (3, len(FIGURES))
