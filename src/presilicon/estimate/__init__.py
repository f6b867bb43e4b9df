"""The estimate: closed form, array-valued over chips, batches and lengths; a report for people.

``machine`` turns a chip into what the formulas read; ``pass_cost`` costs a graph, ``service_cost`` a model being served;
``report_of`` is one model on one system, as ``presilicon estimate`` prints it.
"""

from presilicon.estimate.machine import Machine, machine, stack
from presilicon.estimate.passes import PassCost, operator_cost, pass_cost
from presilicon.estimate.reporting import report_of
from presilicon.estimate.service import Load, ServiceCost, SteadyCost, service_cost, steady_cost

__all__ = [
    "Load",
    "Machine",
    "PassCost",
    "ServiceCost",
    "SteadyCost",
    "machine",
    "operator_cost",
    "pass_cost",
    "report_of",
    "service_cost",
    "stack",
    "steady_cost",
]
