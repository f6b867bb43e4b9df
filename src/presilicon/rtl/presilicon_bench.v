// Runs a small program on presilicon_top with a memory of fixed latency, and compares the memory with what it must hold.
// Prints "PASS" or "FAIL" and ends. Run it in this folder:
// - Icarus: iverilog -g2005 -o bench -I . ../rtl/*.v presilicon_bench.v && vvp bench
// - Verilator: verilator --binary --timing -Wno-lint --top-module presilicon_bench -I. ../rtl/*.v presilicon_bench.v
//   and then obj_dir/Vpresilicon_bench
`include "presilicon_bench.vh"

module presilicon_bench;
  localparam D = `BENCH_BUS_BYTES;
  localparam BYTES = `BENCH_MEMORY_BYTES;
  localparam LATENCY = 40;
  localparam DEPTH = 32;  // bursts the memory keeps in mind, a power of two

  reg clk = 1'b0;
  reg rst = 1'b1;
  always #1 clk = ~clk;

  // The chip ----------------------------------------------------------------------------------------------------------
  wire [`BENCH_ID_BITS-1:0] arid, awid;
  reg  [`BENCH_ID_BITS-1:0] rid = 0, bid = 0;
  wire [39:0] araddr, awaddr;
  wire [7:0] arlen, awlen;
  wire arvalid, awvalid, wvalid, wlast, rready, bready;
  wire [8*D-1:0] wdata;
  wire [D-1:0] wstrb;
  reg  [8*D-1:0] rdata = 0;
  reg  rvalid = 1'b0, rlast = 1'b0, bvalid = 1'b0;
  wire arready = !rst;
  wire awready = !rst;
  wire wready = !rst;

  reg  [15:0] c_awaddr = 0, c_araddr = 0;
  reg  [31:0] c_wdata = 0;
  reg  c_awvalid = 1'b0, c_wvalid = 1'b0, c_bready = 1'b0, c_arvalid = 1'b0, c_rready = 1'b0;
  wire c_awready, c_wready, c_bvalid, c_arready, c_rvalid, irq;
  wire [1:0] c_bresp, c_rresp;
  wire [31:0] c_rdata;

  presilicon_top chip (
    .clk(clk), .rst(rst), .irq(irq),
    .m_axi_arid(arid), .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arvalid(arvalid), .m_axi_arready(arready),
    .m_axi_rid(rid), .m_axi_rdata(rdata), .m_axi_rresp(2'b00), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid),
    .m_axi_rready(rready),
    .m_axi_awid(awid), .m_axi_awaddr(awaddr), .m_axi_awlen(awlen), .m_axi_awvalid(awvalid), .m_axi_awready(awready),
    .m_axi_wdata(wdata), .m_axi_wstrb(wstrb), .m_axi_wlast(wlast), .m_axi_wvalid(wvalid), .m_axi_wready(wready),
    .m_axi_bid(bid), .m_axi_bresp(2'b00), .m_axi_bvalid(bvalid), .m_axi_bready(bready),
    .s_axil_awaddr(c_awaddr), .s_axil_awprot(3'b000), .s_axil_awvalid(c_awvalid), .s_axil_awready(c_awready),
    .s_axil_wdata(c_wdata), .s_axil_wstrb(4'b1111), .s_axil_wvalid(c_wvalid), .s_axil_wready(c_wready),
    .s_axil_bresp(c_bresp), .s_axil_bvalid(c_bvalid), .s_axil_bready(c_bready),
    .s_axil_araddr(c_araddr), .s_axil_arprot(3'b000), .s_axil_arvalid(c_arvalid), .s_axil_arready(c_arready),
    .s_axil_rdata(c_rdata), .s_axil_rresp(c_rresp), .s_axil_rvalid(c_rvalid), .s_axil_rready(c_rready)
  );

  // The memory: serves bursts in the order in which they come, a beat a cycle, each LATENCY cycles later -----------------
  reg [7:0] memory [0:BYTES-1];
  reg [7:0] expected [0:BYTES-1];
  reg [39:0] arguments [0:2*`BENCH_CORES-1];

  integer now = 0;       // cycle
  integer free = 0;      // first cycle in which the memory can serve a further burst
  reg [39:0] read_address [0:DEPTH-1];
  integer read_beats [0:DEPTH-1], read_start [0:DEPTH-1];
  reg [`BENCH_ID_BITS-1:0] read_id [0:DEPTH-1];
  integer reads = 0, reads_done = 0, beat = 0;
  reg [39:0] write_address [0:DEPTH-1];
  integer write_beats [0:DEPTH-1];
  reg [`BENCH_ID_BITS-1:0] write_id [0:DEPTH-1];
  integer writes = 0, writes_done = 0, place = 0;
  integer answer_at [0:DEPTH-1];
  reg [`BENCH_ID_BITS-1:0] answer_id [0:DEPTH-1];
  integer answers = 0, answers_done = 0;
  integer i;

  always @(posedge clk) begin
    // What the memory takes in this cycle
    if (arvalid && arready) begin
      read_address[reads % DEPTH] = araddr;
      read_beats[reads % DEPTH] = arlen + 1;
      read_id[reads % DEPTH] = arid;
      if (free < now + 1) free = now + 1;
      read_start[reads % DEPTH] = free;
      free = free + arlen + 1;
      reads = reads + 1;
    end
    if (awvalid && awready) begin
      write_address[writes % DEPTH] = awaddr;
      write_beats[writes % DEPTH] = awlen + 1;
      write_id[writes % DEPTH] = awid;
      writes = writes + 1;
    end
    if (wvalid && wready) begin
      for (i = 0; i < D; i = i + 1)
        if (wstrb[i]) memory[write_address[writes_done % DEPTH] + place * D + i] = wdata[8*i +: 8];
      place = place + 1;
      if (wlast) begin
        if (free < now + 1) free = now + 1;
        free = free + place;
        answer_at[answers % DEPTH] = free + LATENCY;
        answer_id[answers % DEPTH] = write_id[writes_done % DEPTH];
        answers = answers + 1;
        writes_done = writes_done + 1;
        place = 0;
      end
    end
    if (rvalid && rready) begin
      beat = beat + 1;
      if (rlast) begin
        reads_done = reads_done + 1;
        beat = 0;
      end
    end
    if (bvalid && bready) answers_done = answers_done + 1;

    // What it offers in the next
    now = now + 1;
    rvalid <= reads_done < reads && now >= read_start[reads_done % DEPTH] + LATENCY + beat;
    if (reads_done < reads) begin
      rlast <= beat + 1 == read_beats[reads_done % DEPTH];
      rid <= read_id[reads_done % DEPTH];
      for (i = 0; i < D; i = i + 1) rdata[8*i +: 8] <= memory[read_address[reads_done % DEPTH] + beat * D + i];
    end
    bvalid <= answers_done < answers && now >= answer_at[answers_done % DEPTH];
    if (answers_done < answers) bid <= answer_id[answers_done % DEPTH];
  end

  // Registers: driven between rising edges; what is ready then is taken at the next edge ---------------------------------
  reg took_address, took_data;
  task write(input [3:0] core, input [15:0] register, input [31:0] value);
    begin
      @(negedge clk);
      c_awaddr = {core, register[11:0]};
      c_wdata = value;
      c_awvalid = 1'b1;
      c_wvalid = 1'b1;
      c_bready = 1'b1;
      while (c_awvalid || c_wvalid) begin
        took_address = c_awready;
        took_data = c_wready;
        @(negedge clk);
        if (took_address) c_awvalid = 1'b0;
        if (took_data) c_wvalid = 1'b0;
      end
      while (!c_bvalid) @(negedge clk);
      if (c_bresp != 2'b00) begin
        $display("FAIL: write of register %h answers %b", register, c_bresp);
        $finish;
      end
      @(negedge clk);
      c_bready = 1'b0;
    end
  endtask

  reg [31:0] answer;
  task read(input [3:0] core, input [15:0] register);
    begin
      @(negedge clk);
      c_araddr = {core, register[11:0]};
      c_arvalid = 1'b1;
      c_rready = 1'b1;
      while (c_arvalid) begin
        took_address = c_arready;
        @(negedge clk);
        if (took_address) c_arvalid = 1'b0;
      end
      while (!c_rvalid) @(negedge clk);
      answer = c_rdata;
      @(negedge clk);
      c_rready = 1'b0;
    end
  endtask

  // The run -----------------------------------------------------------------------------------------------------------
  integer core, wrong, cycles, at;
  initial begin
    $readmemh("before.hex", memory);
    $readmemh("after.hex", expected);
    $readmemh("arguments.hex", arguments);
    repeat (4) @(negedge clk);
    rst = 1'b0;
    for (core = 0; core < `BENCH_CORES; core = core + 1) begin
      write(core, `PROGRAM_LO, `BENCH_PROGRAM);
      write(core, `PROGRAM_HI, 0);
      write(core, `PROGRAM_BYTES, `BENCH_PROGRAM_BYTES);
      write(core, `WATCHDOG_LO, `BENCH_LIMIT);
      write(core, `ARG1_LO, arguments[2*core][31:0]);
      write(core, `ARG1_HI, arguments[2*core][39:32]);
      write(core, `ARG2_LO, arguments[2*core+1][31:0]);
      write(core, `ARG2_HI, arguments[2*core+1][39:32]);
      write(core, `IRQ_ENABLE, 3);
    end
    write(0, `CONTROL, 4);
    wrong = 0;
    for (core = 0; core < `BENCH_CORES; core = core + 1) begin
      read(core, `STATUS);
      while (answer[0]) read(core, `STATUS);
      if (answer[2:1] != 2'b01) begin
        $display("core %0d: STATUS is %h", core, answer);
        wrong = wrong + 1;
      end
    end
    if (!irq) begin
      $display("no interrupt");
      wrong = wrong + 1;
    end
    read(0, `CYCLES_LO);
    cycles = answer;
    if (`BENCH_CYCLES != 0 && cycles != `BENCH_CYCLES) begin
      $display("%0d cycles, %0d expected", cycles, `BENCH_CYCLES);
      wrong = wrong + 1;
    end
    for (at = 0; at < BYTES; at = at + 1)
      if (memory[at] !== expected[at]) begin
        if (wrong < 10) $display("byte %h is %h, %h expected", at, memory[at], expected[at]);
        wrong = wrong + 1;
      end
    if (wrong == 0) $display("PASS: %0d cycles", cycles);
    else $display("FAIL: %0d differences", wrong);
    $finish;
  end

  initial begin
    repeat (2 * `BENCH_LIMIT) @(posedge clk);
    $display("FAIL: no end in %0d cycles", 2 * `BENCH_LIMIT);
    $finish;
  end
endmodule
