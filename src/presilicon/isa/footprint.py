"""Which bytes an instruction reads and writes: what orders instructions and what the verifier checks.

``accesses`` says it exactly, ``footprint`` in boxes of equal rows, which are quick to compare and never too small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from presilicon.isa.layout import TARGETS
from presilicon.isa.moves import valid_rows
from presilicon.isa.products import INT4, PACKED, STRIDED, tile_bytes
from presilicon.isa.state import TABLE_ENTRIES
from presilicon.isa.streams import element_bytes, is_fixed, read, written
from presilicon.isa.uop import UOP_BYTES, Uop, sections
from presilicon.template import GROUP, Core

Fields = Mapping[str, int]
Nest = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Access:
    """``run`` units at every point of a nest of (count, stride), from ``start`` on, in one memory.

    Memories: dram, scratchpad, tables, kernels, indices, instructions in bytes; accumulator0 and accumulator1 in rows. ``data``
    is False for what is read along with it and does not count: it must lie in the memory and takes the port all the same.
    ``port`` names the operand that has a port of its own.
    """

    memory: str
    start: int
    run: int
    nest: Nest = ()
    write: bool = False
    data: bool = True
    port: str = ""

    @property
    def low(self) -> int:
        """First unit."""
        return self.start + sum((n - 1) * stride for n, stride in self.nest if stride < 0)

    @property
    def high(self) -> int:
        """First unit behind all."""
        return self.start + sum((n - 1) * stride for n, stride in self.nest if stride > 0) + self.run

    def runs(self) -> tuple[tuple[int, int], ...]:
        """Its units as ordered, disjoint (offset from ``start``, offset of the end)."""
        return merged(self.nest, self.run)


@lru_cache(maxsize=4096)
def merged(nest: Nest, run: int) -> tuple[tuple[int, int], ...]:
    """Runs at all points of a nest, put in order and together."""
    found = [(0, run)]
    for count, stride in sorted(nest, key=lambda n: abs(n[1])):
        if count == 1 or not stride:
            continue
        if len(found) == 1 and abs(stride) <= found[0][1] - found[0][0]:
            reach = (count - 1) * stride
            found = [(found[0][0] + min(reach, 0), found[0][1] + max(reach, 0))]
            continue
        points = sorted((low + i * stride, high + i * stride) for i in range(count) for low, high in found)
        found = points[:1]
        for low, high in points[1:]:
            if low <= found[-1][1]:
                found[-1] = (found[-1][0], max(high, found[-1][1]))
            else:
                found.append((low, high))
    return tuple(found)


def _load(core: Core, f: Fields, uops: Sequence[Uop]) -> Iterator[Access]:
    rows, whole = f["n1"] * f["n2"] * f["n3"], f["left"] + f["run"] + f["right"]
    if f["gather"]:
        yield Access("indices", 4 * f["index0"], 4 * f["n1"])
        # Which rows, the index memory knows.
        yield Access("dram", 0, 1 << 40, data=False)
    else:
        first, last = valid_rows(f)
        if last > first:
            nest = (last - first, f["stride1"]), (f["n2"], f["stride2"]), (f["n3"], f["stride3"])
            yield Access("dram", f["dram"] + first * f["stride1"], f["run"], nest)
    yield Access(TARGETS[f["target"]], f["spad"], whole, ((rows, f["pitch"]),), write=True)


def _store(core: Core, f: Fields, uops: Sequence[Uop]) -> Iterator[Access]:
    yield Access("scratchpad", f["spad"], f["run"], ((f["n1"] * f["n2"] * f["n3"], f["pitch"]),))
    nest = (f["n1"], f["stride1"]), (f["n2"], f["stride2"]), (f["n3"], f["stride3"])
    yield Access("dram", f["dram"], f["run"], nest, write=True)


def _matmul(core: Core, f: Fields, uops: Sequence[Uop]) -> Iterator[Access]:
    kb, k1, w, pitch, mode = f["kb"], f["k1"], f["w"], f["w_pitch"], f["weights"]
    blocks, run = k1 * kb, (kb - 1) * core.rows + f["tail"]
    nest = (f["m0"], f["x_stride0"]), (f["m1"], f["x_stride1"]), (k1, f["k_stride1"])
    yield Access("scratchpad", f["x"], run, nest, port="x")
    # Rows beyond a tail, and a tile's padding before the next, are read or skipped, but count for nothing.
    if mode in (PACKED, INT4):
        half = 1 + (mode == INT4)
        tile, row = tile_bytes(core) // half, core.cols // half
        yield Access("scratchpad", w, (blocks - 1) * tile + core.rows * row, data=False, port="w")
        if kb > 1:
            yield Access("scratchpad", w, core.rows * row, ((kb - 1, tile), (k1, kb * tile)), port="w")
        yield Access("scratchpad", w + (kb - 1) * tile, f["tail"] * row, ((k1, kb * tile),), port="w")
        if mode == INT4:
            groups = -(-blocks // f["group_blocks"])
            yield Access("scratchpad", f["groups"], groups * core.cols // 2, port="w")
    elif mode == STRIDED:
        yield Access("scratchpad", w, core.cols, ((blocks * core.rows, pitch),), data=False, port="w")
        yield Access("scratchpad", w, core.cols, ((run, pitch), (k1, kb * core.rows * pitch)), port="w")
    else:
        yield Access("scratchpad", w, blocks * core.rows, ((core.cols, pitch),), data=False, port="w")
        yield Access("scratchpad", w, run, ((core.cols, pitch), (k1, kb * core.rows)), port="w")
    sums = f"accumulator{f['bank']}"
    if f["accumulate"] or blocks > 1:
        # Blocks after the first read what the instruction itself has written.
        yield Access(sums, f["acc"], f["m0"] * f["m1"], data=bool(f["accumulate"]))
    yield Access(sums, f["acc"], f["m0"] * f["m1"], write=True)


def strip_reach(fields: Fields, uops: tuple[Uop, ...]) -> int:
    """Strips that a kernel touches: all with a loop, else those its offsets reach."""
    if any(part.step for part in sections(uops)):
        return fields["strips"]
    return min(fields["strips"], GROUP if fields["by_strips"] else max(u.offset for u in uops) + 1)


def _vector(core: Core, f: Fields, uops: Sequence[Uop]) -> Iterator[Access]:
    kernel = tuple(uops)
    strips = strip_reach(f, kernel)
    counted = max(f["columns"], f["valid"])
    for number in range(4):
        size, wide = element_bytes(f, number), core.lanes * (1 if is_fixed(f, number) else strips)
        start, nest = f[f"stream{number}"] & 0xFFFFFF, ((f["rows"], f[f"pitch{number}"]),)
        if number in read(kernel):
            if counted < wide:
                yield Access("scratchpad", start, wide * size, nest, data=False, port="v")
            if counted:
                yield Access("scratchpad", start, min(wide, counted) * size, nest, port="v")
        if number in written(kernel) and f["columns"]:
            yield Access("scratchpad", start, min(wide, f["columns"]) * size, nest, write=True, port="v")
    if any(u.reads_accumulator for u in kernel):
        blocks = -(-strips // core.chunks)
        yield Access(f"accumulator{f['bank']}", f["acc"], f["rows"], ((blocks, f["acc_step"]),))
    for table in (0, 1):
        if any(u.op == f"table{table}" for u in kernel):
            yield Access("tables", table * TABLE_ENTRIES * 2, TABLE_ENTRIES * 2)
    yield Access("kernels", UOP_BYTES * f["kernel"], UOP_BYTES * len(kernel))


_KNOWN = {"load": _load, "store": _store, "matmul": _matmul, "vector": _vector}


def accesses(core: Core, op: str, fields: Fields, uops: Sequence[Uop] = ()) -> list[Access]:
    """Everything an instruction with these resolved ``fields`` touches; ``uops``: a vector's kernel."""
    return list(_KNOWN[op](core, fields, uops)) if op in _KNOWN else []


@dataclass(frozen=True, slots=True)
class Box:
    """``rows`` runs of ``run`` units, ``pitch`` apart, from ``start`` on, in one memory (as in `Access`)."""

    memory: str
    start: int
    run: int
    pitch: int = 0
    rows: int = 1

    @property
    def end(self) -> int:
        """First unit behind the box."""
        return self.start + (self.rows - 1) * self.pitch + self.run

    def overlaps(self, other: Box) -> bool:
        """Whether a unit is in both; may say yes too often where the pitches differ."""
        if self.memory != other.memory or self.start >= other.end or other.start >= self.end:
            return False
        if self.rows > 1 and other.rows > 1 and self.pitch == other.pitch:
            apart = (other.start - self.start) % self.pitch
            return apart < self.run or self.pitch - apart < other.run
        return True


def _box(access: Access) -> Box:
    """The box of an access: exact for one count or dense nests, else what encloses it."""
    nest = sorted((abs(stride), n) for n, stride in access.nest if n > 1 and stride)
    run = access.run
    while nest and nest[0][0] <= run:
        stride, n = nest.pop(0)
        run += (n - 1) * stride
    if not nest:
        return Box(access.memory, access.low, run)
    pitch, rows = nest[0]
    for stride, n in nest[1:]:
        if stride != rows * pitch:
            return Box(access.memory, access.low, access.high - access.low)
        rows *= n
    return Box(access.memory, access.low, run, pitch, rows)


def footprint(core: Core, op: str, fields: Fields, uops: Sequence[Uop] = ()) -> tuple[list[Box], list[Box]]:
    """What an instruction reads and what it writes, in boxes; a matmul's moving operand comes first."""
    reads: list[Box] = []
    writes: list[Box] = []
    for access in accesses(core, op, fields, uops):
        (writes if access.write else reads).append(_box(access))
    return reads, writes
