import numpy as np
import pytest

from design.problems import small, template
from presilicon import design, frontend
from presilicon.design import FIGURES, Archive
from presilicon.errors import CapacityError, InputError, WorkloadError

PLACE = {name: at for at, name in enumerate(FIGURES)}


def found_by(problem, **options):
    """The archive and the last snapshot of a search in this process."""
    archive = Archive(problem)
    for snapshot in design.search(problem, workers=1, archive=archive, **options):
        assert snapshot.evaluated <= snapshot.budget
    assert snapshot.phase == "done"
    return archive, snapshot


def exhaustive(problem):
    figures = np.concatenate([design.evaluate(problem, block) for block in problem.space.blocks(8192)])
    return np.where(figures[:, PLACE["violation"]] == 0.0, figures[:, PLACE[problem.figure]], np.inf)


@pytest.mark.parametrize(
    ("objective", "limits"),
    [
        ("tokens-per-dollar", {}),
        ("tokens-per-joule", {"tpot_s": 0.02}),
        ("tokens-per-second", {"max_unit_usd": 3000.0}),
        ("latency", {"max_area_mm2": 400.0}),
    ],
)
def test_a_third_of_the_budget_finds_the_best_of_all(objective: str, limits: dict[str, float]) -> None:
    problem = small(objective=objective, **limits)
    values = exhaustive(problem)
    assert np.isfinite(values).sum() > 100
    _, snapshot = found_by(problem, budget=problem.space.size // 3)
    assert snapshot.best.figures[problem.figure] == values.min()


def test_a_space_within_the_budget_is_evaluated_whole() -> None:
    problem = small()
    archive, snapshot = found_by(problem, budget=10**6)
    assert snapshot.evaluated == problem.space.size
    assert snapshot.best.figures[problem.figure] == exhaustive(problem).min()
    assert snapshot.feasible == int(np.sum(np.isfinite(exhaustive(problem))))
    assert len(np.unique(problem.space.numbers(archive.designs))) == problem.space.size


def test_the_front_has_no_design_that_another_beats() -> None:
    _, snapshot = found_by(small(), budget=1000)
    names = ("usd_per_million_tokens", "energy_j_per_token", "time_per_output_token_s")
    points = np.array([[one.figures[name] for name in names] for one in snapshot.front])
    assert len(points) >= 3
    for at, point in enumerate(points):
        others = np.delete(points, at, axis=0)
        assert not np.any(np.all(others <= point, axis=1))
    best = snapshot.best.figures["usd_per_million_tokens"]
    assert points[:, 0].min() <= best * 1.02


def test_the_seed_decides_and_workers_do_not() -> None:
    problem = small()
    first, told = found_by(problem, budget=900, seed=3)
    again, _ = found_by(problem, budget=900, seed=3)
    other, _ = found_by(problem, budget=900, seed=4)
    assert np.array_equal(first.designs, again.designs)
    assert np.array_equal(first.figures, again.figures)
    assert not np.array_equal(first.designs[: len(other.designs)], other.designs[: len(first.designs)])
    shared = Archive(problem)
    *_, last = design.search(problem, budget=900, seed=3, workers=2, archive=shared)
    assert np.array_equal(shared.designs, first.designs)
    assert np.array_equal(shared.figures, first.figures)
    assert last.best == told.best


def test_limits_that_no_design_holds_are_told_with_the_nearest() -> None:
    problem = small(max_power_w=5.0)
    archive, snapshot = found_by(problem, budget=500)
    assert snapshot.best is None
    with pytest.raises(CapacityError, match=r"power of all chips is [\d.]+ W of 5 allowed") as told:
        design.report(problem, archive, snapshot)
    assert "a limit of" in told.value.hint


def test_the_model_that_does_not_fit_is_told() -> None:
    problem = small("llama-3.1-405b", max_power_w=None)
    archive, snapshot = found_by(problem, budget=300)
    with pytest.raises(CapacityError, match="memory is"):
        design.report(problem, archive, snapshot)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "tokens"}, "tokens-per-dollar"),
        ({"node": "n2"}, "n3"),
        ({"memory": "HBM9"}, "HBM3"),
        ({"space": "accelerators"}, "accelerator"),
        ({"space": "none.toml"}, "cannot be read"),
        ({"max_area_mm2": -1.0}, "max_area_mm2"),
        ({"volume": 10**10}, "volume"),
        ({"input_tokens": 200_000}, "131072"),
    ],
)
def test_what_cannot_be_asked(options, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        design.problem(frontend.load("llama-3.1-8b"), **options)


def test_a_network_has_no_output_tokens() -> None:
    with pytest.raises(WorkloadError, match="generates no tokens"):
        design.problem(frontend.load("resnet50"), output_tokens=10)
    with pytest.raises(WorkloadError, match="budget"):
        next(design.search(template(), budget=0))


def test_a_ray_cluster_that_does_not_answer_is_told() -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match="no Ray cluster answers"):
        next(design.search(small(), budget=100, ray="127.0.0.1:9"))
