"""The vector unit in Verilator, a slow model of the specification, and the instruction set's meaning, on random kernels."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Cat, ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2
from streamed import Streamed
from vector_model import MEMORY, Fields, Model, random_fields, random_kernel

from presilicon import float32
from presilicon.isa import LAYOUT, UOP, UOP_BYTES, UOPS, State, Uop, execute, vector_slots, vector_time
from presilicon.rtl.address import WRITE_STAGE
from presilicon.rtl.build import lint
from presilicon.rtl.engine import payload
from presilicon.rtl.hierarchy import emission, verilog
from presilicon.rtl.vector import Vector
from presilicon.template import Core

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
                "stop": In(1),
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


def packed(fields: Fields) -> int:
    """The payload: fields side by side."""
    value = at = 0
    for f in LAYOUT["vector"]:
        value |= (fields[f.name] & ((1 << f.bits) - 1)) << at
        at += f.bits
    return value


class Script:
    """Stimulus cycle by cycle."""

    def __init__(self, core: Core) -> None:
        self.core, self.at = core, 0
        self.events: dict[str, dict[int, int]] = {}

    def put(self, **values: int) -> None:
        """Inputs of the next cycle."""
        for name, value in values.items():
            self.events.setdefault(name, {})[self.at] = value
        self.at += 1

    def fill(self, which: int, content: bytes) -> None:
        """Writes memory 0 (read by streams) or 1 (accumulators)."""
        width = 4 * self.core.lanes
        for address in range(0, len(content), width):
            data = int.from_bytes(content[address : address + width], "little")
            self.put(fill=1 << which, fill_address=address, fill_data=data)

    def kernel(self, image: bytes, first: int) -> None:
        """Writes micro-operations at a slot that begins a beat."""
        width = self.core.bus_bytes
        for at in range(0, len(image), width):
            data = int.from_bytes(image[at : at + width], "little")
            self.put(kernel_en=1, kernel_address=first * UOP_BYTES + at, kernel_data=data)

    def run(self, bench: Streamed) -> dict[str, np.ndarray]:
        """The outputs of every cycle."""
        arrays = {}
        for name, events in self.events.items():
            width = -(-bench.fields[name][1] // 8)
            arrays[name] = np.zeros((self.at, width), np.uint8)
            for cycle, value in events.items():
                arrays[name][cycle] = np.frombuffer(value.to_bytes(width, "little"), np.uint8)
        return bench.run(self.at, **arrays)


def small_core(rows: int, cols: int, lanes: int, bus_bytes: int) -> Core:
    return Core(
        rows=rows,
        cols=cols,
        lanes=lanes,
        bus_bytes=bus_bytes,
        weight_rows_per_cycle=-(-bus_bytes // cols),
        scratchpad_bytes=1 << 16,
        scratchpad_banks=2,
        accumulator_rows=256,
    )


CORES = {
    "4x4": small_core(4, 4, 4, 16),
    "8x12": small_core(8, 12, 4, 32),
    "16x32": small_core(16, 32, 16, 64),
    "32x96": small_core(32, 96, 32, 32),
}


def random_state(rng: np.random.Generator, core: Core) -> State:
    """Numbers of moderate size, some special ones among them."""
    state = State(core)
    words = float32.bits(rng.normal(0, 30, MEMORY // 4)).copy()
    words[::17] = rng.integers(0, 1 << 32, len(words[::17]), dtype=np.uint32)
    state.spad[:MEMORY] = words.view(np.uint8)
    state.accumulators[:] = rng.integers(-300, 300, state.accumulators.shape)
    state.accumulators[..., ::5] = rng.integers(-(1 << 31), 1 << 31, state.accumulators[..., ::5].shape)
    state.tables[:] = float32.bits(rng.normal(size=512))
    state.tables[::9] = rng.integers(0, 1 << 32, len(state.tables[::9]), dtype=np.uint32)
    state.tables[:4] = (0x7F800001, 0xFFFFFFFF, 0x80000001, 1)
    return state


@pytest.mark.parametrize("name", CORES)
def test_random_kernels(name: str) -> None:
    core = CORES[name]
    rng = np.random.default_rng(list(CORES).index(name))
    state, script = random_state(rng, core), Script(core)
    script.fill(0, state.spad[:MEMORY].tobytes())
    script.fill(1, state.accumulators.tobytes())
    for entry, value in enumerate(state.tables):
        script.put(table_en=1, table_address=entry, table_data=int(value))
    state.written(1)
    wanted, done = [], []
    for _ in range(40):
        by_strips = int(rng.random() < 0.5)
        uops, fields = random_kernel(rng, core, by_strips), random_fields(rng, core, by_strips)
        align = core.bus_bytes // UOP_BYTES
        first = int(rng.integers(0, core.kernel_slots - len(uops) - align)) // align * align
        fields["kernel"] = first
        image = b"".join(u.encode() for u in uops)
        script.kernel(image, first)
        state.kernels[first : first + len(uops)] = np.frombuffer(image, np.uint8).reshape(-1, UOP_BYTES)
        state.written(2)
        start = script.at
        time = vector_time(core, vector_slots(uops, fields), start)
        script.put(start=1, payload=packed(fields))
        script.at = time.ready
        done.append(time.done)
        registers, memory = state.registers.copy(), state.spad.copy()
        writes = list(Model(state).run(fields, uops))
        wanted += [(start + core.vector_start_cycles + WRITE_STAGE + 1 + at, *rest) for at, *rest in writes]
        # The instruction set's own meaning agrees with the model.
        by_model = state.registers.copy()
        state.registers[:] = registers
        execute(state, "vector", fields)
        for _, address, content in writes:
            memory[address : address + len(content)] = np.frombuffer(content, np.uint8)
        assert (state.spad == memory).all()
        assert (state.registers == by_model).all()
    script.at += 4
    got = script.run(bench(name))
    assert not got["error"].any()
    assert np.flatnonzero(got["done"]).tolist() == done
    written = []
    for t in np.flatnonzero(got["write_en"]).tolist():
        written.append((t, int(got["write_address"][t]), got["write_data"][t].tobytes()[: int(got["write_count"][t])]))
    assert len(written) == len(wanted)
    for one, other in zip(written, wanted, strict=True):
        assert one == other


@cache
def bench(name: str) -> Streamed:
    return Streamed(Bench(CORES[name]))


PLAIN: Fields = {f.name: 0 for f in UOP} | {"op": UOPS["move"], "to_en": 1}
WRONG = {
    "no last": ([PLAIN] * 4, {"kernel": 252}),
    "loop in a loop": ([PLAIN | {"loop_begin": 1}, PLAIN | {"loop_begin": 1, "loop_end": 1, "step": 1, "last": 1}], {}),
    "end without a loop": ([PLAIN | {"loop_end": 1, "step": 1, "last": 1}], {}),
    "last in a loop": ([PLAIN | {"loop_begin": 1}, PLAIN | {"last": 1}], {}),
    "step 0": ([PLAIN | {"loop_begin": 1, "loop_end": 1, "last": 1}], {}),
    "step 9": ([PLAIN | {"loop_begin": 1, "loop_end": 1, "step": 9, "last": 1}], {}),
    "once in a loop": ([PLAIN | {"loop_begin": 1, "once": 1, "loop_end": 1, "step": 1, "last": 1}], {}),
    "once behind another": ([PLAIN, PLAIN | {"once": 1, "last": 1}], {}),
    "no such operation": ([PLAIN | {"op": 10, "last": 1}], {}),
    "exchange beyond the lanes": ([PLAIN | {"op": 0, "b_kind": 3, "b_xor": 2, "last": 1}], {}),
    "offset by strips": ([PLAIN | {"offset": 1, "last": 1}], {"by_strips": 1}),
}


@pytest.mark.parametrize("case", WRONG)
def test_malformed_kernel(case: str) -> None:
    uops, changes = WRONG[case]
    script = Script(CORES["4x4"])
    fields = {f.name: 0 for f in LAYOUT["vector"]} | {"rows": 20, "strips": 5, "columns": 20} | changes
    image = b"".join(sum(u[f.name] << f.at for f in UOP).to_bytes(UOP_BYTES, "little") for u in uops)
    script.kernel(image, fields["kernel"])
    script.put(start=1, payload=packed(fields))
    start, script.at = script.at, script.at + 60
    got = script.run(bench("4x4"))
    errors = np.flatnonzero(got["error"])
    # Where the micro-operation's slot is in its second cycle.
    number = next(i for i, u in enumerate(uops) if case in ("no last", "last in a loop") or u is uops[-1])
    number = {"no last": 3, "last in a loop": 1}.get(case, number)
    assert errors.tolist() == [start + 2 + 8 * number]
    assert got["error_code"][errors[0]] == 12
    assert got["idle"][errors[0] + 1] == 1
    assert not got["done"].any()


@pytest.mark.parametrize("changes", [{"rows": 0}, {"strips": 0}, {"formats": 3 << 2}])
def test_illegal_fields(changes: Fields) -> None:
    script = Script(CORES["4x4"])
    fields = {f.name: 0 for f in LAYOUT["vector"]} | {"rows": 1, "strips": 1} | changes
    script.put(start=1, payload=packed(fields))
    script.at += 40
    got = script.run(bench("4x4"))
    assert np.flatnonzero(got["error"]).tolist() == [1]
    assert got["error_code"][1] == 2
    assert not got["done"].any()
    assert not got["write_en"].any()


def test_stop() -> None:
    """Nothing is written once ``stop`` has been high for a cycle, and nothing is done."""
    script = Script(CORES["4x4"])
    fields = {f.name: 0 for f in LAYOUT["vector"]} | {"rows": 64, "strips": 8, "columns": 32}
    uop = Uop(op="move", write_en=True, loop_begin=True, loop_end=True, step=1, last=True)
    script.kernel(uop.encode(), 0)
    script.put(start=1, payload=packed(fields))
    script.at += 100
    for _ in range(20):
        script.put(stop=1)
    script.at += 100
    got = script.run(bench("4x4"))
    stopped = min(script.events["stop"])
    assert got["write_en"][20:stopped].all()
    assert not got["write_en"][stopped + 1 :].any()
    assert not got["done"].any()
    assert got["idle"][stopped + 1 :].all()
    assert not got["ready"][stopped + 1 : stopped + 20].any()


@pytest.mark.parametrize("name", ["8x12", "16x32"])
def test_lint(name: str) -> None:
    assert not lint(verilog(Vector(CORES[name]), "vector"), "vector")
