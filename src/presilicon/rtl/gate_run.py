"""A program on the mapped gates of a chip: the harness of ``runner``, for a netlist and a few thousand cycles.

The memory is that of ``dram``, so a run takes the cycles that the simulator and the RTL take; the gates must write what they
write. What switched is then known for every net (`power.Gates`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presilicon.dram import Dram, DramOptions
from presilicon.isa import INSTRUCTION_BYTES, Program
from presilicon.rtl.power import Gates
from presilicon.rtl.register_map import offset, register
from presilicon.rtl.runner import RtlError
from presilicon.template import Core

_RESET_CYCLES = 4
_PATIENCE = 1000


@dataclass(slots=True)
class _Read:
    address: int
    beats: int
    start: int
    moved: int = 0


class GateRun:
    """Gates of ``presilicon_top`` with one core, and its DRAM: uint8, changed in place."""

    def __init__(self, gates: Gates, core: Core, memory: NDArray[np.uint8]) -> None:
        self.gates, self.core, self.memory = gates, core, memory
        self.dram = Dram(DramOptions())
        self._reads: deque[_Read] = deque()
        self._writes: deque[list[int]] = deque()
        self._answers: deque[int] = deque()
        # Registers that are still to be written, as (offset, word).
        self._registers: deque[tuple[int, int]] = deque()
        self.now = 0
        steady = {"m_axi_arready": 1, "m_axi_awready": 1, "m_axi_wready": 1, "s_axil_bready": 1, "s_axil_wstrb": 15}
        gates.step({port: steady.get(port, 0) for port in gates.ports} | {"rst": 1})
        for _ in range(_RESET_CYCLES):
            gates.step({})
        gates.step({"rst": 0})

    def run(self, program: Program, arguments: Mapping[int, int], max_cycles: int) -> int:
        """Cycles from start to halt; energy counts from the start. RtlError where the gates keep an error or do not halt."""
        self._write("PROGRAM", program.address)
        self._write("PROGRAM_BYTES", INSTRUCTION_BYTES * len(program.instructions))
        for number, value in arguments.items():
            self._write(f"ARG{number}", value)
        self._write("CONTROL", 1)
        for _ in range(_PATIENCE):
            self._cycle()
            if self.gates.output("trace_start"):
                break
        else:
            raise RtlError("the gates do not start", where="trace_start")
        self.gates.reset_energy()
        self.now = 1
        while self.now <= max_cycles:
            self._cycle()
            if self.gates.output("trace_error"):
                raise RtlError("the gates keep an error", where=f"cycle {self.now}")
            if self.gates.output("trace_halt"):
                return self.now
            self.now += 1
        raise RtlError(f"the gates did not halt in {max_cycles} cycles")

    def _write(self, name: str, value: int) -> None:
        for word in range(register(name).words):
            self._registers.append((offset(name) + 4 * word, value >> 32 * word & 0xFFFFFFFF))

    def _cycle(self) -> None:
        gates, bus, ports = self.gates, self.core.bus_bytes, dict[str, int]()
        if self._registers:
            address, word = self._registers[0]
            ports |= {"s_axil_awaddr": address, "s_axil_wdata": word}
        valid = int(bool(self._registers))
        ports |= {"s_axil_awvalid": valid, "s_axil_wvalid": valid}
        read = self._reads[0] if self._reads else None
        ports["m_axi_rvalid"] = int(read is not None and self.dram.beat(read.start, read.moved) <= self.now)
        if read is not None and ports["m_axi_rvalid"]:
            at = read.address + read.moved * bus
            ports["m_axi_rdata"] = int.from_bytes(self.memory[at : at + bus].tobytes(), "little")
            ports["m_axi_rlast"] = int(read.moved + 1 == read.beats)
        ports["m_axi_bvalid"] = int(bool(self._answers) and self._answers[0] <= self.now)
        gates.step(ports)
        if valid and gates.output("s_axil_awready") and gates.output("s_axil_wready"):
            self._registers.popleft()
        if read is not None and ports["m_axi_rvalid"] and gates.output("m_axi_rready"):
            read.moved += 1
            if read.moved == read.beats:
                self._reads.popleft()
        if ports["m_axi_bvalid"]:
            self._answers.popleft()
        self._addresses()

    def _addresses(self) -> None:
        """What the gates ask of the memory in this cycle."""
        gates, bus = self.gates, self.core.bus_bytes
        if gates.output("m_axi_arvalid"):
            address, beats = gates.output("m_axi_araddr"), gates.output("m_axi_arlen") + 1
            start, _ = self.dram.serve(self.now, beats, address)
            self._reads.append(_Read(address, beats, start))
        if gates.output("m_axi_awvalid"):
            self._writes.append([gates.output("m_axi_awaddr"), gates.output("m_axi_awlen") + 1, 0])
        if gates.output("m_axi_wvalid"):
            burst = self._writes[0]
            at = burst[0] + burst[2] * bus
            data = np.frombuffer(gates.output("m_axi_wdata").to_bytes(bus, "little"), np.uint8)
            strobe = np.unpackbits(
                np.frombuffer(gates.output("m_axi_wstrb").to_bytes(-(-bus // 8), "little"), np.uint8), bitorder="little"
            )[:bus].astype(np.bool_)
            self.memory[at : at + bus][strobe] = data[strobe]
            burst[2] += 1
            if burst[2] == burst[1]:
                self._writes.popleft()
                _, free = self.dram.serve(self.now, burst[1], burst[0], True)
                self._answers.append(self.dram.response(free))
