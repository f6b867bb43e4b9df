"""Decoders from their files to the simulator: near ONNX Runtime, one program for all positions; large weights stay in files."""

import numpy as np
import onnxruntime
import pytest
from emission_checks import SIZES, agrees
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from presilicon.compiler.importing import Source, read
from presilicon.compiler.importing import graph as graphs
from presilicon.compiler.lower import lower, lower_onnx
from presilicon.compiler.meaning import reference
from presilicon.compiler.steps import writes
from presilicon.compiler.work import unique_bytes
from presilicon.frontend import decoder_file
from presilicon.frontend.decoder_file import write_decoder
from presilicon.frontend.decoder_shape import DecoderShape, RandomWeights

CONTEXT = 18
SIZES_OF = {"layers": 2, "width": 64, "heads": 4, "dim": 16, "hidden": 128, "vocabulary": 50, "context": CONTEXT}


def shape_of(family):
    return DecoderShape(family=family, kv_heads=2 if family == "llama" else 4, **SIZES_OF)


def weights_of(shape):
    """Random weights with which tokens differ and logits spread."""
    return {name: value * (1 if value.ndim == 1 else 5) for name, value in RandomWeights(shape, 1).items()}


def calibration(shape, count=8):
    ids = np.random.default_rng(3).integers(0, shape.vocabulary, (count, shape.context))
    return {"input_ids": ids, "position_ids": np.tile(np.arange(shape.context), (count, 1))}


def lowered_of(path, shape, tokens, **options):
    dims = {"sequence": tokens, "past": shape.context - tokens}
    return lower_onnx(path, dims=dims, calibration=calibration(shape), **options).lowered


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def decoder(request, tmp_path_factory):
    shape = shape_of(request.param)
    (path,) = write_decoder(tmp_path_factory.mktemp(request.param) / "d.onnx", shape, weights_of(shape))
    return shape, path


def float_logits(shape, path, ids):
    session = onnxruntime.InferenceSession(path)
    empty = np.zeros((1, shape.kv_heads, 0, shape.dim), np.float32)
    feed = {i.name: empty for i in session.get_inputs() if i.name.startswith("past")}
    feed |= {"input_ids": ids[None], "position_ids": np.arange(len(ids))[None]}
    return session.run(["logits"], feed)[0][0]


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_steps_follow_the_float_model(decoder, weights):
    """All tokens at once, and one after another over the cache: the same logits, near those in float."""
    shape, path = decoder
    ids = np.random.default_rng(9).integers(0, shape.vocabulary, CONTEXT)
    whole = reference(lowered_of(path, shape, CONTEXT, weights=weights), {"input_ids": ids}, arguments={"position": 0})
    single, states, rows = lowered_of(path, shape, 1, weights=weights), None, []
    for position, token in enumerate(ids):
        found = reference(single, {"input_ids": token}, arguments={"position": position}, states=states)
        states = {name: found[name] for name in single.states}
        rows.append(found["logits"][0])
        assert found["token"][0, 0] == found["logits"][0].argmax()
    assert np.array_equal(np.stack(rows), whole["logits"])
    wanted = float_logits(shape, path, ids)
    cosine = (wanted * whole["logits"]).sum(1) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(whole["logits"], axis=1)
    assert cosine.min() > (0.995 if weights == "int8" else 0.93)


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("tokens", [1, 3])
def test_one_program_serves_every_position(decoder, tokens, weights):
    shape, path = decoder
    lowered = lowered_of(path, shape, tokens, weights=weights)
    for name in ("8x8", "12x20"):
        images = set()
        for position in (0, 7, CONTEXT - tokens):
            _, emitted = agrees(lowered, SIZES[name], arguments={"position": position}, verified=position == 7)
            images.add(emitted.programs[0].to_bytes())
        assert len(images) == 1


# Weights of large models ------------------------------------------------------------------------------------------------


def test_weights_outside_the_file_stay_there(tmp_path, monkeypatch):
    """fp16 weights mapped from a file of their own lower to the same steps as fp32 ones inside."""
    shape = shape_of("llama")
    weights = {name: value.astype(np.float16) for name, value in weights_of(shape).items()}
    inside = write_decoder(tmp_path / "inside.onnx", shape, weights)
    monkeypatch.setattr(decoder_file, "MOST_INSIDE_BYTES", 100)
    path, _ = write_decoder(tmp_path / "outside.onnx", shape, weights, stored="float16")
    expected = lowered_of(inside[0], shape, 1)
    monkeypatch.setattr(read, "LARGE", 1000)
    monkeypatch.setattr(graphs, "APART_BYTES", 1000)
    raw = Source.file(path).raw({"sequence": 1, "past": 5})
    kept = {name: array for name, array in raw.constants.items() if array.dtype == np.float16}
    assert sum(array.size for array in kept.values()) > 0.9 * shape.parameters
    apart = graphs.Apart()
    raw.model(list(raw.inputs), ["logits"], apart)
    assert apart.folder == str(tmp_path)
    found = lowered_of(path, shape, 1)
    assert found.steps == expected.steps
    for name, array in expected.constants.items():
        assert np.array_equal(found.constants[name], array), name


def test_mapped_memory_is_given_back_and_read_again(tmp_path):
    np.arange(1 << 20, dtype=np.float32).tofile(tmp_path / "w")
    whole = np.memmap(tmp_path / "w", np.float32, "r", shape=(1024, 1024))
    before = whole.T.sum()
    graphs.let_go(whole.T)
    assert whole.T.sum() == before
    graphs.let_go(np.ones(3))
    # A view does not say where it begins in the file: it is handed over as an array.
    apart = graphs.Apart()
    apart.tensor("view", whole[1:])
    assert np.array_equal(apart.arrays["view"], whole[1:])


# Arg-max ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.sampled_from((1024, 1800, 2048, 1031, 40)), st.integers(0, 999))
def test_the_first_of_the_largest_of_long_rows(rows, width, seed):
    """Rows that are cut into parts, or not; with ties within and over parts."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (rows, width))
    y = helper.make_tensor_value_info("y", TensorProto.INT64, (rows,))
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=-1, keepdims=0)
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 20)])
    lowered = lower(Source(model, "g")).lowered
    draw = np.random.default_rng(seed)
    values = draw.integers(-3, 3 if seed % 2 else 500, (rows, width)).astype(np.float32) - 600
    (token,) = (reference(lowered, {lowered.inputs[0]: values})[name] for name in lowered.outputs)
    assert token.reshape(-1).tolist() == values.argmax(axis=1).tolist()
    agrees(lowered, SIZES["32x32"], seed=seed)


def test_bytes_of_rows_at_a_position(decoder):
    """A step that reads cosines at its position, or writes a row of the cache, moves that row alone."""
    shape, path = decoder
    lowered = lowered_of(path, shape, 3)
    narrow, wide = shape.kv_heads * shape.dim, shape.heads * shape.dim
    key = next(step for step in lowered.steps if "present.0.key" in writes(step))
    found = unique_bytes(lowered, key)
    if shape.family == "llama":
        # fp32 keys, cosines and sines (of all query heads' columns) in, int8 keys out.
        assert found == 3 * (4 * narrow + 2 * 4 * wide + narrow)
    else:
        assert found == 2 * 3 * narrow
