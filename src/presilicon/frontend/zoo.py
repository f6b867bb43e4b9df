"""Networks by name: what ``load`` finds that is not a decoder."""

from __future__ import annotations

from collections.abc import Callable

from presilicon.frontend import diffusion, encoder, vision
from presilicon.frontend.network import Network

_NAMES: tuple[tuple[Callable[[], Network], tuple[str, ...]], ...] = (
    (vision.resnet50, ("resnet50", "resnet-50", "microsoft/resnet-50", "resnet")),
    (vision.mobilenet, ("mobilenet", "mobilenet-v1", "google/mobilenet_v1_1.0_224")),
    (vision.ssd_mobilenet, ("ssd-mobilenet", "ssd-mobilenet-v1", "ssd-small")),
    (vision.ssd_resnet34, ("ssd-resnet34", "ssd-large")),
    (vision.retinanet, ("retinanet", "retinanet-resnext50")),
    (encoder.bert_base, ("bert-base", "bert-base-uncased", "google-bert/bert-base-uncased")),
    (encoder.bert_large, ("bert-large", "bert-large-uncased", "google-bert/bert-large-uncased", "bert")),
    (encoder.minilm, ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "minilm")),
    (encoder.vit_base, ("vit-base-patch16-224", "google/vit-base-patch16-224", "vit-base", "vit")),
    (encoder.vit_large, ("vit-large-patch16-224", "google/vit-large-patch16-224", "vit-large")),
    (encoder.whisper_tiny, ("whisper-tiny", "openai/whisper-tiny")),
    (encoder.whisper_large, ("whisper-large-v3", "openai/whisper-large-v3", "whisper-large", "whisper")),
    (diffusion.stable_diffusion_xl,
     ("stable-diffusion-xl", "stabilityai/stable-diffusion-xl-base-1.0", "stable-diffusion-xl-base-1.0", "sdxl")),
    (diffusion.wan, ("wan-2.2-t2v-a14b", "Wan-AI/Wan2.2-T2V-A14B", "Wan-AI/Wan2.2-T2V-A14B-Diffusers", "wan")),
)  # fmt: skip

NETWORKS: dict[str, Callable[[], Network]] = {name: make for make, names in _NAMES for name in names}
"""Every name and alias, with the function that makes its Network."""

CANONICAL: tuple[str, ...] = tuple(names[0] for _, names in _NAMES)
"""One name of each network, for lists."""
