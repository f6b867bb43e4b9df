"""MLPerf's scenarios in virtual time over the estimate: single stream, multi-stream, offline, server.

Rules: mlcommons/inference_policies, inference_rules.adoc. A server's rate is found by queueing: Poisson arrivals, batches
formed greedily, the latency of each request judged at the percentile.
"""

from presilicon.scenario._batches import (
    QUERIES,
    RATE_RESOLUTION,
    BatchTimes,
    caps,
    highest_rate,
    multi_stream_s,
    offline_per_s,
    served,
    server_per_s,
    single_stream_s,
    streams,
)
from presilicon.scenario._tokens import TokenTimes, token_server_per_s

__all__ = [
    "QUERIES",
    "RATE_RESOLUTION",
    "BatchTimes",
    "TokenTimes",
    "caps",
    "highest_rate",
    "multi_stream_s",
    "offline_per_s",
    "served",
    "server_per_s",
    "single_stream_s",
    "streams",
    "token_server_per_s",
]
