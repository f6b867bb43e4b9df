"""The KV cache in blocks is conserved whatever is asked of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from presilicon.replay.blocks import BlockPool, Layout


class Pool(RuleBasedStateMachine):
    """Requests take, share and return blocks; a unit in use never goes away."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(40)
        self.private = 0
        self.locked: list[list[int]] = []

    @rule(blocks=st.integers(0, 12))
    def take(self, blocks: int) -> None:
        if blocks <= self.pool.available:
            self.pool.take(blocks)
            self.private += blocks

    @precondition(lambda self: self.private)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        blocks = data.draw(st.integers(1, self.private))
        self.pool.give(blocks)
        self.private -= blocks

    @rule(first=st.integers(0, 5), number=st.integers(1, 4))
    def share(self, first: int, number: int) -> None:
        units = list(range(first, first + number))
        if self.private >= 2 * number:
            made = self.pool.share(units, 2)
            self.private -= 2 * len(made)
            self.locked.append(made)

    @rule(first=st.integers(0, 5), number=st.integers(1, 4))
    def lock(self, first: int, number: int) -> None:
        units = list(range(first, first + number))[: self.pool.matched(list(range(first, first + number)))]
        before, idle = self.pool.available, self.pool.idle_blocks(units)
        self.pool.lock(units)
        assert self.pool.available == before - idle
        self.locked.append(units)

    @precondition(lambda self: self.locked)
    @rule(data=st.data())
    def unlock(self, data: st.DataObject) -> None:
        self.pool.unlock(self.locked.pop(data.draw(st.integers(0, len(self.locked) - 1))))

    @invariant()
    def conserved(self) -> None:
        held = {unit for units in self.locked for unit in units}
        assert self.pool.used == self.private + 2 * len(held)
        assert self.pool.used + self.pool.available == self.pool.total
        assert all(self.pool.matched([unit]) == 1 for unit in held)


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_the_least_recently_used_is_dropped() -> None:
    pool = BlockPool(6)
    pool.take(6)
    for unit in "abc":
        pool.share([unit], 2)
    pool.unlock(["a"])
    pool.unlock(["b"])
    pool.unlock(["c"])
    pool.lock(["a"])
    pool.unlock(["a"])
    pool.take(2)
    assert [pool.matched([unit]) for unit in "abc"] == [1, 0, 1]


@pytest.mark.parametrize(("tokens", "blocks"), [(1, 1), (16, 1), (17, 2), (1000, 63)])
def test_blocks_of_a_request(tokens: int, blocks: int) -> None:
    assert Layout(100, 100, 16, True, ()).needed(tokens) == blocks


def test_windows_are_taken_when_admitted() -> None:
    layout = Layout(100, 100, 16, True, ((128.0, 1 / 16),))  # as many layers with a window as without
    assert layout.needed(64) == 4 + 4
    assert layout.needed(1024) == 64 + 8
    assert Layout(100, 100, 16, False, ((128.0, 1 / 16),)).needed(10_000) == 8
