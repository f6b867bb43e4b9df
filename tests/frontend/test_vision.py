"""Convolutional networks against published parameter and MAC counts, and against their tables of layers."""

from __future__ import annotations

import pytest

from presilicon.dtypes import Formats
from presilicon.frontend.zoo import NETWORKS
from presilicon.graph import Convolution, Graph

# Parameters; MACs; where a published figure stands beside them.
COUNTS = {
    "resnet50": (25_557_032, 4_089_184_256),  # torchvision: 25,557,032 and 4.09 GMAC
    "mobilenet": (4_233_001, 568_741_376),  # tensorflow/models mobilenet_v1.md: 4.24 M and 569 MMAC
    "ssd-mobilenet": (6_818_111, 1_237_129_408),  # arXiv 1911.02549, table I: 6.91 M and 2.47 GOPs
    "ssd-resnet34": (19_972_534, 216_415_931_904),  # the same: 433 GOPs (its 36.3 M parameters are not the reference code's)
    "retinanet": (37_128_876, 201_208_394_752),  # none published was found; the reference code's layers
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    network = NETWORKS[name]()
    assert (network.parameters, network.macs_per_sample) == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "gops", "tolerance"),
    [("resnet50", 8.2, 0.005), ("mobilenet", 1.138, 0.005), ("ssd-mobilenet", 2.47, 0.005), ("ssd-resnet34", 433, 0.001)],
)
def test_operations_agree_with_the_mlperf_inference_paper(name: str, gops: float, tolerance: float) -> None:
    """Reddi et al., "MLPerf Inference Benchmark", arXiv 1911.02549, table I: operations of one input."""
    assert 2 * NETWORKS[name]().macs_per_sample / 1e9 == pytest.approx(gops, rel=tolerance)


def _graph(name: str) -> Graph:
    return NETWORKS[name]().inference(batch=1, formats=Formats())


def _convolution(graph: Graph, name: str) -> Convolution:
    (found,) = [o for o in graph if o.name == name]
    assert isinstance(found, Convolution)
    return found


def test_resnet50_strides_in_the_3x3_and_has_53_convolutions() -> None:
    graph = _graph("resnet50")
    assert sum(o.count for o in graph if isinstance(o, Convolution)) == 53
    first, second = (_convolution(graph, f"layer2.0.conv{i}") for i in (1, 2))
    assert (first.out_height, second.in_height, second.out_height) == (56, 56, 28)


def test_mobilenet_alternates_depthwise_and_pointwise() -> None:
    convolutions = [o for o in _graph("mobilenet") if isinstance(o, Convolution)]
    assert sum(o.count for o in convolutions) == 27
    depthwise = [o for o in convolutions if o.groups != 1]
    assert sum(o.count for o in depthwise) == 13
    assert all(o.groups == o.in_channels == o.out_channels for o in depthwise)


@pytest.mark.parametrize(("name", "boxes"), [("ssd-mobilenet", 1917), ("ssd-resnet34", 15130), ("retinanet", 120087)])
def test_detectors_propose_the_boxes_of_their_reference(name: str, boxes: int) -> None:
    (decode,) = [o for o in _graph(name) if o.name == "boxes"]
    assert decode.vector_ops == 20 * boxes


@pytest.mark.parametrize(("head", "size"), list(enumerate((50, 25, 13, 7, 3, 3))))
def test_ssd_resnet34_looks_at_six_maps_with_stride_3(head: int, size: int) -> None:
    assert _convolution(_graph("ssd-resnet34"), f"head{head}.classes").out_height == size


def test_retinanet_shares_its_heads_over_five_levels() -> None:
    towers = [o for o in _graph("retinanet") if o.name.startswith("classes.") and o.name.endswith("tower.conv")]
    assert [o.in_height for o in towers if isinstance(o, Convolution)] == [100, 50, 25, 13, 7]
    assert sum(o.count * o.weight_elements for o in towers) == pytest.approx(4 * (256 * 256 * 9 + 256))


def test_retinanet_groups_the_backbone() -> None:
    conv = _convolution(_graph("retinanet"), "layer4.0.conv2")
    assert (conv.groups, conv.in_channels, conv.in_height, conv.out_height) == (32, 1024, 50, 25)
