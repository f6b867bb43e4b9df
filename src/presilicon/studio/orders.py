"""What a request may ask a job to do: checked before its process starts, and written down as the process reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from shlex import join
from typing import Any

from presilicon import design
from presilicon.chip import Chip
from presilicon.errors import WorkloadError
from presilicon.studio import asked, blank
from presilicon.studio.asked import Asked
from presilicon.studio.workspace import Workspace

REPLAYED = {"replicas": 1, "requests": 1, "seed": 0, "rate_per_s": 1e-6, "speed": 1e-6, "ttft_s": 1e-9, "tpot_s": 1e-9}
"""The numbers of a replay, and the least that each may be."""
SEARCHED = {
    "budget": 1, "chips": 1, "seed": 0, "volume": 1, "input_tokens": 1, "output_tokens": 1, "max_power_w": 1e-3,
    "max_area_mm2": 0.01, "max_unit_usd": 0.01, "ttft_s": 1e-9, "tpot_s": 1e-9,
}  # fmt: skip
"""The numbers of a search, and the least that each may be."""
TEXTS = ("objective", "node", "memory")
WHOLE = ("replicas", "requests", "seed", "budget", "chips", "volume", "input_tokens", "output_tokens")
DESIGNS, MOST_DESIGNS = 100_000, 2_000_000
"""Designs that a search evaluates unless told, and at most."""


def order(about: object, find: Callable[[str], Chip], workspace: Workspace) -> dict[str, Any]:
    """A job from the JSON of a request; InputError names what cannot be used."""
    if not isinstance(about, Mapping):
        raise WorkloadError("not a job", hint="a JSON object")
    match about.get("kind"):
        case "search":
            return _search(about)
        case "replay":
            return _replay(about, find, workspace)
        case other:
            raise WorkloadError(f"no job is called {str(other)[:40]!r}", hint="replay or search")


def problem_of(given: Mapping[str, Any]) -> design.Problem:
    """The problem of a search's job; WorkloadError where nothing in the space can be asked that."""
    bounds = {name: given[name] for name in (*SEARCHED, *TEXTS) if name in given and name not in ("budget", "seed")}
    return design.problem(asked.model(given["model"]), space=given["space"], **bounds)


def command(given: Mapping[str, Any]) -> str:
    """The command line that does a job's work; a chip's or trace's file is the job's own."""
    words = ["presilicon", "design" if given["kind"] == "search" else "replay", given["model"]]
    named = {"rate_per_s": "rate", "kv_cache": "kv-cache"}
    if "chip_toml" in given:
        words += ["--chip", "chip.toml"]
    if "trace_title" in given:
        words += ["--trace", given["trace_title"]]
    for name, value in given.items():
        if name not in ("kind", "model", "chip_toml", "trace_file", "trace_title"):
            words += ["--" + named.get(name, name).replace("_", "-"), f"{value:g}" if isinstance(value, float) else str(value)]
    return join(words)


def _search(about: Mapping[str, Any]) -> dict[str, Any]:
    model = asked.model(str(about.get("model", "")))
    given: dict[str, Any] = {"kind": "search", "model": model.name, "space": blank.SPACE, "budget": DESIGNS}
    given |= _numbers(about, SEARCHED) | {name: str(about[name])[:40] for name in TEXTS if about.get(name)}
    if given["budget"] > MOST_DESIGNS:
        raise WorkloadError(f"budget is {given['budget']:,}", hint=f"at most {MOST_DESIGNS:,} here")
    problem_of(given)
    return given


def _replay(about: Mapping[str, Any], find: Callable[[str], Chip], workspace: Workspace) -> dict[str, Any]:
    state = Asked.of(about.get("state", {}))
    model, one = asked.model(state.model), asked.chip_of(state, find)
    given: dict[str, Any] = {"kind": "replay", "model": model.name, "chip_toml": one.to_toml(), "chips": state.chips}
    given |= {name: value for name in ("weights", "activations", "kv_cache") if (value := getattr(state, name))}
    given |= _numbers(about, REPLAYED)
    if about.get("trace"):
        path, title = workspace.trace(str(about["trace"]))
        return given | {"trace_file": str(path), "trace_title": title}
    return given | {"input_tokens": state.input_tokens, "output_tokens": state.output_tokens}


def _numbers(about: Mapping[str, Any], least: Mapping[str, float]) -> dict[str, float]:
    """Those of the numbers that are given; 0 and null stand for none."""
    found: dict[str, float] = {}
    for name, bound in least.items():
        value = about.get(name)
        if not value:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not bound <= value <= 1e9:
            raise WorkloadError(f"{name} is {value!r:.40}", hint=f"a number from {bound:g}")
        if name in WHOLE and value != int(value):
            raise WorkloadError(f"{name} is {value:g}", hint="a whole number")
        found[name] = int(value) if name in WHOLE else float(value)
    return found
