/* An example driver for presilicon cores: bare metal, no allocation, polled or by interrupt.
 *
 * The registers are mapped at a base address; the program and its data lie in memory that the core's AXI4 port reaches, at the
 * addresses the program was compiled for, written before the start and read after the end (clean and invalidate caches).
 *
 *   static int run(volatile uint32_t *registers) {
 *       uint64_t arguments[PRESILICON_ARGUMENTS] = {0};
 *       struct presilicon_result result;
 *       arguments[0] = 17;                                             (register r1)
 *       if (presilicon_probe(registers) != 0) return -1;
 *       if (presilicon_start(registers, 0, 0x80000000u, 1024, arguments, 1000000) != 0) return -1;
 *       return presilicon_wait(registers, 0, &result);
 *   }
 */
#include "presilicon_registers.h"

#include <stddef.h>
#include <stdint.h>

#define PRESILICON_ARGUMENTS 15u

/* What a run left: `code` is 0, or that of the first error, with the engine, the instruction and the value it is about. */
struct presilicon_result {
    uint32_t code, engine, pc, info;
    uint64_t cycles;
};

static volatile uint32_t *word_at(volatile uint32_t *registers, unsigned core, uint32_t offset) {
    return registers + (core * PRESILICON_PAGE_BYTES + offset) / 4u;
}

static uint32_t read_word(volatile uint32_t *registers, unsigned core, uint32_t offset) {
    return *word_at(registers, core, offset);
}

static void write_word(volatile uint32_t *registers, unsigned core, uint32_t offset, uint32_t value) {
    *word_at(registers, core, offset) = value;
}

static void write_pair(volatile uint32_t *registers, unsigned core, uint32_t offset, uint64_t value) {
    write_word(registers, core, offset, (uint32_t)value);
    write_word(registers, core, offset + 4u, (uint32_t)(value >> 32));
}

static uint64_t read_pair(volatile uint32_t *registers, unsigned core, uint32_t offset) {
    uint64_t low = read_word(registers, core, offset); /* the low word first: it keeps the high one */
    return low | (uint64_t)read_word(registers, core, offset + 4u) << 32;
}

/* 0 where a chip answers that this header was made for. */
int presilicon_probe(volatile uint32_t *registers) {
    if (read_word(registers, 0, PRESILICON_ID) != PRESILICON_IDENTITY) return -1;
    if (read_word(registers, 0, PRESILICON_VERSION) >> 16 != PRESILICON_VERSION_MAJOR) return -1;
    return read_pair(registers, 0, PRESILICON_DIGEST_LO) == PRESILICON_DIGEST ? 0 : -1;
}

/* Start a program on a core. `arguments` are r1 to r15: all are written, as a run may change them. `watchdog` ends a run
 * after so many cycles (0: never). -1 where the core is busy, or in error: then it needs presilicon_reset. */
int presilicon_start(volatile uint32_t *registers, unsigned core, uint64_t program, uint32_t bytes,
                     const uint64_t arguments[PRESILICON_ARGUMENTS], uint64_t watchdog) {
    uint32_t status;
    if (core >= PRESILICON_CORE_COUNT) return -1;
    if (program % PRESILICON_BUS_BYTES != 0 || bytes == 0 || bytes % 64u != 0) return -1;
    status = read_word(registers, core, PRESILICON_STATUS);
    if (status & (PRESILICON_STATUS_BUSY | PRESILICON_STATUS_ERROR | PRESILICON_STATUS_RESETTING)) return -1;
    write_pair(registers, core, PRESILICON_PROGRAM_LO, program);
    write_word(registers, core, PRESILICON_PROGRAM_BYTES, bytes);
    write_pair(registers, core, PRESILICON_WATCHDOG_LO, watchdog);
    for (uint32_t i = 0; i < PRESILICON_ARGUMENTS; i++)
        write_pair(registers, core, PRESILICON_ARG1_LO + 8u * i, arguments[i]);
    write_word(registers, core, PRESILICON_IRQ_STATUS, PRESILICON_IRQ_STATUS_DONE | PRESILICON_IRQ_STATUS_ERROR);
    write_word(registers, core, PRESILICON_IRQ_ENABLE, PRESILICON_IRQ_ENABLE_DONE | PRESILICON_IRQ_ENABLE_ERROR);
    write_word(registers, core, PRESILICON_CONTROL, PRESILICON_CONTROL_START);
    return 0;
}

/* Wait for the end of a run. 0 where the program has ended, -1 where an error stopped it; `result` may be NULL. */
int presilicon_wait(volatile uint32_t *registers, unsigned core, struct presilicon_result *result) {
    uint32_t status;
    do {
        status = read_word(registers, core, PRESILICON_STATUS);
    } while (status & PRESILICON_STATUS_BUSY);
    write_word(registers, core, PRESILICON_IRQ_STATUS, PRESILICON_IRQ_STATUS_DONE | PRESILICON_IRQ_STATUS_ERROR);
    if (result != NULL) {
        result->code = (status & PRESILICON_STATUS_CODE) >> PRESILICON_STATUS_CODE_SHIFT;
        result->engine = (status & PRESILICON_STATUS_ENGINE) >> PRESILICON_STATUS_ENGINE_SHIFT;
        result->pc = read_word(registers, core, PRESILICON_ERROR_PC);
        result->info = read_word(registers, core, PRESILICON_ERROR_INFO);
        result->cycles = read_pair(registers, core, PRESILICON_CYCLES_LO);
    }
    return status & PRESILICON_STATUS_ERROR ? -1 : 0;
}

/* Stop and reset a core; returns when its bursts have ended. What lies in its memories is then unknown. */
void presilicon_reset(volatile uint32_t *registers, unsigned core) {
    write_word(registers, core, PRESILICON_CONTROL, PRESILICON_CONTROL_RESET);
    while (read_word(registers, core, PRESILICON_STATUS) & PRESILICON_STATUS_RESETTING) {
    }
}
