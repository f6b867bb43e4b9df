"""1,000 concurrent streams against a running endpoint, with a client light enough for one core; prints one JSON object.

    taskset -c 0 presilicon serve llama-3.1-70b --chip l40s --chips 8 --weights fp8 &
    taskset -c 1 python benchmarks/serve/streams.py --model llama-3.1-70b --tokens 200 --pid $!

Each of ``--streams`` connections asks for ``--tokens`` tokens, again and again until ``--seconds`` are over; the last
streams are read to their ends. A token is lost where a stream brings fewer events than it was asked for. The client's time per
output token of each stream is laid beside the scheduler's, which the stream's last event carries. Exit code 1 where a bar is
missed (``held``).
"""

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

TOKEN = b'"delta":{"content":'
END = b"data: [DONE]"
FINAL = re.compile(rb'"time_to_first_token_s":([0-9.e+-]+),"time_per_output_token_s":([0-9.e+-]+)')


class Stream(asyncio.Protocol):
    """One connection: streams one after the other, counting tokens in the bytes as they come."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.count, self.first, self.last, self.carry, self.tail = 0, 0.0, 0.0, b"", b""
        self.asked = time.perf_counter()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        data = self.carry + data
        found = data.count(TOKEN)
        if found:
            self.count += found
            self.run.tokens += found
            self.run.bursts += found > 1
            self.first = self.first or now
            self.last = now
        self.carry = data[-(len(TOKEN) - 1) :]
        if found and self.carry.count(TOKEN):
            raise AssertionError("a token would count twice")
        if self.count >= self.run.length or b" 200 " not in data[:13]:
            self.tail += data
        if END in self.tail:
            self.finish()

    def finish(self) -> None:
        run = self.run
        timing = FINAL.search(self.tail)
        run.streams += 1
        run.lost += run.length - self.count
        if timing and self.count > 1:
            own = (self.last - self.first) / (self.count - 1)
            run.ttft.append((self.first - self.asked) * run.speedup / float(timing[1]))
            run.tpot.append((own * run.speedup, float(timing[2])))
        if time.perf_counter() < run.until:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.count < self.run.length:
            self.run.errors += 1
            self.run.note = self.tail[:300].decode(errors="replace")
        if not self.done.done():
            self.done.set_result(None)


class Run:
    """What all streams share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.length, self.speedup = options.tokens, options.speedup
        body = {
            "model": options.model,
            "messages": [{"role": "user", "content": "x" * 4 * options.prompt_tokens}],
            "max_tokens": options.tokens,
            "ignore_eos": True,
            "stream": True,
        }
        text = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {options.host}\r\ncontent-type: application/json\r\n"
        self.request = head.encode() + b"content-length: %d\r\n\r\n" % len(text) + text
        self.tokens = self.streams = self.lost = self.errors = self.bursts = 0
        self.ttft: list[float] = []
        self.tpot: list[tuple[float, float]] = []
        self.until = 0.0
        self.note = ""


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def main(options: argparse.Namespace) -> dict[str, Any]:
    run, loop = Run(options), asyncio.get_running_loop()
    started = time.perf_counter()
    run.until = started + options.ramp + options.seconds
    streams = []
    for _ in range(options.streams):
        _, stream = await loop.create_connection(lambda: Stream(run), options.host, options.port)
        streams.append(stream)
        if options.ramp:
            await asyncio.sleep(options.ramp / options.streams)
    await asyncio.sleep(max(0.0, started + options.ramp - time.perf_counter()))
    memory, rates, begun, cpu = [], [], time.perf_counter(), cpu_s(options.pid) if options.pid else 0.0
    before, at = run.tokens, begun
    while time.perf_counter() < run.until:
        await asyncio.sleep(1.0)
        now = time.perf_counter()
        rates.append((run.tokens - before) / (now - at))
        before, at = run.tokens, now
        if options.pid:
            memory.append(resident_bytes(options.pid))
    busy = (cpu_s(options.pid) - cpu) / (time.perf_counter() - begun) if options.pid else None
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(stream.done for stream in streams)), 120)
    ratios = [own / scheduler for own, scheduler in run.tpot]
    third = max(1, len(memory) // 3)
    return {
        "streams": options.streams,
        "seconds": options.seconds,
        "requests": run.streams,
        "tokens": run.tokens,
        "tokens_per_s_median": round(statistics.median(rates), 1),
        "tokens_per_s_least": round(min(rates), 1),
        "errors": run.errors,
        "lost_tokens": run.lost,
        "tpot_client_median_s": statistics.median(own for own, _ in run.tpot),
        "tpot_scheduler_median_s": statistics.median(theirs for _, theirs in run.tpot),
        "tpot_ratio_median": statistics.median(ratios),
        "tpot_ratio_p1_p99": [sorted(ratios)[len(ratios) // 100], sorted(ratios)[-len(ratios) // 100 - 1]],
        "ttft_ratio_median": statistics.median(run.ttft),
        "reads_with_several_tokens": run.bursts,
        "server_cpu": busy,
        "memory_mb_first_and_last_third": [round(statistics.mean(m) / 1e6, 1) for m in (memory[:third], memory[-third:])]
        if memory
        else None,
        "memory_mb": [round(m / 1e6, 1) for m in memory[:: max(1, len(memory) // 12)]],
        "note": run.note,
    }


def held(found: dict[str, Any]) -> bool:
    """Whether the bars hold: 5,000 tokens a second, none lost, no error, median TPOT within 10 %, memory flat within 5 %."""
    memory = found["memory_mb_first_and_last_third"] or [1.0, 1.0]
    return (
        found["errors"] == found["lost_tokens"] == 0
        and found["tokens_per_s_median"] >= 5000
        and abs(found["tpot_ratio_median"] - 1) <= 0.1
        and memory[1] <= 1.05 * memory[0]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", required=True)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--prompt-tokens", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ramp", type=float, default=5.0, help="seconds in which the streams are opened")
    parser.add_argument("--speedup", type=float, default=1.0, help="the server's")
    parser.add_argument("--pid", type=int, default=0, help="the server's process, for memory and CPU")
    found = asyncio.run(main(parser.parse_args()))
    print(json.dumps(found, indent=2))
    sys.exit(not held(found))
