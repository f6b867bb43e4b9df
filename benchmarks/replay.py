"""How fast traces are replayed, each in a fresh process on one core.

    python benchmarks/replay.py [--facts DIR] [--repeats N] [--json]

The traces are those of facts/traces (Azure 2023 conversation, Mooncake synthetic). Exit 1 where a bar is missed: wall time of
the replay (``wall_s``), requests a second, memory of the whole process. The least of the repeats counts: other processes only
ever add time.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from presilicon.validate import facts

RUN = """
import json, resource, sys
from presilicon.cli import main
code = main(sys.argv[1:])
sys.stderr.write(json.dumps({"code": code, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""
CONVERSATION = "AzureLLMInferenceTrace_conv.csv"
MOONCAKE = "mooncake_synthetic.jsonl"
SERVED = ("llama-3.1-70b", "--chip", "h100", "--chips", "8")
# Arguments after the trace, longest replay, most memory.
BARS = (
    (CONVERSATION, (), 3.0, 1e9),
    (MOONCAKE, ("--replicas", "10", "--routing", "prefix-aware"), 10.0, 1e9),
    (MOONCAKE, ("--replicas", "5", "--prefill-replicas", "5", "--routing", "prefix-aware"), 10.0, 1e9),
)


def replayed(arguments: tuple[str, ...]) -> dict[str, float]:
    """One replay in a process of its own on one core: its report, the whole process' wall and processor time, its memory."""
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-c", RUN, "replay", *SERVED, *arguments, "--json"],
        capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
    )  # fmt: skip
    wall, after = time.perf_counter() - start, os.times()
    told = json.loads(done.stderr)
    assert told["code"] == 0, done.stderr
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {**json.loads(done.stdout), "process_s": wall, "processor_s": used, "peak_bytes": told["peak_bytes"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--facts")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = facts.folder(options.facts)
    if folder is None:
        print(f"the traces were not found: --facts, or {facts.VARIABLE}", file=sys.stderr)
        return 2
    found = []
    for trace, more, limit, memory in BARS:
        runs = [replayed(("--trace", str(folder / "traces" / trace), *more)) for _ in range(options.repeats)]
        best = min(runs, key=lambda r: r["wall_s"])
        entry = {
            "command": " ".join(("replay", *SERVED, "--trace", trace, *more)),
            "requests": best["requests"],
            "refused": best["refused"],
            "replay_s": best["wall_s"],
            "most_replay_s": max(r["wall_s"] for r in runs),
            "requests_per_s": best["requests"] / best["wall_s"],
            "process_s": min(r["process_s"] for r in runs),
            "processor_s": min(r["processor_s"] for r in runs),
            "peak_bytes": max(r["peak_bytes"] for r in runs),
            "limit_s": limit,
        }
        entry["holds"] = entry["replay_s"] <= limit and entry["peak_bytes"] <= memory
        found.append(entry)
        if not options.json:
            print(
                f"{entry['replay_s']:.2f} s (to {entry['most_replay_s']:.2f}; the whole process {entry['process_s']:.2f} s, "
                f"of it {entry['processor_s']:.2f} s of processor), {entry['requests_per_s']:,.0f} requests/s, "
                f"{entry['peak_bytes'] / 1e6:.0f} MB, at most {limit:g} s: {entry['command']}"
                + ("" if entry["holds"] else "  MISSED")
            )
    if options.json:
        print(json.dumps({"replays": found}, indent=2))
    return 0 if all(entry["holds"] for entry in found) else 1


if __name__ == "__main__":
    sys.exit(main())
