"""The one SRAM wrapper of the design: behavioural Verilog that a memory macro replaces."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from presilicon.rtl.hierarchy import emission

MODULE = "presilicon_sram"


class Sram(wiring.Component):
    """One read port and one write port on ``depth`` words of ``width`` bits; a write enable per ``granule`` bits.

    ``read_data`` is the word of ``read_address`` from the cycle after ``read_en`` on, and stays until the next read. What a
    read gives of a word that is written in the same cycle is not to be relied upon. Zero at first in simulation, unknown in
    silicon.
    In emitted Verilog an instance of ``presilicon_sram`` with the parameters WIDTH, DEPTH and GRANULE.
    """

    def __init__(self, width: int, depth: int, granule: int) -> None:
        assert width % granule == 0
        assert depth >= 2
        self.width, self.depth, self.granule = width, depth, granule
        super().__init__(
            {
                "read_en": In(1),
                "read_address": In(range(depth)),
                "read_data": Out(width),
                "write_en": In(width // granule),
                "write_address": In(range(depth)),
                "write_data": In(width),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """An instance while Verilog is emitted, Amaranth's memory otherwise."""
        modules = emission()
        if modules is not None:
            modules.texts[MODULE] = sram_verilog()
            ports = {
                f"{'o' if p.flow == Out else 'i'}_{name}": getattr(self, name) for name, p in self.signature.members.items()
            }
            sizes = {"p_WIDTH": self.width, "p_DEPTH": self.depth, "p_GRANULE": self.granule}
            m = Module()
            m.submodules.sram = Instance(MODULE, i_clk=ClockSignal(), **sizes, **ports)
            return m
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.width, depth=self.depth, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=self.granule)
        m.d.comb += [
            read.en.eq(self.read_en),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
            write.en.eq(self.write_en),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
        ]
        return m


def sram_verilog() -> str:
    """The behavioural Verilog of ``presilicon_sram``: what a macro, or a generated wrapper of macros, stands in for."""
    return """\
// One read port, one write port with an enable per GRANULE bits. A read in the cycle of a write to the same address may give
// either word: no block depends on it. Replace this module by one that instantiates your memory macros.
module presilicon_sram #(
  parameter WIDTH = 32,
  parameter DEPTH = 16,
  parameter GRANULE = 8,
  parameter ADDRESS = DEPTH > 1 ? $clog2(DEPTH) : 1,  // follows from the others, as the next does
  parameter ENABLES = WIDTH / GRANULE
) (
  input                    clk,
  input                    read_en,
  input      [ADDRESS-1:0] read_address,
  output reg [WIDTH-1:0]   read_data,
  input      [ENABLES-1:0] write_en,
  input      [ADDRESS-1:0] write_address,
  input      [WIDTH-1:0]   write_data
);
  reg [WIDTH-1:0] words [0:DEPTH-1];

  always @(posedge clk) if (read_en) read_data <= words[read_address];

  generate
    if (ENABLES == 1) begin : whole
      always @(posedge clk) if (write_en[0]) words[write_address] <= write_data;
    end else begin : parts
      integer i;
      reg [WIDTH-1:0] word;
      always @(posedge clk)
        if (|write_en) begin
          // verilator lint_off BLKSEQ
          word = words[write_address];
          for (i = 0; i < ENABLES; i = i + 1)
            if (write_en[i]) word[i*GRANULE +: GRANULE] = write_data[i*GRANULE +: GRANULE];
          // verilator lint_on BLKSEQ
          words[write_address] <= word;
        end
    end
  endgenerate

`ifndef SYNTHESIS
  integer row;
  initial begin
    read_data = {WIDTH{1'b0}};
    for (row = 0; row < DEPTH; row = row + 1) words[row] = {WIDTH{1'b0}};
  end
`endif
endmodule
"""
