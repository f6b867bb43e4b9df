"""Time and energy of one step of a replica at its exact mix of prompt chunks and decoded tokens, from the estimate's tables.

A step is one pass of each rank's part of the batch. Pipeline stages work on different parts at once, so a stage counts as a
rank; a chunk of a prompt stays on one rank, requests being decoded are spread evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from presilicon.replay.tables import BATCHES, SEGMENT, Tables


class Chunk(NamedTuple):
    """``tokens`` of one prompt worked on in a step, after ``prior`` of its tokens that are in the cache."""

    tokens: int
    prior: int


class Took(NamedTuple):
    """Time (s) of a step, and energy (J) of all chips of the replica in it."""

    seconds: float
    joules: float


class StepTimes:
    """What steps take; built once per model and system, then a few table look-ups a step.

    ``draft``: the step times of a draft model that proposes the ``queries - 1`` tokens that each decode step checks; None:
    they cost nothing (n-gram look-up).
    """

    def __init__(self, tables: Tables, draft: StepTimes | None = None) -> None:
        p = tables.parallelism
        self.tables, self.draft = tables, draft
        self.queries = tables.queries
        self.ranks = p.data * p.pipeline
        self.chips = p.chips
        self._stages, self._data, self._tensor = p.pipeline, p.data, p.tensor
        constants, machine = tables.machine.constants, tables.machine
        self._slowdown, self._host_s = float(constants.serving_slowdown), float(constants.step_s)
        self._send_s = (p.pipeline - 1) * float(constants.launch_s) if p.pipeline > 1 else 0.0
        self._send_row_s = (p.pipeline - 1) * tables.model.hidden * 2.0 / float(machine.link_bytes_per_s)
        self.static_w = tables.static_w * p.chips
        full, windows = tables.cache_layout()
        self._swap_token_s = (full + sum(held for _, held in windows)) / float(machine.host_bytes_per_s)
        self._bases: dict[int, tuple[float, float, float]] = {}

    def step(self, decodes: int, context_sum: float, chunks: Sequence[Chunk] = (), finishing: int = 0) -> Took:
        """One step that decodes ``decodes`` requests and works on ``chunks``; ``finishing`` of them end their prompts.

        ``context_sum``: tokens of all decoded requests' caches, the (first) new one of each included.
        """
        if not chunks:
            return self.run(decodes, context_sum, 1)
        tables, ranks = self.tables, self.ranks
        decoded = decodes * self.queries
        new = 0
        longest = 0
        for chunk in chunks:
            new += chunk.tokens
            longest = max(longest, chunk.tokens)
        even = ceil((decoded + new) / ranks)
        rows = max(even, longest + ceil(decoded / ranks)) if ranks > 1 else even
        kernels_s, kernels_j = tables.rows("body", rows)
        if tables.expert_rows:
            seconds, joules = tables.rows("experts", even)
            kernels_s, kernels_j = kernels_s + seconds, kernels_j + joules
        seconds, joules = tables.rows("head", ceil((decoded + finishing) / ranks))
        kernels_s, kernels_j = kernels_s + seconds, kernels_j + joules
        if decodes:
            seconds, joules = self._caches(ceil(decodes / ranks), context_sum / decodes, 1)
            kernels_s, kernels_j = kernels_s + seconds, kernels_j + joules
        start = alone = among = alone_j = among_j = 0.0
        for chunk in chunks:
            cost = tables.chunk(*chunk)
            start, alone, alone_j = max(start, cost.start_s), max(alone, cost.alone_s), max(alone_j, cost.alone_j)
            among += cost.among_s
            among_j += cost.among_j
        attention_s = start + max(alone, among / ranks)
        kernels_s += attention_s
        # Each chunk is worked on by one rank: the shares of the others' energy are theirs.
        kernels_j += max(alone_j, among_j) / ranks * (rows / even) + tables.static_w * attention_s
        return self._whole(kernels_s, kernels_j, rows, (decoded + new) / (rows * ranks), decodes, context_sum)

    def run(self, decodes: int, context_sum: float, steps: int) -> Took:
        """``steps`` steps in a row that decode the same requests, their contexts growing by one token each step."""
        base_s, base_j, share = self._base(decodes)
        seconds, joules = self._caches(ceil(decodes / self.ranks), context_sum / decodes, steps)
        rows = ceil(decodes * self.queries / self.ranks)
        if steps == 1:
            return self._whole(base_s + seconds, base_j + joules, rows, share, decodes, context_sum)
        return self._whole(base_s * steps + seconds, base_j * steps + joules, rows, share, decodes, context_sum, steps)

    def steps_within(self, decodes: int, context_sum: float, span_s: float, most: int) -> int:
        """Fewest steps (at most ``most``) after which ``span_s`` has gone by."""
        one = self.run(decodes, context_sum, 1).seconds
        if one >= span_s:
            return 1
        low, high = 1, min(most, ceil(span_s / one) + 1)
        if self.run(decodes, context_sum, high).seconds < span_s:
            if high == most:
                return most
            low, high = high, most
        while high - low > 1:
            middle = (low + high) // 2
            if self.run(decodes, context_sum, middle).seconds < span_s:
                low = middle
            else:
                high = middle
        return high

    def swap_s(self, tokens: int) -> float:
        """Time that the caches of so many tokens take between chips and host, each chip over its own link."""
        return tokens * self._swap_token_s

    def _base(self, decodes: int) -> tuple[float, float, float]:
        """Time and energy of a pure decode step without its caches, and the ranks' share that has work."""
        found = self._bases.get(decodes)
        if found is None:
            rows = ceil(decodes * self.queries / self.ranks)
            parts = ("body", "experts", "head") if self.tables.expert_rows else ("body", "head")
            values = [self.tables.rows(part, rows) for part in parts]
            share = decodes * self.queries / (rows * self.ranks)
            found = self._bases[decodes] = (sum(v[0] for v in values), sum(v[1] for v in values), share)
        return found

    def _caches(self, batch: int, context: float, steps: int) -> tuple[float, float]:
        """Time and energy of reading ``batch`` caches of a mean context that grows by one for ``steps`` steps."""
        whole = int(context)
        part = context - whole
        index, place = divmod(whole - 1, SEGMENT)
        last = place + steps
        if last < SEGMENT:  # one piece holds them all
            piece_of, row = divmod(batch - 1, BATCHES)
            times, energies = self.tables.segment(piece_of, index)
            time, energy = times[row], energies[row]
            return (
                (1.0 - part) * (time[last] - time[place]) + part * (time[last + 1] - time[place + 1]),
                (1.0 - part) * (energy[last] - energy[place]) + part * (energy[last + 1] - energy[place + 1]),
            )
        seconds, joules = self._sum(batch, whole, steps)
        if part:
            more_s, more_j = self._sum(batch, whole + 1, steps)
            seconds += part * (more_s - seconds)
            joules += part * (more_j - joules)
        return seconds, joules

    def _sum(self, batch: int, first: int, steps: int) -> tuple[float, float]:
        """Sum over the contexts from ``first`` on, across the pieces of the table."""
        index, place = divmod(first - 1, SEGMENT)
        piece_of, row = divmod(batch - 1, BATCHES)
        seconds = joules = 0.0
        while steps:
            piece = self.tables.segment(piece_of, index)
            last = min(place + steps, SEGMENT)
            seconds += piece.seconds[row][last] - piece.seconds[row][place]
            joules += piece.joules[row][last] - piece.joules[row][place]
            steps -= last - place
            index, place = index + 1, 0
        return seconds, joules

    def _whole(
        self, kernels_s: float, kernels_j: float, rows: int, share: float, decodes: int, context_sum: float, steps: int = 1
    ) -> Took:
        """Kernels of a rank as the steps of the replica: the host's work, sending between stages, what chips draw meanwhile.

        The same as ``estimate.service`` says of a batch: parts of it are at all stages at once.
        """
        seconds = kernels_s * self._slowdown + steps * (self._host_s + self._send_s + rows * self._send_row_s)
        parts = share * self._stages
        idle_s = max(self._stages * seconds - parts * kernels_s, 0.0)
        joules = (parts * kernels_j + self.tables.static_w * idle_s) * self._tensor * self._data
        if self.draft is not None and decodes:
            drafted = self.draft.run(decodes, context_sum, 1)
            times = steps * (self.queries - 1)
            seconds, joules = seconds + times * drafted.seconds, joules + times * drafted.joules
        return Took(seconds, joules)
