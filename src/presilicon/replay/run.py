"""The replay: requests arrive at a fleet in virtual time, one event after the other, until the last one has its last token."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import inf
from time import perf_counter

from presilicon.economics import Operation
from presilicon.errors import WorkloadError
from presilicon.replay.decoding import Id
from presilicon.replay.fleet import Fleet, Router
from presilicon.replay.outcome import Ledger, ReplayReport, Underway
from presilicon.replay.requests import Refusal, Request, Slo
from presilicon.replay.scheduler import Scheduler

Progress = Callable[[int, int], None]
# Events between two calls of the progress function.
_TOLD_EVERY = 2048


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """``concurrency`` clients, each sending the next of ``requests`` when its last is answered; arrival times are ignored."""

    concurrency: int
    requests: Sequence[Request]

    def __post_init__(self) -> None:
        if isinstance(self.concurrency, bool) or not isinstance(self.concurrency, int) or self.concurrency < 1:
            raise WorkloadError(f"concurrency is {self.concurrency!r}", hint="a whole number from 1")


class _Replica:
    """A scheduler and the time when its last step ends."""

    __slots__ = ("awake", "clock", "index", "link_s", "prefills", "scheduler")

    def __init__(self, index: int, scheduler: Scheduler, prefills: bool) -> None:
        self.index, self.scheduler, self.prefills = index, scheduler, prefills
        self.clock = self.link_s = 0.0
        self.awake = False  # its next step is among the events


def run(
    fleet: Fleet,
    requests: Sequence[Request] | ClosedLoop,
    *,
    slo: Slo | None = None,
    operation: Operation | None = None,
    progress: Progress | None = None,
    watch: Callable[[Underway], None] | None = None,
    most_missed: int | None = None,
) -> ReplayReport:
    """Replay ``requests`` (sorted by arrival) on a fleet.

    ``progress`` is called with requests ended and requests in all, ``watch`` with more of how far it is. Once more than
    ``most_missed`` requests have missed the SLO the replay is given up: the report then holds what was served until there.
    WorkloadError where there are none, they are not sorted, or two have the same id.
    """
    started = perf_counter()
    replay = _Replay(fleet, requests, progress, watch)
    slo = slo or Slo()
    if most_missed is not None:
        replay.ledger.judge(slo)
    replay.loop(most_missed)
    report = replay.ledger.report(fleet, slo, replay.schedulers, operation)
    return replace(report, wall_s=perf_counter() - started)


class _Replay:
    """What one replay holds while it runs."""

    def __init__(
        self,
        fleet: Fleet,
        requests: Sequence[Request] | ClosedLoop,
        progress: Progress | None,
        watch: Callable[[Underway], None] | None = None,
    ) -> None:
        self.fleet, self.progress, self.watch = fleet, progress, watch
        closed = isinstance(requests, ClosedLoop)
        given = requests.requests if isinstance(requests, ClosedLoop) else requests
        if not given:
            raise WorkloadError("no requests are to be replayed", hint="a trace with at least one row")
        pools = fleet.prefill_replicas + fleet.replicas
        self.replicas = [_Replica(i, fleet.deployment.scheduler(), i < fleet.prefill_replicas) for i in range(pools)]
        self.schedulers = [r.scheduler for r in self.replicas]
        self.split = fleet.prefill_replicas > 0
        first = self.schedulers[: fleet.prefill_replicas] or self.schedulers
        self.router = Router(fleet.routing, first)
        self.second = Router("least-loaded", self.schedulers[fleet.prefill_replicas :]) if self.split else None
        self.ledger = Ledger(given)
        self.closed = closed
        self.busy: list[tuple[float, int]] = []
        # Prompts whose cache is on its way to where they are answered.
        self.sent: list[tuple[float, int, Request]] = []
        self.later: list[Request] = []
        # Requests that wait for the first replica with room.
        self.queue: deque[Request] | None = deque() if fleet.routing == "one-queue" else None
        self.pool = self.replicas[: fleet.prefill_replicas] or self.replicas
        if isinstance(requests, ClosedLoop):
            now, later = given[: requests.concurrency], given[requests.concurrency :]
            self.arriving = [replace(r, arrival_s=0.0) for r in reversed(now)]
            self.later = list(reversed(later))
            self.ledger.arrival_s = [0.0] * len(given)
        else:
            self.arriving = list(reversed(given))

    def loop(self, most_missed: int | None = None) -> None:
        """Take the earliest event until there is none: a request arrives, a cache arrives, or a replica goes on."""
        events, busy, replicas = 0, self.busy, self.replicas
        while most_missed is None or self.ledger.missed <= most_missed:
            events += 1
            if not events % _TOLD_EVERY:
                self._tell()
            arrives_s = self.arriving[-1].arrival_s if self.arriving else inf
            sent_s = self.sent[0][0] if self.sent else inf
            next_s = min(arrives_s, sent_s)
            now_s = busy[0][0] if busy else inf
            if next_s <= now_s:
                if next_s == inf:
                    break
                if arrives_s <= sent_s:
                    self._arrive(self.arriving.pop())
                else:
                    time_s, _, request = heappop(self.sent)
                    self._answer(request, time_s)
                continue
            _, index = heappop(busy)
            replica = replicas[index]
            replica.awake = False
            if self.queue:
                self._hand_out(now_s)
                if replica.awake:
                    continue
            if not replica.scheduler.idle:
                self._go_on(replica, min(next_s, self._fed_from(replica)))
                if self.queue or not replica.scheduler.idle:  # an idle one asks again for what waits
                    self._wake(replica)
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.ledger.ended, len(self.ledger.requests))
        if self.watch is not None:
            self.watch(self.ledger.underway(self.schedulers))

    def _fed_from(self, replica: _Replica) -> float:
        """Before this time nothing that other replicas do can reach this one."""
        if self.closed:
            return self.busy[0][0] if self.busy else inf
        if self.split and not replica.prefills:
            return min((r.clock for r in self.replicas if r.prefills and not r.scheduler.idle), default=inf)
        return inf

    def _arrive(self, request: Request) -> None:
        if self.queue is None:
            self._enter(request, self.replicas[self.router.choose(request)], request.arrival_s)
        else:
            self.queue.append(request)
            self._hand_out(request.arrival_s)

    def _hand_out(self, now_s: float) -> None:
        """Give waiting requests, in order, to replicas that are between two steps and have room: the emptiest first."""
        assert self.queue is not None
        while self.queue:
            request = self.queue[0]
            never = self.fleet.deployment.refusal(request) is not None
            ready = (r for r in self.pool if r.clock <= now_s)
            between = [r for r in ready if never or r.scheduler.has_room(request)]
            if not between:
                for replica in self.pool:  # those that end a last step ask again then
                    if not replica.awake and replica.clock > now_s:
                        self._wake(replica)
                return
            self.queue.popleft()
            self._enter(request, min(between, key=lambda r: r.scheduler.load_tokens), now_s)

    def _enter(self, request: Request, replica: _Replica, now_s: float) -> None:
        refusal = self.fleet.deployment.refusal(request) if self.split else None
        asked = replace(request, output_tokens=1) if self.split else request
        refusal = refusal or self._add(replica, asked, now_s)
        if refusal is not None:
            self.ledger.refuse(request.id, refusal, replica.index)
            self._ended(request.id, now_s)

    def _answer(self, request: Request, now_s: float) -> None:
        """A cache has arrived where the rest of the answer is made."""
        assert self.second is not None
        replica = self.replicas[self.fleet.prefill_replicas + self.second.choose(request)]
        refusal = self._add(replica, request, now_s, prefilled=True)
        if refusal is not None:
            self.ledger.refuse(request.id, refusal, replica.index)
            self._ended(request.id, now_s)

    def _add(self, replica: _Replica, request: Request, now_s: float, prefilled: bool = False) -> Refusal | None:
        refusal = replica.scheduler.add(request, now_s, prefilled=prefilled)
        if refusal is None:
            self.ledger.assign(request.id, replica.index)
            if not replica.awake:
                replica.clock = max(replica.clock, now_s)
                self._wake(replica)
        return refusal

    def _wake(self, replica: _Replica) -> None:
        replica.awake = True
        heappush(self.busy, (replica.clock, replica.index))

    def _go_on(self, replica: _Replica, until_s: float) -> None:
        """One step of a replica, or many that nothing interrupts."""
        start_s = replica.clock
        took = replica.scheduler.advance(start_s, until_s)
        if took is None:
            return
        end_s = replica.clock = start_s + took.duration_s
        self.ledger.step(replica.index, replica.scheduler, start_s, end_s, took)
        for id in took.first:
            self.ledger.first(id, end_s)
        for id in took.finished:
            if replica.prefills and self.ledger.tokens(id) > 1:
                self._send(replica, id, end_s)
            else:
                self.ledger.end(id, end_s)
                self._ended(id, end_s)

    def _send(self, replica: _Replica, id: Id, now_s: float) -> None:
        """Send a prompt's cache to where it is answered, behind those that the replica sends already."""
        request = self.ledger.request(id)
        replica.link_s = max(replica.link_s, now_s) + self.fleet.transfer_s(request.input_tokens)
        heappush(self.sent, (replica.link_s, self.ledger.index(id), request))

    def _ended(self, id: Id, now_s: float) -> None:
        if self.closed and self.later:
            request = replace(self.later.pop(), arrival_s=now_s)
            self.ledger.arrive(request.id, now_s)
            self.arriving.append(request)
            if len(self.arriving) > 1:
                self.arriving.sort(key=lambda r: -r.arrival_s)
