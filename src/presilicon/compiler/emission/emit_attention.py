"""Attention over a known number of keys: score rows stay on the chip, K and V are stationary, heads follow one another closely.

Where the scores of eight rows do not fit into the accumulators they are kept as fp32 in the scratchpad, key chunk by key chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from presilicon.compiler.emission.attention_plan import AttentionPlan, Panel, plan_attention
from presilicon.compiler.emission.attention_programs import counted_values, scaled_scores, softmax, weighted_values
from presilicon.compiler.emission.memory import Arena, Chunk, Hold
from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.steps import Attention
from presilicon.isa import load, matmul, reg


class _Turns:
    """Buffers of an arena that are used in turn, each of the most that any holds."""

    def __init__(self, arena: Arena, size: int, what: str, count: int = 2) -> None:
        self.arena = arena
        self.places = [arena.take(size, what) for _ in range(count)]

    def turn(self) -> int:
        """The one that was not used for longest."""
        self.places.append(self.places.pop(0))
        return self.places[-1]

    def free(self) -> None:
        """Gives all back."""
        self.arena.free(*self.places)


@dataclass(slots=True)
class _Queries:
    """A panel of a group of heads under way: where its queries and (from the first on) its heads' results lie."""

    panel: Panel
    q: int
    out: int = -1


@dataclass(slots=True)
class _Head:
    """A query head of a panel under way: its number in the group, its bank, its buffers."""

    queries: _Queries
    number: int
    bank: int = 0
    stored: int = -1
    p: int = -1
    inverse: int = -1


class _Emission:
    """One strand's attention under way."""

    def __init__(self, strand: Strand, step: Attention) -> None:
        self.strand, self.site, self.core, self.step = strand, strand.site, strand.core, step
        self.plan: AttentionPlan = plan_attention(strand, step)
        self.shared = step.heads // step.kv_heads
        self.heads = self.plan.kv_group * self.shared
        self.width = self.heads * step.dim
        # Blocks of columns of a head's result, the sums of its probabilities among them.
        self.values = ceil(step.dim / self.core.cols) + self.plan.counted
        zero_point = strand.lowered.tensors[step.out].zero_point
        self.softmax_program = softmax(step.score_scale, step.value_scale, self.plan.stored, self.plan.counted)
        self.softmax_kernel = self.site.compiled(self.softmax_program, zero_beyond=("p",))
        self.out_kernel = self.site.compiled(weighted_values(zero_point), fixed=("inverse",))
        if self.plan.counted:
            self.out_kernel = counted_values(self.core, step.dim, step.value_scale, zero_point)

    def run(self) -> Iterator[str | None]:
        """Groups of KV heads; in each all panels and heads, the scores of one before the softmax of the one before is used."""
        for group in range(self.step.kv_heads // self.plan.kv_group):
            samples = sorted({panel.sample for panel in self.plan.panels})
            for sample in samples:
                if group or sample != samples[0]:
                    yield None
                yield from self.group(group, [p for p in self.plan.panels if p.sample == sample])

    def group(self, group: int, panels: list[Panel]) -> Iterator[str | None]:
        keys = max(panel.keys for panel in panels)
        most, wide = max(len(panel.rows) for panel in panels), self.wide(keys)
        self.most = most
        moving, results = self.strand.moving, self.strand.results
        moving.rewind()
        results.rewind()
        self.q, self.p = _Turns(moving, most * self.width, "queries"), _Turns(moving, most * wide, "probabilities")
        self.out = _Turns(results, most * self.width, "results of heads")
        self.inverse = _Turns(results, 4 * most * self.core.lanes, "inverse sums")
        pairs = [self.q, self.p, self.out, self.inverse]
        if self.plan.stored:
            self.stored = _Turns(results, 4 * most * wide, "scores", self.plan.buffers)
            pairs.append(self.stored)
        # Scores begin when keys and queries are there.
        sample, whole = panels[0].sample, not self.plan.streamed
        self.k = self.load_keys(group, sample, range(keys)) if whole else -1
        first = self.load_queries(group, panels[0])
        self.v = self.load_values(group, sample, range(keys)) if whole else -1
        yield "vector"
        todo = [(panel, head) for panel in panels for head in range(self.heads)]
        following: _Head | None = None
        before: _Head | None = None
        queries: _Queries | None = None
        for number in range(len(todo) + 1):
            if number:
                yield None
            now, following = following, None
            if number < len(todo):
                panel, head = todo[number]
                if head == 0:
                    queries = self.load_queries(group, panel) if number else first
                assert queries is not None
                following = _Head(queries, head)
                if now is None or self.plan.buffers > 1:
                    self.scores(group, following)
            if now is None:
                continue
            if self.site.taking_turns:
                # The array is at another strand's product while the vector unit is at this head.
                if before is not None:
                    self.result(group, before)
                self.probabilities(now)
                yield None
            else:
                self.probabilities(now)
                if before is not None:
                    self.result(group, before)
            if following is not None and self.plan.buffers == 1:
                self.scores(group, following)
            self.weighted(group, now)
            before = now
        assert before is not None
        self.result(group, before)
        if whole:
            self.strand.stationary.free(self.k, self.v)
        for pair in pairs:
            pair.free()

    def wide(self, keys: int) -> int:
        """A row of scores in whole strips."""
        return ceil(keys / self.core.lanes) * self.core.lanes

    # Loads -----------------------------------------------------------------------------------------------------------------

    def load_queries(self, group: int, panel: Panel) -> _Queries:
        q = self.q.turn()
        self.site.fetch(self.step.q, q, panel.rows, self.step.q_column + group * self.width, self.width)
        return _Queries(panel, q)

    def _load(self, name: str, column: int, sample: int, keys: range, count: int, pitch: int) -> int:
        """Rows ``keys`` of a sequence's K or V, filled with zeros up to ``count`` rows of ``pitch`` bytes."""
        at = self.strand.stationary.take()
        _, line, _ = self.site.matrix(name)
        sequence = self.site.matrix(name)[0] // self.step.batch
        run = self.plan.kv_group * self.step.dim
        first = self.site.address(name) + (sample * sequence + keys.start) * line + column
        more: dict[str, Any] = {"limit": len(keys)} if count > len(keys) else {}
        if pitch > run:
            more["right"] = pitch - run
        if count == 1 or (run == line == pitch and not more):
            self.site.add(load(dram=first, spad=at, run=count * run, **more))
        else:
            self.site.add(load(dram=first, spad=at, n1=count, run=run, stride1=line, pitch=pitch, **more))
        return at

    def load_keys(self, group: int, sample: int, keys: range) -> int:
        """Keys of the group, up to whole blocks of the array's columns."""
        count = ceil(len(keys) / self.core.cols) * self.core.cols
        column = self.step.k_column + group * self.plan.kv_group * self.step.dim
        return self._load(self.step.k, column, sample, keys, count, self.plan.key_bytes)

    def load_values(self, group: int, sample: int, keys: range) -> int:
        """Values of the group."""
        column = self.step.v_column + group * self.plan.kv_group * self.step.dim
        at = self._load(self.step.v, column, sample, keys, len(keys), self.plan.value_pitch)
        self.ones = at + len(keys) * self.plan.value_pitch
        if self.plan.counted:
            ones = self.site.constants.laid_out(("ones", self.core.cols), lambda: np.ones(self.core.cols, np.int8))
            self.site.add(load(dram=ones, spad=self.ones, run=self.core.cols))
        return at

    # One head --------------------------------------------------------------------------------------------------------------

    def scores(self, group: int, head: _Head) -> None:
        """Scores of a head's queries with all keys: they stay in the accumulators, or go to the scratchpad."""
        panel, core, strand = head.queries.panel, self.core, self.strand
        rows = len(panel.rows)
        # Behind them lie the results of the heads before, of panels that may be larger.
        room = (len(strand.accumulator_rows) - self.most * self.values) // rows
        if self.plan.stored:
            head.stored = self.stored.turn()
        else:
            head.bank = strand.next_bank()
        for keys in self.plan.key_chunks(panel.keys):
            k = self.load_keys(group, panel.sample, keys) if self.plan.streamed else self.k
            blocks = ceil(len(keys) / core.cols)
            for first in range(0, blocks, room if self.plan.stored else blocks):
                part = range(first, min(first + room, blocks) if self.plan.stored else blocks)
                if self.plan.stored:
                    head.bank = strand.next_bank()
                start = strand.accumulator_rows.start + (0 if self.plan.stored else keys.start // core.cols * rows)
                for number, block in enumerate(part):
                    self.block_of_scores(head, k, block, start + number * rows)
                if self.plan.stored:
                    column = first * core.cols
                    self.store_scores(head, keys.start + column, min(len(keys), part.stop * core.cols) - column)
            if self.plan.streamed:
                strand.stationary.free(k)

    def block_of_scores(self, head: _Head, k: int, block: int, acc: int) -> None:
        step, core = self.step, self.core
        shared = head.number // self.shared
        self.site.add(
            matmul(
                x=head.queries.q + head.number * step.dim,
                w=k + block * core.cols * self.plan.key_bytes + shared * step.dim,
                acc=acc,
                m0=len(head.queries.panel.rows),
                x_stride0=self.width,
                kb=ceil(step.dim / core.rows),
                tail=(step.dim - 1) % core.rows + 1,
                bank=head.bank,
                weights="transposed",
                w_pitch=self.plan.key_bytes,
            )
        )

    def store_scores(self, head: _Head, column: int, count: int) -> None:
        """Scores of some keys, from the accumulators to the scratchpad."""
        site, core = self.site, self.core
        kernel = site.compiled(scaled_scores(self.step.score_scale))
        rows = len(head.queries.panel.rows)
        pitch = 4 * self.wide(head.queries.panel.keys)
        site.add(
            kernel.instruction(
                {"s": (head.stored + 4 * column, pitch)},
                start=site.kernel(kernel.uops),
                rows=rows,
                strips=ceil(count / core.lanes),
                columns=self.wide(count),
                bank=head.bank,
                acc=self.strand.accumulator_rows.start,
                acc_step=rows,
            )
        )

    def probabilities(self, head: _Head) -> None:
        """The softmax of a head's rows of scores."""
        site, step, core, strand = self.site, self.step, self.core, self.strand
        panel = head.queries.panel
        rows = len(panel.rows)
        wide = self.wide(panel.keys)
        head.p, head.inverse = self.p.turn(), self.inverse.turn()
        valid = reg(site.lowered.register(step.length)) if step.length else panel.token + 1 if step.causal else panel.keys
        kernel = site.kernel(self.softmax_kernel.uops)
        site.tables(self.softmax_program.tables)
        places = {"p": (head.p, wide), "inverse": (head.inverse, 4 * core.lanes)}
        if self.plan.stored:
            places["s"] = (head.stored, 4 * wide)
        site.add(
            self.softmax_kernel.instruction(
                places,
                start=kernel,
                rows=rows,
                strips=wide // core.lanes,
                columns=wide,
                valid=valid,
                causal=int(step.causal),
                bank=head.bank,
                acc=strand.accumulator_rows.start,
                acc_step=rows,
            )
        )

    def weighted(self, group: int, head: _Head) -> None:
        """Probabilities times V, in accumulator rows behind those of the scores."""
        step, core, strand, plan = self.step, self.core, self.strand, self.plan
        panel = head.queries.panel
        rows = len(panel.rows)
        wide = self.wide(panel.keys)
        if plan.stored:
            head.bank = strand.next_bank()
        for keys in plan.value_chunks(panel.keys) if plan.streamed else [range(panel.keys)]:
            v = self.load_values(group, panel.sample, keys) if plan.streamed else self.v
            for number in range(self.values):
                sums = plan.counted and number == self.values - 1
                w = self.ones if sums else v + head.number // self.shared * step.dim + number * core.cols
                self.site.add(
                    matmul(
                        x=head.p + keys.start,
                        w=w,
                        acc=strand.accumulator_rows.stop - rows * (self.values - number),
                        m0=rows,
                        x_stride0=wide,
                        kb=ceil(len(keys) / core.rows),
                        tail=(len(keys) - 1) % core.rows + 1,
                        bank=head.bank,
                        accumulate=int(keys.start > 0),
                        weights="strided",
                        w_pitch=0 if sums else plan.value_pitch,
                    )
                )
            if plan.streamed:
                strand.stationary.free(v)

    def result(self, group: int, head: _Head) -> None:
        """A head's result; the last head of a panel stores all of them."""
        site, step, core, strand = self.site, self.step, self.core, self.strand
        queries = head.queries
        rows = len(queries.panel.rows)
        if head.number == 0:
            queries.out = self.out.turn()
        site.add(
            self.out_kernel.instruction(
                {"out": (queries.out + head.number * step.dim, self.width), "inverse": (head.inverse, 4 * core.lanes)},
                start=site.kernel(self.out_kernel.uops),
                rows=rows,
                strips=self.values * core.chunks if self.plan.counted else ceil(step.dim / core.lanes),
                columns=step.dim,
                bank=head.bank,
                acc=strand.accumulator_rows.stop - rows * self.values,
                acc_step=rows,
            )
        )
        if head.number == self.heads - 1:
            site.put(step.out, queries.out, queries.panel.rows, group * self.width, self.width)


def plan_stationary(strand: Strand, step: Attention) -> Sequence[Chunk | Hold]:
    """Room for K and V in the order in which ``emit`` takes it: scores run one head ahead."""
    core, plan = strand.core, plan_attention(strand, step)
    found: list[Chunk | Hold] = []
    heads = plan.kv_group * step.heads // step.kv_heads
    samples = sorted({panel.sample for panel in plan.panels})

    def keys(count: int) -> Hold:
        return Hold(ceil(count / core.cols) * core.cols * plan.key_bytes)

    def values(count: int) -> Hold:
        # The ones lie behind them.
        return Hold(count * plan.value_pitch + core.cols)

    for _ in range(step.kv_heads // plan.kv_group):
        for sample in samples:
            panels = [panel for panel in plan.panels if panel.sample == sample]
            most = max(panel.keys for panel in panels)
            if not plan.streamed:
                found += [keys(most), values(most)]
                continue
            ks = [[keys(len(c)) for c in plan.key_chunks(p.keys)] for p in panels for _ in range(heads)]
            vs = [[values(len(c)) for c in plan.value_chunks(p.keys)] for p in panels for _ in range(heads)]
            for k, v in zip([*ks, []], [[], *vs], strict=True):
                found += [*k, *v]
    return found


def emit_attention(strand: Strand, step: Attention) -> Iterator[str | None]:
    """The instructions of a strand's queries."""
    if len(strand.rows(strand.lowered.tensors[step.q].rows)):
        yield from _Emission(strand, step).run()


def _whole(step: Attention) -> tuple[str, ...]:
    return (step.k, step.v)


EMISSION = Emission(emit=emit_attention, plan=plan_stationary, whole=_whole)
