"""The process that LoadGen runs in: a system under test that answers when the chips would, with time stretched.

``python -m presilicon.bench._sut`` reads a job (one line of JSON) from stdin, runs LoadGen on it, and writes lines of JSON to
stdout: {"done": samples answered} now and then, and last {"overhead_s": ...}. It ends at once when stdin closes.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from presilicon.bench._chips import Chips
from presilicon.bench._rules import QSL_SEED, SAMPLE_SEED, SCHEDULE_SEED, assignment

if TYPE_CHECKING:
    from presilicon.bench._replicas import Replicas

# The last stretch before a deadline (s) is waited for without sleeping: a sleep may end this much late.
AWAKE_S = 0.0006
# Python hands its lock over this often (s), so that a thread that waits awake does not hold up LoadGen's.
SWITCH_S = 0.0001
TOLD_EVERY_S = 0.1
QSL_SAMPLES = 1024


Place = Callable[[int, int], list[list[int]]]
Answer = Callable[[list[tuple[int, int]], list[tuple[int, int]]], None]


class Answering:
    """Takes queries from LoadGen's thread and answers them from one of its own, at the times of ``chips`` x ``scale``.

    ``place`` says which samples of a query go where; ``answer`` sends first tokens and whole answers to LoadGen.
    """

    def __init__(self, chips: Chips | Replicas, scale: float, place: Place, answer: Answer) -> None:
        self.chips, self.scale, self.place, self.answer = chips, scale, place, answer
        self.inbox: SimpleQueue[tuple[float, list[Any]] | None] = SimpleQueue()
        self.late_s: list[float] = []
        self.done = self.queries = self.samples = 0
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
                        numbered = [(self.samples + i, samples[i].id) for i in chosen]
                        self.chips.arrive(chip, numbered, came / self.scale)
                self.queries += 1
                self.samples += len(samples)
                message = self.inbox.get_nowait()
            return False
        return True

    def _run(self) -> None:
        told = time.perf_counter()
        while True:
            self.chips.begin(time.perf_counter() / self.scale)
            left = self.chips.next_s * self.scale - time.perf_counter()
            if not self._take(min(left - AWAKE_S, TOLD_EVERY_S)):
                return
            now = time.perf_counter()
            self.chips.begin(now / self.scale)
            while self.chips.next_s * self.scale <= now:
                due, first, last = self.chips.end()
                self.answer(first, last)
                if first or last:
                    self.late_s.append(time.perf_counter() - due * self.scale)
                self.done += len(last)
                # What has come meanwhile must be known before the next one begins.
                if not self._take(0.0):
                    return
                self.chips.begin(due)
            if now - told > TOLD_EVERY_S:
                told = now
                _tell({"done": self.done})
            if left <= AWAKE_S:
                time.sleep(0)


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def placement(scenario: str, queries: int, chips: int, in_turn: bool) -> Place:
    """Which samples of a query go where: a server's query whole to a chip drawn for it, or in turn; else evenly to all."""
    if scenario == "Server" and in_turn:
        return lambda query, _: [[0] if chip == query % chips else [] for chip in range(chips)]
    if scenario == "Server":
        chosen = assignment(queries, chips).tolist()
        return lambda query, _: [[0] if chip == chosen[query] else [] for chip in range(chips)]
    return lambda _, samples: [list(range(chip, samples, chips)) for chip in range(chips)]


def _engine(job: dict[str, Any]) -> Chips | Replicas:
    """What answers: chips with the times of their batches, or replicas of a deployment."""
    if "table" in job:
        return Chips([0.0, *job["table"]], len(job["table"]), job["chips"])
    from presilicon.bench._replicas import Replicas

    deployment = pickle.loads(b64decode(job["deployment"]))
    return Replicas(deployment, job["chips"], job["lengths"], job["scenario"] != "Server")


def _go_first() -> None:
    """Ask to be scheduled before other processes, where the user may: answers are late where they wait for a processor.

    Mostly this process sleeps, and the kernel leaves others their share of a processor whatever its class.
    """
    with suppress(OSError):
        os.nice(-10)
    if sys.platform == "linux":
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


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

    outputs = [output for _, output in job["lengths"]] if "lengths" in job else None

    def answer(first: list[tuple[int, int]], last: list[tuple[int, int]]) -> None:
        if outputs is None:
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample, 0, 0) for _, sample in last])
            return
        if first:
            loadgen.FirstTokenComplete([loadgen.QuerySampleResponse(sample, 0, 0, 1) for _, sample in first])
        if last:
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample, 0, 0, outputs[n]) for n, sample in last])

    place = placement(job["scenario"], job["settings"]["min_query_count"], job["chips"], outputs is not None)
    answering = Answering(_engine(job), job["scale"], place, answer)
    sut = loadgen.ConstructSUT(answering.issue, lambda: None)
    qsl = loadgen.ConstructQSL(QSL_SAMPLES, QSL_SAMPLES, lambda _: None, lambda _: None)
    sys.setswitchinterval(SWITCH_S)
    _go_first()
    gc.disable()  # a collection would hold up an answer
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
    _tell(run(job))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
