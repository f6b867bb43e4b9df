"""Result files, the same for the same seed, and measured runs laid beside a replay."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from presilicon.errors import InputError, WorkloadError
from presilicon.replay import (
    ClosedLoop,
    Deployment,
    Distribution,
    Fleet,
    Lengths,
    ReplayReport,
    Request,
    poisson,
    run,
    together,
)
from presilicon.replay.compare import compare, read_measured
from presilicon.replay.results import write_results

SOME = Lengths(Distribution("lognormal", 300.0, 1.0), Distribution("exponential", 30.0))


@pytest.fixture
def report(with_blocks: Callable[..., Deployment]) -> ReplayReport:
    return run(Fleet(deployment=with_blocks(400)), [*poisson(20.0, SOME, 80, 0), Request("a,b", 99.0, 200_000, 1)])


def test_files_hold_the_replay(report: ReplayReport, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    assert write_results(folder, report) == ["report.json", "requests.csv", "timeline.csv"]
    assert sorted(p.name for p in folder.iterdir()) == ["report.json", "requests.csv", "timeline.csv"]
    assert [p.name for p in folder.parent.iterdir()] == ["out"]
    told = json.loads((folder / "report.json").read_text())
    assert told["requests"] == 81
    assert "wall_s" not in told
    rows = list(csv.DictReader((folder / "requests.csv").read_text().splitlines()))
    assert len(rows) == 81
    assert rows[-1]["id"] == "a,b"
    assert rows[-1]["refused"] == "context"
    assert rows[-1]["ttft_s"] == ""
    assert float(rows[5]["end_s"]) == pytest.approx(report.records["end_s"][5])
    assert len((folder / "timeline.csv").read_text().splitlines()) == 301


def test_the_same_seed_gives_the_same_bytes(with_blocks: Callable[..., Deployment], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_results(tmp_path / name, run(Fleet(deployment=with_blocks(400), replicas=2), poisson(20.0, SOME, 80, 5)))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_folder_that_cannot_be_written(report: ReplayReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_results(tmp_path / "file", report)
    with pytest.raises(InputError, match="cannot be written"):
        write_results(tmp_path / "file" / "below", report)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def guidellm(**metrics: Any) -> dict[str, Any]:
    def summary(mean: float) -> dict[str, Any]:
        return {"successful": {"mean": mean, "median": mean, "percentiles": {"p50": mean, "p90": 2 * mean, "p99": 3 * mean}}}

    return {"benchmarks": [{"metrics": {name: summary(value) for name, value in metrics.items()}}]}


def test_measured_runs_are_laid_beside(with_blocks: Callable[..., Deployment], tmp_path: Path) -> None:
    report = run(Fleet(deployment=with_blocks(400)), ClosedLoop(4, together(SOME, 40, 0)))
    path = tmp_path / "measured.json"
    table = guidellm(time_to_first_token_ms=100.0, inter_token_latency_ms=20.0, request_latency=1.5, requests_per_second=3.0)
    path.write_text(json.dumps(table))
    found = {one.metric: one for one in compare(path, report)}
    assert found["ttft_s.p99"].measured == pytest.approx(0.3)
    assert found["ttft_s.p99"].replayed == report.ttft_s.p99
    assert found["tpot_s.p50"].measured == pytest.approx(0.02)
    assert found["e2e_s.mean"].measured == pytest.approx(1.5)
    assert found["requests_per_s"].ratio == pytest.approx(report.requests_per_s / 3.0)
    vllm = {"median_ttft_ms": 90.0, "p99_ttft_ms": 200.0, "mean_tpot_ms": 20.0, "output_throughput": 300.0}
    path.write_text(json.dumps(vllm))
    assert read_measured(path) == pytest.approx(
        {"output_tokens_per_s": 300.0, "ttft_s.p50": 0.09, "ttft_s.p99": 0.2, "tpot_s.mean": 0.02}
    )
    assert len(compare(path, report)) == 4


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "[" * 100_000, '{"median_ttft_ms": "x"}'),
        *('{"benchmarks": []}', '{"benchmarks": [1]}', '{"benchmarks": [{"metrics": 5}]}', '{"benchmarks": [{}, {}]}'),
    ],
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    path.write_text(text)
    with pytest.raises(WorkloadError, match=r"measured\.json"):
        read_measured(path)
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_measured(tmp_path / "none")
