"""One job in a process of its own: ``python -m presilicon.studio.worker`` in the job's folder.

Reads job.json, writes latest.json whenever there is news and end.json at the end; ends when its standard input does, because
then the studio is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from presilicon import design
from presilicon.chip import parse
from presilicon.errors import PresiliconError, WorkloadError
from presilicon.files import clean, write_whole
from presilicon.frontend import load as load_model
from presilicon.frontend.language import LanguageModel
from presilicon.replay import Distribution, Fleet, deploy, run
from presilicon.replay.results import write_results
from presilicon.replay.workload import Workload
from presilicon.studio.orders import command, problem_of

TOLD_S = 0.25
"""Least time between two writings of latest.json."""
QUANTILES = 201


def _write(name: str, value: Mapping[str, Any]) -> None:
    write_whole(name, json.dumps(clean(value), allow_nan=False))


def _workload(about: Mapping[str, Any]) -> Workload:
    """The trace that was dropped, or arrivals at random with fixed lengths."""
    promised: dict[str, Any] = {"requests": about.get("requests"), "ttft_s": about.get("ttft_s"), "tpot_s": about.get("tpot_s")}
    if "trace_file" in about:
        return Workload(trace=about["trace_file"], speed=about.get("speed", 1.0), **promised)
    lengths = (Distribution("fixed", float(about[name])) for name in ("input_tokens", "output_tokens"))
    return Workload(input_tokens=next(lengths), output_tokens=next(lengths), rate_per_s=about.get("rate_per_s"), **promised)


def replay(about: Mapping[str, Any]) -> None:
    """A trace, or random arrivals, served by chips; the report, its distributions, and what happened over time."""
    model = load_model(about["model"])
    if not isinstance(model, LanguageModel):
        raise WorkloadError("it generates no tokens", where=model.name, hint="a language model")
    workload = _workload(about)
    requests = workload.load(about.get("seed", 0))
    assert isinstance(requests, list)
    mean = [max(1, round(sum(getattr(r, n) for r in requests) / len(requests))) for n in ("input_tokens", "output_tokens")]
    deployment = deploy(
        model, parse(about["chip_toml"], "the chip"), chips=about.get("chips", 1), weights=about.get("weights"),
        activations=about.get("activations"), kv_cache=about.get("kv_cache"), input_tokens=mean[0], output_tokens=mean[1],
    )  # fmt: skip
    last = 0.0

    def told(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > TOLD_S:
            last = time.monotonic()
            _write("latest.json", {"done": done, "total": total})

    found = run(Fleet(deployment=deployment, replicas=about.get("replicas", 1)), requests, slo=workload.slo, progress=told)
    write_results("results", found, command=command(about))
    shares = np.linspace(0.0, 1.0, QUANTILES)
    served = {name: found.records[name] for name in ("ttft_s", "tpot_s", "e2e_s")}
    quantiles = {name: np.quantile(v, shares) for name, values in served.items() if len(v := values[np.isfinite(values)])}
    timeline = dict(found.timeline)
    _write(
        "latest.json",
        {
            "done": len(requests),
            "total": len(requests),
            "report": found.to_json(),
            "quantiles": quantiles,
            "timeline": timeline,
        },
    )


def search(about: Mapping[str, Any]) -> None:
    """Designs for a model under limits; goes on where its folder ends when it is run again."""
    problem = problem_of(about)
    archive = design.Archive(problem)
    last = -TOLD_S
    begun = Path("search").exists()
    snapshot = None
    for snapshot in design.search(
        problem, folder="search", seed=about.get("seed", 0), budget=about["budget"], workers=1, resume=begun, archive=archive
    ):
        if time.monotonic() - last > TOLD_S or snapshot.phase == "done":
            last = time.monotonic()
            _write("latest.json", _told(problem, snapshot))
    assert snapshot is not None
    found = design.report(problem, archive, snapshot, command=command(about))
    _write("design.json", found.to_json())


def _told(problem: design.Problem, snapshot: design.Snapshot) -> dict[str, Any]:
    units = {str(one.fields["formats"]) for one in snapshot.front}
    return {
        "runs_in": {unit: str(problem.formats(unit)).split("/") for unit in units},
        "phase": snapshot.phase,
        "evaluated": snapshot.evaluated,
        "feasible": snapshot.feasible,
        "budget": snapshot.budget,
        "designs_per_s": snapshot.designs_per_s,
        "best": snapshot.best.to_json() if snapshot.best else None,
        "front": [one.to_json() for one in snapshot.front],
    }


KINDS = {"replay": replay, "search": search}


def _end_with_the_studio() -> None:
    while os.read(0, 1):  # not by sys.stdin, whose lock would be missed at the end
        pass
    os._exit(1)


def main() -> int:
    """Do the job of this folder; the exit code is that of the command line for the same failure."""
    threading.Thread(target=_end_with_the_studio, daemon=True).start()
    about = json.loads(Path("job.json").read_text(encoding="utf-8"))
    try:
        KINDS[about["kind"]](about)
    except PresiliconError as error:
        _write("end.json", {"state": "failed", "error": {"message": error.message, "where": error.where, "hint": error.hint}})
        return error.exit_code
    _write("end.json", {"state": "done"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
