"""Serving in virtual time: one replica's scheduler over the estimate, fleets of replicas, traces and what comes out.

``deploy`` puts a model on chips; its ``scheduler()`` is a state machine without a clock, for virtual and for real time. ``run``
replays requests on a ``Fleet``; ``read_trace``, ``poisson``, ``gamma`` and ``together`` make them.
"""

from presilicon.replay.arrivals import Distribution, Lengths, PrefixSharing, at_rate, gamma, poisson, together
from presilicon.replay.deployment import Deployment, Speculation, deploy
from presilicon.replay.fleet import ROUTINGS, Fleet, Router
from presilicon.replay.outcome import Percentiles, ReplayReport, Underway
from presilicon.replay.requests import Limits, Refusal, Request, Slo
from presilicon.replay.run import ClosedLoop, run
from presilicon.replay.scheduler import Run, Scheduler, Step
from presilicon.replay.traces import read_trace

__all__ = [
    "ROUTINGS",
    "ClosedLoop",
    "Deployment",
    "Distribution",
    "Fleet",
    "Lengths",
    "Limits",
    "Percentiles",
    "PrefixSharing",
    "Refusal",
    "ReplayReport",
    "Request",
    "Router",
    "Run",
    "Scheduler",
    "Slo",
    "Speculation",
    "Step",
    "Underway",
    "at_rate",
    "deploy",
    "gamma",
    "poisson",
    "read_trace",
    "run",
    "together",
]
