"""Attention emitted for arrays of every size, with few and many keys, causal, by runtime length, shared KV heads, batches."""

import pytest
from emission_checks import SIZES, agrees, sized

from presilicon.compiler.steps import Attention, Lowered, Tensor
from presilicon.errors import CapacityError


def attention_model(tokens, keys, heads=2, kv_heads=2, dim=16, batch=1, joined=False, **options):
    """One attention; ``joined``: q, k and v are columns of one tensor."""
    tensors = {"out": Tensor("out", batch * tokens, heads * dim, "int8", zero_point=2)}
    arguments = {"length": keys} if options.get("length") else {}
    columns = {}
    if joined:
        assert tokens == keys
        tensors["qkv"] = Tensor("qkv", batch * tokens, (heads + 2 * kv_heads) * dim, "int8")
        columns = {"k_column": heads * dim, "v_column": (heads + kv_heads) * dim}
        names = ("qkv", "qkv", "qkv")
    else:
        tensors["q"] = Tensor("q", batch * tokens, heads * dim, "int8")
        for name in "kv":
            tensors[name] = Tensor(name, batch * keys, kv_heads * dim, "int8")
        names = ("q", "k", "v")
    step = Attention(
        name="attention",
        q=names[0],
        k=names[1],
        v=names[2],
        out="out",
        heads=heads,
        kv_heads=kv_heads,
        dim=dim,
        score_scale=0.0004,
        value_scale=0.01,
        batch=batch,
        **columns,
        **options,
    )
    return Lowered(
        name="attention",
        tensors=tensors,
        constants={},
        steps=(step,),
        inputs=tuple(dict.fromkeys(names)),
        outputs=("out",),
        arguments=arguments,
    )


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
def test_every_query_sees_every_key(core):
    agrees(attention_model(21, 21, joined=True), core)
    agrees(attention_model(3, 70, heads=3, kv_heads=3, dim=24), core)
    agrees(attention_model(40, 40, heads=4, kv_heads=4, joined=True), core, strands=2)


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
def test_causal_queries_and_shared_kv_heads(core):
    agrees(attention_model(33, 33, heads=4, kv_heads=2, causal=True, joined=True), core, strands=1)
    agrees(attention_model(18, 18, heads=6, kv_heads=2, causal=True), core, strands=2)


@pytest.mark.parametrize("length", [1, 7, 30])
def test_a_length_that_only_the_run_knows(length):
    for name in ("4x4", "12x20", "32x32"):
        agrees(attention_model(30, 30, joined=True, length="length"), SIZES[name], arguments={"length": length})


def test_sequences_of_a_batch_do_not_see_one_another():
    for name in ("4x4", "8x8", "64x64"):
        agrees(attention_model(11, 11, batch=3, joined=True), SIZES[name], strands=2)


@pytest.mark.parametrize("keys", [130, 300])
def test_keys_stream_in_chunks_where_they_do_not_fit(keys):
    agrees(attention_model(9, keys, dim=16), SIZES["4x4"], strands=1)
    agrees(attention_model(9, keys, heads=2, kv_heads=1, dim=32), sized(8, 8, 8, kib=64), strands=2)


def test_a_row_of_scores_that_does_not_fit_is_refused_with_both_numbers():
    with pytest.raises(CapacityError, match="a row of 6000 scores does not fit: twice 6000 bytes"):
        agrees(attention_model(1, 6000), SIZES["4x4"])
