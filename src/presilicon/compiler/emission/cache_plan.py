"""How attention over a KV cache in DRAM is cut to fit a core: panels of query rows, chunks of keys, places in the scratchpad.

A panel is ``groups`` KV heads with their query heads and ``tokens`` tokens: its rows of scores stay in the accumulators, one
row a (query head, token). Keys and values pass in chunks, in a ring of buffers that the load engine fills ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from presilicon.errors import CapacityError
from presilicon.template import Core

# Chunks in flight: one is read while the others come, which hides the memory's latency.
BUFFERS = 4
# Bytes of a chunk: long enough that the array's start and end between chunks stay small beside it.
CHUNK_BYTES = 16384
# Cycles from a burst's address to its data: with few bytes a burst, and so many outstanding, the port is not full.
LATENCY_CYCLES = 48
SPARE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of an attention over a cache of ``keys`` rows: ``tokens`` queries of ``heads`` heads, as in `steps.Attention`."""

    tokens: int
    keys: int
    heads: int
    kv_heads: int
    dim: int

    @property
    def share(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the scratchpad for moving operands, stationary operands and results, and rows of an accumulator bank."""

    moving: int
    stationary: int
    results: int
    accumulator_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Query rows of ``tokens`` tokens from ``token`` on, of query heads from ``head`` on, KV heads from ``group`` on."""

    token: int
    tokens: int
    group: int
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePlan:
    """The cut: panels of ``tokens`` tokens and ``groups`` KV heads with ``share`` query heads each; chunks of ``chunk`` keys.

    ``buffers`` chunks lie in a ring. With several groups a panel has all query heads of each.
    """

    sizes: Sizes
    tokens: int
    groups: int
    share: int
    chunk: int
    buffers: int

    @property
    def chunks(self) -> int:
        """Chunks of the whole cache."""
        return ceil(self.sizes.keys / self.chunk)

    @property
    def padded(self) -> int:
        """Keys of all chunks: bytes of a row of probabilities."""
        return self.chunks * self.chunk

    @property
    def row(self) -> int:
        """Bytes of a panel's part of a key's (or value's) row."""
        return self.groups * self.sizes.dim

    def fill(self, core: Core) -> int:
        """Bytes behind each row of a buffer: the array takes the last head's values in whole blocks of columns."""
        return -self.sizes.dim % core.cols

    def pitch(self, core: Core) -> int:
        """Bytes from one row of a buffer to the next."""
        return self.row + self.fill(core)

    def buffer_bytes(self, core: Core) -> int:
        """Bytes of a buffer of the ring: a power of two, so that the ring's end is a mask away."""
        return 1 << (self.chunk * self.pitch(core) - 1).bit_length()

    def ring_bytes(self, core: Core) -> int:
        """Bytes of all buffers, and what the array reads along with the last and does not use."""
        overrun = max(-self.sizes.dim % core.rows, -self.chunk % core.rows * self.pitch(core))
        return self.buffers * self.buffer_bytes(core) + overrun

    @property
    def heads(self) -> int:
        """Query heads of a panel."""
        return self.groups * self.share

    def q_bytes(self, tokens: int) -> int:
        """Bytes of a panel's queries."""
        return tokens * self.heads * self.sizes.dim

    def p_bytes(self, tokens: int) -> int:
        """Bytes of a panel's probabilities."""
        return self.rows(tokens) * self.padded

    def inverse_bytes(self, core: Core, tokens: int) -> int:
        """Bytes of the reciprocals of the sums: a strip a row."""
        return self.rows(tokens) * 4 * core.lanes

    def rows(self, tokens: int) -> int:
        """Rows of a panel of so many tokens."""
        return self.heads * tokens

    def panels(self) -> Iterator[Panel]:
        """All panels, the heads of a token's panel one after the other."""
        for token in range(0, self.sizes.tokens, self.tokens):
            for head in range(0, self.sizes.heads, self.heads):
                tokens = min(self.tokens, self.sizes.tokens - token)
                yield Panel(token=token, tokens=tokens, group=head // self.sizes.share, head=head)


def plan_cache(core: Core, sizes: Sizes, room: Room) -> CachePlan:
    """The cut that streams the cache in least time; CapacityError where not even one row fits, with both numbers."""
    found: list[tuple[float, CachePlan]] = []
    target = min(CHUNK_BYTES, room.stationary // (4 * BUFFERS))
    for groups, share in _heads(sizes):
        row = groups * sizes.dim
        chunk = _chunk(core, sizes.keys, target // row)
        plan = CachePlan(sizes=sizes, tokens=1, groups=groups, share=share, chunk=chunk, buffers=BUFFERS)
        made = _shrunk(core, plan, room)
        tokens = min(sizes.tokens, _most_tokens(core, made, room)) if made else 0
        if not made or not tokens:
            continue
        # Panels as even as whole tokens allow. A pass costs the bus, short rows the memory's latency.
        tokens = ceil(sizes.tokens / ceil(sizes.tokens / tokens))
        rate = min(core.bus_bytes, core.outstanding * row / LATENCY_CYCLES)
        passes = ceil(sizes.tokens / tokens) * sizes.heads // made.heads
        found.append((passes * row / rate, replace(made, tokens=tokens)))
    if not found:
        raise _too_large(core, sizes, room)
    return min(found, key=lambda one: one[0])[1]


def _heads(sizes: Sizes) -> Iterator[tuple[int, int]]:
    """KV heads of a panel and query heads of each: whole groups, or a part of one."""
    yield from ((groups, sizes.share) for groups in range(1, sizes.kv_heads + 1) if sizes.kv_heads % groups == 0)
    yield from ((1, share) for share in range(1, sizes.share) if sizes.share % share == 0)


def _chunk(core: Core, keys: int, most: int) -> int:
    """Keys of a chunk, up to ``most`` or one block of columns: so many that the last chunk is filled best."""
    blocks = ceil(keys / core.cols)
    largest = max(1, min(blocks, most // core.cols))
    return core.cols * min(range(largest, largest // 2, -1), key=lambda size: ceil(blocks / size) * size)


def _shrunk(core: Core, made: CachePlan, room: Room) -> CachePlan | None:
    """Chunks small enough that two and better four of them fit the ring; None where not two of the smallest do."""
    while made.ring_bytes(core) > room.stationary:
        if made.buffers > 2:
            made = replace(made, buffers=made.buffers // 2)
        elif made.chunk > core.cols:
            made = replace(made, chunk=_chunk(core, made.sizes.keys, made.chunk // 2), buffers=BUFFERS)
        else:
            return None
    return made


def _most_tokens(core: Core, made: CachePlan, room: Room) -> int:
    """Tokens of the largest panel; 0 where not one fits."""
    blocks = max(made.padded // core.cols, ceil(made.sizes.dim / core.cols))
    # Buffers begin at multiples of some bytes: a little is left for that.
    return min(
        room.accumulator_rows // (made.heads * blocks),
        (room.moving - 2 * SPARE_BYTES) // (made.q_bytes(1) + made.p_bytes(1)),
        (room.results - 2 * SPARE_BYTES) // (made.q_bytes(1) + made.inverse_bytes(core, 1)),
    )


def _too_large(core: Core, sizes: Sizes, room: Room) -> CapacityError:
    rows = ceil(sizes.keys / core.cols)
    if rows > room.accumulator_rows:
        return CapacityError(
            f"the scores of a query and {sizes.keys} keys take {rows} accumulator rows of {room.accumulator_rows}",
            hint="a shorter cache, or a core with more accumulator rows",
        )
    return CapacityError(
        f"attention over {sizes.keys} keys of {sizes.dim} needs chunks of {core.cols} keys in {room.stationary} bytes and"
        f" {sizes.keys} bytes of probabilities in {room.moving} bytes of the scratchpad",
        hint="a shorter cache, or a core with a larger scratchpad",
    )
