"""What running chips costs: capital, electricity, cooling, rent."""

from presilicon.economics.operation import Operation, defaults, usd_per_hour

__all__ = ["Operation", "defaults", "usd_per_hour"]
