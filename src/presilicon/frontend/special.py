"""Architectures that need more than a row of ``families.FAMILIES``: each a function from a configuration to a design.

The rules are those of the model classes in Hugging Face transformers 5.23.0 (models/<family>/modeling_<family>.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from presilicon.frontend.blocks import Block, Experts, FeedForward, GroupedAttention, LatentAttention
from presilicon.frontend.config import MOST_LAYERS, Config, shown
from presilicon.frontend.families import HEADS, HIDDEN, LAYERS, POSITIONS, Family, dense_part, head_sizes, windows
from presilicon.frontend.language import merged
from presilicon.frontend.mixtures import EXPERTS, deepseek, experts_per_token
from presilicon.frontend.step import NormKind, Quantized


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What a configuration says of a model's structure; names, formats and sources are added by the caller."""

    blocks: tuple[Block, ...]
    norm: NormKind = "rms"
    tied: bool = False
    learned_positions: int = 0
    embedding_width: int = 0
    embedding_norm: bool = False
    final_norm: bool = True
    head_bias: bool = False
    quantized: Quantized = "all"


def _latent(c: Config) -> Design:
    """DeepSeek V2 and V3, Kimi K2: multi-head latent attention, dense layers first, then experts."""
    layers, heads = c.size(*LAYERS, highest=MOST_LAYERS), c.size(*HEADS)
    attention = LatentAttention(
        heads=heads,
        q_lora=c.size("q_lora_rank", default=0),
        kv_lora=c.size("kv_lora_rank"),
        qk_nope=c.size("qk_nope_head_dim"),
        qk_rope=c.size("qk_rope_head_dim"),
        v_head=c.size("v_head_dim"),
        bias=c.flag("attention_bias", default=False),
    )
    family = Family()
    mixture = c.has("n_routed_experts", *EXPERTS)
    parts = deepseek(c, family, layers) if mixture else [dense_part(c, family)] * layers
    return Design(
        blocks=merged([Block(attention=attention, feed_forward=part) for part in parts]),
        tied=c.flag("tie_word_embeddings", default=False),
    )


def _gpt_oss(c: Config) -> Design:
    """gpt-oss: every second layer has a window, every attention a learned sink a head, every linear operator a bias."""
    layers = c.size(*LAYERS, highest=MOST_LAYERS)
    family = Family(windows="pattern", period=2, head_dim=64, qkv_bias=("attention_bias", True))
    heads, kv_heads, head_dim = head_sizes(c, family, c.size(*HIDDEN))
    count = c.size(*EXPERTS)
    experts = Experts(
        experts=count,
        experts_per_token=experts_per_token(c, count),
        hidden=c.size("intermediate_size"),
        bias=True,
        router_bias=True,
    )
    bias = c.flag("attention_bias", default=True)
    full = GroupedAttention(
        heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim, sinks=True, qkv_bias=bias, output_bias=bias
    )
    blocks = [Block(attention=replace(full, window=w), feed_forward=experts) for w in windows(c, family, layers)]
    return Design(blocks=merged(blocks), tied=c.flag("tie_word_embeddings", default=False), quantized="experts")


def _llama4(c: Config) -> Design:
    """Llama 4: experts with a shared one every ``interleave_moe_layer_step`` layers, no rotation and full attention every 4th.

    The other layers attend within chunks, described as a window of the same length: the same up to one chunk, at most
    twice the query-key pairs beyond.
    """
    layers = c.size(*LAYERS, highest=MOST_LAYERS)
    family = Family(windows="pattern", period=c.size("no_rope_layer_interval", default=4), head_dim=128)
    rotated = c.switches("no_rope_layers", layers) if c.items("no_rope_layers") else None
    if rotated is None:
        rotated = [(i + 1) % family.period != 0 for i in range(layers)]
    heads, kv_heads, head_dim = head_sizes(c, family, c.size(*HIDDEN))
    chunk = c.size("attention_chunk_size", default=8192)
    bias, normed = c.flag("attention_bias", default=False), c.flag("use_qk_norm", default=True)
    count = c.size(*EXPERTS)
    experts = Experts(
        experts=count,
        experts_per_token=experts_per_token(c, count),
        hidden=c.size("intermediate_size"),
        shared_hidden=c.size("intermediate_size"),
    )
    step = c.size("interleave_moe_layer_step", default=1)
    sparse = c.indices("moe_layers", layers) or frozenset(range(step - 1, layers, step))
    dense = FeedForward(hidden=c.size("intermediate_size_mlp")) if len(sparse) < layers else None
    blocks = []
    for i in range(layers):
        attention = GroupedAttention(
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            value_dim=head_dim,
            window=chunk if rotated[i] else 0,
            rotary=rotated[i],
            qkv_bias=bias,
            output_bias=bias,
            qk_norm="plain" if normed and rotated[i] else "none",
        )
        blocks.append(Block(attention=attention, feed_forward=experts if i in sparse or dense is None else dense))
    return Design(blocks=merged(blocks), tied=c.flag("tie_word_embeddings", default=False))


def _falcon(c: Config) -> Design:
    """Falcon: attention and feed-forward in parallel; one key and value head, or groups of heads in the newer design."""
    layers, hidden, heads = c.size(*LAYERS, highest=MOST_LAYERS), c.size(*HIDDEN), c.size(*HEADS)
    newer = c.flag("new_decoder_architecture", default=False)
    one = c.flag("multi_query", default=True) and not newer
    kv_heads = 1 if one else c.size("num_kv_heads", "n_head_kv", default=heads)
    sizes = Config({**c.values, "num_key_value_heads": kv_heads}, c.where)
    _, _, head_dim = head_sizes(sizes, Family(), hidden)
    bias, parallel = c.flag("bias", default=False), newer or c.flag("parallel_attn", default=True)
    norms = c.size("num_ln_in_parallel_attn", default=2 if newer else 1, highest=2) if parallel else 2
    attention = GroupedAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=head_dim,
        qkv_bias=bias,
        output_bias=bias,
        rotary=not c.flag("alibi", default=False),
    )
    part = FeedForward(hidden=c.size("ffn_hidden_size", default=4 * hidden), gated=False, bias=bias)
    return Design(
        blocks=(Block(attention=attention, feed_forward=part, parallel=parallel, norms=norms, repeat=layers),),
        norm="layer",
        tied=c.flag("tie_word_embeddings", default=True),
    )


def _opt(c: Config) -> Design:
    """OPT: learned positions (two rows more than tokens), ReLU; OPT-350m has narrower embeddings and no final norm."""
    layers, hidden = c.size(*LAYERS, highest=MOST_LAYERS), c.size(*HIDDEN)
    heads, _, head_dim = head_sizes(c, Family(), hidden)
    bias, before = c.flag("enable_bias", default=True), c.flag("do_layer_norm_before", default=True)
    attention = GroupedAttention(
        heads=heads, kv_heads=heads, head_dim=head_dim, value_dim=head_dim, qkv_bias=bias, output_bias=bias, rotary=False
    )
    part = FeedForward(hidden=c.size("ffn_dim"), gated=False, bias=bias)
    return Design(
        blocks=(Block(attention=attention, feed_forward=part, repeat=layers),),
        norm="layer",
        tied=c.flag("tie_word_embeddings", default=True),
        learned_positions=c.size(*POSITIONS) + 2,
        embedding_width=c.size("word_embed_proj_dim", default=hidden),
        final_norm=before and not c.flag("_remove_final_layer_norm", default=False),
    )


def _mpt(c: Config) -> Design:
    """MPT: one fused projection, ALiBi, no biases (norms included)."""
    layers, hidden = c.size(*LAYERS, highest=MOST_LAYERS), c.size(*HIDDEN)
    inner = c.part("attn_config") or Config({}, c.where)
    if inner.flag("qk_ln", default=False):
        inner.fail("qk_ln", "true is not supported", hint="MPT models with norms of Q and K")
    one = inner.text("attn_type", default="multihead_attention") == "multiquery_attention"
    heads, _, head_dim = head_sizes(c, Family(), hidden)
    attention = GroupedAttention(heads=heads, kv_heads=1 if one else heads, head_dim=head_dim, value_dim=head_dim, rotary=False)
    part = FeedForward(hidden=hidden * c.size("expansion_ratio", default=4), gated=False)
    learned = c.has("learned_pos_emb") and c.flag("learned_pos_emb", default=False) and not inner.flag("alibi", default=True)
    return Design(
        blocks=(Block(attention=attention, feed_forward=part, repeat=layers),),
        tied=c.flag("tie_word_embeddings", default=True),
        learned_positions=c.size(*POSITIONS) if learned else 0,
    )


def _dbrx(c: Config) -> Design:
    """DBRX: experts in every layer; its sizes stand in the parts ``attn_config`` and ``ffn_config``."""
    layers, hidden = c.size(*LAYERS, highest=MOST_LAYERS), c.size(*HIDDEN)
    inner, outer = c.part("attn_config"), c.part("ffn_config")
    if inner is None or outer is None:
        c.fail("attn_config" if inner is None else "ffn_config", "this key is missing", hint="an object")
    sizes = Config({**c.values, "num_key_value_heads": inner.size("kv_n_heads")}, c.where)
    heads, kv_heads, head_dim = head_sizes(sizes, Family(), hidden)
    count, chosen = outer.size("moe_num_experts"), outer.size("moe_top_k")
    if chosen > count:
        outer.fail("moe_top_k", f"{chosen} experts per token, and there are {count}")
    block = Block(
        attention=GroupedAttention(heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim),
        feed_forward=Experts(experts=count, experts_per_token=chosen, hidden=outer.size("ffn_hidden_size")),
        repeat=layers,
    )
    return Design(blocks=(block,), tied=c.flag("tie_word_embeddings", default=False))


def _mimo_flash(c: Config) -> Design:
    """MiMo-V2-Flash: sliding layers with other heads and a sink, values narrower than keys, experts behind one dense layer."""
    layers = c.size(*LAYERS, highest=MOST_LAYERS)
    sliding = c.switches("hybrid_layer_pattern", layers)
    if sliding is None:
        c.fail("hybrid_layer_pattern", "this key is missing", hint="0 or 1 for each layer")
    bias = c.flag("attention_bias", default=False)
    full = GroupedAttention(
        heads=c.size(*HEADS),
        kv_heads=c.size("num_key_value_heads"),
        head_dim=c.size("head_dim"),
        value_dim=c.size("v_head_dim"),
        qkv_bias=bias,
        sinks=c.flag("add_full_attention_sink_bias", default=False),
    )
    limited = GroupedAttention(
        heads=c.size("swa_num_attention_heads", *HEADS),
        kv_heads=c.size("swa_num_key_value_heads", "num_key_value_heads"),
        head_dim=c.size("swa_head_dim", "head_dim"),
        value_dim=c.size("swa_v_head_dim", "v_head_dim"),
        qkv_bias=bias,
        window=c.size("sliding_window"),
        sinks=c.flag("add_swa_attention_sink_bias", default=True),
    )
    blocks = [
        Block(attention=limited if is_sliding else full, feed_forward=part)
        for is_sliding, part in zip(sliding, deepseek(c, Family(), layers), strict=True)
    ]
    return Design(blocks=merged(blocks), tied=c.flag("tie_word_embeddings", default=False))


def _gemma4(c: Config) -> Design:
    """Gemma 4: wider heads, fewer keys and V = K in full layers; experts beside a dense network where it has them.

    The 26B-A4B has norms around both (7 in all), a scale in front of the router (counted as an eighth norm) and one
    behind it (a value an expert).
    """
    layers, hidden = c.size(*LAYERS, highest=MOST_LAYERS), c.size(*HIDDEN)
    for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
        if c.size(key, default=0, lowest=0):
            c.fail(key, f"{shown(c.values[key])} is not supported", hint="0: no inputs per layer, no keys shared by layers")
    family = Family(windows="pattern", period=6, head_dim=256)
    heads, kv_heads, head_dim = head_sizes(c, family, hidden)
    alike, wide = c.flag("attention_k_eq_v", default=False), c.size("global_head_dim", default=head_dim)
    few = c.size("num_global_key_value_heads", default=kv_heads) if alike else kv_heads
    if heads % few:
        c.fail("num_global_key_value_heads", f"{heads} heads are not a multiple of {few} key and value heads")
    bias = c.flag("attention_bias", default=False)
    limited = GroupedAttention(
        heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=head_dim, qk_norm="head", qkv_bias=bias, output_bias=bias
    )
    full = replace(limited, kv_heads=few, head_dim=wide, value_dim=wide, shared_projection=alike)
    part: FeedForward | Experts = dense_part(c, family)
    norms = 4
    if c.flag("enable_moe_block", default=False):
        count = c.size(*EXPERTS)
        part = Experts(
            experts=count,
            experts_per_token=experts_per_token(c, count),
            hidden=c.size("moe_intermediate_size"),
            shared_hidden=c.size("intermediate_size"),
            router_bias=True,
        )
        norms = 8
    blocks = [
        Block(attention=replace(limited, window=w) if w else full, feed_forward=part, norms=norms)
        for w in windows(c, family, layers)
    ]
    return Design(blocks=merged(blocks), tied=c.flag("tie_word_embeddings", default=True))


def _decilm(c: Config) -> Design:
    """Nemotron-NAS (DeciLM): each block has its own groups of heads and width, or lacks a part; widths are multiples of 256."""
    layers, hidden, heads = c.size(*LAYERS, highest=MOST_LAYERS), c.size(*HIDDEN), c.size(*HEADS)
    listed = c.items("block_configs", layers)
    if listed is None:
        c.fail("block_configs", "this key is missing", hint="one object for each layer")
    blocks = []
    for i, values in enumerate(listed):
        if not isinstance(values, Mapping):
            c.fail("block_configs", f"{shown(values)} is not an object")
        block = Config(values, f"{c.where}: block_configs[{i}]")
        inner, outer = block.part("attention"), block.part("ffn")
        if inner is None or outer is None:
            block.fail("attention" if inner is None else "ffn", "this key is missing", hint="an object")
        for part in (inner, outer):
            if part.flag("replace_with_linear", default=False):
                part.fail("replace_with_linear", "true is not supported")
        attention, feed_forward = None, None
        if not inner.flag("no_op", default=False):
            group = inner.size("n_heads_in_group")
            if heads % group or hidden % heads:
                inner.fail("n_heads_in_group", f"{heads} heads (of {hidden}) do not divide into groups of {group}")
            width = hidden // heads
            attention = GroupedAttention(heads=heads, kv_heads=heads // group, head_dim=width, value_dim=width)
        if not outer.flag("no_op", default=False):
            feed_forward = FeedForward(hidden=-(-int(2 * outer.number("ffn_mult") * hidden / 3) // 256) * 256)
        if attention is not None or feed_forward is not None:
            blocks.append(Block(attention=attention, feed_forward=feed_forward))
    if not blocks:
        c.fail("block_configs", "no block has a part that does anything")
    return Design(blocks=merged(blocks), tied=c.flag("tie_word_embeddings", default=False))


SPECIAL: Mapping[str, Callable[[Config], Design]] = MappingProxyType(
    {
        "DeepseekV2ForCausalLM": _latent,
        "DeepseekV3ForCausalLM": _latent,
        "GptOssForCausalLM": _gpt_oss,
        "Llama4ForCausalLM": _llama4,
        "FalconForCausalLM": _falcon,
        "OPTForCausalLM": _opt,
        "MptForCausalLM": _mpt,
        "DbrxForCausalLM": _dbrx,
        "MiMoV2FlashForCausalLM": _mimo_flash,
        "Gemma4ForCausalLM": _gemma4,
        "DeciLMForCausalLM": _decilm,
    }
)
"""Architecture -> the function that reads its design."""
