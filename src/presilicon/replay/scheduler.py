"""One replica's scheduler: continuous batching with chunked prefill over a paged KV cache, as a state machine without a clock.

Each step decodes one token of every request in flight and gives what is left of the step's tokens to prompts, first come first
served, those already begun first. A prompt's blocks are taken when it is admitted; answers grow block by block, and where none
is left the request admitted last gives up its own and waits at the head of the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil, floor, inf
from typing import NamedTuple

from presilicon.errors import WorkloadError
from presilicon.replay.blocks import BlockPool, Layout
from presilicon.replay.decoding import Decoding, Id, Sequence
from presilicon.replay.requests import Limits, Refusal, Request
from presilicon.replay.steps import Chunk, StepTimes


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
        self._waiting: deque[Sequence] = deque()
        self._prefilling: list[Sequence] = []
        self._decoding = Decoding(layout, gain)
        self._here: dict[Id, Sequence] = {}
        self._orders = 0
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
        return len(self._prefilling) + len(self._decoding.held)

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
        return self._queued_tokens + len(self._decoding.held)

    def has_room(self, request: Request) -> bool:
        """Whether a request would be admitted in the next step, behind those that wait already."""
        wait = [sequence.request for sequence in self._waiting]
        blocks = sum(self._layout.needed(r.input_tokens) for r in (*wait, request))
        spare = self._spare if self.running or wait else 0
        return self.running + len(wait) < self._most and blocks + spare <= self._pool.available

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
        sequence = Sequence(request, self._orders, request.input_tokens)
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
            self._free(sequence, self._decoding.leave(sequence))
        else:
            self._queued_tokens -= sequence.prompt - sequence.done
            if sequence in self._prefilling:
                self._prefilling.remove(sequence)
                self._free(sequence)
            else:
                self._waiting.remove(sequence)
        self._blocked = False
        return True

    # steps

    def step(self, now_s: float) -> Step | None:
        """Commit the next step, begun at ``now_s``; None where there is nothing to do."""
        if not self._here:
            return None
        produced = self._decoding.produced
        before = [(s, produced(s)) for s in self._here.values() if s.joined >= 0 or s.done == s.prompt or s.produced]
        run = self._step()
        tokens = [(id, 1) for id in run.first]
        for sequence, had in before:
            new = produced(sequence) - had
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
        decoding = self._decoding
        decodes = len(decoding.held)
        if self._prefilling or not decodes or self._gain != 1.0 or (self._waiting and not self._blocked):
            return self._step()
        steps = decoding.steps_in(self._pool.available, decoding.next_end() - decoding.steps)
        if steps <= 1:
            return self._step()
        contexts = decoding.contexts()
        if until_s < inf:
            steps = self._times.steps_within(decodes, contexts, until_s - now_s, steps)
        took = self._times.run(decodes, contexts, steps)
        self._pool.take(decoding.growth(steps))
        decoding.steps += steps
        return Run(took.seconds, took.joules, steps, decodes, 0, [], self._finish(), [])

    def _step(self) -> Run:
        preempted: list[Id] = []
        first: list[Id] = []
        finished: list[Id] = []
        decoding = self._decoding
        if decoding.held:
            self._grow(preempted)
        chunks: list[Chunk] = []
        ending = self._prompts(chunks, admit=not preempted) if self._prefilling or self._waiting else []
        decodes = len(decoding.held)
        prompt_tokens = sum([chunk.tokens for chunk in chunks])
        seconds, joules = self._times.step(decodes, decoding.contexts(), chunks, len(ending))
        if self._swapped_tokens:
            moved_s = self._times.swap_s(self._swapped_tokens)
            seconds, joules = seconds + moved_s, joules + moved_s * self._times.static_w
            self._swapped_tokens = 0
        decoding.steps += 1
        if decodes:
            finished = self._finish()
        for sequence in ending:
            self._prefilling.remove(sequence)
            if not sequence.produced:
                first.append(sequence.request.id)
            sequence.produced += 1
            self._share(sequence)
            if sequence.produced >= sequence.request.output_tokens:
                self._free(sequence)
                del self._here[sequence.request.id]
                finished.append(sequence.request.id)
            else:
                decoding.join(sequence)
        return Run(seconds, joules, 1, decodes, prompt_tokens, first, finished, preempted)

    # prompts

    def _prompts(self, chunks: list[Chunk], *, admit: bool) -> list[Sequence]:
        """Give what is left of the step's tokens to prompts, admitting new ones where allowed; those that end with it."""
        queries, decoding = self._times.queries, self._decoding
        ending: list[Sequence] = []
        decoded = len(decoding.held) * queries
        for sequence in self._prefilling:
            left = self._tokens_left(decoded, chunks)
            if left <= 0:
                return ending
            if self._chunk(sequence, left, chunks):
                ending.append(sequence)
        while admit and self._waiting:
            decoded = len(decoding.held) * queries
            left = self._tokens_left(decoded, chunks)
            if left <= 0:
                break
            sequence = self._waiting[0]
            whole = sequence.prompt - sequence.done
            if not self._limits.chunked_prefill and whole > left and (chunks or decoding.held):
                break
            if not self._admit(sequence):
                self._blocked = True
                break
            self._waiting.popleft()
            if sequence.done == sequence.prompt:  # its cache is here already
                decoding.join(sequence)
                self._pool.take(decoding.grown(sequence, decoding.steps + 1))
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

    def _chunk(self, sequence: Sequence, left: int, chunks: list[Chunk]) -> bool:
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

    def _admit(self, sequence: Sequence) -> bool:
        """Take a request's blocks; whether there was room."""
        running = len(self._prefilling) + len(self._decoding.held)
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

    def _share(self, sequence: Sequence) -> None:
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

    # memory

    def _grow(self, preempted: list[Id]) -> None:
        """Take the blocks that this step's tokens need; the request admitted last gives up its own where none is left."""
        needed = self._decoding.growth(1)
        while needed > self._pool.available:
            last = max((*self._prefilling, *self._decoding.held.values()), key=_order)
            self._preempt(last)
            preempted.append(last.request.id)
            needed = self._decoding.growth(1)
        if needed:
            self._pool.take(needed)

    def _preempt(self, sequence: Sequence) -> None:
        """Put a request back at the head of the queue: to be computed again, or its cache sent to the host."""
        self.preemptions += 1
        if sequence.joined < 0:
            self._prefilling.remove(sequence)
            self._free(sequence)
            self._queued_tokens += sequence.done
            sequence.done = 0
        else:
            had = sequence.produced
            self._free(sequence, self._decoding.leave(sequence))
            if self._limits.preemption == "swap":
                sequence.prompt += sequence.produced - had
                sequence.done = sequence.prompt
                self._swapped_tokens += 2 * sequence.prompt  # out now, and in when it comes back
            else:
                sequence.prompt = sequence.request.input_tokens + sequence.produced
                sequence.done = 0
                self._queued_tokens += sequence.prompt
        self._waiting.appendleft(sequence)

    def _free(self, sequence: Sequence, grown: int = 0) -> None:
        """Return a request's blocks, those it has grown by included."""
        self._pool.give(sequence.private + grown)
        self._pool.unlock(sequence.units)
        sequence.units, sequence.private = [], 0
        self._blocked = False

    def _finish(self) -> list[Id]:
        """Let go of the requests that have all their tokens."""
        found: list[Id] = []
        for sequence in self._decoding.ended():
            self._free(sequence, self._decoding.leave(sequence))
            del self._here[sequence.request.id]
            found.append(sequence.request.id)
        return found


def _order(sequence: Sequence) -> int:
    return sequence.order
