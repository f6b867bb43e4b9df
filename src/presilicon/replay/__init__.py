"""Serving in virtual time: one replica's scheduler over the estimate, fleets of replicas, traces and what comes out.

``deploy`` puts a model on chips; its ``scheduler()`` is a state machine without a clock, for virtual and for real time.
"""

from presilicon.replay.deployment import Deployment, Speculation, deploy
from presilicon.replay.requests import Limits, Refusal, Request, Slo
from presilicon.replay.scheduler import Run, Scheduler, Step

__all__ = [
    "Deployment",
    "Limits",
    "Refusal",
    "Request",
    "Run",
    "Scheduler",
    "Slo",
    "Speculation",
    "Step",
    "deploy",
]
