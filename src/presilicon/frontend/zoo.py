"""Networks by name: what ``load`` finds that is not a decoder."""

from __future__ import annotations

from collections.abc import Callable

from presilicon.frontend import encoder, vision
from presilicon.frontend.network import Network

_NAMES: tuple[tuple[Callable[[], Network], tuple[str, ...]], ...] = (
    (vision.resnet50, ("resnet50", "resnet-50", "microsoft/resnet-50", "resnet")),
    (vision.mobilenet, ("mobilenet", "mobilenet-v1", "mobilenet_v1")),
    (vision.ssd_mobilenet, ("ssd-mobilenet", "ssd-mobilenet-v1", "ssd-small")),
    (vision.ssd_resnet34, ("ssd-resnet34", "ssd-large")),
    (vision.retinanet, ("retinanet", "retinanet-resnext50")),
    (encoder.bert_base, ("bert-base", "bert-base-uncased", "google-bert/bert-base-uncased")),
    (encoder.bert_large, ("bert-large", "bert-large-uncased", "google-bert/bert-large-uncased", "bert")),
    (encoder.minilm, ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "minilm")),
)

NETWORKS: dict[str, Callable[[], Network]] = {name: make for make, names in _NAMES for name in names}
"""Every name and alias, with the function that makes its Network."""

CANONICAL: tuple[str, ...] = tuple(names[0] for _, names in _NAMES)
"""One name of each network, for lists."""
