"""The chip: its cores on one AXI4 port, their control registers behind one AXI4-Lite port, a barrier between them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import Component, In, Member, Out

from presilicon.errors import ChipError
from presilicon.rtl import axi
from presilicon.rtl.arbiter import Arbiter, id_bits
from presilicon.rtl.axi_lite import AxiLite, axi_lite_members
from presilicon.rtl.control import Control
from presilicon.rtl.core import Core
from presilicon.rtl.engine import PC_BITS
from presilicon.rtl.hierarchy import place
from presilicon.rtl.register_map import PAGE_BYTES
from presilicon.rtl.sequencer import QUEUED
from presilicon.template import Core as Sizes

MODULE = "presilicon_top"
MOST_CORES = 16
_IDS = ("arid", "awid", "rid", "bid")


def _trace_members(cores: int) -> dict[str, Member]:
    """What harness and wave form show of a run; core c in bits [c * width +: width]."""
    members: dict[str, Member] = {}
    for name in QUEUED:
        members |= {f"trace_{name}_issue": Out(cores), f"trace_{name}_issue_pc": Out(cores * PC_BITS)}
        members[f"trace_{name}_done"] = Out(cores)
    return members | {name: Out(cores) for name in ("trace_start", "trace_halt", "trace_error")}


class Top(Component):
    """``m_axi_*``: AXI4 of all cores; ``s_axil_*``: AXI4-Lite, the registers of core c at c * 0x1000; ``irq``: of any core.

    ``trace_*`` show when instructions issue and are done, a run starts, halts, or keeps an error; leave them open in silicon.
    """

    def __init__(self, core: Sizes) -> None:
        if core.cores > MOST_CORES:
            raise ChipError(f"cores is {core.cores}", hint=f"1 to {MOST_CORES} in one chip of the template")
        self.core = core
        bus = axi.top_members(core.bus_bytes)
        for name in _IDS:
            bus[f"m_axi_{name}"] = (Out if name in ("arid", "awid") else In)(id_bits(core.cores))
        super().__init__({**bus, **axi_lite_members(), "irq": Out(1), **_trace_members(core.cores)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        numbers = range(self.core.cores)
        controls = [place(m, Control(self.core), "control", f"control_{n}") for n in numbers]
        resets = [control.reset for control in controls]
        cores = [place(m, Core(self.core), "core", f"core_{n}", reset=resets[n]) for n in numbers]
        for control, core in zip(controls, cores, strict=True):
            self._join(m, control, core)
        self._registers(m, controls)
        self._memory(m, cores)
        self._barrier(m, cores)
        self._traces(m, controls, cores)
        return m

    def _join(self, m: Module, control: Control, core: Core) -> None:
        """A core and its control registers."""
        for name in (
            "start", "stop", "watchdog", "program_address", "program_bytes", "argument", "argument_high", "argument_en",
            "argument_data",
        ):  # fmt: skip
            m.d.comb += getattr(core, name).eq(getattr(control, name))
        for name in (
            "argument_value", "done", "quiet", "error", "error_code", "error_engine", "error_pc", "error_info", "busy",
            "moving_row",
        ):  # fmt: skip
            m.d.comb += getattr(control, name).eq(getattr(core, name))
        read, write = core.read, core.write
        stalls = (read.arvalid & ~read.arready, write.awvalid & ~write.awready, write.wvalid & ~write.wready)
        m.d.comb += [
            control.waits.eq(sum(core.waiting)),
            control.read_beat.eq(read.rvalid & read.rready),
            control.write_beat.eq(write.wvalid & write.wready),
            control.stalls.eq(sum(stalls)),
        ]

    def _registers(self, m: Module, controls: list[Control]) -> None:
        """AXI4-Lite to the page of each core."""
        front = place(m, AxiLite(), "axi_lite", "axi_lite")
        for name, member in axi_lite_members("").items():
            outside = getattr(self, f"s_axil_{name}")
            m.d.comb += getattr(front, name).eq(outside) if member.flow == In else outside.eq(getattr(front, name))
        page = PAGE_BYTES.bit_length() - 1
        number = front.address[page:]
        start_all = Cat(control.start_all for control in controls).any()
        m.d.comb += front.refused.eq(1)
        for n, control in enumerate(controls):
            mine = number == n
            m.d.comb += [
                control.number.eq(n),
                control.offset.eq(front.address[:page]),
                control.data.eq(front.data),
                control.write.eq(front.write & mine),
                control.read.eq(front.read & mine),
                control.start_request.eq(start_all),
            ]
            with m.If(mine):
                m.d.comb += [front.answer.eq(control.answer), front.refused.eq(control.refused)]
        m.d.comb += self.irq.eq(Cat(control.irq for control in controls).any())

    def _memory(self, m: Module, cores: list[Core]) -> None:
        """The AXI4 port: a core's own, or all of them in turn."""
        bus_bytes = self.core.bus_bytes
        if len(cores) == 1:
            axi.connect_top(m, self, cores[0].read, cores[0].write, bus_bytes)
            return
        arbiter = place(m, Arbiter(len(cores), bus_bytes, self.core.outstanding), "arbiter", "arbiter")
        for core, reads, writes in zip(cores, arbiter.reads, arbiter.writes, strict=True):
            for mine, theirs, signature in (
                (core.read, reads, axi.read_port(bus_bytes)),
                (core.write, writes, axi.write_port(bus_bytes)),
            ):
                for name, member in signature.members.items():
                    source, sink = (mine, theirs) if member.flow == Out else (theirs, mine)
                    m.d.comb += getattr(sink, name).eq(getattr(source, name))
        axi.connect_top(m, self, arbiter.read, arbiter.write, bus_bytes)
        m.d.comb += [
            self.m_axi_arid.eq(arbiter.arid),
            self.m_axi_awid.eq(arbiter.awid),
            arbiter.rid.eq(self.m_axi_rid),
            arbiter.bid.eq(self.m_axi_bid),
        ]

    def _barrier(self, m: Module, cores: list[Core]) -> None:
        """Cores leave a barrier together: the cycle after the last one arrives, at once where there is but one core."""
        arrived = Cat(core.barrier_arrive for core in cores).all()
        release = arrived
        if len(cores) > 1:
            release = Signal(name="barrier_release")
            m.d.sync += release.eq(arrived & ~release)
        m.d.comb += [core.barrier_release.eq(release) for core in cores]

    def _traces(self, m: Module, controls: list[Control], cores: list[Core]) -> None:
        """Outputs that only a simulation looks at."""
        for number, name in enumerate(QUEUED):
            pcs = [core.issued_pc[PC_BITS * number : PC_BITS * (number + 1)] for core in cores]
            m.d.comb += [
                getattr(self, f"trace_{name}_issue").eq(Cat(core.issued[number] for core in cores)),
                getattr(self, f"trace_{name}_issue_pc").eq(Cat(pcs)),
                getattr(self, f"trace_{name}_done").eq(Cat(core.retired[number] for core in cores)),
            ]
        m.d.comb += [
            self.trace_start.eq(Cat(control.start for control in controls)),
            self.trace_halt.eq(Cat(core.done for core in cores)),
            self.trace_error.eq(Cat(core.failed for core in cores)),
        ]
