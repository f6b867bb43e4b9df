"""How a scheduler is driven to its end, and what is checked on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from presilicon import frontend
from presilicon.frontend.language import LanguageModel
from presilicon.replay import Request, Scheduler


def language_model(name: str) -> LanguageModel:
    model = frontend.load(name)
    assert isinstance(model, LanguageModel)
    return model


@dataclass
class Seen:
    """What happened to the requests of one scheduler."""

    first_s: dict[int | str, float] = field(default_factory=dict)
    end_s: dict[int | str, float] = field(default_factory=dict)
    tokens: dict[int | str, int] = field(default_factory=dict)
    refused: list[int | str] = field(default_factory=list)
    ended: list[int | str] = field(default_factory=list)
    now_s: float = 0.0
    energy_j: float = 0.0
    steps: int = 0


def check_memory(scheduler: Scheduler) -> None:
    """Blocks are conserved and never more than there are."""
    pool = scheduler._pool
    assert 0 <= pool.used <= pool.total
    assert pool.available + pool.used == pool.total
    assert pool._free >= 0
    assert pool._kept >= 0
    held = sum(s.private for s in (*scheduler._prefilling, *scheduler._decoding.held.values()))
    grown = sum(scheduler._decoding.grown(s, scheduler._decoding.steps) for s in scheduler._decoding.held.values())
    shared = sum(size for unit, size in pool._sizes.items() if pool._refs[unit])
    assert held + grown + shared == pool.used


def drive(
    scheduler: Scheduler, requests: Sequence[Request], *, many: bool, checked: bool = True, aborted: Sequence[int] = ()
) -> Seen:
    """Serve requests to the end, step by step or many steps at once; those ``aborted`` leave when half of all have come."""
    seen, todo = Seen(), list(requests)
    half = len(todo) // 2
    while todo or not scheduler.idle:
        if scheduler.idle and todo:
            seen.now_s = max(seen.now_s, todo[0].arrival_s)
        while todo and todo[0].arrival_s <= seen.now_s:
            request = todo.pop(0)
            if scheduler.add(request, seen.now_s) is not None:
                seen.refused.append(request.id)
            if len(todo) == half:
                for id in aborted:
                    scheduler.abort(id)
        if scheduler.idle:
            continue
        if many:
            run = scheduler.advance(seen.now_s, todo[0].arrival_s if todo else inf)
            assert run is not None
            seen.now_s += run.duration_s
            seen.energy_j, seen.steps = seen.energy_j + run.energy_j, seen.steps + run.steps
            first, finished = run.first, run.finished
        else:
            step = scheduler.step(seen.now_s)
            assert step is not None
            assert step.duration_s > 0
            seen.now_s = step.end_s
            seen.energy_j, seen.steps = seen.energy_j + step.energy_j, seen.steps + 1
            first, finished = list(step.first), list(step.finished)
            for id, number in step.tokens:
                assert number >= 1
                seen.tokens[id] = seen.tokens.get(id, 0) + number
        for id in first:
            assert id not in seen.first_s
            seen.first_s[id] = seen.now_s
        for id in finished:
            seen.ended.append(id)
            seen.end_s[id] = seen.now_s
        if checked:
            check_memory(scheduler)
    return seen
