"""A workload file, the one that ``match`` and ``replay`` take too, as what a benchmark needs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from presilicon.chip import Chip
from presilicon.errors import FormatError, WorkloadError
from presilicon.replay import read_trace, together
from presilicon.replay.workload import Workload, read_workload

SEED = 2026
# Requests whose lengths are drawn; longer runs take them again from the first.
DRAWN = 8192


def options_of(path: str | Path, chip: Chip, scenario: str, *, tokens: bool) -> dict[str, Any]:
    """What a workload file says to ``bench``, by the names of its options; only what the file has.

    Lengths, or those of the trace's requests (``given``); of a server also its rate and bounds. The first of its formats
    that the chip multiplies. When requests arrive is MLPerf's to say: of a trace that is left out, and concurrency too.
    ``tokens``: for a language model; a network's answers are bound by ``ttft_s``. WorkloadError as ``read_workload``.
    """
    file = read_workload(path)
    found: dict[str, Any] = {"chips": file.chips, **_lengths(file, path, tokens)}
    if scenario == "server":
        found |= {"rate_per_s": file.rate_per_s}
        found |= {"ttft_s": file.ttft_s, "tpot_s": file.tpot_s} if tokens else {"latency_s": file.ttft_s}
    if file.formats:
        own = [name for name in file.formats if name.partition("/")[0] in chip.peak_ops_per_s]
        if not own:
            has = ", ".join(sorted(chip.peak_ops_per_s))
            raise FormatError(f"the chip multiplies none of {', '.join(file.formats)}", where=chip.name, hint=f"it has {has}")
        found["weights"] = own[0]
    return {name: value for name, value in found.items() if value is not None}


def _lengths(file: Workload, path: str | Path, tokens: bool) -> dict[str, Any]:
    if not tokens:
        if file.trace or file.output_tokens or (file.input_tokens and file.input_tokens.kind != "fixed"):
            raise WorkloadError("this model generates no tokens", where=str(path), hint="at most input_tokens, a number")
        return {"input_tokens": round(file.input_tokens.mean)} if file.input_tokens else {}
    if file.trace:
        return {"given": tuple((r.input_tokens, r.output_tokens) for r in read_trace(file.trace, most=file.requests))}
    if file.input_tokens is None and file.output_tokens is None:
        return {}
    return {"given": tuple((r.input_tokens, r.output_tokens) for r in together(file.lengths, DRAWN, SEED))}
