"""Convolutional networks, layer by layer as their reference code defines them.

Each recipe names the code it follows. Boxes are decoded and scores turned into probabilities as vector work; choosing
among the boxes (non-maximum suppression) depends on the picture and is left to the host, as in the reference code.
"""

from __future__ import annotations

from presilicon.dtypes import Formats
from presilicon.frontend.network import Builder, Feature, Network
from presilicon.graph import Graph, Size

_IMAGENET_CLASSES = 1000


def _bottleneck(
    b: Builder, x: Feature, width: int, out: int, *, stride: int = 1, groups: int = 1, shortcut: bool = False
) -> Feature:
    """1x1, 3x3, 1x1 with a shortcut; the 3x3 carries the stride (version 1.5)."""
    y = b.conv(x, "conv1", width)
    y = b.conv(y, "conv2", width, kernel=3, stride=stride, padding=1, groups=groups)
    y = b.conv(y, "conv3", out, activation=False)
    if shortcut:
        b.conv(x, "shortcut", out, stride=stride, activation=False)
    return b.add(y, "add")


def _bottleneck_stages(b: Builder, x: Feature, *, group_width: int = 64, groups: int = 1) -> list[Feature]:
    """Stem and the four stages of a 50-layer residual network; the outputs of the stages."""
    x = b.conv(x, "stem", 64, kernel=7, stride=2, padding=3)
    x = b.pool(x, "stem.pool", kernel=3, stride=2, padding=1)
    outputs = []
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width, out = group_width * groups * 2**stage, 256 * 2**stage
        with b.block(f"stage{stage + 1}.first"):
            x = _bottleneck(b, x, width, out, stride=1 if stage == 0 else 2, groups=groups, shortcut=True)
        with b.block(f"stage{stage + 1}", times=blocks - 1):
            x = _bottleneck(b, x, width, out, groups=groups)
        outputs.append(x)
    return outputs


def resnet50() -> Network:
    """ResNet-50 version 1.5 at 224 x 224.

    Layers: torchvision/models/resnet.py (Bottleneck, resnet50), the weights of MLPerf's reference; first in He et al.,
    "Deep Residual Learning for Image Recognition", 2015.
    """

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        x = _bottleneck_stages(b, Feature(3, 224, 224))[-1]
        x = b.global_pool(x, "pool")
        b.linear("classifier", batch, x.channels, _IMAGENET_CLASSES)
        return b.graph("resnet50")

    return Network("resnet50", "ResNet-50 v1.5, 224x224 images", "pytorch/vision:torchvision/models/resnet.py", build,
                   sample="one image")  # fmt: skip
