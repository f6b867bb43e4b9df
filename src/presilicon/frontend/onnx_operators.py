"""What each ONNX operator costs: a table from operator type to the operators of graph.py that stand for one node.

Matrix work becomes Matmul, Convolution or Attention; the rest is Elementwise with the elements it reads and writes and
its scalar operations per element (an exponential counts as one, as in ``Attention.vector_ops``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from presilicon.errors import ModelError
from presilicon.frontend.onnx_matrix import MATRIX, Books
from presilicon.frontend.onnx_values import Step, Value, words
from presilicon.graph import Elementwise, Embedding, Normalization, Operator

Rule = Callable[[Step, Books], list[Operator]]

# Scalar operations per element; what is not listed here as an elementwise operator costs one.
_POINTWISE: dict[str, float] = {
    **dict.fromkeys(
        words(
            "Abs Neg Relu Exp Log Sqrt Reciprocal Floor Ceil Round Sign Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh "
            "Erf Not IsNaN IsInf BitwiseNot Add Sub Mul Div Min Max Pow Mod Sum Mean And Or Xor Equal Greater Less "
            "GreaterOrEqual LessOrEqual BitShift BitwiseAnd BitwiseOr BitwiseXor Where Cast CastLike BitCast ThresholdedRelu "
            "QLinearAdd QLinearMul BiasAdd Trilu"
        ),
        1.0,
    ),
    **dict.fromkeys(("LeakyRelu", "PRelu", "Clip", "QuantizeLinear", "Shrink", "QLinearLeakyRelu"), 2.0),
    **dict.fromkeys(("HardSigmoid", "Softplus", "Softsign", "Elu", "Celu", "DynamicQuantizeLinear"), 3.0),
    **dict.fromkeys(("Sigmoid", "Tanh", "Selu", "HardSwish", "QLinearSigmoid"), 4.0),
    **dict.fromkeys(("Swish", "QuickGelu", "SwiGLU"), 5.0),
    **dict.fromkeys(("Mish", "Gelu", "FastGelu", "BiasGelu", "BiasSplitGelu"), 8.0),
}
_MOVES = frozenset(
    words(
        "Transpose Concat Slice Split Pad Tile Expand Gather GatherElements GatherND Scatter ScatterElements ScatterND "
        "TensorScatter DepthToSpace SpaceToDepth ReverseSequence OneHot EyeLike Range Compress CenterCropPad Col2Im MaxUnpool "
        "ConstantOfShape HannWindow HammingWindow BlackmanWindow MelWeightMatrix QLinearConcat GatherBlockQuantized "
        "Upsample Resize GridSample AffineGrid RoiAlign MaxRoiPool Einsum "
        "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial"
    )
)
_NORMS = frozenset(
    words(
        "LayerNormalization RMSNormalization SimplifiedLayerNormalization SkipLayerNormalization "
        "SkipSimplifiedLayerNormalization InstanceNormalization GroupNormalization GroupNorm SkipGroupNorm "
        "LpNormalization MeanVarianceNormalization"
    )
)
_REDUCTIONS = frozenset(
    words(
        "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp "
        "ArgMax ArgMin GlobalAveragePool GlobalMaxPool GlobalLpPool QLinearGlobalAveragePool"
    )
)
_POOLS = frozenset(words("AveragePool MaxPool LpPool QLinearAveragePool"))
_SOFTMAX = frozenset(words("Softmax LogSoftmax Hardmax QLinearSoftmax"))
_SCANS = frozenset(words("CumSum CumProd NonZero Unique"))

EPILOGUE = frozenset(_POINTWISE) | {"BatchNormalization", "Transpose"}
"""Operators that the unit behind a matrix unit can do in passing."""

FREE = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "DequantizeLinear"})
"""Operators that only rename bytes: a dequantised tensor is read in its integer format by what uses it."""

UNPREDICTABLE = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
"""Operators whose output is never there before the run, whatever their inputs."""

_DATA_INPUTS: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(words("Gather GatherND GatherElements GatherBlockQuantized"), frozenset({0, 1})),
    **dict.fromkeys(words("QLinearAdd QLinearMul"), frozenset({0, 3})),
    **dict.fromkeys(words("Slice Pad Tile Expand Resize Upsample Split Compress Clip QuantizeLinear QLinearSigmoid "
                          "QLinearLeakyRelu CastLike"), frozenset({0})),
}  # fmt: skip


def _format(step: Step) -> Value:
    """The value whose format the work is done in: the largest that moves, else the output."""
    return max(step.moving, key=lambda v: v.elements, default=step.out)


def _data_inputs(step: Step) -> list[Value]:
    positions = _DATA_INPUTS.get(step.op)
    return [v for i, v in enumerate(step.inputs) if v is not None and (positions is None or i in positions)]


def _elementwise(step: Step, books: Books, *, ops: float, whole: bool = True) -> list[Operator]:
    """One pass over the outputs; ``whole`` inputs are read entirely, otherwise at most as much as is written."""
    written = sum(v.elements for v in step.outputs if v is not None)
    parameters, read = 0, 0
    for v in _data_inputs(step):
        if v.is_parameter and whole:
            parameters += books.hold(v)
        elif not v.stored or v.elements > 1:
            read += v.elements if whole else min(v.elements, written)
    if not written:
        return []
    return [
        Elementwise(name=step.name, elements=written, reads=read / written, ops=ops, parameters=parameters,
                    activations=_format(step).format)
    ]  # fmt: skip


def _pointwise(step: Step, books: Books) -> list[Operator]:
    source = step.need(0)
    if step.op in ("Cast", "CastLike") and source.is_float and step.out.is_float:
        return []  # the caller's formats decide, not the file's mixture of real types
    return _elementwise(step, books, ops=_POINTWISE[step.op] * max(1, len(list(step.moving)) - 1 if step.op == "Sum" else 1))


def _batch_norm(step: Step, books: Books) -> list[Operator]:
    """Scale and shift: mean and variance are folded into them, so 2 parameters a channel are held of the file's 4."""
    x = step.need(0)
    parameters = sum(books.hold(v) for v in (step.input(1), step.input(2)) if v is not None and v.is_parameter)
    return [Elementwise(name=step.name, elements=x.elements, ops=2.0, parameters=parameters,
                        activations=x.format)]  # fmt: skip


def _norm(step: Step, books: Books) -> list[Operator]:
    out = step.out
    parameters = sum(books.hold(v) for v in step.inputs if v is not None and v.is_parameter)
    reads = sum(v.elements for v in step.moving) / max(1, out.elements)
    return [Normalization(name=step.name, elements=out.elements, reads=reads, parameters=parameters,
                          activations=_format(step).format)]  # fmt: skip


def _softmax(step: Step, books: Books) -> list[Operator]:
    return _elementwise(step, books, ops=5.0)


def _local_norm(step: Step, books: Books) -> list[Operator]:
    return _elementwise(step, books, ops=3.0 + step.integer("size", 1))


def _move(step: Step, books: Books) -> list[Operator]:
    table = step.input(0)
    if step.op in ("Gather", "GatherBlockQuantized") and table is not None and table.is_parameter:
        return _embedding(step, table, books)
    ops = 0.0
    if step.op in ("Upsample", "Resize"):
        ops = {"nearest": 0.0, "cubic": 32.0}.get(step.text("mode", "nearest"), 8.0)
    elif step.op in ("GridSample", "RoiAlign", "MaxRoiPool"):
        ops = 8.0 * max(1, step.integer("sampling_ratio", 1)) ** 2
    elif step.op in ("ScatterElements", "ScatterND", "Scatter", "TensorScatter"):
        updates = step.need(2).elements  # the rest of the data stays where it is
        return [Elementwise(name=step.name, elements=updates, ops=0.0, activations=step.out.format)]
    return _elementwise(step, books, ops=ops, whole=step.op in ("Concat", "QLinearConcat"))


def _embedding(step: Step, table: Value, books: Books) -> list[Operator]:
    axis = step.integer("axis", 0) if step.op == "Gather" else step.integer("gather_axis", 0)
    rows_in_table = table.shape[axis] if -len(table.shape) <= axis < len(table.shape) else 0
    if not rows_in_table:
        return []
    width = table.elements // rows_in_table
    books.tables.setdefault(table.origin, []).append(step)
    return [Embedding(name=step.name, rows=step.need(1).elements, width=width, table_rows=rows_in_table,
                      weights=table.format)]  # fmt: skip


def _reduction(step: Step, books: Books) -> list[Operator]:
    x = step.need(0)
    if not x.elements:
        return []
    return [Elementwise(name=step.name, elements=x.elements, writes=step.out.elements / x.elements,
                        activations=x.format)]  # fmt: skip


def _pool(step: Step, books: Books) -> list[Operator]:
    return _elementwise(step, books, ops=float(math.prod(step.integers("kernel_shape", (1,)))))


def _top_k(step: Step, books: Books) -> list[Operator]:
    """A heap of k: log2 k comparisons an element."""
    x, kept = step.need(0), step.out
    if not x.elements:
        return []
    k = max(1, kept.shape[step.integer("axis", -1)] if kept.shape else 1)
    return [Elementwise(name=step.name, elements=x.elements, writes=2.0 * kept.elements / x.elements,
                        ops=1.0 + math.log2(k), activations=x.format)]  # fmt: skip


def _non_max_suppression(step: Step, books: Books) -> list[Operator]:
    """A sort of the scores, then each kept box against all others: about 10 operations a pair."""
    scores = step.need(1)
    if not scores.elements or len(scores.shape) != 3:
        return []
    boxes = scores.shape[2]
    limit = step.input(2)
    most = int(limit.data.reshape(-1)[0]) if limit is not None and limit.data is not None and limit.data.size else boxes
    kept = max(1, min(boxes, most))
    return [Elementwise(name=step.name, elements=scores.elements, reads=1.0 + 4.0 * scores.shape[0] * boxes
                        / scores.elements, writes=step.out.elements / scores.elements,
                        ops=math.log2(boxes + 1) + 10.0 * kept, activations=scores.format)]  # fmt: skip


def _transform(step: Step, books: Books) -> list[Operator]:
    """A Fourier transform by the fast algorithm: 5 n log2 n operations (J. W. Cooley, J. W. Tukey, 1965)."""
    out = step.out
    frame = out.shape[-2] if len(out.shape) > 1 else 1
    return _elementwise(step, books, ops=2.5 * math.log2(max(2, frame)))


def _rotary(step: Step, books: Books) -> list[Operator]:
    x = step.need(0)  # the cosines and sines are a table of positions, no parameters
    return [Elementwise(name=step.name, elements=x.elements, ops=3.0, activations=x.format)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(_MOVES, _move),
    **dict.fromkeys(_NORMS, _norm),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(_POOLS, _pool),
    **dict.fromkeys(_SOFTMAX, _softmax),
    **dict.fromkeys(_SCANS, lambda step, books: _elementwise(step, books, ops=1.0)),
    **dict.fromkeys(FREE, lambda step, books: []),
    "BatchNormalization": _batch_norm,
    "LRN": _local_norm,
    "TopK": _top_k,
    "NonMaxSuppression": _non_max_suppression,
    "DFT": _transform,
    "STFT": _transform,
    "RotaryEmbedding": _rotary,
    **MATRIX,
}

NO_STEP = frozenset({"Constant", "Shape", "Size", "If", "Loop", "Scan"})
"""Operators the tracer itself resolves."""

DOMAINS: Mapping[str, frozenset[str]] = {
    "": frozenset(RULES) | NO_STEP,
    "com.microsoft": frozenset(RULES),
}


def supported(domain: str, op: str) -> bool:
    """Whether a node of this type can be counted."""
    return op in DOMAINS.get("" if domain == "ai.onnx" else domain, frozenset())


def operators_of(step: Step, books: Books) -> list[Operator]:
    """The operators that stand for ``step``; ModelError with its name where its shapes contradict each other."""
    try:
        return RULES[step.op](step, books)
    except (IndexError, ValueError, TypeError, ZeroDivisionError, OverflowError, KeyError) as problem:
        raise ModelError(f"{step.op} has inputs that do not fit together: {problem}", where=step.name) from problem
