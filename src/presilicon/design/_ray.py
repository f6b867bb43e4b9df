"""A Ray cluster that evaluates blocks; a worker that dies is replaced by Ray and its blocks are done again."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import CheckError, InputError

from ._evaluate import evaluate
from ._problem import Problem
from ._space import Indices
from ._workers import gathered

Floats = NDArray[np.float64]
# Times that Ray does a block again whose worker or machine was lost.
RETRIES = 5
_PATIENCE_S = 5.0
_HINT = 'an address such as 10.0.0.1:6379 that `ray status` knows, or "local"'


def _require_answer(address: str) -> None:
    """InputError where nothing listens at HOST:PORT; Ray itself would wait for a minute. Other forms are left to Ray."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers: {error}", where=address, hint=_HINT) from None


class RayWorkers:
    """``address`` of a running cluster, or "local": one is started with ``number`` processors, and ended with the search.

    InputError where no cluster answers. The cluster's machines need presilicon of the same version.
    """

    def __init__(self, problem: Problem, address: str, number: int | None = None) -> None:
        # No dashboard, no reports to anyone, and no process beside the search that the user did not ask for.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        _require_answer(address)
        self._ray: Any = ray
        local = address == "local"
        known: dict[str, Any] = {"num_cpus": number, "include_dashboard": False} if local else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **known)
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()
            raise InputError(
                f"no Ray cluster answers: {first[0] if first else type(error).__name__}", where=address,
                hint=_HINT,
            ) from None  # fmt: skip
        self._problem = problem
        self._told = ray.put(problem)
        self._work = ray.remote(num_cpus=1, max_retries=RETRIES)(evaluate)

    def evaluate(self, block: Indices) -> Floats:
        """All figures of designs, in the order of the block."""
        return gathered(self._problem, block, self._all)

    def _all(self, parts: Sequence[Indices]) -> list[Floats]:
        try:
            found: list[Floats] = self._ray.get([self._work.remote(self._told, part) for part in parts])
        except self._ray.exceptions.RayError as error:
            line = str(error).strip().splitlines()[0]
            raise CheckError(f"the Ray cluster lost a block {RETRIES} times: {line}", hint="--resume goes on") from None
        return found

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        self._ray.shutdown()
