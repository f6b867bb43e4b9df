"""One replica's scheduler: continuous batching with chunked prefill over a paged KV cache, as a state machine without a clock.

Each step decodes one token of every request in flight and gives what is left of the step's tokens to prompts, first come first
served, those already begun first. A prompt's blocks are taken when it is admitted; answers grow block by block, and where none
is left the request admitted last gives up its own and waits at the head of the queue.

Requests being decoded all advance by one token a step, so their ends, their cache and their need of blocks follow from the
number of steps: nothing is touched a request and step. With speculation a request advances by a mean gain above one; its
blocks are then counted one request at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil, floor, inf
from typing import NamedTuple

from presilicon.errors import WorkloadError
from presilicon.replay.blocks import BlockPool, Layout
from presilicon.replay.requests import Limits, Refusal, Request
from presilicon.replay.steps import Chunk, StepTimes

Id = int | str


class Step(NamedTuple):
    """One step, already committed: what is true at ``end_s``.

    ``tokens``: (request, new tokens); ``first`` and ``finished`` are requests that got their first or their last token. Rows
    worked on are ``prefill_tokens`` and ``decode_tokens``. ``energy_j`` is that of all chips of the replica.
    """

    start_s: float
    duration_s: float
    tokens: tuple[tuple[Id, int], ...]
    first: tuple[Id, ...]
    finished: tuple[Id, ...]
    preempted: tuple[Id, ...]
    prefill_tokens: int
    decode_tokens: int
    energy_j: float

    @property
    def end_s(self) -> float:
        """When the tokens are there."""
        return self.start_s + self.duration_s


class Run(NamedTuple):
    """One or several steps in a row, as the replay needs them; ``steps`` decodes of ``decodes`` requests."""

    duration_s: float
    energy_j: float
    steps: int
    decodes: int
    prefill_tokens: int
    first: list[Id]
    finished: list[Id]
    preempted: list[Id]


@dataclass(slots=True, eq=False)
class _Sequence:
    """A request in the scheduler. ``prompt`` tokens are to be in the cache before its next token; ``done`` of them are."""

    request: Request
    order: int
    prompt: int
    done: int = 0
    produced: int = 0  # tokens given when decoding began, or so far where it has not
    joined: int = -1  # number of steps when decoding began; -1 before
    private: int = 0  # blocks of its own when decoding began
    units: list[Hashable] = field(default_factory=list)
    known: bool = False  # its prefix has been looked up before


class Scheduler:
    """The state of one replica. Times are whatever the caller's clock says: virtual or real.

    ``add`` requests at any time, ``step`` when the last step is over; ``advance`` takes many steps at once where nothing
    happens in between. ``refusal`` says why a request can never be served.
    """

    def __init__(
        self,
        times: StepTimes,
        layout: Layout,
        limits: Limits,
        refusal: Callable[[Request], Refusal | None],
        gain: float = 1.0,
    ) -> None:
        self._times, self._layout, self._limits, self._refusal, self._gain = times, layout, limits, refusal, gain
        self._pool = BlockPool(layout.total)
        self._waiting: deque[_Sequence] = deque()
        self._prefilling: list[_Sequence] = []
        self._decoding: dict[Id, _Sequence] = {}
        self._here: dict[Id, _Sequence] = {}
        self._ends: list[tuple[int, int, int, _Sequence]] = []  # step, order, step it joined, who
        self._steps = 0
        self._orders = 0
        self._context_base = 0  # sum over decoded requests of prompt - joined: their contexts are that plus the steps
        self._phase = [0] * layout.block_tokens  # decoded requests by (prompt - joined) modulo the block
        self._most = limits.max_running * times.ranks
        self._budget = limits.max_batched_tokens * times.ranks
        self._spare = floor(limits.watermark * layout.total)
        self._queued_tokens = 0
        self._swapped_tokens = 0
        self._blocked = False  # the head of the queue finds no room, and nothing was freed since
        self.preemptions = 0
        self.prefix_queries_tokens = 0
        self.prefix_hit_tokens = 0

    # what it holds

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done."""
        return not self._here

    @property
    def running(self) -> int:
        """Requests admitted: their prompts are worked on, or they are decoded."""
        return len(self._prefilling) + len(self._decoding)

    @property
    def waiting(self) -> int:
        """Requests not admitted yet, or preempted."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the blocks that requests hold (prefixes kept for later ones are free)."""
        return self._pool.used / self._pool.total

    @property
    def load_tokens(self) -> int:
        """Tokens of prompts not worked on yet, and one for each request decoded: what a router balances."""
        return self._queued_tokens + len(self._decoding)

    def prefix_tokens(self, request: Request) -> int:
        """Tokens of a request's prompt that are in the cache now."""
        return self._matched(request, request.input_tokens) * request.prefix_tokens

    # what comes and goes

    def add(self, request: Request, now_s: float, *, prefilled: bool = False) -> Refusal | None:
        """Queue a request; a refusal where it is longer than the model's context or the memory, or the queue is full.

        ``prefilled``: its prompt's cache comes from another replica, where its first token was given. WorkloadError where a
        request of the same id is here, or its prefix is not in whole blocks of the cache.
        """
        if request.id in self._here:
            raise WorkloadError(f"request {request.id!r} is already in flight", hint="ids that are unique")
        if request.prefix and request.prefix_tokens % self._layout.block_tokens:
            raise WorkloadError(
                f"prefixes of {request.prefix_tokens} tokens are not whole blocks of {self._layout.block_tokens}",
                where=f"request {request.id}",
                hint="a block size that divides the prefixes'",
            )
        refusal = self._refusal(request)
        waiting, most = len(self._waiting), self._limits.max_waiting
        if refusal is None and most is not None and waiting >= most and (waiting or self.running >= self._most):
            refusal = Refusal("queue", f"{waiting} requests wait already")
        if refusal is not None:
            return refusal
        sequence = _Sequence(request, self._orders, request.input_tokens)
        if prefilled:
            sequence.produced, sequence.done = 1, request.input_tokens
        self._queued_tokens += sequence.prompt - sequence.done
        self._orders += 1
        self._here[request.id] = sequence
        self._waiting.append(sequence)
        return None

    def abort(self, id: Id) -> bool:
        """Drop a request and free its blocks at once; whether it was here."""
        sequence = self._here.pop(id, None)
        if sequence is None:
            return False
        if sequence.joined >= 0:
            self._leave(sequence)
        else:
            self._queued_tokens -= sequence.prompt - sequence.done
            if sequence in self._prefilling:
                self._prefilling.remove(sequence)
                self._free(sequence, sequence.private)
            else:
                self._waiting.remove(sequence)
        self._blocked = False
        return True

    # steps

    def step(self, now_s: float) -> Step | None:
        """Commit the next step, begun at ``now_s``; None where there is nothing to do."""
        if not self._here:
            return None
        before = [(s, self._produced(s)) for s in self._here.values() if s.joined >= 0 or s.done == s.prompt or s.produced]
        run = self._step()
        tokens = [(id, 1) for id in run.first]
        for sequence, had in before:
            new = min(self._produced(sequence), sequence.request.output_tokens) - had
            if new:
                tokens.append((sequence.request.id, new))
        return Step(now_s, run.duration_s, tuple(tokens), tuple(run.first), tuple(run.finished), tuple(run.preempted),
                    run.prefill_tokens, run.decodes * self._times.queries, run.energy_j)  # fmt: skip

    def advance(self, now_s: float, until_s: float = inf) -> Run | None:
        """The next step, or as many as pass without an event before ``until_s``, as one; None where there is nothing to do.

        Equal to step by step: what is decoded, its contexts and the free blocks change the same way in each.
        """
        if not self._here:
            return None
        decodes = len(self._decoding)
        if self._prefilling or not decodes or self._gain != 1.0 or (self._waiting and not self._blocked):
            return self._step()
        steps = self._next_end() - self._steps
        if self._layout.growing and self._growth(steps) > self._pool.available:
            steps = self._growing_room(steps)
        if steps <= 1:
            return self._step()
        contexts = self._context_base + decodes * (self._steps + 1)
        if until_s < inf:
            steps = self._times.steps_within(decodes, contexts, until_s - now_s, steps)
        took = self._times.run(decodes, contexts, steps)
        self._pool.take(self._growth(steps))
        self._steps += steps
        return Run(took.seconds, took.joules, steps, decodes, 0, [], self._finish(), [])

    def _step(self) -> Run:
        preempted: list[Id] = []
        first: list[Id] = []
        finished: list[Id] = []
        if self._decoding:
            self._grow(preempted)
        chunks: list[Chunk] = []
        ending = self._prompts(chunks, admit=not preempted) if self._prefilling or self._waiting else []
        decodes = len(self._decoding)
        prompt_tokens = sum(chunk.tokens for chunk in chunks)
        contexts = self._contexts() if self._gain != 1.0 else self._context_base + decodes * (self._steps + 1)
        seconds, joules = self._times.step(decodes, contexts, chunks, len(ending))
        if self._swapped_tokens:
            moved_s = self._times.swap_s(self._swapped_tokens)
            seconds, joules = seconds + moved_s, joules + moved_s * self._times.static_w
            self._swapped_tokens = 0
        self._steps += 1
        if decodes:
            finished = self._finish()
        for sequence in ending:
            self._prefilling.remove(sequence)
            if not sequence.produced:
                first.append(sequence.request.id)
            sequence.produced += 1
            self._share(sequence)
            if sequence.produced >= sequence.request.output_tokens:
                self._free(sequence, sequence.private)
                del self._here[sequence.request.id]
                finished.append(sequence.request.id)
            else:
                self._join(sequence, self._steps)
        return Run(seconds, joules, 1, decodes, prompt_tokens, first, finished, preempted)

    # prompts

    def _prompts(self, chunks: list[Chunk], *, admit: bool) -> list[_Sequence]:
        """Give what is left of the step's tokens to prompts, admitting new ones where allowed; those that end with it."""
        queries, limits = self._times.queries, self._limits
        ending: list[_Sequence] = []
        decoded = len(self._decoding) * queries
        for sequence in self._prefilling:
            left = self._tokens_left(decoded, chunks)
            if left <= 0:
                return ending
            if self._chunk(sequence, left, chunks):
                ending.append(sequence)
        while admit and self._waiting:
            decoded = len(self._decoding) * queries
            left = self._tokens_left(decoded, chunks)
            if left <= 0:
                break
            sequence = self._waiting[0]
            whole = sequence.prompt - sequence.done
            if not limits.chunked_prefill and whole > left and (chunks or self._decoding):
                break
            if not self._admit(sequence):
                self._blocked = True
                break
            self._waiting.popleft()
            if sequence.done == sequence.prompt:  # its cache is here already
                self._join(sequence, self._steps)
                self._pool.take(self._grown(sequence, self._steps + 1))
                continue
            self._prefilling.append(sequence)
            if self._chunk(sequence, left, chunks):
                ending.append(sequence)
        return ending

    def _tokens_left(self, decoded: int, chunks: list[Chunk]) -> int:
        """Tokens that the step may still give to one prompt: what is left of all ranks', at most one rank's."""
        used = decoded
        for chunk in chunks:
            used += chunk.tokens
        ranks = self._times.ranks
        if ranks == 1:
            return self._budget - used
        return min(self._budget - used, self._limits.max_batched_tokens - ceil(decoded / ranks))

    def _chunk(self, sequence: _Sequence, left: int, chunks: list[Chunk]) -> bool:
        """Work on a prompt in this step; whether it ends."""
        tokens = min(sequence.prompt - sequence.done, left)
        chunks.append(Chunk(tokens, sequence.done))
        sequence.done += tokens
        self._queued_tokens -= tokens
        return sequence.done == sequence.prompt

    def _matched(self, request: Request, prompt: int) -> int:
        """Leading units of a prompt that are here; one token at least is left to work on."""
        if not request.prefix or not self._limits.prefix_caching or not self._layout.growing:
            return 0
        return min(self._pool.matched(request.prefix), (prompt - 1) // request.prefix_tokens)

    def _admit(self, sequence: _Sequence) -> bool:
        """Take a request's blocks; whether there was room."""
        running = len(self._prefilling) + len(self._decoding)
        if running >= self._most:
            return False
        request, layout, pool = sequence.request, self._layout, self._pool
        cached = sequence.done == sequence.prompt
        hits = 0 if cached else self._matched(request, sequence.prompt)
        units = request.prefix[:hits]
        size = request.prefix_tokens // layout.block_tokens
        own = (-(-sequence.prompt // layout.block_tokens) if layout.growing else 0) - hits * size
        own += layout.fixed(request.input_tokens + request.output_tokens - 1)
        room = pool.available - (pool.idle_blocks(units) if hits else 0)
        spare = self._spare if running else 0
        if cached:  # it is decoded in this step already
            spare += -(-self._times.queries // layout.block_tokens)
        if own + spare > room:
            return False
        if hits:
            pool.lock(units)
        pool.take(own)
        sequence.units = list(units)
        sequence.private = own
        if cached:
            return True
        sequence.done = hits * request.prefix_tokens
        self._queued_tokens -= sequence.done
        if request.prefix and not sequence.known:
            sequence.known = True
            self.prefix_queries_tokens += request.input_tokens
            self.prefix_hit_tokens += sequence.done
        return True

    def _share(self, sequence: _Sequence) -> None:
        """Let others use the whole units of a prompt that was just worked on."""
        request = sequence.request
        if not request.prefix or not self._limits.prefix_caching or not self._layout.growing:
            return
        whole = request.input_tokens // request.prefix_tokens
        size = request.prefix_tokens // self._layout.block_tokens
        made = self._pool.share(request.prefix[len(sequence.units) : whole], size)
        sequence.units += made
        sequence.private -= len(made) * size
        self._blocked = False

    # answers

    def _join(self, sequence: _Sequence, step: int) -> None:
        """Decode a request from the step after ``step`` on."""
        sequence.joined = step
        self._decoding[sequence.request.id] = sequence
        offset = sequence.prompt - step
        self._context_base += offset
        self._phase[offset % self._layout.block_tokens] += 1
        left = sequence.request.output_tokens - sequence.produced
        steps = left if self._gain == 1.0 else ceil(left / self._gain - 1e-9)
        heappush(self._ends, (step + steps, sequence.order, step, sequence))

    def _progress(self, sequence: _Sequence, steps: int) -> int:
        """Tokens a decoded request has been given since it joined, after ``steps`` steps of the scheduler in all."""
        done = steps - sequence.joined
        if self._gain == 1.0:
            return done
        return min(floor(done * self._gain + 1e-9), sequence.request.output_tokens - sequence.produced)

    def _produced(self, sequence: _Sequence) -> int:
        return sequence.produced + (self._progress(sequence, self._steps) if sequence.joined >= 0 else 0)

    def _contexts(self) -> float:
        """Tokens of the caches of all decoded requests, the next one included."""
        return float(sum(s.prompt + 1 + self._progress(s, self._steps) for s in self._decoding.values()))

    def _growth(self, steps: int) -> int:
        """Blocks that the requests being decoded take in the next steps."""
        block = self._layout.block_tokens
        if not self._layout.growing:
            return 0
        if self._gain != 1.0:
            return sum(self._grown(s, self._steps + steps) - self._grown(s, self._steps) for s in self._decoding.values())
        cycles, rest = divmod(steps, block)
        phase, now = self._phase, self._steps
        return cycles * len(self._decoding) + sum(phase[-(now + i) % block] for i in range(rest))

    def _grown(self, sequence: _Sequence, steps: int) -> int:
        """Blocks a request has taken since it joined."""
        block = self._layout.block_tokens
        if not self._layout.growing:
            return 0
        return -(-(sequence.prompt + self._progress(sequence, steps)) // block) + -sequence.prompt // block

    def _growing_room(self, steps: int) -> int:
        """Most steps whose growth the free blocks hold."""
        low, high, room = 0, steps, self._pool.available
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._growth(middle) <= room else (low, middle)
        return low

    def _grow(self, preempted: list[Id]) -> None:
        """Take the blocks that this step's tokens need; the request admitted last gives up its own where none is left."""
        needed = self._growth(1)
        while needed > self._pool.available:
            last = max((*self._prefilling, *self._decoding.values()), key=_order)
            self._preempt(last)
            preempted.append(last.request.id)
            needed = self._growth(1)
        self._pool.take(needed)

    def _preempt(self, sequence: _Sequence) -> None:
        """Put a request back at the head of the queue: to be computed again, or its cache sent to the host."""
        self.preemptions += 1
        self._blocked = False
        if sequence.joined < 0:
            self._prefilling.remove(sequence)
            self._free(sequence, sequence.private)
            self._queued_tokens += sequence.done
            sequence.done = 0
        else:
            done = self._progress(sequence, self._steps)
            self._leave(sequence)
            sequence.produced += done
            if self._limits.preemption == "swap":
                sequence.prompt += done
                sequence.done = sequence.prompt
                self._swapped_tokens += 2 * sequence.prompt  # out now, and in when it comes back
            else:
                sequence.prompt = sequence.request.input_tokens + sequence.produced
                sequence.done = 0
                self._queued_tokens += sequence.prompt
        self._waiting.appendleft(sequence)

    def _leave(self, sequence: _Sequence) -> None:
        """Stop decoding a request and free its blocks."""
        offset = sequence.prompt - sequence.joined
        self._context_base -= offset
        self._phase[offset % self._layout.block_tokens] -= 1
        self._free(sequence, sequence.private + self._grown(sequence, self._steps))
        del self._decoding[sequence.request.id]
        sequence.joined = -1

    def _free(self, sequence: _Sequence, private: int) -> None:
        self._pool.give(private)
        self._pool.unlock(sequence.units)
        sequence.units, sequence.private = [], 0
        self._blocked = False

    def _next_end(self) -> int:
        """The step after which the next request has all its tokens."""
        while True:
            step, _, joined, sequence = self._ends[0]
            if sequence.joined == joined:
                return step
            heappop(self._ends)

    def _finish(self) -> list[Id]:
        """Let go of the requests that have all their tokens."""
        found: list[Id] = []
        ends = self._ends
        while ends and ends[0][0] <= self._steps:
            _, _, joined, sequence = heappop(ends)
            if sequence.joined != joined:
                continue
            done = self._progress(sequence, self._steps)
            self._leave(sequence)
            sequence.produced += done
            del self._here[sequence.request.id]
            found.append(sequence.request.id)
        return found


def _order(sequence: _Sequence) -> int:
    return sequence.order
