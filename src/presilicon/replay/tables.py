"""The estimate of one pass taken apart by what it depends on: rows, rows of the head, a cache being read, a chunk of a prompt.

Each part is evaluated for many sizes at once and kept. Sizes that a step can have are all evaluated, none between them is
guessed; only the tokens that precede a chunk are interpolated, between points at most a quarter apart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import Formats
from presilicon.errors import ParallelismError
from presilicon.estimate.energy import static_w
from presilicon.estimate.machine import Machine
from presilicon.estimate.passes import pass_cost
from presilicon.frontend.language import LanguageModel
from presilicon.graph import Attention, Collective, ExpertMatmul, Graph, Matmul, Operator
from presilicon.mapping import Parallelism, partition

Floats = NDArray[np.float64]

# Operators behind the last block: they see the rows that a token is chosen for, not all.
HEAD = ("head_down", "head", "head_all_gather", "sampling")
# Contexts and requests of one piece of the table of decode steps, and pieces that are kept (132 KiB each).
SEGMENT = 512
BATCHES = 16
PIECES = 768
# Prompts side by side that fill every core: what a prompt costs among others.
MANY = 64.0
# Tokens before a chunk at which it is evaluated.
_PRIOR = [0, 64, 128, 256, 512, *(int(512 * 1.25**i) for i in range(1, 60))]


class ChunkCost(NamedTuple):
    """A chunk's attention: its start (s), its time after it alone and among others (s), and its energy in both (J).

    Static power is left out of the energy: it is drawn for the time of all chunks together.
    """

    start_s: float
    alone_s: float
    among_s: float
    alone_j: float
    among_j: float


class Segment(NamedTuple):
    """Sums of time (s) and energy (J) of reading caches over contexts up to each one, from a piece's first context.

    One row of contexts + 1 values for each number of requests; as views of memory, which Python reads faster than arrays.
    """

    seconds: list[memoryview]
    joules: list[memoryview]


class Tables:
    """Parts of a pass on one chip of a replica, for chips that share the model by ``parallelism``; pipeline stages together.

    Rows are those of one rank. ``queries`` new tokens of each request are decoded at once (more than one: speculation).
    """

    def __init__(
        self, machine: Machine, model: LanguageModel, formats: Formats, parallelism: Parallelism, queries: int = 1
    ) -> None:
        if model.layers % parallelism.pipeline:
            raise ParallelismError(f"{model.layers} layers are not divided by {parallelism.pipeline} stages", where=model.name)
        self.machine, self.model, self.formats, self.parallelism = machine, model, formats, parallelism
        self.queries = queries
        self.static_w = float(static_w(machine))
        self._sizes: dict[str, int] = {}
        self._rows: dict[str, tuple[list[float], list[float]]] = {}
        self._segments: OrderedDict[tuple[int, int], Segment] = OrderedDict()
        self._chunks: dict[int, Floats] = {}
        self._longest_chunk = 0
        prompt, step = self._prompt(1.0), self._step(1.0)
        shared = {op.name for op in prompt} & {op.name for op in step}
        self._prompt_only = tuple(op for op in prompt if _reads_cache(op, shared))
        self._step_only = tuple(op for op in step if _reads_cache(op, shared))
        self._shared = shared
        self.expert_rows = parallelism.data > 1 and any(_is_expert(op) for op in prompt)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: pieces of the decode table are views of memory and are evaluated anew there."""
        return self.__dict__ | {"_segments": OrderedDict()}

    def _prompt(self, rows: Any) -> Graph:
        return partition(self.model.prefill(batch=1, tokens=rows, formats=self.formats), self.parallelism)

    def _step(self, rows: Any) -> Graph:
        return partition(self.model.decode(batch=rows, context=1, formats=self.formats), self.parallelism)

    def _evaluate(self, operators: tuple[Operator, ...]) -> tuple[Any, Any]:
        """Latency (s) and energy (J) of operators one after the other."""
        cost = pass_cost(self.machine, Graph(self.model.name, "decode", operators))
        return cost.latency_s, cost.energy_j(self.machine)

    def rows(self, part: str, rows: int) -> tuple[float, float]:
        """Time (s) and energy (J) of one part for some rows: ``body``, ``experts`` (of a rank's even share) or ``head``."""
        try:
            seconds, joules = self._rows[part]
            return seconds[rows], joules[rows]
        except (KeyError, IndexError):
            self._grow(part, rows)
            return self.rows(part, rows)

    def _grow(self, part: str, rows: int) -> None:
        most = 256
        while most < rows:
            most *= 2
        counts = np.arange(1.0, most + 1.0)
        if part == "head":
            found = tuple(op for op in self._step(counts) if op.name in HEAD)
        else:
            experts = part == "experts"
            found = tuple(
                op
                for op in self._prompt(counts)
                if op.name in self._shared
                and op.name not in HEAD
                and not isinstance(op, Attention)
                and (self.expert_rows and _is_expert(op)) == experts
            )
        values = self._evaluate(found) if found else (0.0, 0.0)
        seconds, joules = (np.broadcast_to(np.asarray(v, dtype=np.float64), counts.shape).tolist() for v in values)
        self._rows[part] = ([0.0, *seconds], [0.0, *joules])

    def segment(self, batch: int, index: int) -> Segment:
        """A piece of the table: from 1 + ``batch`` BATCHES requests and from contexts of 1 + ``index`` SEGMENT tokens on."""
        key = (batch, index)
        found = self._segments.get(key)
        if found is None:
            requests = np.arange(1.0 + batch * BATCHES, 1.0 + (batch + 1) * BATCHES)
            contexts = np.arange(1.0 + index * SEGMENT, 1.0 + (index + 1) * SEGMENT)
            found = Segment(*(_summed(values) for values in self.decoding(requests[:, None], contexts[None, :])))
            self._segments[key] = found
            if len(self._segments) > PIECES:
                self._segments.popitem(last=False)
        return found

    def decoding(self, batch: Any, contexts: Floats) -> tuple[Floats, Floats]:
        """Time and energy of what only decode does, for caches of ``contexts`` tokens, the first new one included."""
        operators: list[Operator] = []
        for op in self._step_only:
            if isinstance(op, Attention):
                kv = contexts + (self.queries - 1.0)
                operators.append(replace(op, batch=op.batch * batch, query_tokens=float(self.queries), kv_tokens=kv))
            else:
                assert isinstance(op, Matmul)
                operators.append(replace(op, m=op.m * batch * self.queries))
        shape = np.broadcast_shapes(np.shape(batch), contexts.shape)
        seconds, joules = self._evaluate(tuple(operators)) if operators else (0.0, 0.0)
        return np.broadcast_to(seconds, shape), np.broadcast_to(joules, shape)

    def chunk(self, tokens: int, prior: int) -> ChunkCost:
        """Cost of attention of a chunk of ``tokens`` that ``prior`` tokens of its request precede."""
        place = bisect_right(_PRIOR, prior) - 1
        low = self._chunk_row(place, tokens)
        if prior == _PRIOR[place]:
            return ChunkCost(*low)
        high, start = self._chunk_row(place + 1, tokens), _PRIOR[place]
        t = (prior - start) / (_PRIOR[place + 1] - start)
        return ChunkCost(*[a + t * (b - a) for a, b in zip(low, high, strict=True)])

    def _chunk_row(self, place: int, tokens: int) -> list[float]:
        if tokens > self._longest_chunk:
            self._longest_chunk = max(tokens, 2 * self._longest_chunk, 1024)
            self._chunks.clear()
        table = self._chunks.get(place)
        if table is None:
            sizes = np.arange(1.0, self._longest_chunk + 1.0)
            table = self._chunks[place] = np.column_stack(self.attending(sizes, float(_PRIOR[place])))
        row: list[float] = table[tokens - 1].tolist()
        return row

    def attending(self, tokens: Floats, prior: Any) -> tuple[Floats, ...]:
        """The fields of ``ChunkCost`` for chunks of ``tokens`` after ``prior`` ones, arrays that broadcast."""

        def side_by_side(batch: float) -> tuple[Any, Any, Any]:
            operators: list[Operator] = []
            for op in self._prompt_only:
                if isinstance(op, Attention):
                    operators.append(replace(op, batch=batch, query_tokens=tokens, kv_tokens=tokens + prior))
                else:  # what turns the latents kept of the whole context into keys and values
                    assert isinstance(op, Matmul)
                    operators.append(replace(op, m=batch * (tokens + prior)))
            cost = pass_cost(self.machine, Graph(self.model.name, "prefill", tuple(operators)))
            return cost.latency_s, cost.total("overhead_s"), cost.energy_j(self.machine)

        nothing = np.zeros_like(tokens)
        if not self._prompt_only:
            return (nothing,) * 5
        one, start, joules = side_by_side(1.0)
        many, many_start, many_j = side_by_side(MANY)
        return (
            nothing + start,
            nothing + (one - start),
            nothing + (many - many_start) / MANY,
            nothing + (joules - self.static_w * one),
            nothing + (many_j - self.static_w * many) / MANY,
        )

    def cache_layout(self) -> tuple[float, tuple[tuple[float, float], ...]]:
        """Bytes of cache a chip holds of one token: of the layers without a window, and by window of the others."""
        full, windows = 0.0, dict[float, float]()
        for op in self._step_only:
            if isinstance(op, Attention) and op.cached:
                held = float(op.count * replace(op, batch=1.0, kv_tokens=1.0).kv_cache_bytes) / self.parallelism.pipeline
                window = float(np.max(op.window))
                if window:
                    windows[window] = windows.get(window, 0.0) + held
                else:
                    full += held
        return full, tuple(sorted(windows.items()))

    def fixed_bytes(self, rows: int) -> float:
        """Bytes a chip holds whatever is in flight: weights, and activations of ``rows`` rows."""
        weights = float(self._step(1.0).weight_bytes) / self.parallelism.pipeline
        return weights + float(self._prompt(float(rows)).activation_bytes)


def _summed(values: Floats) -> list[memoryview]:
    """Running sums of each row, from zero."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return [memoryview(row) for row in sums]


def _reads_cache(op: Operator, shared: set[str]) -> bool:
    """Whether an operator is of one phase only: attention, and what a latent's attention needs around it."""
    return op.name not in HEAD and (isinstance(op, Attention) or op.name not in shared)


def _is_expert(op: Operator) -> bool:
    """Whether an operator works on tokens of all ranks: the experts, and what sends tokens to them."""
    return isinstance(op, ExpertMatmul) or (isinstance(op, Collective) and op.collective == "alltoall") or op.split == "experts"
