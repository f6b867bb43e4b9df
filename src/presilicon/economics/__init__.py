"""What chips cost: to make, block by block, and to run: capital, electricity, cooling, rent."""

from presilicon.economics.operation import Operation, defaults, owned_usd_per_hour, usd_per_hour, usd_per_million_tokens

__all__ = ["Operation", "defaults", "owned_usd_per_hour", "usd_per_hour", "usd_per_million_tokens"]
