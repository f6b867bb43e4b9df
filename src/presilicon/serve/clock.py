"""The clock of the chip that does not exist: real time by a factor, held back where the computer cannot keep up."""

from __future__ import annotations

import time

MOST_BEHIND_S, LEAST_BEHIND_S = 1.0, 0.1
"""A replica may be late by a second of the chip's time before the clock waits for it, within these bounds in real time.

What is less is made up for: a burst of work here then moves no token by more than that. What is more must not be: requests
would arrive ever further ahead of the work.
"""

MOST_READING_S = 0.1
"""Real time by which a request may have arrived before it is scheduled: reading it takes that at most."""


class VirtualClock:
    """Seconds of the chip since the start: ``speedup`` of them pass in one real second.

    With a speed-up that the computer cannot keep up with the clock is held back: every replica then sees the same slower
    clock, so that what is measured in the chip's time stays true, and ``held_back_s`` says how much real time that took.
    """

    def __init__(self, speedup: float) -> None:
        self.speedup = speedup
        self.held_back_s = 0.0
        self.most_behind_s = min(MOST_BEHIND_S, max(LEAST_BEHIND_S, 1.0 / speedup))
        self._start = time.monotonic()

    def now(self) -> float:
        """The chip's time, in s."""
        return (time.monotonic() - self._start) * self.speedup

    def arrival(self, received: float | None) -> float:
        """The chip's time when a request's last byte came (by ``time.monotonic``): what reading it took here is not the chip's.

        At most ``MOST_READING_S`` ago: a request may have waited for one before it on its connection.
        """
        now = time.monotonic()
        at = now if received is None else max(received, now - MOST_READING_S)
        return max(0.0, (at - self._start) * self.speedup)

    def wait_s(self, until: float) -> float:
        """Real time until the chip's time is ``until``; negative where that is past."""
        return until / self.speedup - (time.monotonic() - self._start)

    def hold_back(self, at: float) -> None:
        """A replica is at the chip's time ``at``: hold the clock back where it has run further ahead than it may."""
        late_s = -self.wait_s(at) - self.most_behind_s
        if late_s > 0:
            self._start += late_s
            self.held_back_s += late_s
