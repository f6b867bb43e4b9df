"""What running chips costs: capital, electricity, cooling, rent."""

from presilicon.economics.operation import Operation, Share, defaults, usd_per_hour

__all__ = ["Operation", "Share", "defaults", "usd_per_hour"]
