"""Scratchpad: banks of two SRAMs behind private ports of any byte address (section 1 of the template).

The memory is rows of ``width_bytes`` bytes. A bank keeps the even and the odd ones of its range in an SRAM each, so that an
access that begins anywhere in a row finds that row and the next in the same cycle (the next may be the first of the next bank).

A read: address in t; SRAM outputs in t + 1, where the bank clears all lanes (bytes of a row) outside the access, so that what
the port needs is the OR of its banks, folded to the port's own width: a register in t + 2; rotated by the low address bits: a
register in t + 3. A write: registers in t + 1; rotated, its lanes decoded, in registers in t + 2, when the SRAMs take it.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.hierarchy import place
from presilicon.rtl.parts import any_of, delayed, lanes_from, register, rotated, rounded, where
from presilicon.rtl.sram import Sram
from presilicon.template import ENGINES, Core

# Engine that an error of the port is blamed on.
PORTS = {"x": "matmul", "w": "matmul", "v": "vector", "s": "store", "l": "load", "vw": "vector"}
READS = ("x", "w", "v", "s")
WRITES = ("l", "vw")
_ADDRESS, _READ_CONFLICT, _WRITE_CONFLICT = 3, 5, 6


def port_bytes(core: Core) -> dict[str, int]:
    """Bytes of the widest access of each port."""
    weights = max(core.rows, core.cols * core.weight_rows_per_cycle)
    return {"x": core.rows, "w": weights, "v": 4 * core.lanes, "s": core.bus_bytes, "l": core.bus_bytes, "vw": 4 * core.lanes}


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bit widths that follow from the core's sizes."""

    lane: int  # a byte's number in a row
    row: int  # a row's number in an SRAM
    bank: int

    @classmethod
    def of(cls, core: Core) -> _Sizes:
        rows = core.bank_bytes // (2 * core.width_bytes)
        return cls((core.width_bytes - 1).bit_length(), (rows - 1).bit_length(), (core.scratchpad_banks - 1).bit_length())

    def access(self) -> data.StructLayout:
        """What a bank is told of an access: rows of either SRAM, first lane, lane behind the last, which row comes first."""
        return data.StructLayout(
            {"even_row": self.row, "odd_row": self.row, "first": self.lane, "end": self.lane + 1, "odd_first": 1},
        )


class Bank(wiring.Component):
    """One bank: an SRAM of the even rows, one of the odd rows.

    Reads: per read port which SRAMs it reads, and its access. ``data``, in the cycle after, holds the lanes of that access; all
    others are 0. Writes: per write port which SRAMs it writes, rows, lanes of either, and data.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        sizes, width = _Sizes.of(core), core.width_bytes
        super().__init__(
            {
                "read_even": In(len(READS)),
                "read_odd": In(len(READS)),
                "access": In(data.ArrayLayout(sizes.access(), len(READS))),
                "data": Out(8 * width),
                "write_even": In(len(WRITES)),
                "write_odd": In(len(WRITES)),
                "even_row": In(data.ArrayLayout(sizes.row, len(WRITES))),
                "odd_row": In(data.ArrayLayout(sizes.row, len(WRITES))),
                "even_lanes": In(data.ArrayLayout(width, len(WRITES))),
                "odd_lanes": In(data.ArrayLayout(width, len(WRITES))),
                "write_data": In(data.ArrayLayout(8 * width, len(WRITES))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """The port whose access it is selects everything: at most one reads and one writes."""
        core = self.core
        m = Module()
        width, sizes = core.width_bytes, _Sizes.of(core)
        rows = core.bank_bytes // (2 * width)
        m.submodules.even = even = Sram(8 * width, rows, 8)
        m.submodules.odd = odd = Sram(8 * width, rows, 8)
        reads = [self.read_even[i] | self.read_odd[i] for i in range(len(READS))]
        access = Signal(sizes.access())
        m.d.comb += [
            access.eq(any_of([where(on, self.access[i].as_value()) for i, on in enumerate(reads)])),
            even.read_en.eq(self.read_even.any()),
            odd.read_en.eq(self.read_odd.any()),
            even.read_address.eq(access.even_row),
            odd.read_address.eq(access.odd_row),
        ]

        first, end = register("first", sizes.lane), register("end", sizes.lane + 1)
        odd_first, has_even, has_odd = register("odd_first", 1), register("has_even", 1), register("has_odd", 1)
        with m.If(any_of(reads)):
            m.d.sync += [
                first.eq(access.first),
                end.eq(access.end),
                odd_first.eq(access.odd_first),
                has_even.eq(even.read_en),
                has_odd.eq(odd.read_en),
            ]
        from_end = Signal(16 * width)
        low, high = Signal(8 * width), Signal(8 * width)
        m.d.comb += [
            from_end.eq(lanes_from(m, end, 2 * width, 8)),
            low.eq(lanes_from(m, first, width, 8) & ~from_end[: 8 * width]),
            high.eq(~from_end[8 * width :]),
            self.data.eq(
                where(has_even, even.read_data & Mux(odd_first, high, low))
                | where(has_odd, odd.read_data & Mux(odd_first, low, high))
            ),
        ]

        for sram, hits, row, lanes in (
            (even, self.write_even, self.even_row, self.even_lanes),
            (odd, self.write_odd, self.odd_row, self.odd_lanes),
        ):
            m.d.comb += [
                sram.write_en.eq(any_of([where(hits[i], lanes[i]) for i in range(len(WRITES))])),
                sram.write_address.eq(any_of([where(hits[i], row[i]) for i in range(len(WRITES))])),
            ]
        vector = self.write_even[1] | self.write_odd[1]
        m.d.comb += even.write_data.eq(Mux(vector, self.write_data[1], self.write_data[0]))
        m.d.comb += odd.write_data.eq(even.write_data)
        return m


@dataclass(frozen=True, slots=True)
class _Request:
    """A port's access in the cycle it is given."""

    access: data.View
    even: list[Value]  # per bank: reads or writes its even SRAM
    odd: list[Value]
    touches: Value  # a bit a bank
    beyond: Value  # runs past the memory


class Scratchpad(wiring.Component):
    """The scratchpad of a core.

    Read ports ``x``, ``w`` (matmul), ``v`` (vector), ``s`` (store): ``*_en``, ``*_address``, ``*_count`` in cycle t, ``*_data``
    (byte 0 first, bytes at and beyond ``count`` 0) from t + ``scratchpad_read_cycles`` until the data of the next read. Write
    ports ``l`` (load), ``vw`` (vector): the first ``count`` bytes are written; reads of ``scratchpad_write_cycles`` later see
    them. A ``count`` of 0 is no access. ``error`` is a pulse with its code (3 address, 5 and 6 conflicts in a bank), the engine
    blamed and as info the address (bits 0-23) and the number of the port in ``PORTS`` (from bit 28).
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        members: dict[str, In | Out] = {}
        for port, width in port_bytes(core).items():
            members |= {
                f"{port}_en": In(1),
                f"{port}_address": In(24),
                f"{port}_count": In(range(width + 1)),
                f"{port}_data": Out(8 * width) if port in READS else In(8 * width),
            }
        errors = {"error": Out(1), "error_code": Out(8), "error_engine": Out(range(len(ENGINES))), "error_info": Out(32)}
        super().__init__(members | errors)

    def elaborate(self, platform: object) -> Elaboratable:
        """Banks, then what each port needs around them."""
        m = Module()
        banks = [place(m, Bank(self.core), "scratchpad_bank", f"bank_{b}") for b in range(self.core.scratchpad_banks)]
        requests = {port: self._request(m, port) for port in PORTS}
        data = [self._folded(m, bank.data, f"bank_{b}") for b, bank in enumerate(banks)]
        for number, port in enumerate(READS):
            self._read(m, number, port, requests[port], banks, data)
        for number, port in enumerate(WRITES):
            self._write(m, number, port, requests[port], banks)
        self._errors(m, requests)
        return m

    def _request(self, m: Module, port: str) -> _Request:
        """Decodes a port's address: the rows it needs and where they are."""
        core, sizes = self.core, _Sizes.of(self.core)
        address, count = getattr(self, f"{port}_address"), getattr(self, f"{port}_count")
        en = Signal(name=f"{port}_access")
        first = address[: sizes.lane]
        row = address[sizes.lane : (core.scratchpad_bytes - 1).bit_length()]
        access = Signal(sizes.access(), name=f"{port}_request")
        two, odd_first = Signal(name=f"{port}_two_rows"), row[0]
        even_row = Signal(sizes.row + sizes.bank, name=f"{port}_even_row")
        even_en, odd_en = Signal(name=f"{port}_even_en"), Signal(name=f"{port}_odd_en")
        m.d.comb += [
            en.eq(getattr(self, f"{port}_en") & count.any()),
            access.first.eq(first),
            access.end.eq(first + count),
            access.odd_first.eq(odd_first),
            two.eq(access.end > core.width_bytes),
            even_row.eq(row[1:] + odd_first),
            access.even_row.eq(even_row),
            access.odd_row.eq(row[1:]),
            even_en.eq(en & (~odd_first | two)),
            odd_en.eq(en & (odd_first | two)),
        ]
        even_bank, odd_bank = even_row[sizes.row :], row[1 + sizes.row :]
        even, odd = Signal(core.scratchpad_banks, name=f"{port}_even"), Signal(core.scratchpad_banks, name=f"{port}_odd")
        m.d.comb += [
            even.eq(Cat(even_en & (even_bank == bank) for bank in range(core.scratchpad_banks))),
            odd.eq(Cat(odd_en & (odd_bank == bank) for bank in range(core.scratchpad_banks))),
        ]
        beyond = getattr(self, f"{port}_en") & ((address + count) > core.scratchpad_bytes)
        return _Request(access, list(even), list(odd), even | odd, beyond)

    def _folded(self, m: Module, row: Value, name: str) -> dict[int, Value]:
        """A bank's lanes, and folded to fewer: of those equal modulo a port's width the access has one, the others are 0."""
        lanes, folded = self.core.width_bytes, {self.core.width_bytes: row}
        least = min(rounded(port_bytes(self.core)[port]) for port in READS)
        while lanes > least:
            lanes //= 2
            half = Signal(8 * lanes, name=f"{name}_{lanes}")
            m.d.comb += half.eq(folded[2 * lanes][: 8 * lanes] | folded[2 * lanes][8 * lanes :])
            folded[lanes] = half
        return folded

    def _read(
        self, m: Module, number: int, port: str, request: _Request, banks: list[Bank], data: list[dict[int, Value]]
    ) -> None:
        """Gathers what the port's banks read, then rotates."""
        width = port_bytes(self.core)[port]
        lanes = rounded(width)
        for bank, even, odd in zip(banks, request.even, request.odd, strict=True):
            m.d.comb += [bank.read_even[number].eq(even), bank.read_odd[number].eq(odd), bank.access[number].eq(request.access)]
        source, active = delayed(m, request.touches, f"{port}_banks", 1), delayed(m, request.touches.any(), f"{port}_active", 2)
        first = [register(f"{port}_first_{stage}", (lanes - 1).bit_length()) for stage in (1, 2)]
        row = register(f"{port}_row", 8 * lanes)
        with m.If(request.touches.any()):
            m.d.sync += first[0].eq(request.access.first)
        with m.If(source.any()):
            m.d.sync += row.eq(any_of([where(source[i], words[lanes]) for i, words in enumerate(data)]))
            m.d.sync += first[1].eq(first[0])
        out = register(f"{port}_out", 8 * width)
        with m.If(active):
            m.d.sync += out.eq(rotated(m, row, first[1], f"{port}_rotate"))
        m.d.comb += getattr(self, f"{port}_data").eq(out)

    def _write(self, m: Module, number: int, port: str, request: _Request, banks: list[Bank]) -> None:
        """Rotates to the lanes of the rows, decodes the lanes that are written."""
        core, width = self.core, port_bytes(self.core)[port]
        lanes = rounded(width)
        access = Signal(_Sizes.of(core).access(), name=f"{port}_request_1", reset_less=True)
        word, turned = register(f"{port}_word", 8 * lanes), register(f"{port}_turned", 8 * lanes)
        touched = delayed(m, request.touches.any(), f"{port}_touched", 1)
        with m.If(request.touches.any()):
            m.d.sync += [access.eq(request.access), word.eq(getattr(self, f"{port}_data"))]
        even_row, odd_row = (register(f"{port}_{row}_2", len(access.even_row)) for row in ("even_row", "odd_row"))
        even_lanes, odd_lanes = (register(f"{port}_{row}_2", core.width_bytes) for row in ("even_lanes", "odd_lanes"))
        low, high = (Signal(core.width_bytes, name=f"{port}_{row}") for row in ("low", "high"))
        from_end = lanes_from(m, access.end, 2 * core.width_bytes, 1)
        m.d.comb += [
            low.eq(lanes_from(m, access.first, core.width_bytes, 1) & ~from_end[: core.width_bytes]),
            high.eq(~from_end[core.width_bytes :]),
        ]
        with m.If(touched):
            m.d.sync += [
                turned.eq(rotated(m, word, -access.first, f"{port}_rotate")),
                even_row.eq(access.even_row),
                odd_row.eq(access.odd_row),
                even_lanes.eq(Mux(access.odd_first, high, low)),
                odd_lanes.eq(Mux(access.odd_first, low, high)),
            ]
        even, odd = delayed(m, Cat(request.even), f"{port}_even", 2), delayed(m, Cat(request.odd), f"{port}_odd", 2)
        for i, bank in enumerate(banks):
            m.d.comb += [
                bank.write_even[number].eq(even[i]),
                bank.write_odd[number].eq(odd[i]),
                bank.even_row[number].eq(even_row),
                bank.odd_row[number].eq(odd_row),
                bank.even_lanes[number].eq(even_lanes),
                bank.odd_lanes[number].eq(odd_lanes),
                bank.write_data[number].eq(turned.replicate(core.width_bytes // lanes)),
            ]

    def _errors(self, m: Module, requests: dict[str, _Request]) -> None:
        """The first port (in the order of ``PORTS``) that errs, a cycle after its access."""
        m.d.sync += self.error.eq(0)
        for number, (port, request) in reversed(list(enumerate(requests.items()))):
            reads = port in READS
            others = (READS if reads else WRITES)[: (READS if reads else WRITES).index(port)]
            clash = any_of([Const(0), *((requests[other].touches & request.touches).any() for other in others)])
            with m.If(request.beyond | clash):
                m.d.sync += [
                    self.error.eq(1),
                    self.error_code.eq(Mux(request.beyond, _ADDRESS, _READ_CONFLICT if reads else _WRITE_CONFLICT)),
                    self.error_engine.eq(ENGINES.index(PORTS[port])),
                    self.error_info.eq(Cat(getattr(self, f"{port}_address"), Const(0, 4), Const(number, 4))),
                ]
