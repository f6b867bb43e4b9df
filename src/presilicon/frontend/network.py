"""Networks without a KV cache of their own: a named recipe that yields one inference as a Graph, and the Builder it uses.

A recipe writes the operators of one inference in order. The Builder keeps track of feature maps and counts, so that a
recipe reads like the table of layers in the network's paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import numpy as np

from presilicon.dtypes import FP16, Formats, NumberFormat
from presilicon.errors import ModelError, WorkloadError
from presilicon.graph import (
    Attention,
    Convolution,
    Elementwise,
    Embedding,
    Graph,
    Matmul,
    Normalization,
    Operator,
    Sampling,
    Size,
    Split,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedMatmul(Matmul):
    """A Matmul whose parameters ``sharers`` repeats have in common (the steps of a loop): held once, read every time."""

    sharers: int = 1

    @property
    def weight_elements(self) -> Size:
        """Elements one repeat answers for: all sharers together hold the parameters once."""
        return super(SharedMatmul, self).weight_elements / self.sharers

    @property
    def touched_weight_bytes(self) -> Size:
        """Unique bytes of parameters that one repeat reads: all of them."""
        return self.weight_bytes * self.sharers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedConvolution(Convolution):
    """A Convolution whose parameters ``sharers`` repeats have in common: held once, read every time."""

    sharers: int = 1

    @property
    def weight_elements(self) -> Size:
        """Elements one repeat answers for: all sharers together hold the parameters once."""
        return super(SharedConvolution, self).weight_elements / self.sharers

    @property
    def touched_weight_bytes(self) -> Size:
        """Unique bytes of parameters that one repeat reads: all of them."""
        return self.weight_bytes * self.sharers


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature map of one image: channels x height x width."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        """Elements of one image."""
        return self.channels * self.height * self.width

    @property
    def pixels(self) -> int:
        """Positions of one image."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


class Builder:
    """Writes the operators of one inference of ``batch`` samples.

    Data between operators is in ``formats.activations``; with ``wide_stream`` in 16 bits at least, and only convolutions
    and linear operators narrow it. ``batch`` may be an array; feature maps are whole numbers. Names are prefixed by the
    blocks they stand in.
    """

    def __init__(self, batch: Size, formats: Formats, *, wide_stream: bool = False) -> None:
        self.batch = batch
        self.formats = formats
        self._wide_stream = wide_stream
        self._operators: list[Operator] = []
        self._prefix: tuple[str, ...] = ()
        self._count = 1
        self._sharers = 1
        self._live: Size = 0
        self._held: Size = 0

    @property
    def activations(self) -> NumberFormat:
        """The format of all data between operators."""
        narrow = self.formats.activations
        return FP16 if self._wide_stream and narrow.bits < FP16.bits else narrow

    @contextmanager
    def wide(self) -> Iterator[None]:
        """A part that stays in 16 bits at least, whatever the formats of the rest."""
        before = self.formats
        three = (before.weights, before.activations, before.kv_cache)
        self.formats = Formats(*(FP16 if f.bits < FP16.bits else f for f in three))
        try:
            yield
        finally:
            self.formats = before

    @contextmanager
    def block(self, name: str, *, times: int = 1, passes: int = 1, sharers: int = 1) -> Iterator[None]:
        """Prefix names with ``name``; ``times`` equal blocks with parameters of their own, each run ``passes`` times.

        ``sharers`` blocks of other sizes use the same parameters, this one among them.
        """
        if min(times, passes, sharers) < 1:
            raise ModelError(f"{times} times, {passes} passes, {sharers} sharers: each must be 1 or more", where=name)
        before = self._prefix, self._count, self._sharers
        self._prefix = (*self._prefix, name) if name else self._prefix
        self._count, self._sharers = self._count * times * passes, self._sharers * passes * sharers
        try:
            yield
        finally:
            self._prefix, self._count, self._sharers = before

    @contextmanager
    def copies(self, times: int) -> Iterator[None]:
        """Take each sample ``times`` over (with and without the prompt; each frame of a film)."""
        before, self.batch = self.batch, self.batch * times
        try:
            yield
        finally:
            self.batch = before

    def _name(self, name: str) -> str:
        return ".".join((*self._prefix, name) if name else self._prefix)

    def _keep(self, operator: Operator) -> None:
        self._operators.append(operator if self._sharers == 1 else _shared(operator, self._sharers))
        self._live = np.maximum(self._live, operator.input_bytes + operator.output_bytes)

    def conv(
        self,
        x: Feature,
        name: str,
        channels: int,
        *,
        kernel: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm: bool = True,
        activation: bool = True,
    ) -> Feature:
        """Convolve ``x`` to ``channels``; the batch norm's shift becomes the bias, its scale stays in the epilogue.

        ``padding`` "same" keeps ceil(size / stride). The scale is one parameter a channel, as an int8 epilogue needs
        anyway, so the parameters are those of the unfolded network. Raises ModelError where sizes do not fit.
        """
        (kh, kw), (sh, sw) = _pair(kernel), _pair(stride)
        if x.channels % groups or channels % groups:
            raise ModelError(f"{x.channels} -> {channels} channels do not divide into {groups} groups", where=self._name(name))
        if isinstance(padding, str):
            height, width = -(-x.height // sh), -(-x.width // sw)
        else:
            ph, pw = _pair(padding)
            height = (x.height + 2 * ph - dilation * (kh - 1) - 1) // sh + 1
            width = (x.width + 2 * pw - dilation * (kw - 1) - 1) // sw + 1
        if height < 1 or width < 1:
            raise ModelError(f"a {kh}x{kw} kernel does not fit a {x} feature map", where=self._name(name))
        self._keep(
            Convolution(
                name=self._name(name), count=self._count, batch=self.batch, in_channels=x.channels, out_channels=channels,
                in_height=x.height, in_width=x.width, out_height=height, out_width=width, kernel_height=kh, kernel_width=kw,
                groups=groups, weights=self.formats.weights, activations=self.formats.activations, source=self.activations,
                output=self.activations, bias=bias or norm,
            )
        )  # fmt: skip
        out = Feature(channels, height, width)
        if norm or activation:
            self.epilogue(f"{name}.epilogue", self.batch * out.elements, ops=float(norm + activation),
                          parameters=channels if norm else 0)  # fmt: skip
        return out

    def add(self, x: Feature, name: str, *, activation: bool = True) -> Feature:
        """Add a shortcut of the same shape in the epilogue of the operator before, then the activation."""
        self.epilogue(name, self.batch * x.elements, ops=1.0 + activation)
        return x

    def pool(self, x: Feature, name: str, *, kernel: int, stride: int, padding: int = 0) -> Feature:
        """Max or average pooling, a pass of its own."""
        height, width = ((size + 2 * padding - kernel) // stride + 1 for size in (x.height, x.width))
        out = Feature(x.channels, height, width)
        self.vector(name, self.batch * out.elements, reads=x.elements / out.elements, ops=float(kernel * kernel))
        return out

    def global_pool(self, x: Feature, name: str) -> Feature:
        """The average over all positions, a pass of its own."""
        self.vector(name, self.batch * x.channels, reads=float(x.pixels), ops=float(x.pixels))
        return Feature(x.channels, 1, 1)

    def upsample(self, x: Feature, name: str, factor: int = 2) -> Feature:
        """Nearest-neighbour upsampling, a pass of its own."""
        out = Feature(x.channels, x.height * factor, x.width * factor)
        self.vector(name, self.batch * out.elements, reads=1.0 / factor**2, ops=0.0)
        return out

    def linear(
        self,
        name: str,
        rows: Size,
        k: int,
        n: int,
        *,
        bias: bool = True,
        split: Split = "none",
        held: bool = True,
    ) -> None:
        """Multiply ``rows`` of k elements by a (k, n) weight. Not ``held``: its parameters are another operator's too."""
        self._keep(
            Matmul(
                name=self._name(name), count=self._count, split=split, m=rows, k=k, n=n, weights=self.formats.weights,
                activations=self.formats.activations, source=self.activations, output=self.activations, bias=bias,
                has_weights=held,
            )
        )  # fmt: skip

    def attention(
        self, name: str, *, query: Size, context: Size, heads: int, head_dim: int, causal: bool = False, sequences: Size = 1
    ) -> None:
        """Attention of ``query`` positions to ``context`` positions in ``sequences`` sequences a sample.

        It multiplies in ``formats.kv_cache`` (probabilities need more bits than weights); no K or V is kept afterwards.
        """
        self._keep(
            Attention(
                name=self._name(name), count=self._count, split="heads", batch=self.batch * sequences, query_tokens=query,
                kv_tokens=context, heads=heads, kv_heads=heads, head_dim=head_dim, value_dim=head_dim, causal=causal,
                cached=False, activations=self.formats.kv_cache, kv_cache=self.formats.kv_cache,
            )
        )  # fmt: skip

    def norm(
        self, name: str, elements: Size, parameters: int, *, reads: float = 1.0, writes: float = 1.0, ops: float = 5.0
    ) -> None:
        """Layer or group norm over ``elements`` in all.

        ``reads`` of 2: the residual is added on the way in; ``writes`` of 2: the sum is kept beside the result.
        """
        self._keep(
            Normalization(name=self._name(name), count=self._count, elements=elements, reads=reads, writes=writes, ops=ops,
                          parameters=parameters, activations=self.activations)
        )  # fmt: skip

    def vector(self, name: str, elements: Size, *, reads: float = 1.0, writes: float = 1.0, ops: float = 1.0) -> None:
        """Work outside the matrix units in a pass of its own."""
        self._keep(
            Elementwise(name=self._name(name), count=self._count, elements=elements, reads=reads, writes=writes, ops=ops,
                        activations=self.activations)
        )  # fmt: skip

    def epilogue(self, name: str, elements: Size, *, ops: float = 1.0, parameters: int = 0, split: Split = "none") -> None:
        """Work outside the matrix units on the results of the operator before, in passing; shared by chips as those are."""
        self._keep(
            Elementwise(name=self._name(name), count=self._count, split=split, elements=elements, ops=ops, fused=True,
                        parameters=parameters, activations=self.activations)
        )  # fmt: skip

    def embedding(self, name: str, rows: Size, width: int, table_rows: int) -> None:
        """``rows`` look-ups in a table of ``table_rows`` x ``width``."""
        self._keep(Embedding(name=self._name(name), count=self._count, rows=rows, width=width, table_rows=table_rows,
                             weights=self.formats.weights))  # fmt: skip

    def sampling(self, name: str, rows: Size, vocabulary: int) -> None:
        """Choose a token in each of ``rows``."""
        self._keep(Sampling(name=self._name(name), count=self._count, rows=rows, vocabulary=vocabulary))

    def hold(self, elements: Size) -> None:
        """Keep ``elements`` activations for the whole inference (keys and values that every step reads)."""
        self._held = self._held + elements * self.activations.bytes_per_element

    def graph(self, name: str, samples: Size | None = None) -> Graph:
        """The operators so far as one inference of ``samples`` (else the batch).

        Its activations are the largest operator's inputs and outputs, and what is held throughout.
        """
        return Graph(name, "inference", tuple(self._operators), samples=self.batch if samples is None else samples,
                     activation_bytes=self._live + self._held)  # fmt: skip


def _shared(operator: Operator, sharers: int) -> Operator:
    """``operator`` as one of ``sharers`` of the same parameters."""
    if isinstance(operator, Matmul | Convolution):
        values = {f.name: getattr(operator, f.name) for f in fields(operator)}
        return (SharedMatmul if isinstance(operator, Matmul) else SharedConvolution)(**values, sharers=sharers)
    if isinstance(operator, Elementwise):  # a few scales: their share stands for all
        return replace(operator, parameters=operator.parameters / sharers)
    if isinstance(operator, Embedding):
        return replace(operator, table_rows=operator.table_rows / sharers)
    return operator


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


@dataclass(frozen=True, slots=True)
class Network:
    """A model whose sample is one inference: a picture in, labels out; a text in, a vector out; a prompt in, a picture out.

    ``build(batch, tokens, formats)`` writes the Graph. ``tokens`` is the usual length of a sample, 0 where samples have
    one size only; ``max_tokens`` is the longest that the network takes. ``sample`` says what one sample is.
    """

    name: str
    title: str
    source: str
    build: Callable[[Size, Size, Formats], Graph]
    tokens: int = 0
    max_tokens: int = 0
    sample: str = "one inference"

    def inference(self, *, batch: Size, formats: Formats, tokens: Size | None = None) -> Graph:
        """One inference of ``batch`` samples of ``tokens`` tokens each; both may be arrays that broadcast.

        Raises WorkloadError where a size is no whole number of 1 or more, is too long, or has no meaning here.
        """
        if tokens is not None and not self.tokens:
            raise WorkloadError("its samples have one size only, so it takes no token count", where=self.name)
        length = self.tokens if tokens is None else _whole(tokens, f"{self.name}: tokens")
        if self.max_tokens and np.max(length) > self.max_tokens:
            raise WorkloadError(f"{np.max(length):g} tokens are too many", where=self.name, hint=f"at most {self.max_tokens}")
        return self.build(_whole(batch, f"{self.name}: batch"), length, formats)

    @property
    def parameters(self) -> int:
        """Parameters of all parts, each counted once."""
        return round(float(self.inference(batch=1, formats=Formats()).parameters))

    @property
    def macs_per_sample(self) -> int:
        """Multiply-accumulates of one sample of the usual length."""
        return round(float(self.inference(batch=1, formats=Formats()).macs))

    def __str__(self) -> str:
        return f"{self.name}: {self.title}"


def _whole(size: Size, where: str) -> Size:
    array = np.asarray(size)
    if array.size == 0 or array.dtype.kind not in "iuf" or not np.all(np.isfinite(array)):
        raise WorkloadError(f"{size!r} is not a number", where=where)
    if np.any(array < 1) or np.any(array != np.floor(array)):
        raise WorkloadError(f"{np.min(array):g} is not a whole number of 1 or more", where=where)
    return size if array.ndim == 0 else array.astype(np.float64)
