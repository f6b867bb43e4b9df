"""What the two kinds of systems, of batches and of tokens, give back alike; and a server that LoadGen must accept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from presilicon.bench._loadgen import Plan, Run
from presilicon.bench._rules import per_second
from presilicon.bench._virtual import Measured

# A server whose run LoadGen does not accept is tried again at this share of the rate, so many times in all.
SLOWER, ATTEMPTS = 0.98, 4
Drive = Callable[..., Run]
Told = Callable[[], None]
"""Called for each run in virtual time of a search."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run in virtual time, with figures of its own kind."""

    measured: Measured
    more: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Driven:
    """A run of LoadGen as planned, and the same in virtual time."""

    plan: Plan
    run: Run
    expected: Measured
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


def accepted(asked_per_s: float, fixed: bool, planned: Callable[[float], tuple[Plan, Measured]], drive: Drive) -> Driven:
    """LoadGen at a rate (queries/s); at lower ones where it does not accept that and the rate is not ``fixed``."""
    for attempt in range(1 if fixed else ATTEMPTS):
        rate = asked_per_s * SLOWER**attempt
        plan, expected = planned(rate)
        run = drive(plan, f"LoadGen at {per_second(rate)}")
        if run.measured.valid:
            break
    said = f"LoadGen did not accept {per_second(asked_per_s)}, which virtual time found"
    return Driven(plan, run, expected, (said,) if rate != asked_per_s else ())
