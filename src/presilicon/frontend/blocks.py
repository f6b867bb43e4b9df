"""What one block of a language model is made of, and the operators each part becomes.

A part knows its own sizes only; a ``Step`` brings what the whole model shares (width, formats, rows of this pass). Every
operator carries ``count`` = how often its block is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

from presilicon.errors import ModelError
from presilicon.frontend.step import SCALES, ExpandedAttention, QKNorm, Step, check_sizes
from presilicon.graph import Attention, ExpertMatmul, Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedAttention:
    """Multi-head attention whose ``heads`` share ``kv_heads`` keys and values (all different: MHA; one: multi-query).

    ``window`` of 0 is full attention. ``qk_norm``: none, without a scale ("plain"), one scale per head position ("head") or
    over all heads ("full"). ``gate_outputs`` are extra outputs of the fused projection that gate the result. ``sinks``: one
    learned logit a head. ``shared_projection``: V is the key's projection (no weights of its own).
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int = 0
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: QKNorm = "none"
    rotary: bool = True
    gate_outputs: int = 0
    sinks: bool = False
    shared_projection: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "attention", ("window", "gate_outputs"))
        if self.heads % self.kv_heads:
            raise ModelError(
                f"{self.heads} attention heads are not a multiple of {self.kv_heads} key and value heads", where="attention"
            )

    @property
    def kv_elements_per_token(self) -> int:
        """Elements of K and V a position adds to the cache."""
        return self.kv_heads * (self.head_dim + self.value_dim)

    def operators(self, step: Step) -> list[Operator]:
        """Projection, norms of Q and K, rotation with the cache's write, attention, output projection."""
        keys = (self.heads + self.kv_heads) * self.head_dim
        projected = keys + (0 if self.shared_projection else self.kv_heads * self.value_dim)
        values = self.heads * self.value_dim
        found: list[Operator] = [
            step.linear("qkv", step.hidden, projected + self.gate_outputs, split="output", bias=self.qkv_bias)
        ]
        if self.qk_norm != "none":
            scales = {"plain": 0, "head": 2 * self.head_dim, "full": keys}[self.qk_norm]
            found.append(step.normalize("qk_norm", keys, parameters=scales * max(SCALES[step.norm], 1), split="heads"))
        # With learned or no positions only K and V move (into the cache).
        moved = keys + self.kv_heads * self.value_dim if self.rotary else self.kv_elements_per_token
        found.append(
            step.pointwise(
                "rotary_kv_write" if self.rotary else "kv_write",
                step.rows * moved,
                reads=1,
                writes=1,
                ops=3 if self.rotary else 0,
                split="heads",
                parameters=self.heads if self.sinks else 0,
            )
        )
        found.append(
            Attention(
                name=f"{step.name}attention",
                count=step.count,
                split="heads",
                batch=step.sequences,
                query_tokens=step.queries,
                kv_tokens=step.context,
                heads=self.heads,
                kv_heads=self.kv_heads,
                head_dim=self.head_dim,
                value_dim=self.value_dim,
                window=self.window,
                activations=step.attention_format(),
                kv_cache=step.formats.kv_cache,
            )
        )
        if self.gate_outputs:
            found.append(
                step.pointwise(
                    "output_gate", step.rows * values, reads=1 + self.gate_outputs / values, writes=1, ops=2, split="heads"
                )
            )
        found.append(step.linear("o", values, step.hidden, split="input", bias=self.output_bias))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): K and V come from a latent of ``kv_lora`` elements.

    ``q_lora`` of 0 projects queries straight from the stream. Keys have ``qk_nope`` elements from the latent and
    ``qk_rope`` rotated ones shared by all heads. Prefill expands the latent; decode absorbs the expansion into Q and the
    output ("absorbed"), so that all heads read one latent.
    """

    heads: int
    q_lora: int
    kv_lora: int
    qk_nope: int
    qk_rope: int
    v_head: int
    bias: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "latent attention", ("q_lora",))

    @property
    def kv_elements_per_token(self) -> int:
        """Elements of the latent and the shared rotated key a position adds to the cache."""
        return self.kv_lora + self.qk_rope

    def operators(self, step: Step) -> list[Operator]:
        """Down and up projections, rotation with the cache's write, attention (expanded or absorbed), output projection."""
        latent, queries = self.kv_elements_per_token, self.heads * (self.qk_nope + self.qk_rope)
        found: list[Operator] = []
        if self.q_lora:
            found.append(step.linear("q_kv_down", step.hidden, self.q_lora + latent, bias=self.bias))
        else:
            found.append(step.linear("q", step.hidden, queries, split="output"))
            found.append(step.linear("kv_down", step.hidden, latent, bias=self.bias))
        found.append(step.normalize("latent_norm", self.q_lora + self.kv_lora))
        if self.q_lora:
            found.append(step.linear("q_up", self.q_lora, queries, split="output"))
        moved = self.heads * self.qk_rope + latent
        found.append(step.pointwise("rotary_kv_write", step.rows * moved, reads=1, writes=1, ops=3, split="heads"))
        found += self._absorbed(step) if step.decode else self._expanded(step)
        found.append(step.linear("o", self.heads * self.v_head, step.hidden, split="input", bias=self.bias))
        return found

    def _expanded(self, step: Step) -> list[Operator]:
        return [
            step.linear("kv_up", self.kv_lora, self.heads * (self.qk_nope + self.v_head), split="output"),
            ExpandedAttention(
                name=f"{step.name}attention",
                count=step.count,
                split="heads",
                batch=step.sequences,
                query_tokens=step.queries,
                kv_tokens=step.context,
                heads=self.heads,
                kv_heads=self.heads,
                head_dim=self.qk_nope + self.qk_rope,
                value_dim=self.v_head,
                activations=step.attention_format(),
                kv_cache=step.formats.kv_cache,
                latent_elements=self.kv_elements_per_token,
            ),
        ]

    def _absorbed(self, step: Step) -> list[Operator]:
        return [
            step.linear("q_absorb", self.qk_nope, self.kv_lora, groups=self.heads, split="heads"),
            Attention(
                name=f"{step.name}attention",
                count=step.count,
                split="heads",
                batch=step.sequences,
                query_tokens=step.queries,
                kv_tokens=step.context,
                heads=self.heads,
                kv_heads=1,
                head_dim=self.kv_lora + self.qk_rope,
                value_dim=self.kv_lora,
                shared_kv=True,
                activations=step.attention_format(),
                kv_cache=step.formats.kv_cache,
            ),
            step.linear("v_up", self.kv_lora, self.v_head, groups=self.heads, split="heads"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """A dense feed-forward network of ``hidden`` inner elements; ``gated`` multiplies two up projections (SwiGLU, GeGLU)."""

    hidden: int
    gated: bool = True
    bias: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "feed-forward")

    def operators(self, step: Step, prefix: str = "") -> list[Operator]:
        """Up projection (fused with the gate's), activation, down projection."""
        up, width = ("gate_up", 2 * self.hidden) if self.gated else ("up", self.hidden)
        return [
            step.linear(prefix + up, step.hidden, width, split="output", bias=self.bias, scope="feed_forward"),
            step.pointwise(
                prefix + "activation",
                step.rows * self.hidden,
                reads=1 + self.gated,
                writes=1,
                ops=5 if self.gated else 4,
                split="output",
            ),
            step.linear(prefix + "down", self.hidden, step.hidden, split="input", bias=self.bias, scope="feed_forward"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of ``experts`` feed-forward networks of ``hidden`` inner elements, ``experts_per_token`` used by each token.

    ``shared_hidden`` is the inner width of experts (or a dense network) every token uses beside them, 0 for none;
    ``shared_gate`` weighs their result by one learned output. ``router_bias``: one value an expert.
    """

    experts: int
    experts_per_token: int
    hidden: int
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    shared_hidden: int = 0
    shared_gate: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "experts", ("shared_hidden",))
        if self.experts_per_token > self.experts:
            raise ModelError(f"{self.experts_per_token} experts per token of {self.experts}", where="experts")

    def operators(self, step: Step) -> list[Operator]:
        """Router, top-k, the experts' two matmuls around the activation, weighted sum; shared experts like a dense network."""
        routes = step.rows * self.experts_per_token
        up = "experts_gate_up" if self.gated else "experts_up"
        found: list[Operator] = [
            step.linear("router", step.hidden, self.experts, bias=self.router_bias, scope="none"),
            step.pointwise("routing", step.rows * self.experts, reads=1, writes=1, ops=5),
            self._matmul(step, up, step.hidden, self.hidden * (1 + self.gated)),
            step.pointwise(
                "experts_activation",
                routes * self.hidden,
                reads=1 + self.gated,
                writes=1,
                ops=5 if self.gated else 4,
                split="experts",
            ),
            self._matmul(step, "experts_down", self.hidden, step.hidden),
            step.pointwise(
                "combine", step.rows * step.hidden, reads=self.experts_per_token, writes=1, ops=2 * self.experts_per_token
            ),
        ]
        if self.shared_hidden:
            shared = FeedForward(hidden=self.shared_hidden, gated=self.gated, bias=self.bias)
            found += shared.operators(step, "shared_")
            if self.shared_gate:
                found.append(step.linear("shared_gate", step.hidden, 1, scope="none"))
        return found

    def _matmul(self, step: Step, name: str, k: int, n: int) -> ExpertMatmul:
        return ExpertMatmul(
            name=f"{step.name}{name}",
            count=step.count,
            split="experts",
            tokens=step.rows,
            k=k,
            n=n,
            experts=self.experts,
            experts_per_token=self.experts_per_token,
            weights=step.formats.weights,
            activations=step.formats.activations,
            source=step.stream,
            output=step.stream,
            bias=self.bias,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One attention and one feed-forward part (None: that part and its norm are left out), ``repeat`` times in the model.

    ``parallel``: both read the same norm's output and are added together (GPT-J). ``norms`` are over the model's width:
    2 usually, 1 for a parallel block with one norm, 4 where the results are normalized too (Gemma 2).
    """

    attention: GroupedAttention | LatentAttention | None
    feed_forward: FeedForward | Experts | None
    repeat: int = 1
    parallel: bool = False
    norms: int = 2

    def __post_init__(self) -> None:
        check_sizes(self, "block")
        if self.attention is None and self.feed_forward is None:
            raise ModelError("neither attention nor a feed-forward part", where="block")

    @property
    def kv_elements_per_token(self) -> int:
        """Elements a position adds to the cache of one of these blocks."""
        return self.attention.kv_elements_per_token if self.attention is not None else 0

    def operators(self, step: Step) -> list[Operator]:
        """All operators of the block in order; the residual is added on the way into a norm."""
        attention = self.attention.operators(step) if self.attention is not None else []
        feed_forward = self.feed_forward.operators(step) if self.feed_forward is not None else []
        if self.parallel:
            first = step.normalize("norm", step.hidden, reads=3, writes=2)
            more = [step.normalize(f"norm_{i + 2}", step.hidden) for i in range(self.norms - 1)]
            return [first, *more, *attention, *feed_forward]
        found: list[Operator] = []
        if attention:
            found += [step.normalize("attention_norm", step.hidden, reads=2, writes=2), *attention]
        if self.norms > 2:
            found.append(step.normalize("attention_out_norm", step.hidden))
        if feed_forward:
            found += [step.normalize("feed_forward_norm", step.hidden, reads=2, writes=2), *feed_forward]
        found += [step.normalize(f"feed_forward_out_norm{i + 1}", step.hidden) for i in range(self.norms - 3)]
        return found
