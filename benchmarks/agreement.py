"""Reference, simulator and RTL on the corpus and 600 random programs: ``python benchmarks/agreement.py [--json FILE]``.

Six cores and two pairs, each with a memory that answers evenly, with seeded stalls, and with beats held back at random. Told
are, by chip and memory, bytes that differ and cycles of the simulator against the RTL's; then how often each corner of
``presilicon.isa.corners`` was met with each memory. Exit 1 where a byte differs, where one core's cycles differ under the first
two memories, where cycles are off by more than 1 % in the mean or 2 % at worst elsewhere, or where a corner was never met.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np

from levels import EVERY_CORE, MEMORIES, MEMORY_BYTES, PAIRS, core
from presilicon.check import compare, met
from presilicon.compiler.corpus import CORPUS, prepare, random_case
from presilicon.isa.corners import CORNERS
from presilicon.rtl.runner import RtlMachine

RANDOM = 25
"""Random programs of each chip and memory: 8 x 3 x 25."""

Table = dict[str, Counter[tuple[str, str]]]


def agree(name: str, memory: str, seen: Counter[tuple[str, str]]) -> dict[str, object]:
    """All programs on one chip with one memory: what came of them; corners are added to ``seen``."""
    sizes, options = core(name), MEMORIES[memory]
    began, errors = time.perf_counter(), {}
    different = parted = 0
    seed = 1000 * list(MEMORIES).index(memory)
    with RtlMachine(sizes, np.zeros(MEMORY_BYTES, np.uint8), options) as machine:
        cases = [prepare(case, sizes, seed=3) for case in CORPUS]
        for case in (*cases, *(random_case(sizes, seed + number) for number in range(RANDOM))):
            checked = compare(case, sizes, machine=machine, options=options)
            different += sum(checked.mismatches.values())
            parted += checked.parted is not None
            errors[case.name] = abs(checked.cycles["simulate"] / checked.cycles["rtl"] - 1)
            seen.update(met(case, sizes))
    worst = max(errors, key=lambda case: errors[case])
    return {
        "chip": name,
        "memory": memory,
        "programs": len(errors),
        "bytes_different": different,
        "parted": parted,
        "mean_error": sum(errors.values()) / len(errors),
        "worst_error": errors[worst],
        "worst": worst,
        "exact": sizes.cores == 1 and not options.back_pressure,
        "wall_s": time.perf_counter() - began,
    }


def holds(row: dict[str, object]) -> bool:
    """Whether a chip and memory's figures meet the bars."""
    if row["bytes_different"]:
        return False
    return not row["parted"] if row["exact"] else row["mean_error"] <= 0.01 and row["worst_error"] <= 0.02


def main() -> int:
    """Run all of it, print both tables; 1 where a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("chips", nargs="*", default=[*EVERY_CORE, *PAIRS])
    given = parser.parse_args()
    rows, table = [], {memory: Counter() for memory in MEMORIES}
    print(f"{'chip':15} {'memory':14} programs  bytes that differ  cycles off: mean   worst")
    for name in given.chips:
        for memory in MEMORIES:
            row = agree(name, memory, table[memory])
            rows.append(row)
            print(
                f"{name:15} {memory:14} {row['programs']:8} {row['bytes_different']:18} {row['mean_error']:17.3%} "
                f"{row['worst_error']:7.3%} {row['worst'] if row['worst_error'] else ''}{'' if holds(row) else '  MISSED'}",
                flush=True,
            )
    print(f"\n{'corner':45}" + "".join(f"{memory:>14}" for memory in MEMORIES))
    never = []
    for op, names in CORNERS.items():
        for corner in names:
            counts = [table[memory][op, corner] for memory in MEMORIES]
            never += [f"{op}: {corner} ({memory})" for memory, count in zip(MEMORIES, counts, strict=True) if not count]
            print(f"{op + ': ' + corner:45}" + "".join(f"{count:14,}" for count in counts))
    cells = len(MEMORIES) * sum(map(len, CORNERS.values()))
    print(f"\n{sum(row['programs'] for row in rows)} programs; {cells - len(never)} of {cells} corners met. {never or ''}")
    if given.json:
        corners = {memory: {f"{op}: {corner}": n for (op, corner), n in found.items()} for memory, found in table.items()}
        given.json.write_text(json.dumps({"rows": rows, "corners": corners, "never": never}, indent=1) + "\n")
    return 0 if not never and all(map(holds, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
