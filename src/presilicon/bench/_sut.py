"""The process that LoadGen runs in: a system under test that answers when the chips would, with time stretched.

``python -m presilicon.bench._sut`` reads a job (one line of JSON) from stdin, runs LoadGen on it, and writes lines of JSON to
stdout: {"done": samples answered} now and then, and last {"overhead_s": ...}. It ends at once when stdin closes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from presilicon.bench._chips import Chips
from presilicon.bench._rules import QSL_SEED, SAMPLE_SEED, SCHEDULE_SEED, assignment

# The last stretch before a deadline (s) is waited for without sleeping: a sleep may end this much late.
AWAKE_S = 0.0006
# Python hands its lock over this often (s), so that a thread that waits awake does not hold up LoadGen's.
SWITCH_S = 0.0001
TOLD_EVERY_S = 0.1
QSL_SAMPLES = 1024


class Answering:
    """Takes queries from LoadGen's thread and answers them from one of its own, at the times of ``chips`` x ``scale``."""

    def __init__(self, chips: Chips, scale: float, place: Callable[[int, int], list[list[int]]], answer: Any) -> None:
        self.chips, self.scale, self.place, self.answer = chips, scale, place, answer
        self.inbox: SimpleQueue[tuple[float, list[Any]] | None] = SimpleQueue()
        self.late_s: list[float] = []
        self.done = self.queries = 0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def issue(self, samples: list[Any]) -> None:
        """LoadGen's callback: a query."""
        self.inbox.put((time.perf_counter(), samples))

    def stop(self) -> None:
        """End the thread."""
        self.inbox.put(None)
        self.thread.join()

    def _take(self, wait_s: float) -> bool:
        """Queries that have come, waiting for the first; False where it is time to stop."""
        with suppress(Empty):
            message = self.inbox.get(timeout=wait_s) if wait_s > 0 else self.inbox.get_nowait()
            while message is not None:
                came, samples = message
                for chip, chosen in enumerate(self.place(self.queries, len(samples))):
                    if chosen:
                        self.chips.arrive(chip, [samples[i].id for i in chosen], came / self.scale)
                self.queries += 1
                message = self.inbox.get_nowait()
            return False
        return True

    def _run(self) -> None:
        told = time.perf_counter()
        while True:
            left = self.chips.next_s * self.scale - time.perf_counter()
            if not self._take(min(left - AWAKE_S, TOLD_EVERY_S)):
                return
            now = time.perf_counter()
            self.chips.begin(now / self.scale)
            while self.chips.next_s * self.scale <= now:
                due, samples = self.chips.end()
                self.answer(samples)
                self.late_s.append(time.perf_counter() - due * self.scale)
                self.done += len(samples)
                # Whatever has come meanwhile must be known before the batches that follow begin.
                self.chips.begin(due)
            if now - told > TOLD_EVERY_S:
                told = now
                _tell({"done": self.done})
            if left <= AWAKE_S:
                time.sleep(0)


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def placement(scenario: str, queries: int, chips: int) -> Callable[[int, int], list[list[int]]]:
    """Which samples of a query go to which chip: a server's query whole to one drawn for it, else evenly to all."""
    if scenario == "Server":
        chosen = assignment(queries, chips).tolist()
        return lambda query, _: [[0] if chip == chosen[query] else [] for chip in range(chips)]
    return lambda _, samples: [list(range(chip, samples, chips)) for chip in range(chips)]


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run LoadGen on a job; how late answers were (s of real time)."""
    import mlperf_loadgen as loadgen  # type: ignore[import-not-found,unused-ignore]

    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, job["scenario"])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.qsl_rng_seed, settings.sample_index_rng_seed = QSL_SEED, SAMPLE_SEED
    settings.schedule_rng_seed = SCHEDULE_SEED
    for name, value in job["settings"].items():
        setattr(settings, name, value)
    logs = loadgen.LogSettings()
    logs.log_output.outdir = job["outdir"]
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False

    def answer(samples: list[int]) -> None:
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample, 0, 0) for sample in samples])

    chips = Chips([0.0, *job["table"]], len(job["table"]), job["chips"])
    place = placement(job["scenario"], job["settings"]["min_query_count"], job["chips"])
    answering = Answering(chips, job["scale"], place, answer)
    sut = loadgen.ConstructSUT(answering.issue, lambda: None)
    qsl = loadgen.ConstructQSL(QSL_SAMPLES, QSL_SAMPLES, lambda _: None, lambda _: None)
    sys.setswitchinterval(SWITCH_S)
    answering.thread.start()
    loadgen.StartTestWithLogSettings(sut, qsl, settings, logs)
    answering.stop()
    loadgen.DestroyQSL(qsl)
    loadgen.DestroySUT(sut)
    late = sorted(answering.late_s)
    return {"overhead_s": {"p50": late[len(late) // 2], "p99": late[len(late) * 99 // 100], "max": late[-1]}}


def _end_with_stdin() -> None:
    """End the process when the one that started it is gone."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Run the job that stdin names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    with suppress(OSError):  # only where the user may
        os.nice(-10)
    _tell(run(job))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
