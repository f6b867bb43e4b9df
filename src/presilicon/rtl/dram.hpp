// DRAM as bursts served one after another: dram.py says what it means; this is the same arithmetic.

#pragma once

#include <cstdint>
#include <vector>

// DramOptions, then the addresses that answer SLVERR: bad_begin <= address < bad_end.
struct Options {
  int64_t latency, num, den, row_bytes, banks, row_miss, refresh_interval, refresh_cycles;
  int64_t stall_seed, stall_max, stall_percent, back_pressure, bad_begin, bad_end;
};

inline uint64_t splitmix64(uint64_t x) {
  uint64_t z = x + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

enum Channel { kAr, kR, kAw, kW, kB };

class Dram {
 public:
  explicit Dram(const Options& options) : o(options) { reset(); }

  void reset() {
    free = 0;
    served = 0;
    open.assign(o.banks, -1);
  }

  int64_t serve(int64_t arrival, int64_t beats, uint64_t address) {
    int64_t start = arrival + 1 > free ? arrival + 1 : free;
    if (o.refresh_cycles) {
      const int64_t phase = start % o.refresh_interval;
      if (phase < o.refresh_cycles) start += o.refresh_cycles - phase;
    }
    if (o.row_miss) {
      const int64_t line = int64_t(address / uint64_t(o.row_bytes));
      const int64_t row = line / o.banks, bank = line % o.banks;
      if (open[bank] != row) {
        open[bank] = row;
        start += o.row_miss;
      }
    }
    if (o.stall_percent) {
      const uint64_t draw = splitmix64(uint64_t(o.stall_seed) + served);
      if (int64_t(draw & 0xFFFF) * 100 < o.stall_percent * 65536) start += 1 + int64_t((draw >> 16) % uint64_t(o.stall_max));
    }
    ++served;
    free = start + time(beats);
    return start;
  }

  // Whether a ready or a new valid of this channel is held back in this cycle.
  bool held(Channel channel, int64_t cycle) const {
    if (!o.back_pressure) return false;
    return int64_t((splitmix64(splitmix64(uint64_t(o.stall_seed)) + 8 * uint64_t(cycle) + channel) >> 32) % 100) < o.back_pressure;
  }

  int64_t time(int64_t beats) const { return (beats * o.num + o.den - 1) / o.den; }
  int64_t beat(int64_t start, int64_t number) const { return start + o.latency + time(number + 1) - 1; }
  int64_t response() const { return free + o.latency; }

  const Options o;

 private:
  int64_t free;
  uint64_t served;
  std::vector<int64_t> open;
};
