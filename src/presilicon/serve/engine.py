"""The replicas of one deployment in scaled real time: each drives its scheduler and hands out tokens as their steps end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, cast

from presilicon.replay import Request, Router
from presilicon.serve import errors
from presilicon.serve.clock import VirtualClock
from presilicon.serve.exchange import Answer, End, Exchange
from presilicon.serve.metrics import Metrics
from presilicon.serve.requests import Prompt
from presilicon.serve.settings import Settings

if TYPE_CHECKING:
    from presilicon.replay import Deployment, Fleet, Refusal, Scheduler, Step


def prefix_hashes(content: bytes, tokens: int, block_tokens: int) -> tuple[int, ...]:
    """Chained hashes of the whole blocks of a prompt of ``tokens`` tokens, four bytes of ``content`` each."""
    size = 4 * block_tokens
    hashes, chained = [], 0
    for block in range(min(tokens // block_tokens, len(content) // size)):
        chained = hash((chained, content[block * size : (block + 1) * size]))
        hashes.append(chained)
    return tuple(hashes)


def _refused(refusal: Refusal) -> errors.ApiError:
    """What a client is told where the scheduler does not take its request."""
    if refusal.reason == "queue":
        return errors.busy(refusal.message)
    return errors.ApiError(400, refusal.message, code="context_length_exceeded")


class Replica:
    """One scheduler, the answers it is working on, and the task that steps it."""

    def __init__(self, deployment: Deployment, clock: VirtualClock) -> None:
        self.scheduler = deployment.scheduler()
        self.clock = clock
        self.metrics = Metrics(deployment.max_tokens or 2**20)
        self.energy_j = 0.0
        self._live: dict[int | str, Answer] = {}
        self._inbox: deque[Request] = deque()
        self._woken = asyncio.Event()

    @property
    def load_tokens(self) -> int:
        """What a router balances: the scheduler's figure, with prompts that wait for the step to end."""
        return self.scheduler.load_tokens + sum(request.input_tokens for request in self._inbox)

    def prefix_tokens(self, request: Request) -> int:
        """Tokens of a request's prompt that are in the cache now."""
        return self.scheduler.prefix_tokens(request)

    @property
    def waiting(self) -> int:
        """Answers that have not begun."""
        return self.scheduler.waiting + len(self._inbox)

    def add(self, answer: Answer, request: Request) -> None:
        """Take an answer; it joins the first step that starts at or after its arrival."""
        self._live[answer.key] = answer
        self._inbox.append(request)
        self._woken.set()

    def drop(self, answer: Answer) -> None:
        """Forget an answer and free its KV blocks."""
        if self._live.pop(answer.key, None) is not None and not self.scheduler.abort(answer.key):
            self._inbox = deque(request for request in self._inbox if request.id != answer.key)

    async def run(self) -> None:
        """Step for ever: a step starts when the last one ended, and its tokens go out when the clock is at its end."""
        at = 0.0
        while True:
            if self.scheduler.idle:
                if not self._inbox:
                    self._woken.clear()
                    await self._woken.wait()
                    continue
                at = max(at, self._inbox[0].arrival_s)
            self._admit(at)
            step = self.scheduler.step(at)
            if step is None:
                if self.scheduler.idle:
                    continue
                raise RuntimeError("the scheduler has work and makes no step")
            self.clock.hold_back(step.start_s)
            await asyncio.sleep(max(0.0, self.clock.wait_s(step.end_s)))
            at = step.end_s
            self._hand_out(step)

    def _admit(self, at: float) -> None:
        """Give the scheduler what has arrived by ``at``."""
        while self._inbox and self._inbox[0].arrival_s <= at:
            request = self._inbox.popleft()
            refusal = self.scheduler.add(request, at)
            if refusal is not None:
                self._live.pop(request.id).exchange.stop(End.REFUSED, _refused(refusal))

    def _hand_out(self, step: Step) -> None:
        """Give the tokens of ``step`` to their answers, and end those that are complete."""
        metrics, live, end_s = self.metrics, self._live, step.end_s
        self.energy_j += step.energy_j
        metrics.prompt_tokens += step.prefill_tokens
        metrics.observe("iteration_tokens_total", step.prefill_tokens + step.decode_tokens)
        between = metrics.histograms["inter_token_latency_seconds"]
        for key, count in step.tokens:
            answer = live.get(key)
            if answer is None:  # the client went away during the step
                continue
            if answer.tokens:
                between.observe((end_s - answer.last_s) / count, count)
            for _ in range(count):
                answer.token(end_s)
                metrics.generation_tokens += 1
                if answer.finish is not None:
                    break
            if answer.finish is not None:
                del live[key]
                if answer.tokens < answer.asked:
                    self.scheduler.abort(key)
                self._count(answer)
                answer.exchange.put(answer, None)
            elif answer.exchange.end is not None:  # too slow a reader
                self.drop(answer)

    def _count(self, answer: Answer) -> None:
        observe = self.metrics.observe
        self.metrics.finished[answer.finish or "abort"] += 1
        observe("request_prompt_tokens", answer.prompt_tokens)
        observe("request_generation_tokens", answer.tokens)
        observe("request_max_num_generation_tokens", answer.tokens)
        observe("time_to_first_token_seconds", answer.ttft_s)
        observe("request_decode_time_seconds", answer.last_s - answer.first_s)
        observe("e2e_request_latency_seconds", answer.last_s - answer.arrival_s)
        if answer.tpot_s is not None:
            observe("request_time_per_output_token_seconds", answer.tpot_s)

    def sample(self) -> Metrics:
        """The metrics, with the scheduler's figures of this moment."""
        metrics, scheduler = self.metrics, self.scheduler
        metrics.running, metrics.waiting = scheduler.running, self.waiting
        metrics.kv_cache_usage, metrics.preemptions = scheduler.kv_usage, scheduler.preemptions
        metrics.prefix_queries, metrics.prefix_hits = scheduler.prefix_queries_tokens, scheduler.prefix_hit_tokens
        return metrics


class Engine:
    """All replicas, the requests in flight, and the switch that ends them."""

    def __init__(self, fleet: Fleet, settings: Settings, clock: VirtualClock) -> None:
        self.deployment, self.settings, self.clock = fleet.deployment, settings, clock
        self.replicas = [Replica(fleet.deployment, clock) for _ in range(fleet.replicas)]
        self._router = Router(fleet.routing, cast("list[Scheduler]", self.replicas))
        self.exchanges: set[Exchange] = set()
        self.ended = dict.fromkeys(End, 0)
        self.refused = 0
        self.draining = self.broken = False
        self._tasks: list[asyncio.Task[None]] = []
        self._next = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the replicas while the context lasts."""
        self._tasks = [asyncio.create_task(replica.run()) for replica in self.replicas]
        self._tasks.append(asyncio.create_task(self._sweep()))
        for task in self._tasks:
            task.add_done_callback(self._over)
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def open(self, exchange: Exchange, answers: Sequence[Answer], prompts: Sequence[Prompt], arrival_s: float) -> None:
        """Begin to answer what came at the chip's time ``arrival_s``; ``ApiError`` where no more is served."""
        if self.draining:
            raise errors.draining()
        if self.broken:
            raise errors.internal()
        if len(self.exchanges) >= self.settings.max_concurrency:
            self.refused += 1
            raise errors.busy(f"{self.settings.max_concurrency:,} requests are in flight, the most that are served at once")
        most_waiting = self.deployment.limits.max_waiting
        if most_waiting is not None and all(replica.waiting >= most_waiting for replica in self.replicas):
            self.refused += 1
            raise errors.busy(f"{most_waiting:,} requests wait for their turn, the most that may")
        requests = self._requests(answers, prompts, arrival_s)
        self.exchanges.add(exchange)
        for answer, request in zip(answers, requests, strict=True):
            exchange.add(answer)
            answer.key, answer.arrival_s = request.id, request.arrival_s
            answer.replica = self._router.choose(request)
            self.replicas[answer.replica].add(answer, request)

    def _requests(self, answers: Sequence[Answer], prompts: Sequence[Prompt], arrival_s: float) -> list[Request]:
        """What the scheduler is asked for; ``ApiError`` where it could never serve it."""
        blocks = self.deployment.block_tokens
        hashes: dict[int, tuple[int, ...]] = {}
        requests = []
        for answer, prompt in zip(answers, prompts, strict=True):
            if id(prompt) not in hashes:
                hashes[id(prompt)] = prefix_hashes(prompt.content, prompt.tokens, blocks)
            self._next += 1
            request = Request(self._next, arrival_s, prompt.tokens, answer.asked, hashes[id(prompt)], blocks)
            refusal = self.deployment.refusal(request)
            if refusal is not None:
                raise _refused(refusal)
            requests.append(request)
        return requests

    def close(self, exchange: Exchange) -> None:
        """The exchange is over: drop what is not finished."""
        if exchange not in self.exchanges:
            return
        self.exchanges.discard(exchange)
        if exchange.end is not None:
            self.ended[exchange.end] += 1
        self.drop(exchange)

    def drop(self, exchange: Exchange) -> None:
        """Free what the unfinished answers of ``exchange`` hold."""
        for answer in exchange.answers:
            if answer.finish is None:
                answer.finish = "abort"
                replica = self.replicas[answer.replica]
                replica.drop(answer)
                replica.metrics.finished["abort"] += 1

    def end_all(self, end: End, error: errors.ApiError) -> None:
        """End every request in flight and say why."""
        for exchange in list(self.exchanges):
            exchange.stop(end, error)
            self.drop(exchange)

    def _over(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        errors.log_fault("a replica failed", task.exception())
        self.broken = True
        self.end_all(End.FAULT, errors.internal())

    async def _sweep(self) -> None:
        """Close streams whose clients have read nothing for too long."""
        loop, most_s = asyncio.get_running_loop(), self.settings.stall_timeout_s
        while True:
            await asyncio.sleep(min(1.0, most_s / 4))
            now = loop.time()
            for exchange in list(self.exchanges):
                if exchange.end is End.SLOW or (exchange.stuck_since is not None and now - exchange.stuck_since > most_s):
                    exchange.stop(End.SLOW)
                    self.drop(exchange)
                    exchange.abort()
