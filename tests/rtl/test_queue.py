"""Queue, semaphores and issue unit against the cycles of sections 2 and 3 of the template."""

import random

import pytest
from amaranth.sim import Simulator

from presilicon.rtl.issue import Issue
from presilicon.rtl.queue import Queue
from presilicon.rtl.semaphores import Semaphores
from presilicon.template import ENGINES


def simulate(component, bench) -> None:
    simulator = Simulator(component)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_an_entry_is_at_the_head_two_cycles_after_its_push_or_one_after_the_pop_before(depth, seed):
    draw = random.Random(seed)
    queue = Queue(16, depth)

    async def bench(ctx):
        entries: list[tuple[int, int]] = []  # value, first cycle at the head given the push alone
        popped = -1
        for cycle in range(400):
            assert ctx.get(queue.room) == (len(entries) < depth)
            assert ctx.get(queue.empty) == (not entries)
            visible = bool(entries) and cycle >= max(entries[0][1], popped + 1)
            assert ctx.get(queue.visible) == visible, cycle
            push = len(entries) < depth and draw.random() < 0.6
            pop = visible and draw.random() < draw.choice([0.2, 1.0])
            value = draw.randrange(1 << 16)
            ctx.set(queue.push, push)
            ctx.set(queue.entry, value)
            ctx.set(queue.pop, pop)
            if visible:
                assert ctx.get(queue.head) == entries[0][0]
            if pop:
                entries.pop(0)
                popped = cycle
            if push:
                entries.append((value, cycle + 2))
            await ctx.tick()

    simulate(queue, bench)


def test_semaphores_count_and_say_when_one_overflows():
    draw = random.Random(7)
    semaphores = Semaphores()
    engines = range(len(ENGINES))

    async def bench(ctx):
        counters = {(s, d): 0 for s in engines for d in engines}
        overflows = 0
        for cycle in range(3000):
            clear = cycle in (0, 2000)
            ctx.set(semaphores.clear, clear)
            more = {pair: draw.random() < (0.4 if cycle < 2500 else 0.01) for pair in counters}
            less = {pair: counters[pair] > 0 and draw.random() < 0.3 for pair in counters}
            if cycle == 1500:
                more = {pair: pair == (1, 3) for pair in counters}
            for s in engines:
                assert ctx.get(semaphores.positive[s]) == sum((counters[source, s] > 0) << source for source in engines)
                ctx.set(semaphores.signals[s], sum(more[s, d] << d for d in engines))
                ctx.set(semaphores.take[s], sum(less[source, s] << source for source in engines))
            full = [p for p in counters if counters[p] == 63 and more[p] and not less[p]]
            assert ctx.get(semaphores.overflow) == bool(full)
            if len(full) == 1:
                assert (ctx.get(semaphores.overflow_source), ctx.get(semaphores.overflow_destination)) == full[0]
                overflows += 1
            for pair, value in counters.items():
                # What follows an overflow does not matter: it stops the core.
                counters[pair] = 0 if clear else (value + more[pair] - less[pair]) % 64
            await ctx.tick()
        assert overflows

    simulate(semaphores, bench)


@pytest.mark.parametrize("flight", [2, 16])
@pytest.mark.parametrize("seed", range(4))
def test_instructions_wait_issue_and_signal_in_order(flight, seed):
    """Random instructions on a model engine: one at a time, done after 1 to 20 cycles, in order."""
    draw = random.Random(seed)
    issue = Issue(flight)

    async def bench(ctx):
        masks = [(draw.choice([0, 0, 1, 5, 16]), draw.randrange(32), draw.random() < 0.3) for _ in range(60)]
        program = [{"wait_mask": w, "signal_mask": s, "sync": y, "pc": i} for i, (w, s, y) in enumerate(masks)]
        flying: list[dict] = []  # of instructions issued and not signalled: their mask, sync, own done cycle
        last_done = last_signal = -1
        youngest = 0
        for cycle in range(1500):
            visible = bool(program) and draw.random() < 0.7
            ready = draw.random() < 0.6
            positive = draw.randrange(32) | draw.randrange(32)
            stop = 300 < cycle < 310
            for name, value in (program[0] if program else {}).items():
                ctx.set(getattr(issue, name), value)
            ctx.set(issue.visible, visible)
            ctx.set(issue.ready, ready)
            ctx.set(issue.positive, positive)
            ctx.set(issue.stop, stop)
            ctx.set(issue.done, any(f["done"] == cycle and not f["sync"] for f in flying))

            may = visible and ready and len(flying) < flight and not stop
            goes = may and not program[0]["wait_mask"] & ~positive
            assert ctx.get(issue.busy) == bool(flying)
            assert ctx.get(issue.pop) == goes, cycle
            assert ctx.get(issue.waiting) == (may and not goes)
            assert ctx.get(issue.start) == (goes and not program[0]["sync"])
            assert ctx.get(issue.take) == (program[0]["wait_mask"] if goes else 0)
            if flying:
                assert ctx.get(issue.oldest_pc) == flying[0]["pc"]
                assert ctx.get(issue.youngest_pc) == youngest
            if goes:
                one = program.pop(0)
                youngest = one["pc"]
                if one["sync"]:
                    done = cycle
                else:
                    done = last_done = max(cycle + draw.randrange(1, 20), last_done + 1)
                flying.append({"mask": one["signal_mask"], "sync": one["sync"], "done": done, "pc": one["pc"]})
            signals = 0
            if flying and flying[0]["done"] <= cycle and cycle > last_signal:
                signals, last_signal = flying.pop(0)["mask"], cycle
                assert ctx.get(issue.retired)
            else:
                assert not ctx.get(issue.retired)
            assert ctx.get(issue.signals) == signals, cycle
            await ctx.tick()
        assert not program
        assert not flying

    simulate(issue, bench)
