"""Collectives: start-up, hops and traffic of the algorithm and protocol that is fastest at a message size.

A collective takes ``start_s`` once and ``hop_s`` for each step of its ring, or of a tree where that has fewer. It moves its
traffic by one of three protocols, as NCCL does: words with a flag each (no waiting, a few per cent of the links), lines
of 128 bytes with a flag (about half of the links), or plain copies behind a semaphore (all the links reach, a long
start-up, and each chip's own part copied besides). A switch that can reduce receives each buffer once instead of twice.
"""

from __future__ import annotations

import math

import numpy as np

from presilicon.estimate.cost import Cost, Real
from presilicon.estimate.machine import Machine
from presilicon.graph import Collective

# The same on every chip; fitted once on A100, H100 and H200 together. Bandwidth of the protocols of words and of lines over
# that of plain copies, of a chip's copy of its own part over that of its links (a reduction hides part of the copy):
WORD_SHARE = 0.045
LINE_SHARE = 0.46
COPY_SHARE = 2.2
REDUCED_COPY = 0.7
# Steps that handing out work to all peers at once stands for, and how much each further peer adds.
DIRECT_STEPS = 2.3
DIRECT_STEP_PER_PEER = 0.17
# A level of a tree takes this many steps of a ring: up to 8 chips a ring is as quick, as is measured.
STEPS_PER_LEVEL = 2.5


def _shape(op: Collective) -> tuple[float, float, float, float]:
    """Latency steps, bytes sent by one chip over message bytes, those of its own copy, and peers waited for."""
    n = op.chips
    part = (n - 1) / n
    levels = STEPS_PER_LEVEL * math.ceil(math.log2(n))
    direct = DIRECT_STEPS + DIRECT_STEP_PER_PEER * (n - 1)
    match op.collective:
        case "all_reduce":
            return min(2.0 * (n - 1), 2.0 * levels), 2.0 * part, REDUCED_COPY / n, n - 1.0
        case "all_gather" | "reduce_scatter":
            return min(n - 1.0, levels), part, 1.0 / n, n - 1.0
        case "alltoall":
            return direct, part, 1.0 / n, n - 1.0
        case "send":
            return DIRECT_STEPS, 1.0, 0.0, 1.0


def collective_cost(machine: Machine, op: Collective) -> Cost:
    """Cost of one collective among ``op.chips`` chips, array-valued over message bytes and machines.

    ``link_bytes`` are those one chip sends; each was read from its memory, and as many are written. Chips without links
    exchange through the host, and have no switch that reduces.
    """
    if op.chips <= 1:
        return Cost(latency_s=np.zeros(np.shape(op.message_bytes)) if np.ndim(op.message_bytes) else 0.0)
    c = machine.constants
    steps, sent, copied, peers = _shape(op)
    message = op.message_bytes * 1.0
    reached = c.link_share * machine.link_bytes_per_s
    first_s = c.collective_start_s + c.collective_hop_s * steps
    link_s = sent * message / reached
    words_s = link_s / WORD_SHARE
    lines_s = c.collective_line_s * math.sqrt(peers) + link_s / LINE_SHARE
    plain_s = c.collective_copy_s + link_s + copied * message / (COPY_SHARE * reached)
    body_s = np.minimum(np.minimum(words_s, lines_s), plain_s)
    link_bytes: Real = sent * message
    if op.collective == "all_reduce" and op.chips > 2:
        in_switch_bytes = (1.0 + 1.0 / op.chips) * message
        share = np.where(machine.link_bytes_per_s > machine.host_bytes_per_s, c.in_switch_share, 0.0)
        in_switch_s = in_switch_bytes / (np.maximum(share, 1e-9) * machine.link_bytes_per_s)
        switched_s = c.collective_copy_s + in_switch_s
        link_s = np.where(switched_s < body_s, in_switch_s, link_s)
        link_bytes = np.where(switched_s < body_s, in_switch_bytes, link_bytes)
        body_s = np.minimum(body_s, switched_s)
    return Cost(
        latency_s=first_s + body_s,
        link_s=link_s,
        overhead_s=first_s,
        dram_bytes=2.0 * link_bytes,
        link_bytes=link_bytes,
    )
