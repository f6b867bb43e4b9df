"""Whole convolutional and recurrent networks on the chip: levels agree in every byte, decisions are those of ONNX Runtime.

Networks: ResNet-18's shape with random weights and a fitted last layer, a small network of depthwise convolutions, the voice
detector in silero-vad, the classifier of text direction in rapidocr-onnxruntime. `benchmarks/decisions.py` takes 200 inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
from cnn_models import Builder, fitted, mobile, resnet, session
from numpy.typing import NDArray
from odd_inputs import chunks, recordings, text_images, textures

from presilicon import chip as chips
from presilicon.compiler.compiled import ChipPart, Compiled
from presilicon.compiler.emission import emit
from presilicon.compiler.importing import Source
from presilicon.compiler.lower import LoweredModel, lower
from presilicon.compiler.steps import Pool
from presilicon.errors import ModelError
from presilicon.flow import build
from presilicon.isa import verify
from presilicon.session import LEVELS, Session
from presilicon.simulate.machine import run as simulate
from presilicon.template import Core

Arrays = Mapping[str, NDArray[np.generic]]
OCR_SIZES = {"x[2]": 48, "x[3]": 192}
VOICE_SIZES = {"sr": 16_000, "batch": 1, "sequence": 576}
# The STFT, whose waveform may be faint, and the layer that reads its magnitudes: their images in two terms of int8.
VOICE_FINE = ("node_Conv_29", "node_conv1d_1")


def of_wheel(package: str, name: str) -> Source:
    """A network inside an installed wheel."""
    return Source.file(next(str(f.locate()) for f in files(package) or () if f.name == name))


def compiled(model: LoweredModel, chip: str, *, checked: bool = True) -> Compiled:
    """The model's program for a chip of the library, verified."""
    core = Core.of(chips.load(chip))
    made = emit(model.lowered, core)
    if checked:
        verify(made.programs, core, {})
    ports = {"inputs": model.inputs, "outputs": model.outputs}
    part = ChipPart(lowered=model.lowered, programs=made.programs, step_of=made.step_of, **ports)
    return Compiled(name="network", chip=chips.load(chip), parts=(part,), **ports)


def same_on(levels: tuple[str, ...], model: Compiled, *inputs: Arrays) -> list[int]:
    """Checks that levels give the same bytes (and cycles, where they count any) for each input; the cycles."""
    results = []
    for level in levels:
        with Session(model, level) as ready:
            results.append([ready.run(one) for one in inputs])
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert first.outputs.keys() == second.outputs.keys()
            for name, array in first.outputs.items():
                np.testing.assert_array_equal(np.asarray(array), np.asarray(second.outputs[name]))
    if len(levels) > 2:
        assert [one.cycles for one in results[1]] == [one.cycles for one in results[2]]
    return [one.cycles for one in results[1]]


@cache
def small_mobile() -> LoweredModel:
    images = np.random.default_rng(3).standard_normal((8, 1, 3, 16, 16)).astype(np.float32)
    return lower(Source(mobile(image=16, width=4), "mobile"), calibration={"x": images})


@cache
def small_resnet() -> tuple[LoweredModel, Source]:
    images, kinds = textures(1, 200, 32)
    source = Source(fitted(resnet(18, image=32, width=16, classes=10), images, kinds), "resnet18")
    return lower(source, calibration={"x": images[:40, None]}), source


@cache
def ocr() -> tuple[LoweredModel, Source]:
    source = of_wheel("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    return lower(source, dims=OCR_SIZES, calibration={"x": text_images(1, 24)[:, None]}), source


class Voice:
    """The voice detector's float model over recordings, its state from chunk to chunk."""

    def __init__(self) -> None:
        self.source = of_wheel("silero-vad", "silero_vad_op18_ifless.onnx")
        self.float_model = session(self.source.model)

    def over(self, recording: NDArray[np.float32]) -> list[tuple[dict[str, NDArray[np.float32]], float]]:
        """Inputs of each chunk and the probability of speech."""
        state, found = np.zeros((2, 1, 128), np.float32), []
        for chunk in chunks(recording):
            given = {"input": chunk[None], "state": state}
            probability, state = self.float_model.run(None, {**given, "sr": np.array(16_000, np.int64)})
            found.append((given, float(probability[0, 0])))
        return found


@cache
def voice() -> tuple[LoweredModel, Voice]:
    detector = Voice()
    heard = [given for recording in recordings(1, 4) for given, _ in detector.over(recording)][::3]
    calibration = {name: np.stack([given[name] for given in heard]) for name in heard[0]}
    return lower(detector.source, dims=VOICE_SIZES, calibration=calibration, fine=VOICE_FINE), detector


def images_of(seed: int, count: int, size: int) -> list[Arrays]:
    return [{"x": one[None]} for one in np.random.default_rng(seed).standard_normal((count, 3, size, size)).astype(np.float32)]


def test_a_small_network_of_depthwise_convolutions_on_every_level():
    model = compiled(small_mobile(), "core-8x8")
    assert same_on(LEVELS, model, *images_of(5, 2, 16))[0] > 10_000


@pytest.mark.parametrize("chip", ["core-4x4", "core-16x32", "core-32x16", "core-16x16-x2"])
def test_depthwise_convolutions_on_other_cores(chip):
    same_on(LEVELS[:2], compiled(small_mobile(), chip), *images_of(6, 1, 16))


@pytest.mark.parametrize(("chip", "levels"), [("core-8x8", LEVELS), ("core-32x32", LEVELS[:2])])
def test_a_residual_network(chip, levels):
    images, _ = textures(2, 1, 32)
    same_on(levels, compiled(small_resnet()[0], chip), {"x": images[:1]})


def test_a_residual_network_decides_as_its_float_model():
    model, source = small_resnet()
    images, kinds = textures(2, 30, 32)
    floats = [session(source.model).run(None, {"x": image[None]})[0].argmax() for image in images]
    with Session(compiled(model, "core-32x32", checked=False), "reference") as ready:
        chip = [np.asarray(ready.run({"x": image[None]}).outputs["logits"]).argmax() for image in images]
    assert sum(a == b for a, b in zip(floats, chip, strict=True)) >= 29
    # Random features and a fitted last layer do tell the textures apart: a decision means something.
    assert sum(a == b for a, b in zip(floats, kinds, strict=True)) >= 24


def test_the_direction_of_text():
    model, source = ocr()
    images = text_images(2, 8)
    program = compiled(model, "core-32x32")
    same_on(LEVELS[:2], program, {"x": images[:1]})
    floats = session(source.model).run(None, {"x": images})[0].argmax(axis=1)
    with Session(program, "reference") as ready:
        chip = [next(iter(ready.run({"x": image[None]}).outputs.values())).argmax() for image in images]
    assert chip == floats.tolist() == [number % 2 for number in range(8)]


def test_the_voice_detector_chunk_by_chunk():
    model, detector = voice()
    (recording,) = recordings(9, 1)
    heard = detector.over(recording)
    program = compiled(model, "core-8x8")
    same_on(LEVELS, program, *(given for given, _ in heard[10:12]))
    state, agreed = np.zeros((2, 1, 128), np.float32), 0
    with Session(program, "reference") as ready:
        for given, probability in heard:
            outputs = ready.run({**given, "state": state}).outputs
            state = np.asarray(outputs["stateN"], np.float32)
            agreed += (float(np.asarray(outputs["output"]).item()) > 0.5) == (probability > 0.5)
    assert 20 < sum(probability > 0.5 for _, probability in heard) < len(heard) - 5
    assert agreed >= len(heard) - 1


def test_a_convolution_that_is_none_is_named():
    with pytest.raises(ModelError, match="no convolution is called conv_99") as caught:
        lower(Source(mobile(image=16, width=4), "mobile"), fine=("conv_99",))
    assert "did you mean conv_" in str(caught.value.hint)


def test_channels_side_by_side_and_norms_of_their_own():
    """A dense block: channels joined to those before, batch norm before each convolution."""
    b = Builder(8)
    y = b.convolution("x", 3, 8, 3, 2)
    for channels in (8, 14):
        parameters = [b.constant(b.rng.uniform(0.5, 1.5, channels).astype(np.float32)) for _ in range(4)]
        z = b.node("Relu", b.node("BatchNormalization", y, *parameters))
        y = b.node("Concat", y, b.convolution(z, channels, 6, 3), axis=1)
    pooled = b.node("AveragePool", b.node("Relu", y), kernel_shape=[2, 2], strides=[2, 2])
    y = b.node("Flatten", b.node("GlobalAveragePool", pooled))
    source = Source(b.model((1, 3, 16, 16), b.linear(y, 20, 4), 4), "dense")
    images = np.random.default_rng(8).standard_normal((20, 1, 3, 16, 16)).astype(np.float32)
    model = lower(source, calibration={"x": images})
    program = compiled(model, "core-8x8")
    same_on(LEVELS[:2], program, {"x": images[0]})
    want = session(source.model).run(None, {"x": images[1]})[0]
    with Session(program, "reference") as ready:
        found = np.asarray(ready.run({"x": images[1]}).outputs["logits"])
    assert np.abs(found - want).max() < 0.03 * np.abs(want).max()


def test_a_network_of_the_onnx_project_is_lowered_whole():
    """ShuffleNet: grouped and depthwise convolutions, channels shuffled, joined and pooled."""
    source = of_wheel("onnx", "light_shufflenet.onnx")
    model = lower(source)
    assert not model.report.refused
    made = emit(model.lowered, Core.of(chips.load("core-32x32")))
    assert simulate(made.programs, Core.of(chips.load("core-32x32")), values=False, events=False).cycles > 1_000_000


def test_a_fine_convolution_is_two(tmp_path: Path) -> None:
    path = tmp_path / "mobile.onnx"
    path.write_bytes(mobile(image=16, width=4).SerializeToString())
    plain, finer = (build(path, chips.load("core-8x8"), fine=fine).compiled.chip_parts[0].lowered for fine in ((), ("conv_0",)))
    assert len(finer.steps) == len(plain.steps) + 2
    (rest,) = (t for t in finer.tensors.values() if t.name.endswith(".rest") and t.dtype == "int8")
    # The second term's levels are 1/254 of the first's.
    assert rest.scale == pytest.approx(finer.tensors[rest.name.replace("rest", "moving")].scale / 254)


def test_the_largest_of_windows_goes_over_levels_where_it_is_only_multiplied():
    model = lower(Source(resnet(50, image=32, width=8, classes=10), "resnet50"))
    (pool,) = (step for step in model.lowered.steps if isinstance(step, Pool))
    assert model.lowered.tensors[pool.out].dtype == "int8"
    # Only the image is quantised by itself; sums of a block give fp32 and int8 in one, and the last image is one pixel.
    assert sum(type(step).__name__ == "Rows" for step in model.lowered.steps) == 1
    same_on(LEVELS[:2], compiled(model, "core-16x16"), *images_of(7, 1, 32))
