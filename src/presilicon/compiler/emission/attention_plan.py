"""How an attention over a known number of keys is cut: panels of queries, groups of KV heads, chunks of keys."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

from presilicon.compiler.emission.site import Strand
from presilicon.compiler.kernels import REACH
from presilicon.compiler.steps import Attention
from presilicon.errors import CapacityError
from presilicon.template import GROUP

# The part of the stationary operands' room that K and V take together; the rest is for weights that come after.
SHARE = 0.8
# Chunks of K or V that should find room at a time.
CHUNKS = 4
# Micro-operations for a group of rows beside those for its scores.
FOLDS = 26


@dataclass(frozen=True, slots=True)
class Panel:
    """Some queries of one sequence of the batch: their rows in q, the first one's number, the keys that the last one sees."""

    sample: int
    rows: range
    token: int
    keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPlan:
    """A strand's share of an attention.

    ``kv_group`` KV heads at a time. Their keys and values are on the chip whole, or (``streamed``, one KV head) pass in chunks
    of ``key_chunk`` and ``value_chunk`` for each query head and panel. ``stored``: scores go through the scratchpad as fp32, in
    ``buffers`` in turn; with one, a head's begin when the one before has been read.
    ``counted``: the array sums the probabilities, as one more block of columns of V: all ones.
    """

    panels: tuple[Panel, ...]
    kv_group: int
    streamed: bool
    stored: bool
    buffers: int
    key_chunk: int
    value_chunk: int
    key_bytes: int
    value_pitch: int
    counted: bool

    def key_chunks(self, keys: int) -> list[range]:
        """Chunks of the keys that a panel sees."""
        return [range(at, min(at + self.key_chunk, keys)) for at in range(0, keys, self.key_chunk)]

    def value_chunks(self, keys: int) -> list[range]:
        """Chunks of the values that a panel sees."""
        return [range(at, min(at + self.value_chunk, keys)) for at in range(0, keys, self.value_chunk)]


def plan_attention(strand: Strand, step: Attention) -> AttentionPlan:
    """The cut of a strand's share; CapacityError, with both numbers, where a row of scores or a chunk of keys does not fit."""
    core, tensors = strand.core, strand.lowered.tensors
    queries, keys = tensors[step.q].rows // step.batch, tensors[step.k].rows // step.batch
    own = strand.rows(tensors[step.q].rows)
    blocks = ceil(keys / core.cols)
    # A kernel reads accumulators up to seven strips ahead: where the sums lie further off the vector unit adds up by itself.
    counted = ceil(step.dim / core.cols) * core.chunks < REACH
    wide = ceil(keys / core.lanes) * core.lanes
    room = int(SHARE * strand.stationary.arena.size)
    cuts = [_Cut.of(strand, step, keys, len(own), counted, *kind) for kind in ((False, 2), (True, 2), (True, 1))]
    cut = min(cuts, key=lambda one: one.cost)
    count, group, stored = cut.count, cut.group, cut.stored
    if not count:
        raise CapacityError(
            f"a row of {keys} scores does not fit: twice {wide} bytes of probabilities and {4 * wide if stored else 0} bytes"
            f" of scores into {strand.moving.size} and {strand.results.size} bytes of the scratchpad",
            where=step.name,
            hint="fewer tokens, or a core with a larger scratchpad",
        )
    key, value = _row_bytes(strand, step, group)
    streamed = blocks * core.cols * key + keys * value > room
    key_chunk, value_chunk = blocks * core.cols, keys
    if streamed:
        key_chunk = min(key_chunk, max(core.cols, room // (CHUNKS * key) // core.cols * core.cols))
        value_chunk = max(core.rows, room // (CHUNKS * value) // core.rows * core.rows)
    return AttentionPlan(
        panels=_panels(step, own, queries, keys, count),
        kv_group=group,
        streamed=streamed,
        stored=stored,
        buffers=cut.buffers,
        key_chunk=key_chunk,
        value_chunk=value_chunk,
        key_bytes=key,
        value_pitch=value,
        counted=counted,
    )


@dataclass(frozen=True, slots=True)
class _Cut:
    """One way to cut: rows of a panel, KV heads at a time, and what a row costs in cycles (infinite where none fits)."""

    stored: bool
    buffers: int
    count: int
    group: int
    cost: float

    @classmethod
    def of(cls, strand: Strand, step: Attention, keys: int, own: int, counted: bool, stored: bool, buffers: int) -> _Cut:
        """The rows that fit with scores ``stored`` or not, in so many buffers."""
        core = strand.core
        blocks, values = ceil(keys / core.cols), ceil(step.dim / core.cols) + counted
        wide = ceil(keys / core.lanes) * core.lanes
        most = len(strand.accumulator_rows) // ((1 if stored else blocks) + values)
        wanted = min(GROUP, max(1, own))
        count = group = 0
        for one in [g for g in range(step.kv_heads, 0, -1) if step.kv_heads % g == 0]:
            key, value = _row_bytes(strand, step, one)
            if one > 1 and blocks * core.cols * key + keys * value > SHARE * strand.stationary.arena.size:
                continue
            width = one * step.heads // step.kv_heads * step.dim
            # Two buffers of queries and probabilities, of results and inverse sums, and those of scores.
            results = 2 * (width + 4 * core.lanes) + (buffers * 4 * wide if stored else 0)
            fitting = min(most, strand.moving.size // (2 * (wide + width)), strand.results.size // results)
            if fitting > count:
                count, group = fitting, one
            if fitting >= wanted:
                break
        if not count:
            return cls(stored, buffers, 0, group, inf)
        rows = min(max(1, own), count // GROUP * GROUP if count >= GROUP else count)
        # Stationary operands take their time to fetch, however few rows pass.
        array = blocks * ceil(step.dim / core.rows) * max(rows, core.cols) + values * ceil(keys / core.rows) * max(
            rows, core.rows
        )
        vector = GROUP * ceil(rows / GROUP) * (wide // core.lanes * (4 - counted + stored) + FOLDS)
        return cls(stored, buffers, count, group, (max(array, vector) if buffers > 1 else array + vector) / rows)


def _row_bytes(strand: Strand, step: Attention, group: int) -> tuple[int, int]:
    """Bytes of a key's and of a value's row on the chip: values up to the end of the last head's last block of columns."""
    cols = strand.core.cols
    return group * step.dim, max(group * step.dim, (group - 1) * step.dim + ceil(step.dim / cols) * cols)


def _panels(step: Attention, own: range, queries: int, keys: int, most: int) -> tuple[Panel, ...]:
    """A strand's rows of q in even panels, each within one sequence, of whole groups of the vector unit where it can be."""
    found = []
    for sample in range(step.batch):
        first, last = max(own.start, sample * queries), min(own.stop, (sample + 1) * queries)
        if last <= first:
            continue
        whole = most // GROUP * GROUP if most >= GROUP else most
        even = ceil((last - first) / ceil((last - first) / whole))
        even = min(whole, ceil(even / GROUP) * GROUP)
        for at in range(first, last, even):
            rows = range(at, min(at + even, last))
            token = at - sample * queries
            seen = min(keys, token + len(rows)) if step.causal else keys
            found.append(Panel(sample, rows, token, seen))
    return tuple(found)
