"""Searches and replays in processes of their own: two at once, stopped, killed, resumed, and after the studio's own end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from presilicon.errors import PresiliconError
from presilicon.studio.asked import library_chip
from presilicon.studio.job_pictures import report_of
from presilicon.studio.jobs import MOST_RUNNING, Jobs
from presilicon.studio.orders import order
from presilicon.studio.workspace import Workspace

PATIENCE_S = 90.0
SMALL = {"kind": "search", "model": "llama-3.1-8b", "budget": 12_000}


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    found = Jobs(Workspace(tmp_path / "workspace"))
    yield found
    found.close()


def ordered(jobs: Jobs, **about: object) -> dict[str, object]:
    return order({**SMALL, **about}, library_chip, jobs.workspace)


def until(what: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def result(jobs: Jobs, name: str) -> dict[str, object]:
    latest = jobs.tell(name)["latest"]
    return {key: latest[key] for key in ("phase", "evaluated", "feasible", "best", "front")}


def test_a_search_that_was_killed_is_stopped_and_resumed_to_the_same_end(jobs: Jobs) -> None:
    whole = jobs.start(ordered(jobs))
    until(lambda: jobs.state(whole) == "done")
    killed = jobs.start(ordered(jobs))
    until(lambda: (jobs.tell(killed)["latest"] or {}).get("evaluated", 0) > 0)
    os.kill(jobs._processes[killed].pid, signal.SIGKILL)
    until(lambda: jobs.state(killed) == "stopped")
    jobs.resume(killed)
    until(lambda: jobs.state(killed) == "done")
    assert result(jobs, killed) == result(jobs, whole)
    report = report_of(jobs.workspace.job(killed))
    assert "<h1>A chip for" in report
    assert "presilicon design" in report


def test_two_at_once_do_not_mix_and_one_is_stopped(jobs: Jobs) -> None:
    first = jobs.start(ordered(jobs, budget=1_000_000))
    second = jobs.start(ordered(jobs, model="qwen3-8b", budget=8_000))
    until(lambda: jobs.state(second) == "done")
    assert jobs.state(first) == "running"
    jobs.stop(first)
    assert jobs.state(first) == "stopped"
    assert jobs.tell(first)["about"]["model"] != jobs.tell(second)["about"]["model"]
    assert {job["id"] for job in jobs.all()} == {first, second}


def test_another_studio_finds_what_was_running_as_stopped(jobs: Jobs) -> None:
    name = jobs.start(ordered(jobs, budget=1_000_000))
    until(lambda: (jobs.tell(name)["latest"] or {}).get("evaluated", 0) > 0)
    process = jobs._processes[name]
    assert process.stdin is not None
    process.stdin.close()  # as when the studio is no more
    until(lambda: process.poll() is not None, 10.0)
    again = Jobs(jobs.workspace)
    assert again.state(name) == "stopped"
    assert again.tell(name)["latest"]["evaluated"] > 0


def test_what_cannot_be_is_told_as_it_is(jobs: Jobs) -> None:
    trace = jobs.workspace.keep_trace(b"arrival_s,input_tokens,output_tokens\n0,10,5\n1,x,5\n", "bad.csv")
    name = jobs.start(order({"kind": "replay", "state": {}, "trace": trace}, library_chip, jobs.workspace))
    until(lambda: jobs.state(name) == "failed")
    assert "line 3" in json.dumps(jobs.tell(name)["end"])


@pytest.mark.parametrize(
    "about",
    [
        {"kind": "dance"}, {"model": "/etc/passwd"}, {"model": "resnet50", "tpot_s": 1}, {"node": "n1"}, {"budget": 1e9},
        {"budget": -1}, {"objective": "beauty"}, {"chips": 1.5}, {"kind": "replay", "trace": "../../etc/passwd"},
        {"kind": "replay", "state": {"chip": "x.toml"}},
    ],
)  # fmt: skip
def test_orders_that_are_refused_before_anything_starts(jobs: Jobs, about: dict[str, object]) -> None:
    with pytest.raises(PresiliconError):
        ordered(jobs, **about)
    assert not jobs.all()


def test_only_so_many_run(jobs: Jobs) -> None:
    for _ in range(MOST_RUNNING):
        jobs.start(ordered(jobs, budget=1_000_000))
    with pytest.raises(PresiliconError, match="are running"):
        jobs.start(ordered(jobs))
