"""VECTOR: what a kernel of micro-operations does to all groups of rows or strips at once, and how many slots it takes.

A group is 8 rows of one strip, or with ``by_strips`` 8 strips of one row. Arrays here have the axes [t, group, 8, lanes]:
passes of a loop over the strips, groups, elements of a group, lanes; an axis of 1 stands for equal values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from presilicon import float32
from presilicon.errors import IsaError
from presilicon.isa.instruction import check_fields
from presilicon.isa.state import VECTOR_REGISTERS, State
from presilicon.isa.streams import element_bytes, groups_are_free, is_fixed, passes_are_free
from presilicon.isa.uop import A_KINDS, Section, Uop, sections
from presilicon.template import GROUP, Core
from presilicon.trace import Activity

Fields = Mapping[str, int]
Words = NDArray[np.uint32]

# Elements that are computed at once: what fits a processor's cache.
_BATCH = 1 << 17


@dataclass(frozen=True, slots=True)
class _Place:
    """Which elements a batch covers: passes ``begin + step * i``, ``passes`` of them, groups ``first`` to ``last``."""

    begin: int
    step: int
    passes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Box:
    """Active elements of a batch: ``rows`` from ``row`` on, ``strips`` of them from ``strip`` on, ``step`` apart."""

    row: int
    rows: int
    strip: int
    step: int
    strips: int


class _Machine:
    """A VECTOR while it is worked out: the state, its fields, and the register words [t, group, 8, lanes] so far."""

    def __init__(self, state: State, fields: Fields) -> None:
        self.state = state
        self.fields = fields
        self.lanes = state.core.lanes
        self.by_strips = bool(fields["by_strips"])
        self.registers: list[Words] = [state.registers[r][None, None] for r in range(VECTOR_REGISTERS)]

    # Where the elements of a batch lie ---------------------------------------------------------------------------------

    def box(self, place: _Place, offset: int) -> _Box:
        """The active elements of a batch."""
        f = self.fields
        if self.by_strips:
            strip = place.begin * GROUP
            strips = min(place.passes * GROUP, f["strips"] - strip)
            return _Box(place.first, min(place.last, f["rows"]) - place.first, strip, 1, strips)
        strip = place.begin + offset
        rows = min(place.last * GROUP, f["rows"]) - place.first * GROUP
        strips = min(place.passes, -(-(f["strips"] - strip) // place.step))
        return _Box(place.first * GROUP, rows, strip, place.step, max(0, strips))

    def index(self, place: _Place, offset: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and strip numbers, broadcastable to [t, group, 8]."""
        passes = place.begin + place.step * np.arange(place.passes)[:, None, None]
        group = np.arange(place.first, place.last)[None, :, None]
        element = np.arange(GROUP)[None, None, :]
        if self.by_strips:
            return group, GROUP * passes + element
        return GROUP * group + element, passes + offset

    def idle(self, row: NDArray[np.int64], strip: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which elements have no row or strip."""
        return (row >= self.fields["rows"]) | (strip >= self.fields["strips"])

    def view(self, number: int, box: _Box, width: int) -> NDArray[np.uint8]:
        """``width`` bytes at each of a box's elements: [strip, row, width], or by strips [row, strip, width]."""
        f = self.fields
        along = 0 if is_fixed(f, number) else self.lanes * element_bytes(f, number)
        pitch, step = f[f"pitch{number}"], along * box.step
        start = (f[f"stream{number}"] & 0xFFFFFF) + box.row * pitch + box.strip * along
        end = start + (box.rows - 1) * pitch + (box.strips - 1) * step + width
        if end > len(self.state.spad):
            raise IsaError(
                f"stream {number} reaches byte {end - 1:#x}", hint=f"{len(self.state.spad)} bytes of scratchpad", code=3
            )
        shape, strides = (box.strips, box.rows), (step, pitch)
        if self.by_strips:
            shape, strides = shape[::-1], strides[::-1]
        return as_strided(self.state.spad[start:], (*shape, width), (*strides, 1))

    # Operands ------------------------------------------------------------------------------------------------------------

    def read_stream(self, u: Uop, place: _Place) -> Words:
        size = element_bytes(self.fields, u.read_stream)
        groups, box = place.last - place.first, self.box(place, u.offset)
        shape = (groups, place.passes * GROUP) if self.by_strips else (place.passes, groups * GROUP)
        data = np.zeros((*shape, self.lanes * size), np.uint8)
        if box.strips:
            view = self.view(u.read_stream, box, self.lanes * size)
            data[: view.shape[0], : view.shape[1]] = view
        words = float32.from_int32(data.view(np.int8).astype(np.int32)) if size == 1 else data.view(np.uint32)
        if self.by_strips:
            return words.reshape(groups, place.passes, GROUP, self.lanes).transpose(1, 0, 2, 3)
        return words.reshape(place.passes, groups, GROUP, self.lanes)

    def accumulator(self, u: Uop, place: _Place) -> Words:
        f, core = self.fields, self.state.core
        row, strip = self.index(place, u.offset)
        idle = self.idle(row, strip)
        at = f["acc"] + row + strip // core.chunks * f["acc_step"]
        if (at[~idle] >= core.accumulator_rows).any():
            raise IsaError(
                f"vector reads accumulator row {at[~idle].max()}", hint=f"a bank has {core.accumulator_rows}", code=4
            )
        bank = self.state.accumulators[f["bank"]].reshape(core.accumulator_rows, core.chunks, core.lanes)
        found = bank[np.where(idle, 0, at), np.broadcast_to(strip % core.chunks, at.shape)]
        if A_KINDS[u.a_kind] == "sum":
            found = found + self.registers[u.a_reg].view(np.int32)
        words = np.where(idle[..., None], np.zeros(1, np.uint32), float32.from_int32(found))
        return words

    def operand(self, u: Uop, which: str, kind: str, place: _Place) -> Words:
        if kind == "register":
            number: int = getattr(u, f"{which}_reg")
            return self.registers[number]
        if kind == "imm":
            return np.full((1, 1, 1, 1), u.imm, np.uint32)
        if kind == "zero":
            return np.zeros((1, 1, 1, 1), np.uint32)
        if kind == "stream":
            return self.read_stream(u, place)
        if kind == "exchange":
            # A register is written for a group or for all: only its lanes axis must be whole.
            lanes = np.arange(self.lanes) ^ (1 << u.b_xor)
            return self.registers[u.b_reg][..., lanes]
        return self.accumulator(u, place)

    # One micro-operation -------------------------------------------------------------------------------------------------

    def value(self, u: Uop, place: _Place) -> Words:
        a = self.operand(u, "a", A_KINDS[u.a_kind], place)
        b = self.operand(u, "b", u.b, place) if u.b else a
        c = self.operand(u, "c", u.c, place) if u.c else a
        result = self.second(u, a, b, c)
        if u.masked:
            row, strip = self.index(place, u.offset)
            limit = self.fields["valid"] + (row if self.fields["causal"] else 0)
            column = strip[..., None] * self.lanes + np.arange(self.lanes)
            hidden = (column >= np.asarray(limit)[..., None]) | self.idle(row, strip)[..., None]
            result = np.where(hidden, c, result)
        return result

    def second(self, u: Uop, a: Words, b: Words, c: Words) -> Words:
        if u.op == "move":
            return a
        if u.op == "recip":
            return float32.reciprocal_seed(a)
        if u.op == "rsqrt":
            return float32.reciprocal_root_seed(a)
        signed = float32.negate(c) if u.negate_c else c
        if u.op == "select":
            return float32.select(a, b, signed)
        p = float32.multiply(a, b)
        if u.negate_p:
            p = float32.negate(p)
        if u.op == "add":
            return float32.add(p, signed)
        if u.op == "max":
            return float32.maximum(p, signed)
        if u.op == "product":
            return float32.canonical(p)
        if u.op == "round":
            return float32.round_even(p)
        table = self.state.tables[256 * (u.op == "table1") :][:256]
        return table[float32.to_int8(p).astype(np.int64) + 128]

    def run(self, uops: tuple[Uop, ...], place: _Place, in_order: bool) -> None:
        for u in uops:
            result = self.value(u, place)
            if u.write_en:
                self.write(u, result, place, in_order)
            if u.to_en:
                self.registers[u.to] = result if result.shape[-1] > 1 else np.repeat(result, self.lanes, axis=-1)

    def write(self, u: Uop, result: Words, place: _Place, in_order: bool) -> None:
        f = self.fields
        kind, size = f["formats"] >> 2 * u.write_stream & 3, element_bytes(f, u.write_stream)
        groups = place.last - place.first
        if kind == 1:
            data = float32.to_int8(result, f["zero_point"]).view(np.uint8)
        else:
            words = result if kind == 0 else float32.to_int32(result).view(np.uint32)
            data = np.ascontiguousarray(np.broadcast_to(words, (*words.shape[:3], self.lanes))).view(np.uint8)
        data = np.broadcast_to(data, (place.passes, groups, GROUP, self.lanes * size))
        if self.by_strips:
            data = data.transpose(1, 0, 2, 3).reshape(groups, place.passes * GROUP, -1)
        else:
            data = data.reshape(place.passes, groups * GROUP, -1)
        box = self.box(place, u.offset)
        # Strips whose lanes are all written, then perhaps one of which some are.
        whole = min(box.strips, max(0, -(-(f["columns"] // self.lanes - box.strip) // box.step)))
        rest = f["columns"] - (box.strip + whole * box.step) * self.lanes
        parts = [(0, whole, self.lanes), (whole, min(whole + 1, box.strips), min(rest, self.lanes))]
        for first, last, count in parts:
            if first == last or count <= 0:
                continue
            part = _Box(box.row, box.rows, box.strip + first * box.step, box.step, last - first)
            to = self.view(u.write_stream, part, count * size)
            line = data[: box.rows, first:last] if self.by_strips else data[first:last, : box.rows]
            line = line[..., : count * size]
            if in_order:
                for i, j in np.ndindex(to.shape[:2]):
                    to[i, j] = line[i, j]
            else:
                to[...] = line

    # The whole kernel ----------------------------------------------------------------------------------------------------

    def section(self, section: Section, first: int, last: int, batch: int, in_order: bool) -> None:
        """A section of the kernel for groups ``first`` to ``last``, ``batch`` passes of a loop at a time."""
        passes, step = 1, 1
        if section.step:
            step = 1 if self.by_strips else section.step
            passes = -(-self.fields["strips"] // (GROUP if self.by_strips else step))
        for number in range(0, passes, batch):
            self.run(section.uops, _Place(number * step, step, min(batch, passes - number), first, last), in_order)
            for u in section.uops:
                if u.to_en:
                    self.registers[u.to] = self.registers[u.to][-1:]


def group_count(fields: Fields) -> int:
    """Groups of a VECTOR."""
    return fields["rows"] if fields["by_strips"] else -(-fields["rows"] // GROUP)


def execute_vector(state: State, fields: Fields) -> None:
    """Everything a VECTOR does to ``state``; IsaError with the hardware's code where it cannot."""
    check_fields(state.core, "vector", fields)
    if not state.values:
        return
    core, groups = state.core, group_count(fields)
    uops = state.kernel(fields["kernel"])
    machine = _Machine(state, fields)
    once = tuple(u for u in uops if u.once)
    parts = [Section(tuple(u for u in part.uops if not u.once), part.step) for part in sections(uops)]
    parts = [part for part in parts if part.uops]
    if once:
        machine.run(once, _Place(0, 1, 1, 0, 1), in_order=True)
    if groups_are_free(core, fields, uops):
        room = max(1, _BATCH // (groups * GROUP * core.lanes))
        for part in parts:
            machine.section(part, 0, groups, room if part.step and passes_are_free(core, fields, part) else 1, in_order=False)
    else:
        for group in range(groups):
            for part in parts:
                machine.section(part, group, group + 1, 1, in_order=True)
    for number, words in enumerate(machine.registers):
        state.registers[number] = words[-1, -1]


# Time and actions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VectorTime:
    """When a VECTOR takes the next, when it is done, and the cycles of its slots."""

    ready: int
    done: int
    busy: int


def _times(uops: tuple[Uop, ...], fields: Fields) -> list[tuple[Uop, int]]:
    """How often each micro-operation is executed, over all groups."""
    groups, found = group_count(fields), []
    for part in sections(uops):
        passes = -(-fields["strips"] // (GROUP if fields["by_strips"] else part.step)) if part.step else 1
        found += [(u, 1 if u.once else groups * passes) for u in part.uops]
    return found


def vector_slots(uops: tuple[Uop, ...], fields: Fields) -> int:
    """Slots of a VECTOR: executed micro-operations over all groups."""
    return sum(times for _, times in _times(uops, fields))


def vector_time(core: Core, slots: int, issue: int) -> VectorTime:
    """Cycles of a VECTOR with so many slots, issued in ``issue``."""
    done = issue + core.vector_start_cycles + GROUP * slots - 1 + core.vector_drain_cycles
    return VectorTime(done + 1, done, GROUP * slots)


def vector_actions(core: Core, fields: Fields, uops: tuple[Uop, ...]) -> Activity:
    """What a VECTOR computes, reads and writes; elements of whole slots, idle ones too: the lanes work on them as well."""
    reads = dict.fromkeys(("scratchpad", "accumulator", "registers", "kernels"), 0)
    writes = dict.fromkeys(("scratchpad", "registers"), 0)
    operations = 0
    for u, times in _times(uops, fields):
        elements = times * GROUP * core.lanes
        reads["kernels"] += times * 16
        reads["registers"] += 4 * elements * len(u.reads)
        if u.reads_stream:
            reads["scratchpad"] += elements * element_bytes(fields, u.read_stream)
        if u.reads_accumulator:
            reads["accumulator"] += 4 * elements
        if u.to_en:
            writes["registers"] += 4 * elements
        if u.write_en:
            writes["scratchpad"] += elements * element_bytes(fields, u.write_stream)
        operations += elements * {"move": 0, "product": 1, "select": 1, "recip": 1, "rsqrt": 1}.get(u.op, 2)
    busy = GROUP * sum(times for _, times in _times(uops, fields))
    return Activity(busy={"vector": busy}, fp_operations=operations, reads=reads, writes=writes)
