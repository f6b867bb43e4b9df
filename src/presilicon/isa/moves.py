"""LOAD and STORE: rows between DRAM and the core's memories, with fill and gather; their bursts on the bus.

The rows of an instruction are numbered q over its counts, n1 innermost: row (i1, i2, i3) lies at
``dram + i1 stride1 + i2 stride2 + i3 stride3`` (gather: ``dram + index[index0 + i1] stride1``) and at ``spad + q pitch``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from presilicon.errors import IsaError
from presilicon.isa.instruction import check_fields
from presilicon.isa.layout import TARGETS
from presilicon.isa.state import State
from presilicon.template import Core
from presilicon.trace import Activity

Fields = Mapping[str, int]
Ints = NDArray[np.int64]

# From issue to the first entry, and with a gather: index memory and a product of two registers.
MOVE_START = 2
GATHER_START = 4
# From the last beat at the sink until all can be read.
LOAD_DONE = 4
BURST_BYTES = 4096
_ADDRESSES = 1 << 40


def table_beat_cycles(core: Core) -> int:
    """Cycles a beat takes that goes to the tables: an entry of 4 bytes each."""
    return core.bus_bytes // 4


def valid_rows(fields: Fields) -> tuple[int, int]:
    """First and last-but-one i1 that is not all fill by the range check."""
    n1, limit = fields["n1"], fields.get("limit", 0)
    if not limit:
        return 0, n1
    first = min(max(0, -fields["y0"]), n1)
    return first, max(first, min(n1, limit - fields["y0"]))


def row_addresses(fields: Fields, indices: NDArray[np.uint32] | None = None) -> Ints:
    """DRAM address of every row, int64 [n3, n2, n1]; IsaError (code 14) where a gather goes past the index memory."""
    n1, n2, n3 = fields["n1"], fields["n2"], fields["n3"]
    if fields.get("gather"):
        if indices is None:
            raise IsaError("a gather needs the index memory")
        first = fields["index0"]
        if first + n1 > len(indices):
            raise IsaError(f"index {first + n1 - 1} is past the {len(indices)} of the index memory", code=14)
        picked = indices[first : first + n1].astype(np.int64)
        return ((fields["dram"] + picked * fields["stride1"]) % _ADDRESSES).reshape(1, 1, n1)
    i1, i2, i3 = (np.arange(n, dtype=np.int64) for n in (n1, n2, n3))
    outer = (i3 * fields["stride3"])[:, None, None] + (i2 * fields["stride2"])[None, :, None]
    return fields["dram"] + outer + (i1 * fields["stride1"])[None, None, :]


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries of a LOAD or bursts of a STORE, in order; arrays of the same length.

    ``address`` is aligned to the bus (0 for fills), ``beats`` the cycles at the sink (fills: bytes over bus_bytes, up),
    ``bytes`` what counts of them.
    """

    fill: NDArray[np.bool_]
    address: Ints
    beats: Ints
    bytes: Ints


def _bursts(core: Core, address: Ints, run: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Bursts of rows of ``run`` bytes: how many of each row, and of each burst its address, beats and bytes."""
    bus = core.bus_bytes
    page = address // BURST_BYTES
    count = (address + (run - 1)) // BURST_BYTES - page + 1
    if not (count > 1).any():
        start = address - address % bus
        return count, start, (address + (run + bus - 1) - start) // bus, np.full_like(address, run)
    row = np.repeat(np.arange(len(address)), count)
    number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    at = (page[row] + number) * BURST_BYTES
    first = np.maximum(address[row], at)
    last = np.minimum(address[row] + run, at + BURST_BYTES)
    start = first - first % bus
    return count, start, (last + (bus - 1) - start) // bus, last - first


def load_entries(core: Core, fields: Fields, indices: NDArray[np.uint32] | None = None) -> Entries:
    """What a LOAD hands out in order: fills and the bursts of its rows; ``indices`` is the index memory, for a gather."""
    rows = row_addresses(fields, indices)
    left, run, right = fields["left"], fields["run"], fields["right"]
    first, last = valid_rows(fields)
    whole = first == 0 and last == fields["n1"]
    read = rows[:, :, first:last].reshape(-1)
    count, address, beats, size = _bursts(core, read, run)
    if whole and not left and not right:
        return Entries(np.zeros(len(address), bool), address, beats, size)
    valid = np.zeros(rows.shape, bool)
    valid[:, :, first:last] = True
    flat = valid.reshape(-1)
    entries = np.ones(flat.shape, np.int64)
    entries[flat] = count + (left > 0) + (right > 0)
    begin = np.cumsum(entries) - entries
    total = int(entries.sum())
    fill = np.ones(total, bool)
    made = [np.zeros(total, np.int64) for _ in range(3)]
    made[2][begin] = np.where(flat, left, left + run + right)
    if right:
        made[2][(begin + entries - 1)[flat]] = right
    where = np.repeat(begin[flat] + (left > 0), count) + np.arange(len(address)) - np.repeat(np.cumsum(count) - count, count)
    fill[where] = False
    made[1][:] = -(-made[2] // core.bus_bytes)
    for array, values in zip(made, (address, beats, size), strict=True):
        array[where] = values
    return Entries(fill, *made)


def store_bursts(core: Core, fields: Fields) -> Entries:
    """The bursts of a STORE in order."""
    _, address, beats, size = _bursts(core, row_addresses(fields).reshape(-1), fields["run"])
    return Entries(np.zeros(len(address), bool), address, beats, size)


def _within(low: int, high: int, size: int, what: str, code: int) -> None:
    if low < 0 or high > size:
        raise IsaError(f"bytes {low:#x} to {high - 1:#x} of the {what}", hint=f"it has {size} bytes", code=code)


def _disjoint(run: int, steps: list[tuple[int, int]]) -> bool:
    """Whether rows of ``run`` bytes at these (count, stride) never overlap, as far as strides alone can tell."""
    span = run
    for count, stride in sorted((abs(stride), count) for count, stride in steps if count > 1):
        if count < span:
            return False
        span += count * (stride - 1)
    return True


def execute_load(state: State, fields: Fields) -> None:
    """Everything a LOAD does to ``state``; IsaError with the hardware's code where it cannot."""
    check_fields(state.core, "load", fields)
    if not state.values and fields["target"] < 2:
        return
    memory = state.target(fields["target"])
    n1, n2, n3, pitch = fields["n1"], fields["n2"], fields["n3"], fields["pitch"]
    left, run = fields["left"], fields["run"]
    width = left + run + fields["right"]
    rows = n1 * n2 * n3
    _within(fields["spad"], fields["spad"] + (rows - 1) * pitch + width, len(memory), TARGETS[fields["target"]], 3)
    to = as_strided(memory[fields["spad"] :], (n3, n2, n1, width), (n2 * n1 * pitch, n1 * pitch, pitch, 1), writeable=True)
    first, last = valid_rows(fields)
    addresses = row_addresses(fields, state.indices)[:, :, first:last]
    source = np.zeros((n3, n2, 0, run), np.uint8)
    if addresses.size:
        low, high = int(addresses.min()), int(addresses.max()) + run
        _within(low, high, len(state.dram), "DRAM", 9)
        window = np.asarray(state.dram[low:high])
        if fields["gather"]:
            source = window[(addresses - low)[..., None] + np.arange(run)]
        else:
            strides = fields["stride3"], fields["stride2"], fields["stride1"], 1
            start = window[int(addresses[0, 0, 0]) - low :]
            source = as_strided(start, (*addresses.shape, run), strides, writeable=False)
    if rows > 1 and pitch < width:
        data = np.full((n3, n2, n1, width), fields["fill"], np.uint8)
        data[:, :, first:last, left : left + run] = source
        for row, line in enumerate(data.reshape(rows, width)):
            memory[fields["spad"] + row * pitch :][:width] = line
    else:
        to[:, :, :first] = to[:, :, last:] = fields["fill"]
        to[..., :left] = to[..., left + run :] = fields["fill"]
        to[:, :, first:last, left : left + run] = source
    state.written(fields["target"])


def execute_store(state: State, fields: Fields) -> None:
    """Everything a STORE does to ``state``; IsaError with the hardware's code where it cannot."""
    check_fields(state.core, "store", fields)
    if not state.values:
        return
    n1, n2, n3, pitch, run = (fields[name] for name in ("n1", "n2", "n3", "pitch", "run"))
    rows = n1 * n2 * n3
    _within(fields["spad"], fields["spad"] + (rows - 1) * pitch + run, len(state.spad), "scratchpad", 3)
    shape = (n3, n2, n1, run)
    source = as_strided(state.spad[fields["spad"] :], shape, (n2 * n1 * pitch, n1 * pitch, pitch, 1), writeable=False)
    addresses = row_addresses(fields)
    _within(int(addresses.min()), int(addresses.max()) + run, len(state.dram), "DRAM", 10)
    strides = fields["stride3"], fields["stride2"], fields["stride1"], 1
    if _disjoint(run, list(zip((n3, n2, n1), strides, strict=False))):
        to = as_strided(state.dram[int(addresses[0, 0, 0]) :], shape, strides)
        to[...] = source
    else:
        for line, address in zip(source.reshape(rows, run), addresses.reshape(-1).tolist(), strict=True):
            state.dram[address : address + run] = line


def move_actions(core: Core, op: str, fields: Fields, entries: Entries) -> Activity:
    """Bytes that a LOAD or STORE moves: whole beats on the DRAM side, the bytes that count on the core's side."""
    bus = int(entries.beats[~entries.fill].sum()) * core.bus_bytes
    rows = fields["n1"] * fields["n2"] * fields["n3"]
    cycles = {op: int(entries.beats.sum())}
    if op == "store":
        return Activity(busy=cycles, reads={"scratchpad": rows * fields["run"]}, writes={"dram": bus})
    inside = rows * (fields["left"] + fields["run"] + fields["right"])
    return Activity(busy=cycles, reads={"dram": bus}, writes={TARGETS[fields["target"]]: inside})
