"""Which bytes an instruction reads and writes, as boxes of equal rows: what orders instructions and what a verifier checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from presilicon.isa.uop import Uop
from presilicon.template import GROUP, Core


@dataclass(frozen=True, slots=True)
class Box:
    """``rows`` runs of ``run`` units, ``pitch`` apart, from ``start`` on, in one memory.

    Memories: dram, scratchpad, tables, kernels, indices, instructions in bytes; accumulator0 and accumulator1 in rows.
    """

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


def _box(memory: str, start: int, run: int, *counts: tuple[int, int]) -> Box:
    """The box of nested (count, stride) rows: exact for one count or dense nests, else what encloses it."""
    counts = tuple((n, stride) for n, stride in counts if n > 1)
    low = start + sum((n - 1) * stride for n, stride in counts if stride < 0)
    counts = tuple((n, abs(stride)) for n, stride in counts)
    if not counts:
        return Box(memory, low, run)
    counts = tuple(sorted(counts, key=lambda c: c[1]))
    rows, pitch = counts[0]
    for n, stride in counts[1:]:
        if stride == rows * pitch:
            rows *= n
        else:
            return Box(memory, low, run + sum((n - 1) * stride for n, stride in counts))
    return Box(memory, low, run, pitch, rows) if pitch > run else Box(memory, low, (rows - 1) * pitch + run)


_TARGETS = ("scratchpad", "tables", "kernels", "indices", "instructions")


def _load(core: Core, f: Mapping[str, int]) -> tuple[list[Box], list[Box]]:
    rows = f["n1"] * f["n2"] * f["n3"]
    whole = f["left"] + f["run"] + f["right"]
    written = _box(_TARGETS[f["target"]], f["spad"], whole, (rows, f["pitch"]))
    if f["gather"]:
        return [Box("indices", 4 * f["index0"], 4 * f["n1"]), Box("dram", f["dram"], 1 << 40)], [written]
    first, last = 0, f["n1"] - 1
    if f["limit"]:
        first, last = max(0, -f["y0"]), min(last, f["limit"] - 1 - f["y0"])
        if first > last:
            return [], [written]
    start = f["dram"] + first * f["stride1"]
    read = _box("dram", start, f["run"], (last - first + 1, f["stride1"]), (f["n2"], f["stride2"]), (f["n3"], f["stride3"]))
    return [read], [written]


def _store(core: Core, f: Mapping[str, int]) -> tuple[list[Box], list[Box]]:
    read = _box("scratchpad", f["spad"], f["run"], (f["n1"] * f["n2"] * f["n3"], f["pitch"]))
    counts = ((f["n1"], f["stride1"]), (f["n2"], f["stride2"]), (f["n3"], f["stride3"]))
    return [read], [_box("dram", f["dram"], f["run"], *counts)]


def _matmul(core: Core, f: Mapping[str, int]) -> tuple[list[Box], list[Box]]:
    blocks = f["k1"] * f["kb"]
    run = (f["kb"] - 1) * core.rows + f["tail"]
    x = _box("scratchpad", f["x"], run, (f["m0"], f["x_stride0"]), (f["m1"], f["x_stride1"]), (f["k1"], f["k_stride1"]))
    tile = core.weight_words * core.weight_rows_per_cycle * core.cols
    mode = f["weights"]
    if mode == 0:
        w = [Box("scratchpad", f["w"], blocks * tile)]
    elif mode == 1:
        groups = -(-blocks // f["group_blocks"])
        w = [Box("scratchpad", f["w"], blocks * tile // 2), Box("scratchpad", f["groups"], groups * core.cols // 2)]
    elif mode == 2:
        w = [_box("scratchpad", f["w"], core.cols, (blocks * core.rows, f["w_pitch"]))]
    else:
        w = [_box("scratchpad", f["w"], blocks * core.rows, (core.cols, f["w_pitch"]))]
    acc = Box(f"accumulator{f['bank']}", f["acc"], f["m0"] * f["m1"])
    return [x, *w, *([acc] if f["accumulate"] else [])], [acc]


def _vector(core: Core, f: Mapping[str, int], uops: Sequence[Uop]) -> tuple[list[Box], list[Box]]:
    reads: list[Box] = []
    writes: list[Box] = []
    looped = inside = False
    offsets = [0]
    for uop in uops:
        inside = inside or bool(uop.loop_begin)
        looped = looped or inside
        offsets.append(uop.offset)
        inside = inside and not uop.loop_end
    strips = f["strips"] if looped else min(f["strips"], GROUP if f["by_strips"] else max(offsets) + 1)
    for number in range(4):
        read = any(_reads(uop) and uop.read_stream == number for uop in uops)
        written = any(uop.write_en and uop.write_stream == number for uop in uops)
        if not read and not written:
            continue
        size = 1 if f["formats"] >> 2 * number & 3 == 1 else 4
        fixed = f["fixed"] >> number & 1
        start, rows = f[f"stream{number}"], (f["rows"], f[f"pitch{number}"])
        if read:
            reads.append(_box("scratchpad", start, (1 if fixed else strips) * core.lanes * size, rows))
        if written:
            wide = min(f["columns"], core.lanes if fixed else strips * core.lanes)
            writes.append(_box("scratchpad", start, max(1, wide) * size, rows))
    if any(uop.a_kind in (1, 3) for uop in uops):
        blocks = -(-strips // core.chunks)
        start, step = f["acc"], f["acc_step"]
        reads.append(Box(f"accumulator{f['bank']}", start, f["rows"] + (blocks - 1) * step))
    if any(uop.op in ("table0", "table1") for uop in uops):
        reads.append(Box("tables", 0, 2048))
    reads.append(Box("kernels", 16 * f["kernel"], 16 * len(uops)))
    return reads, writes


def _reads(uop: Uop) -> bool:
    return 2 in (uop.a_kind, uop.b_kind, uop.c_kind)


def footprint(core: Core, op: str, fields: Mapping[str, int], uops: Sequence[Uop] = ()) -> tuple[list[Box], list[Box]]:
    """What an instruction with these resolved ``fields`` reads and what it writes; ``uops``: a vector's kernel."""
    if op == "vector":
        return _vector(core, fields, uops)
    known = {"load": _load, "store": _store, "matmul": _matmul}
    return known[op](core, fields) if op in known else ([], [])
