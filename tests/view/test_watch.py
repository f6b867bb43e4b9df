"""What a terminal shows while something runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from presilicon import design, frontend
from presilicon.chip import load
from presilicon.replay import Distribution, Fleet, Lengths, Underway, deploy, poisson, run
from presilicon.view.watch import replay_view, search_view, watch_replay, watch_search


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def shown(view: object) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(view)
    assert max(map(len, console.file.getvalue().splitlines())) <= 100
    return console.file.getvalue()


def test_a_search_shows_its_front_with_the_best_marked() -> None:
    problem = design.problem(frontend.load("llama-3.1-8b"))
    console = terminal()
    with watch_search(True, console) as show:
        for now in design.search(problem, budget=2000, workers=1):
            show(now)
    told = shown(search_view(now))
    assert f"{now.evaluated:,} of 2,000 designs" in told
    assert now.best is not None
    assert f"*  {now.best.name}" in told
    assert "designs" in console.file.getvalue()


def test_a_replay_shows_queue_and_latencies() -> None:
    fleet = Fleet(deployment=deploy(frontend.load("llama-3.1-8b"), load("h100")))
    requests = poisson(20.0, Lengths(Distribution("fixed", 500.0), Distribution("fixed", 50.0)), 3000, 0)
    seen: list[Underway] = []
    report = run(fleet, requests, watch=seen.append)
    assert len(seen) >= 2
    assert [now.ended for now in seen] == sorted(now.ended for now in seen)
    last = seen[-1]
    assert last.ended == last.total == 3000
    assert last.running == last.waiting == 0
    assert last.ttft_s == pytest.approx((report.ttft_s.p50, report.ttft_s.p99))
    assert last.tpot_s == pytest.approx((report.tpot_s.p50, report.tpot_s.p99))
    assert "3,000 of 3,000 requests" in shown(replay_view(last))
    console = terminal()
    with watch_replay(True, console) as show:
        show(seen[0])
    assert "being answered" in console.file.getvalue()


def test_nothing_is_drawn_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with watch_replay(True) as show:  # stderr is no terminal here
        show(None)
    with watch_search(False) as show:
        show(None)
    assert capsys.readouterr() == ("", "")
