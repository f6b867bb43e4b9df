"""Seconds a chip takes for batches of a network, as MLPerf's scenarios meet it: with what the host sends and chooses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from presilicon import frontend
from presilicon.dtypes import Formats
from presilicon.estimate.machine import Machine
from presilicon.estimate.passes import pass_cost
from presilicon.frontend.network import Network
from presilicon.graph import Graph
from presilicon.scenario._batches import BatchTimes
from presilicon.scenario.benchmarks import Benchmark

BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
# Share of the host link's bandwidth that copies reach (PCIe: headers of 24 bytes on payloads of 128 to 256).
HOST_SHARE = 0.85
# The 90th percentile of the lengths of SQuAD's texts over their mean: an assumption (lengths about a gamma of shape 6).
LONG_TEXT = 1.4


@lru_cache(maxsize=512)
def inference(network: str, formats: Formats, tokens: int | None) -> Graph:
    """One inference of a network of the library at all of ``BATCHES``."""
    found = frontend.load(network)
    assert isinstance(found, Network)
    return found.inference(batch=np.array(BATCHES), tokens=tokens, formats=formats)


def benchmark_times(
    found: Machine,
    benchmark: Benchmark,
    formats: Formats,
    *,
    longest: bool = False,
    overlapped: bool = False,
    host_cores: float = 64.0,
) -> BatchTimes:
    """Seconds of one chip for batches of a benchmark's network.

    ``longest``: judged at the 90th percentile of lengths; ``overlapped``: batches follow one another without a pause.
    """
    mean, padded = benchmark.fact("mean_sequence_tokens"), benchmark.fact("padded_sequence_tokens")
    tokens: int | None = None
    if mean is not None and padded is not None:
        # Padding computed in full, dropped, or in part; a percentile of latency is that of a longer text.
        wanted = min(padded, mean * (LONG_TEXT if longest else 1.0))
        share = float(found.constants.padding_share)
        tokens = int(share * padded + (1 - share) * wanted)
    latency = pass_cost(found, inference(benchmark.network, formats, tokens)).latency_s
    whole = np.asarray(latency) + found.constants.query_s
    if benchmark.detection:  # pictures of a batch are seen to side by side, on as many cores as the host has
        chosen = found.constants.detection_s * np.maximum(1.0, np.array(BATCHES) / host_cores)
        whole = np.maximum(whole, chosen) if overlapped else whole + chosen
    sent = np.array(BATCHES) * benchmark.sample_bytes / (HOST_SHARE * found.host_bytes_per_s)
    # A stream of batches sends the next while the last one is worked on; a single query waits for both.
    whole = np.maximum(whole, sent) if overlapped else whole + sent
    return BatchTimes(BATCHES, tuple(float(v) for v in whole))
