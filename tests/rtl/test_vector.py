"""The vector unit in Verilator against a numpy model of the specification: values, writes and cycles of random kernels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Cat, ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2
from streamed import Streamed

from presilicon import float32
from presilicon.isa.layout import LAYOUT, UOP, UOPS
from presilicon.rtl.engine import payload
from presilicon.rtl.hierarchy import emission
from presilicon.rtl.vector import Vector
from presilicon.template import GROUP, Core

MEMORY = 1 << 13
FORMAT_BYTES = (4, 1, 4)
MEMORY_VERILOG = """
module test_memory #(parameter WIDTH = 16, parameter BYTES = 8192) (
  input clk, input write, input [23:0] write_address, input [8*WIDTH-1:0] write_data,
  input read, input [23:0] read_address, output reg [8*WIDTH-1:0] data
);
  reg [7:0] bytes [0:BYTES-1];
  reg [8*WIDTH-1:0] first, second;
  integer i;
  always @(posedge clk) begin
    for (i = 0; i < WIDTH; i = i + 1) begin
      if (write) bytes[(write_address + i) % BYTES] <= write_data[8*i +: 8];
      if (read) first[8*i +: 8] <= bytes[(read_address + i) % BYTES];
    end
    second <= first;
    data <= second;
  end
endmodule
"""


class Bench(wiring.Component):
    """The vector unit with a memory to read behind its scratchpad port and one behind its accumulator port."""

    def __init__(self, core: Core) -> None:
        self.core = core
        width = 32 * core.lanes
        super().__init__(
            {
                "start": In(1),
                "payload": In(payload("vector")),
                "fill": In(2),
                "fill_address": In(24),
                "fill_data": In(width),
                "kernel_en": In(1),
                "kernel_address": In(range(16 * core.kernel_slots)),
                "kernel_data": In(8 * core.bus_bytes),
                "table_en": In(1),
                "table_address": In(9),
                "table_data": In(32),
                **{name: Out(1) for name in ("ready", "done", "error", "idle", "read_en", "acc_en", "write_en")},
                "error_code": Out(8),
                "write_address": Out(24),
                "write_count": Out(range(4 * core.lanes + 1)),
                "write_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core = self.core
        m.submodules.vector = vector = Vector(core)
        modules = emission()
        assert modules is not None
        modules.texts["test_memory"] = MEMORY_VERILOG
        row = Cat(vector.acc_row[: exact_log2(core.accumulator_rows)], vector.acc_bank)
        acc_address = (row * core.chunks + vector.acc_chunk) * 4 * core.lanes
        for i, (read, address, data) in enumerate(
            ((vector.read_en, vector.read_address, vector.read_data), (vector.acc_en, acc_address[:24], vector.acc_data))
        ):
            size = MEMORY if i == 0 else core.accumulator_bytes
            m.submodules += Instance(
                "test_memory",
                p_WIDTH=4 * core.lanes,
                p_BYTES=size,
                i_clk=ClockSignal(),
                i_write=self.fill[i],
                i_write_address=self.fill_address,
                i_write_data=self.fill_data,
                i_read=read,
                i_read_address=address,
                o_data=data,
            )
        for name, member in self.signature.members.items():
            if hasattr(vector, name):
                ours, theirs = getattr(self, name), getattr(vector, name)
                m.d.comb += theirs.eq(ours) if member.flow == In else ours.eq(theirs)
        return m


@dataclass
class Model:
    """Section 8 of the specification; registers outlive an instruction as they do in the hardware."""

    core: Core
    memory: np.ndarray
    accumulators: np.ndarray
    tables: np.ndarray
    registers: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.registers = np.zeros((16, GROUP, self.core.lanes), np.uint32)

    def run(self, fields: dict[str, int], kernel: list[dict[str, int]]) -> tuple[int, list[tuple[int, int, int, bytes]]]:
        """Slots, and the writes: slot * 8 + element, address, count, bytes."""
        slots, writes = 0, []
        groups = fields["rows"] if fields["by_strips"] else -(-fields["rows"] // GROUP)
        for group in range(groups):
            for uop, strip in self._order(fields, kernel, group):
                writes += self._slot(fields, uop, group, strip, slots)
                slots += 1
        return slots, writes

    def _order(self, fields, kernel, group):
        pc = 0
        while pc < len(kernel):
            uop = kernel[pc]
            if uop["once"] and group:
                pc += 1
                continue
            if not uop["loop_begin"]:
                yield uop, uop["offset"]
                pc += 1
                continue
            end = next(i for i in range(pc, len(kernel)) if kernel[i]["loop_end"])
            step = GROUP if fields["by_strips"] else kernel[end]["step"]
            for strip in range(0, fields["strips"], step):
                for inner in kernel[pc : end + 1]:
                    yield inner, strip + inner["offset"]
            pc = end + 1

    def _slot(self, fields, uop, group, first_strip, slot):
        lanes, chunks = self.core.lanes, self.core.chunks
        i = np.arange(GROUP)
        row = np.full(GROUP, group) if fields["by_strips"] else GROUP * group + i
        strip = first_strip + i if fields["by_strips"] else np.full(GROUP, first_strip)
        idle = (row >= fields["rows"]) | (strip >= fields["strips"])
        column = strip[:, None] * lanes + np.arange(lanes)

        def address(stream):
            size = FORMAT_BYTES[fields["formats"] >> 2 * stream & 3]
            along = 0 if fields["fixed"] >> stream & 1 else strip * lanes * size
            return size, (fields[f"stream{stream}"] + row * fields[f"pitch{stream}"] + along) & 0xFFFFFF

        size, start = address(uop["read_stream"])
        raw = self.memory[(start[:, None] + np.arange(lanes * size)) % MEMORY]
        if size == 1:
            stream = float32.from_int32(raw.view(np.int8).astype(np.int32))
        else:
            stream = np.ascontiguousarray(raw).view(np.uint32)
        stream = np.where(idle[:, None], 0, stream).astype(np.uint32)
        acc_row = (fields["acc"] + row + strip // chunks * fields["acc_step"]) % self.core.accumulator_rows
        acc = self.accumulators[fields["bank"], acc_row, strip % chunks]
        own = self.registers[uop["a_reg"]]
        imm = np.full((GROUP, lanes), uop["imm"], np.uint32)
        other = self.registers[uop["b_reg"]][:, np.arange(lanes) ^ (1 << uop["b_xor"])] if uop["b_kind"] == 3 else imm
        acc = np.where(idle[:, None], 0, acc).astype(np.int32)
        total = np.where(idle[:, None], 0, acc.astype(np.int64) + own.view(np.int32)).astype(np.int32)
        a = (own, float32.from_int32(acc), stream, float32.from_int32(total))[uop["a_kind"]]
        b = (self.registers[uop["b_reg"]], imm, stream, other)[uop["b_kind"]]
        c = (self.registers[uop["c_reg"]], imm, stream, np.zeros_like(imm))[uop["c_kind"]]
        p = float32.multiply(a, b)
        p = np.where(p == float32.NAN, p, float32.negate(p)) if uop["negate_p"] else p
        negated = float32.negate(c) if uop["negate_c"] else c
        index = float32.to_int8(p).astype(np.int32) + 128
        op = uop["op"]
        if op in (UOPS["table0"], UOPS["table1"]):
            result = self.tables[(op == UOPS["table1"]) * 256 + index]
        else:
            result = {
                UOPS["add"]: lambda: float32.add(p, negated),
                UOPS["max"]: lambda: float32.maximum(p, negated),
                UOPS["product"]: lambda: p,
                UOPS["move"]: lambda: a,
                UOPS["select"]: lambda: float32.select(a, b, negated),
                UOPS["round"]: lambda: float32.round_even(p),
                UOPS["recip"]: lambda: float32.reciprocal_seed(a),
                UOPS["rsqrt"]: lambda: float32.reciprocal_root_seed(a),
            }[op]()
        if uop["masked"]:
            valid = fields["valid"] + (row if fields["causal"] else 0 * row)
            result = np.where((column >= valid[:, None]) | idle[:, None], c, result)
        if uop["to_en"]:
            self.registers[uop["to"]] = result
        if not uop["write_en"]:
            return []
        stream_format = fields["formats"] >> 2 * uop["write_stream"] & 3
        size, start = address(uop["write_stream"])
        zero_point = fields["zero_point"]
        values = (
            lambda: result,
            lambda: float32.to_int8(result, zero_point),
            lambda: float32.to_int32(result),
        )[stream_format]()
        enabled = np.clip(fields["columns"] - strip * lanes, 0, lanes) * ~idle
        return [
            (slot * GROUP + e, int(start[e]), int(enabled[e]) * size, values[e, : enabled[e]].tobytes())
            for e in range(GROUP)
            if enabled[e]
        ]


def random_uop(rng, core: Core, read_streams: list[int], write_streams: list[int]) -> dict[str, int]:
    uop = {f.name: int(rng.integers(0, 1 << f.bits)) for f in UOP}
    uop |= {"loop_begin": 0, "loop_end": 0, "last": 0, "once": 0, "offset": 0, "step": 0}
    uop["op"] = int(rng.choice([0, 0, *UOPS.values()]))
    uop["b_xor"] = int(rng.integers(0, core.lanes.bit_length() - 1))
    uop["imm"] = int(float32.bits(rng.choice([0.5, -3.0, 1e-3, 100.0, rng.normal()]))) if rng.random() < 0.9 else uop["imm"]
    uop["read_stream"], uop["write_stream"] = int(rng.choice(read_streams)), int(rng.choice(write_streams))
    for flag, share in (("negate_p", 0.2), ("negate_c", 0.3), ("masked", 0.3), ("write_en", 0.4), ("to_en", 0.8)):
        uop[flag] = int(rng.random() < share)
    return uop


def random_kernel(rng, core: Core, by_strips: int) -> tuple[list[dict[str, int]], int]:
    """A kernel and the formats of its streams: stream 0 and 1 are read, 2 and 3 written."""
    formats = sum(int(rng.integers(0, n)) << 2 * s for s, n in enumerate((2, 2, 3, 3)))
    kernel: list[dict[str, int]] = []

    def some(low: int, high: int) -> list[dict[str, int]]:
        return [random_uop(rng, core, [0, 1], [2, 3]) for _ in range(rng.integers(low, high))]

    once = some(0, 4)
    for uop in once:
        uop["once"] = 1
    kernel += once
    for _ in range(rng.integers(1, 4)):
        kernel += some(0, 3)
        body = some(1, 5)
        body[0]["loop_begin"], body[-1]["loop_end"] = 1, 1
        body[-1]["step"] = int(rng.integers(1, 9))
        kernel += body
    kernel += some(0, 3)
    for uop in kernel:
        uop["offset"] = 0 if by_strips else int(rng.choice([0, 0, 0, 1, 2, 7]))
    if rng.random() < 0.1 and once:
        kernel = once
    kernel[-1]["last"] = 1
    return kernel, formats


def random_fields(rng, core: Core) -> dict[str, int]:
    fields = {f.name: 0 for f in LAYOUT["vector"]}
    rows, strips = int(rng.integers(1, 20)), int(rng.integers(1, 12))
    columns = strips * core.lanes
    for stream in range(4):
        fields[f"stream{stream}"] = int(rng.integers(0, MEMORY))
        fields[f"pitch{stream}"] = int(rng.integers(0, 300))
    return fields | {
        "rows": rows,
        "strips": strips,
        "columns": int(rng.integers(max(columns - 2 * core.lanes, 1), columns + 1)),
        "valid": int(rng.integers(0, columns + 2)),
        "fixed": int(rng.integers(0, 16)) & int(rng.integers(0, 16)),
        "by_strips": int(rng.random() < 0.5),
        "causal": int(rng.random() < 0.5),
        "zero_point": int(rng.integers(-128, 128)),
        "bank": int(rng.integers(0, 2)),
        "acc": int(rng.integers(0, core.accumulator_rows // 2)),
        "acc_step": int(rng.integers(0, core.accumulator_rows // 2)),
    }


def packed(fields: dict[str, int], layout) -> int:
    """An integer of fields side by side."""
    value = at = 0
    for f in layout:
        value |= (fields[f.name] & ((1 << f.bits) - 1)) << at
        at += f.bits
    return value


class Script:
    """Stimulus cycle by cycle."""

    def __init__(self, core: Core) -> None:
        self.core, self.at = core, 0
        self.events: dict[str, dict[int, int]] = {}

    def put(self, cycle: int, **values: int) -> None:
        for name, value in values.items():
            self.events.setdefault(name, {})[cycle] = value

    def fill(self, which: int, content: bytes) -> None:
        width = 4 * self.core.lanes
        for address in range(0, len(content), width):
            data = int.from_bytes(content[address : address + width], "little")
            self.put(self.at, fill=1 << which, fill_address=address, fill_data=data)
            self.at += 1

    def kernel(self, kernel: list[dict[str, int]], first: int) -> None:
        width = self.core.bus_bytes
        image = b"".join(packed(uop, UOP).to_bytes(16, "little") for uop in kernel)
        image = bytes(-first * 16 % width * 0) + image + bytes(-len(image) % width)
        for address in range(0, len(image), width):
            data = int.from_bytes(image[address : address + width], "little")
            self.put(self.at, kernel_en=1, kernel_address=first * 16 + address, kernel_data=data)
            self.at += 1

    def arrays(self, streamed: Streamed) -> dict[str, np.ndarray]:
        arrays = {}
        for name, events in self.events.items():
            width = -(-streamed.fields[name][1] // 8)
            arrays[name] = np.zeros((self.at, width), np.uint8)
            for cycle, value in events.items():
                arrays[name][cycle] = np.frombuffer(value.to_bytes(width, "little"), np.uint8)
        return arrays


def small_core(rows: int, cols: int, lanes: int, bus_bytes: int) -> Core:
    return Core(
        rows=rows,
        cols=cols,
        lanes=lanes,
        bus_bytes=bus_bytes,
        weight_rows_per_cycle=-(-bus_bytes // cols),
        scratchpad_bytes=1 << 16,
        scratchpad_banks=4,
        accumulator_rows=32,
    )


CORES = {
    "4x4": small_core(4, 4, 4, 16),
    "8x12": small_core(8, 12, 4, 32),
    "8x8": small_core(8, 8, 8, 16),
    "16x32": small_core(16, 32, 16, 64),
    "32x96": small_core(32, 96, 32, 32),
}


def memories(rng, core: Core) -> Model:
    """Numbers of moderate size, some special ones among them."""
    words = float32.bits(rng.normal(0, 30, MEMORY // 4)).copy()
    words[::17] = rng.integers(0, 1 << 32, len(words[::17]), dtype=np.uint32)
    sums = rng.integers(-300, 300, (2, core.accumulator_rows, core.chunks, core.lanes), dtype=np.int32)
    sums.reshape(-1)[::5] = rng.integers(-(1 << 31), 1 << 31, len(sums.reshape(-1)[::5]))
    tables = float32.bits(rng.normal(size=512)).copy()
    tables[::9] = rng.integers(0, 1 << 32, len(tables[::9]), dtype=np.uint32)
    tables[:4] = (0x7F800001, 0xFFFFFFFF, 0x80000001, 1)
    return Model(core, words.view(np.uint8), sums, tables)


@pytest.mark.parametrize("name", CORES)
def test_random_kernels(name: str) -> None:
    core = CORES[name]
    rng = np.random.default_rng(list(CORES).index(name))
    model, script = memories(rng, core), Script(core)
    script.fill(0, model.memory.tobytes())
    script.fill(1, model.accumulators.tobytes())
    for entry, value in enumerate(model.tables):
        script.put(script.at + entry, table_en=1, table_address=entry, table_data=int(value))
    script.at += len(model.tables)
    model.tables = float32.canonical(model.tables)
    wanted, done = [], []
    for _ in range(40):
        fields = random_fields(rng, core)
        kernel, fields["formats"] = random_kernel(rng, core, fields["by_strips"])
        align = core.bus_bytes // 16
        fields["kernel"] = int(rng.integers(0, core.kernel_slots - len(kernel) - align)) // align * align
        script.kernel(kernel, fields["kernel"])
        slots, writes = model.run(fields, kernel)
        start = script.at
        script.put(start, start=1, payload=packed(fields, LAYOUT["vector"]))
        first = start + core.vector_start_cycles
        wanted += [(first + at + 13, *rest) for at, *rest in writes]
        done.append(first + GROUP * slots - 1 + core.vector_drain_cycles)
        script.at = done[-1] + 1
    script.at += 4
    bench = Streamed(Bench(core))
    got = bench.run(script.at, **script.arrays(bench))
    assert not got["error"].any()
    assert np.flatnonzero(got["done"]).tolist() == done
    written = [
        (
            int(t),
            int(got["write_address"][t]),
            int(got["write_count"][t]),
            got["write_data"][t].tobytes()[: int(got["write_count"][t])],
        )
        for t in np.flatnonzero(got["write_en"])
    ]
    for one, other in zip(written, wanted, strict=False):
        assert one == other
    assert len(written) == len(wanted)
