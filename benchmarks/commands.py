"""Wall time of whole commands, each a fresh process: ``--help``, ``estimate``, ``match`` over all chips.

    python benchmarks/commands.py [--repeats N] [--json]

Exit 1 where the median of one is over its limit.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

START = "import sys; from presilicon.cli import main; sys.exit(main())"
COMMANDS = (
    (("--help",), 0.3),
    (("estimate", "llama-3.1-8b", "--chip", "h100"), 1.0),
    (("estimate", "deepseek-v3", "--chip", "h200", "--chips", "16", "--weights", "fp8"), 1.0),
    (("estimate", "resnet50", "--chip", "nvidia-l4", "--batch", "8"), 1.0),
    (("match", "llama-3.1-8b"), 3.0),
    (("match", "resnet50"), 3.0),
    (("match", "openai/gpt-oss-120b"), 3.0),
)


def wall_s(arguments: tuple[str, ...]) -> float:
    """Seconds of one run; CalledProcessError where it fails."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", START, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = []
    for arguments, limit in COMMANDS:
        wall_s(arguments)  # bytecode and the file cache
        times = [wall_s(arguments) for _ in range(options.repeats)]
        median = statistics.median(times)
        found.append(
            {
                "command": " ".join(("presilicon", *arguments)),
                "median_s": median,
                "least_s": min(times),
                "most_s": max(times),
                "limit_s": limit,
                "holds": median <= limit,
            }
        )
        if not options.json:
            f = found[-1]
            verdict = "" if f["holds"] else "  TOO SLOW"
            print(f"{median:6.2f} s ({min(times):.2f} to {max(times):.2f}), at most {limit:g} s: {f['command']}{verdict}")
    if options.json:
        print(json.dumps({"commands": found}, indent=2))
    return 0 if all(f["holds"] for f in found) else 1


if __name__ == "__main__":
    sys.exit(main())
