"""Several replicas: who takes a request, and separate pools for prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from presilicon.errors import WorkloadError, nearest
from presilicon.replay.deployment import Deployment
from presilicon.replay.requests import Request
from presilicon.replay.scheduler import Scheduler

Routing = Literal["round-robin", "least-loaded", "prefix-aware", "one-queue"]
ROUTINGS: tuple[str, ...] = get_args(Routing)
"""How a request finds its replica: in turn; by fewest tokens to be worked on; by fewest beside what the cache holds; or it
waits for the first that has room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """``replicas`` of a deployment behind a router.

    With ``prefill_replicas`` these work on prompts only, and the ``replicas`` on answers: each prompt's cache is sent over the
    links of its chips, one after the other from each replica. WorkloadError where a number or the routing is impossible.
    """

    deployment: Deployment
    replicas: int = 1
    routing: Routing = "round-robin"
    prefill_replicas: int = 0

    def __post_init__(self) -> None:
        for name, least in (("replicas", 1), ("prefill_replicas", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 65536:
                raise WorkloadError(f"{name} is {value!r}", hint=f"a whole number from {least} to 65536")
        if self.routing not in ROUTINGS:
            raise WorkloadError(
                f"no routing is called {self.routing!r}",
                hint=nearest(str(self.routing), list(ROUTINGS)) or "one of " + ", ".join(ROUTINGS),
            )

    @property
    def chips(self) -> int:
        """Chips of all replicas."""
        return self.deployment.chips * (self.replicas + self.prefill_replicas)

    def transfer_s(self, tokens: int) -> float:
        """Time that a prompt's cache takes from one replica to another, every chip sending its part over its links."""
        d = self.deployment
        reached = float(d.machine.constants.link_share) * float(d.machine.link_bytes_per_s)
        full, windows = d.times.tables.cache_layout()
        held = full * tokens + sum(share * min(tokens, window) for window, share in windows)
        return float(d.machine.constants.collective_start_s) + held / reached


class Router:
    """Chooses among schedulers; the same requests in the same order always go the same way."""

    def __init__(self, routing: Routing, schedulers: Sequence[Scheduler]) -> None:
        self._routing, self._schedulers = routing, schedulers
        self._taken = [0] * len(schedulers)
        self._turn = 0

    def choose(self, request: Request) -> int:
        """Index of the scheduler that takes the request; among equals the one that took fewest."""
        schedulers = self._schedulers
        if len(schedulers) == 1:
            return 0
        if self._routing == "round-robin":
            chosen = self._turn
            self._turn = (self._turn + 1) % len(schedulers)
            return chosen
        if self._routing != "prefix-aware":
            loads = [s.load_tokens for s in schedulers]
        else:
            loads = [s.load_tokens - s.prefix_tokens(request) for s in schedulers]
        chosen = min(range(len(loads)), key=lambda i: (loads[i], self._taken[i]))
        self._taken[chosen] += 1
        return chosen
