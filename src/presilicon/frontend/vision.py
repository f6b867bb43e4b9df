"""Convolutional networks, layer by layer as their reference code defines them.

Each recipe names the code it follows. Scores become probabilities and offsets become boxes as vector work; choosing among
the boxes (non-maximum suppression) depends on the picture and is left to the host, as in the reference code.
"""

from __future__ import annotations

from presilicon.dtypes import Formats
from presilicon.frontend.network import Builder, Feature, Network
from presilicon.graph import Graph, Size

_TORCHVISION = "pytorch/vision@054e54c5:torchvision/models/resnet.py"
_MLPERF = "mlcommons/inference@98804ac3:retired_benchmarks/vision/classification_and_detection/python/models"


def _bottleneck(
    b: Builder, x: Feature, width: int, out: int, *, stride: int = 1, groups: int = 1, shortcut: bool = False
) -> Feature:
    """1x1, 3x3, 1x1 with a shortcut; the 3x3 carries the stride (version 1.5)."""
    y = b.conv(x, "conv1", width)
    y = b.conv(y, "conv2", width, kernel=3, stride=stride, padding=1, groups=groups)
    if shortcut:  # before conv3, whose epilogue adds it
        b.conv(x, "shortcut", out, stride=stride, activation=False)
    y = b.conv(y, "conv3", out, activation=False)
    return b.add(y, "add")


def _bottleneck_stages(b: Builder, x: Feature, *, group_width: int = 64, groups: int = 1) -> list[Feature]:
    """Stem and the four stages of a 50-layer residual network; the outputs of the stages."""
    x = _stem(b, x)
    outputs = []
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width, out = group_width * groups * 2**stage, 256 * 2**stage
        with b.block(f"layer{stage + 1}.0"):
            x = _bottleneck(b, x, width, out, stride=1 if stage == 0 else 2, groups=groups, shortcut=True)
        with b.block(f"layer{stage + 1}.1-{blocks - 1}", times=blocks - 1):
            x = _bottleneck(b, x, width, out, groups=groups)
        outputs.append(x)
    return outputs


def _stem(b: Builder, x: Feature) -> Feature:
    x = b.conv(x, "stem", 64, kernel=7, stride=2, padding=3)
    return b.pool(x, "stem.pool", kernel=3, stride=2, padding=1)


def resnet50() -> Network:
    """ResNet-50 version 1.5 at 224 x 224, 1,000 classes.

    First in He et al., "Deep Residual Learning for Image Recognition", 2015; the stride sits on the 3x3 (version 1.5), as in
    the model that MLPerf names.
    """

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        x = _bottleneck_stages(b, Feature(3, 224, 224))[-1]
        x = b.global_pool(x, "pool")
        b.linear("classifier", batch, x.channels, 1000)
        return b.graph("resnet50")

    return Network("resnet50", "ResNet-50 v1.5, 224x224 images", _TORCHVISION, build, sample="one image")


def _mobilenet_body(b: Builder, x: Feature) -> list[Feature]:
    """The 27 convolutions of MobileNet-v1; the outputs of pairs 11 and 13, which SSD looks at."""
    x = b.conv(x, "conv0", 32, kernel=3, stride=2, padding="same")
    kept = []
    index = 1
    for channels, stride, times in (  # output channels, stride, equal pairs in a row
        (64, 1, 1), (128, 2, 1), (128, 1, 1), (256, 2, 1), (256, 1, 1), (512, 2, 1), (512, 1, 5), (1024, 2, 1), (1024, 1, 1),
    ):  # fmt: skip
        with b.block(f"pair{index}" if times == 1 else f"pair{index}-{index + times - 1}", times=times):
            x = b.conv(x, "depthwise", x.channels, kernel=3, stride=stride, padding="same", groups=x.channels)
            x = b.conv(x, "pointwise", channels)
        index += times
        if index - 1 in (11, 13):
            kept.append(x)
    return kept


def mobilenet() -> Network:
    """MobileNet-v1, width 1.0, at 224 x 224, with the 1,001 outputs of its TensorFlow checkpoint.

    Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017.
    """

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        x = b.global_pool(_mobilenet_body(b, Feature(3, 224, 224))[-1], "pool")
        b.linear("classifier", batch, x.channels, 1001)
        return b.graph("mobilenet")

    return Network("mobilenet", "MobileNet-v1 1.0, 224x224 images",
                   "tensorflow/models:research/slim/nets/mobilenet_v1.py", build, sample="one image")  # fmt: skip


def _decode(b: Builder, scores: int, boxes: int) -> None:
    """Sigmoid or softmax of all scores (about 8 operations each) and boxes from offsets (about 20 a box).

    Scores are gone over three times: probability, threshold, the largest of those above it.
    """
    b.vector("scores", b.batch * scores, reads=3.0, writes=1.5, ops=8.0)
    b.vector("boxes", b.batch * boxes, reads=4.0, writes=4.0, ops=20.0)


def _plain(b: Builder, x: Feature, name: str, channels: int, *, activation: bool = False, **shape: int) -> Feature:
    """A convolution with a bias and no batch norm."""
    return b.conv(x, name, channels, bias=True, norm=False, activation=activation, **shape)


def ssd_mobilenet() -> Network:
    """SSD on MobileNet-v1 at 300 x 300 for COCO's 91 classes: 1,917 boxes (MLPerf's SSD-small)."""

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        maps = _mobilenet_body(b, Feature(3, 300, 300))
        for i, (inner, outer) in enumerate(((256, 512), (128, 256), (128, 256), (64, 128))):
            with b.block(f"extra{i}"):
                x = _plain(b, maps[-1], "conv1", inner, activation=True)
                x = b.conv(x, "conv2", outer, kernel=3, stride=2, padding="same", bias=True, norm=False)
            maps.append(x)
        boxes = 0
        for i, (x, anchors) in enumerate(zip(maps, (3, 6, 6, 6, 6, 6), strict=True)):
            with b.block(f"head{i}"):
                _plain(b, x, "classes", 91 * anchors)
                _plain(b, x, "boxes", 4 * anchors)
            boxes += anchors * x.pixels
        _decode(b, 91 * boxes, boxes)
        return b.graph("ssd-mobilenet")

    return Network("ssd-mobilenet", "SSD-MobileNet-v1, 300x300 images", f"{_MLPERF}/ssd_mobilenet_v1.py", build,
                   sample="one image")  # fmt: skip


def ssd_resnet34() -> Network:
    """SSD on ResNet-34 at 1200 x 1200 for 81 classes: 15,130 boxes (MLPerf's SSD-large).

    The body ends after the third stage, which keeps the second's resolution; the heads have stride 3.
    """

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        x = _stem(b, Feature(3, 1200, 1200))
        for stage, (channels, blocks, stride) in enumerate(((64, 3, 1), (128, 4, 2), (256, 6, 1))):
            project = x.channels != channels
            with b.block(f"layer{stage + 1}.0"):
                x = _basic(b, x, channels, stride=stride, shortcut=project)
            with b.block(f"layer{stage + 1}.1-{blocks - 1}", times=blocks - 1):
                x = _basic(b, x, channels)
        maps = [x]
        extras = ((256, 512, 2, 1), (256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 2, 0), (128, 256, 1, 0))
        for i, (inner, outer, stride, padding) in enumerate(extras):
            with b.block(f"extra{i}"):
                x = _plain(b, maps[-1], "conv1", inner, activation=True)
                x = _plain(b, x, "conv2", outer, kernel=3, stride=stride, padding=padding, activation=True)
            maps.append(x)
        boxes = 0
        for i, (x, anchors) in enumerate(zip(maps, (4, 6, 6, 6, 4, 4), strict=True)):
            with b.block(f"head{i}"):
                _plain(b, x, "boxes", 4 * anchors, kernel=3, stride=3, padding=1)
                cells = _plain(b, x, "classes", 81 * anchors, kernel=3, stride=3, padding=1)
            boxes += anchors * cells.pixels
        _decode(b, 81 * boxes, boxes)
        return b.graph("ssd-resnet34")

    return Network("ssd-resnet34", "SSD-ResNet34, 1200x1200 images", f"{_MLPERF}/ssd_r34.py and base_model_r34.py", build,
                   sample="one image")  # fmt: skip


def _basic(b: Builder, x: Feature, channels: int, *, stride: int = 1, shortcut: bool = False) -> Feature:
    """Two 3x3 with a shortcut."""
    y = b.conv(x, "conv1", channels, kernel=3, stride=stride, padding=1)
    if shortcut:
        b.conv(x, "shortcut", channels, stride=stride, activation=False)
    y = b.conv(y, "conv2", channels, kernel=3, padding=1, activation=False)
    return b.add(y, "add")


def retinanet() -> Network:
    """RetinaNet on ResNeXt50-32x4d with a feature pyramid at 800 x 800, 264 classes of OpenImages: 120,087 boxes (MLPerf).

    The two heads are the same for the five levels. The pyramid's sixth level comes from its fifth (LastLevelP6P7(256, 256)).
    """

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        stages = _bottleneck_stages(b, Feature(3, 800, 800), group_width=4, groups=32)[1:]
        levels: list[Feature] = []
        for i in (2, 1, 0):
            with b.block(f"pyramid.p{i + 3}"):
                x = _plain(b, stages[i], "lateral", 256)
                if levels:
                    b.vector("upsample_add", batch * x.elements, reads=1.25, ops=1.0)
                levels.insert(0, _plain(b, x, "smooth", 256, kernel=3, padding=1))
        levels.append(_plain(b, levels[2], "pyramid.p6", 256, kernel=3, stride=2, padding=1, activation=True))
        levels.append(_plain(b, levels[3], "pyramid.p7", 256, kernel=3, stride=2, padding=1))
        anchors, classes = 9, 264
        for i, x in enumerate(levels):
            for head, outputs in (("classes", classes * anchors), ("boxes", 4 * anchors)):
                with b.block(f"{head}.p{i + 3}", sharers=len(levels)):
                    with b.block("tower", times=4):
                        _plain(b, x, "conv", 256, kernel=3, padding=1, activation=True)
                    _plain(b, x, "predict", outputs, kernel=3, padding=1)
        boxes = anchors * sum(x.pixels for x in levels)
        _decode(b, classes * boxes, boxes)
        return b.graph("retinanet")

    return Network("retinanet", "RetinaNet with ResNeXt50-32x4d, 800x800 images",
                   "mlcommons/inference@1882e507:vision/classification_and_detection/python/models/resnext50/retinanet.py",
                   build, sample="one image")  # fmt: skip
