"""Operators with shapes and number formats, and graphs of them; no hardware.

A size is an integer, or an array of them: one graph then stands for a whole grid of batches and contexts, and everything
computed from it broadcasts. Repeated blocks are kept as repeats (``Operator.count``), never unrolled.
"""

from presilicon.graph._attention import Attention
from presilicon.graph._graph import Graph
from presilicon.graph._matrix import Convolution, ExpertMatmul, Matmul
from presilicon.graph._operator import Operator, Size, Split
from presilicon.graph._vector import Collective, CollectiveKind, Elementwise, Embedding, Normalization, Sampling

__all__ = [
    "Attention",
    "Collective",
    "CollectiveKind",
    "Convolution",
    "Elementwise",
    "Embedding",
    "ExpertMatmul",
    "Graph",
    "Matmul",
    "Normalization",
    "Operator",
    "Sampling",
    "Size",
    "Split",
]
