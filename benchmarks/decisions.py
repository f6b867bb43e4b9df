"""Decisions of whole networks on the chip beside ONNX Runtime's in float; the time of ResNet-50. Tables of docs/networks.md.

    python benchmarks/decisions.py [--inputs 200] [--simulated 10] [--only NAME]

Every input runs at the reference level, the first few also in the simulator, the first one on the hardware of core-8x8: all
bytes are compared. Calibration data are other inputs than those judged.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "compiler"))

from cnn_models import fitted, resnet, session
from odd_inputs import recordings, text_images, textures
from test_conv_networks import OCR_SIZES, VOICE_FINE, VOICE_SIZES, Voice, compiled, of_wheel, same_on

from presilicon import chip as chips
from presilicon.compiler.emission import emit
from presilicon.compiler.importing import Source
from presilicon.compiler.lower import LoweredModel, lower
from presilicon.compiler.work import macs
from presilicon.session import LEVELS, Session
from presilicon.simulate.machine import run as simulate
from presilicon.template import Core

Array = np.ndarray[Any, Any]
Decide = Callable[[dict[str, Array]], int]


@dataclass(frozen=True)
class Case:
    """A network lowered, inputs with the float model's outputs, and what is decided from outputs."""

    model: LoweredModel
    judged: Iterator[tuple[dict[str, Array], dict[str, Array]]]
    decide: Decide


def images(source: Source, model: LoweredModel, given: Array) -> Case:
    """A classifier of images by its largest output."""
    ready = session(source.model)
    name = source.model.graph.output[0].name
    judged = (({"x": one[None]}, {name: ready.run(None, {"x": one[None]})[0]}) for one in given)
    return Case(model, judged, lambda outputs: int(np.asarray(outputs[name]).argmax()))


def resnet18(inputs: int) -> Case:
    """ResNet-18 with half its channels on 64 x 64 textures: random weights, the last layer fitted on 600 images."""
    pictures, kinds = textures(1, 600, 64)
    source = Source(fitted(resnet(18, image=64, width=32, classes=10), pictures, kinds), "resnet18")
    return images(source, lower(source, calibration={"x": pictures[:32, None]}), textures(2, inputs, 64)[0])


def ocr(inputs: int) -> Case:
    """The classifier of text direction: lines of text, every second turned by 180 degrees."""
    source = of_wheel("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    model = lower(source, dims=OCR_SIZES, calibration={"x": text_images(1, 48)[:, None]})
    return images(source, model, text_images(2, inputs))


def voice(inputs: int, fine: tuple[str, ...] = VOICE_FINE) -> Case:
    """The voice detector: every second chunk of recordings, in the state that the float model has come to."""
    detector = Voice()
    heard = [given for recording in recordings(1, 8) for given, _ in detector.over(recording)][::4]
    calibration = {name: np.stack([given[name] for given in heard]) for name in heard[0]}
    model = lower(detector.source, dims=VOICE_SIZES, calibration=calibration, fine=fine)
    chosen = [pair for recording in recordings(7, 8) for pair in detector.over(recording)][::2][:inputs]
    judged = ((given, {"output": np.array([[probability]], np.float32)}) for given, probability in chosen)
    return Case(model, judged, lambda outputs: int(np.asarray(outputs["output"]).item() > 0.5))


CASES: dict[str, Callable[[int], Case]] = {
    "ResNet-18 shape": resnet18,
    "OCR direction": ocr,
    "silero-vad": voice,
    "silero-vad, int8 alone": lambda inputs: voice(inputs, ()),
}


def judge(name: str, case: Case, simulated: int) -> None:
    """One line of the table."""
    agreed, decided, error, first = 0, set(), 0.0, []
    program = compiled(case.model, "core-32x32", checked=False)
    with Session(program, "reference") as ready:
        for number, (given, wanted) in enumerate(case.judged):
            first += [given] if number < simulated else []
            outputs = ready.run(given).outputs
            agreed += case.decide(dict(outputs)) == case.decide(wanted)
            decided.add(case.decide(wanted))
            error = max(error, *(float(np.abs(np.asarray(outputs[key]) - value).max()) for key, value in wanted.items()))
    total = number + 1
    cycles = same_on(LEVELS[:2], program, *first)[0]
    hardware = same_on(LEVELS, compiled(case.model, "core-8x8", checked=False), first[0])[0]
    share = f"{agreed:>5} of {total:<5}{100 * agreed / total:7.1f} %"
    print(f"{name:<24}{share}{len(decided):>9}{error:10.4f}{cycles:>12,}{hardware:>12,}", flush=True)


def resnet50() -> None:
    """ResNet-50 at 224 x 224 with random weights on core-32x32: cycles, and seconds to get them."""
    core = Core.of(chips.load("core-32x32"))
    began = time.perf_counter()
    model = lower(Source(resnet(50), "resnet50"))
    lowered = time.perf_counter()
    made = emit(model.lowered, core)
    emitted = time.perf_counter()
    done = simulate(made.programs, core, values=False, events=False)
    ended = time.perf_counter()
    work = sum(macs(model.lowered, step) for step in model.lowered.steps)
    for title, value in (
        ("MACs", f"{work:,}"),
        ("cycles on core-32x32", f"{done.cycles:,}"),
        ("utilisation", f"{work / (core.rows * core.cols) / done.cycles:.3f}"),
        ("instructions", f"{len(made.programs[0].instructions):,}"),
        ("bytes of DRAM read, written", f"{done.dram_read_bytes:,}, {done.dram_written_bytes:,}"),
        ("lowered and calibrated in", f"{lowered - began:.1f} s"),
        ("emitted in", f"{emitted - lowered:.1f} s"),
        ("simulated, time alone, in", f"{ended - emitted:.2f} s"),
    ):
        print(f"ResNet-50, {title:<32}{value}")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--simulated", type=int, default=10)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(f"{'network':<24}{'same decision':>14}{'share':>9}{'decided':>9}{'error':>10}{'32x32':>12}{'8x8':>12}  cycles")
    for name, case in CASES.items():
        if options.only in name:
            judge(name, case(options.inputs), options.simulated)
    if options.only in "ResNet-50":
        resnet50()


if __name__ == "__main__":
    main()
