"""Convolutional networks with random weights as ONNX, in torchvision's shapes: ResNet-18 and -50 of any width and image."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Blocks of a stage by depth; the deeper ones have bottlenecks: He et al., "Deep Residual Learning", 2015, table 1.
STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
OPSET = 17


class Builder:
    """Nodes and initialisers of an ONNX graph in the making; each method returns the name of its result."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def convolution(
        self,
        x: str,
        channels: int,
        out: int,
        kernel: int | Sequence[int],
        stride: int = 1,
        *,
        norm: float = 1.0,
        groups: int = 1,
        dilation: int = 1,
    ) -> str:
        """A convolution that keeps the size but for its stride, with He's weights, then batch norm of about ``norm``."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        fan_in = channels // groups * kernel[0] * kernel[1]
        shape = (out, channels // groups, *kernel)
        weights = (self.rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)
        pads = [dilation * (k - 1) // 2 for k in kernel]
        y = self.node(
            "Conv",
            x,
            self.constant(weights),
            kernel_shape=kernel,
            strides=[stride, stride],
            pads=2 * pads,
            group=groups,
            dilations=[dilation, dilation],
        )
        gamma = norm * self.rng.uniform(0.8, 1.2, out)
        beta, mean = 0.1 * self.rng.standard_normal((2, out))
        variance = self.rng.uniform(0.8, 1.2, out)
        parameters = [self.constant(one.astype(np.float32)) for one in (gamma, beta, mean, variance)]
        return self.node("BatchNormalization", y, *parameters, epsilon=1e-5)

    def linear(self, x: str, k: int, n: int) -> str:
        weights = (self.rng.standard_normal((n, k)) / np.sqrt(k)).astype(np.float32)
        bias = (0.1 * self.rng.standard_normal(n)).astype(np.float32)
        return self.node("Gemm", x, self.constant(weights), self.constant(bias), transB=1)

    def model(self, shape: Sequence[int], output: str, columns: int | None) -> onnx.ModelProto:
        """The checked model from input ``x`` of a shape to the last node's result, named ``logits`` (1, columns)."""
        self.nodes[-1].output[0] = "logits"
        assert self.nodes[-1].name == output
        graph = helper.make_graph(
            self.nodes,
            "cnn",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, columns and [shape[0], columns])],
            self.initializers,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        made = onnx.shape_inference.infer_shapes(made)
        onnx.checker.check_model(made)
        return made


def resnet(depth: int, *, image: int = 224, width: int = 64, classes: int = 1000, seed: int = 0) -> onnx.ModelProto:
    """ResNet-18 or -50: ``x`` (1, 3, image, image) to ``logits`` (1, classes); ``width`` channels in the first stage."""
    b = Builder(seed)
    expansion = 4 if depth == 50 else 1
    y = b.node("Relu", b.convolution("x", 3, width, 7, 2))
    y = b.node("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = width
    for stage, blocks in enumerate(STAGES[depth]):
        inner = width << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            out = expansion * inner
            short = y
            if stride > 1 or channels != out:
                short = b.convolution(y, channels, out, 1, stride)
            if expansion == 1:
                z = b.node("Relu", b.convolution(y, channels, inner, 3, stride))
            else:
                z = b.node("Relu", b.convolution(y, channels, inner, 1))
                z = b.node("Relu", b.convolution(z, inner, inner, 3, stride))
            z = b.convolution(z, inner, out, 3 if expansion == 1 else 1, norm=0.5)
            y = b.node("Relu", b.node("Add", z, short))
            channels = out
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    return b.model((1, 3, image, image), b.linear(y, channels, classes), classes)


def mobile(*, image: int = 32, width: int = 8, classes: int = 10, seed: int = 0) -> onnx.ModelProto:
    """A small network of depthwise, dilated and grouped convolutions, with a squeeze-and-excitation block (MobileNet V3's)."""
    b = Builder(seed)
    y = b.node("HardSwish", b.convolution("x", 3, width, 3, 2))
    for number, (kernel, stride, dilation) in enumerate(((3, 1, 1), (5, 2, 1), (3, 1, 2))):
        inner = 3 * width + 4 * number
        z = b.node("HardSwish", b.convolution(y, width, inner, 1))
        z = b.node("Relu", b.convolution(z, inner, inner, kernel, stride, groups=inner, dilation=dilation))
        squeezed = b.node("GlobalAveragePool", z)
        gate = b.node("Relu", b.convolution(squeezed, inner, width, 1))
        gate = b.node("HardSigmoid", b.convolution(gate, width, inner, 1), alpha=0.2, beta=0.5)
        z = b.convolution(b.node("Mul", z, gate), inner, width, 1, norm=0.5)
        y = b.node("Add", y, z) if stride == 1 else z
    y = b.node("Relu", b.convolution(y, width, 2 * width, 3, groups=2))
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    return b.model((1, 3, image, image), b.linear(y, 2 * width, classes), classes)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime on a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def fitted(
    model: onnx.ModelProto, images: NDArray[np.float32], kinds: NDArray[np.int64], ridge: float = 0.1
) -> onnx.ModelProto:
    """The model with its last layer, alone of all, fitted: the random network's features tell kinds of images apart.

    Ridge regression on -1 and 1; features that hardly change count little.
    """
    last = model.graph.node[-1]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(helper.make_tensor_value_info(last.input[0], TensorProto.FLOAT, None))
    ready = session(probe)
    features = np.concatenate([ready.run([last.input[0]], {"x": one[None]})[0] for one in images]).astype(np.float64)
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread += 0.1 * spread.mean()
    scaled = np.column_stack([(features - mean) / spread, np.ones(len(features))])
    wanted = np.where(np.eye(kinds.max() + 1, dtype=bool)[kinds], 1.0, -1.0)
    normal = scaled.T @ scaled + ridge * len(features) * np.eye(scaled.shape[1])
    solved = np.linalg.solve(normal, scaled.T @ wanted)
    weights = solved[:-1] / spread[:, None]
    values = {last.input[1]: weights.T, last.input[2]: solved[-1] - mean @ weights}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for stored in made.graph.initializer:
        if stored.name in values:
            stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[stored.name], np.float32), stored.name))
    return made
