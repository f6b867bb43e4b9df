"""Inputs that mean something for the networks of the tests: speech in noise, lines of text both ways up, textures."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache

import espeakng_loader
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Floats = NDArray[np.float32]

# Speech ---------------------------------------------------------------------------------------------------------------

RATE = 16_000
CHUNK, CONTEXT = 512, 64
SYNCHRONOUS = 2
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Voice:
    """eSpeak NG in this process."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        self.pieces: list[NDArray[np.int16]] = []
        self.callback = _Callback(self._take)
        self.library.espeak_SetSynthCallback(self.callback)

    def _take(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: int) -> int:
        if samples and count > 0:
            self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, language: str) -> Floats:
        self.pieces.clear()
        self.library.espeak_SetVoiceByName(language.encode())
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 1, 0, 1, None, None)
        self.library.espeak_Synchronize()
        wave = np.concatenate(self.pieces) / np.float32(32768)
        at = np.arange(len(wave) * RATE // self.rate) * (self.rate / RATE)
        return np.interp(at, np.arange(len(wave)), wave).astype(np.float32)


@cache
def _voice() -> _Voice:
    return _Voice()


SENTENCES = (
    ("en", "The quick brown fox jumps over the lazy dog."),
    ("de", "Jeden Morgen gehen wir am Fluss spazieren."),
    ("en-us", "Every morning we walk along the river."),
    ("fr", "Il fait beau ce matin dans les montagnes."),
    ("en", "Please call me back tomorrow at half past nine."),
    ("es", "La casa vieja tiene dos ventanas verdes."),
)


@cache
def _sentence(number: int) -> Floats:
    """A sentence, spoken once: the voice says nothing twice in quite the same way."""
    language, text = SENTENCES[number]
    return _voice().say(text, language)


def _noise(rng: np.random.Generator, count: int, pink: bool) -> Floats:
    white = rng.standard_normal(count)
    if pink:
        spectrum = np.fft.rfft(white)
        white = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), count)
    return (white / white.std()).astype(np.float32)


def recordings(seed: int, count: int) -> Iterator[Floats]:
    """So many recordings: a sentence of some loudness between pauses, noise over all; every fourth is noise alone."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        spoken = _sentence(int(rng.integers(len(SENTENCES)))) * np.float32(10 ** rng.uniform(-1.3, 0))
        if number % 4 == 3:
            spoken = 0 * spoken
        pause = np.zeros(int(rng.integers(RATE // 8, RATE // 2)), np.float32)
        whole = np.concatenate([pause, spoken, pause])
        yield (whole + np.float32(10 ** rng.uniform(-3.5, -1.5)) * _noise(rng, len(whole), bool(rng.integers(2)))).astype(
            np.float32
        )


def chunks(recording: Floats) -> Floats:
    """A recording as the voice detector takes it: (chunks, 64 samples before and 512 of its own)."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), recording])
    count = (len(padded) - CONTEXT) // CHUNK
    return np.stack([padded[i * CHUNK : i * CHUNK + CONTEXT + CHUNK] for i in range(count)])


# Text -----------------------------------------------------------------------------------------------------------------

HEIGHT, WIDTH = 48, 192
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
WORDS = ("river", "Invoice", "market", "Street", "quality", "TOTAL", "morning", "chip", "Berlin", "figure", "yellow", "Page")


def text_image(rng: np.random.Generator, turned: bool) -> Floats:
    """A line of text (3, 48, 192) as the OCR classifier takes it: resized, in -1 to 1, zero to its right."""
    words = [WORDS[int(rng.integers(len(WORDS)))] for _ in range(int(rng.integers(1, 3)))]
    words += ["".join(LETTERS[int(i)] for i in rng.integers(0, len(LETTERS), int(rng.integers(3, 6))))]
    text, font = " ".join(words), ImageFont.load_default(int(rng.integers(22, 60)))
    box = font.getbbox(text)
    paper, ink = int(rng.integers(170, 256)), int(rng.integers(0, 90))
    image = Image.new("RGB", (int(box[2] - box[0]) + 10, int(box[3] - box[1]) + 10), (paper,) * 3)
    ImageDraw.Draw(image).text((5 - box[0], 5 - box[1]), text, font=font, fill=(ink,) * 3)
    if turned:
        image = image.rotate(180)
    width = min(WIDTH, -(-HEIGHT * image.width // image.height))
    pixels = np.asarray(image.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    pixels = np.clip(pixels + rng.normal(0, rng.uniform(0, 12), pixels.shape), 0, 255)
    found = np.zeros((3, HEIGHT, WIDTH), np.float32)
    found[:, :, :width] = (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5
    return found


def text_images(seed: int, count: int) -> Floats:
    """(count, 3, 48, 192): every second one is turned by 180 degrees."""
    rng = np.random.default_rng(seed)
    return np.stack([text_image(rng, number % 2 == 1) for number in range(count)])


# Textures -------------------------------------------------------------------------------------------------------------

TEXTURES = 10


def texture(rng: np.random.Generator, kind: int, size: int) -> Floats:
    """A coloured grating (3, size, size) in noise: five directions, fine or coarse."""
    angle, period = np.pi * (kind % 5) / 5 + rng.normal(0, 0.02), (5.0, 11.0)[kind // 5] * rng.uniform(0.9, 1.1)
    y, x = np.mgrid[:size, :size]
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + rng.uniform(0, 2 * np.pi))
    colour = rng.uniform(0.4, 1.0, (3, 1, 1))
    return (colour * wave + rng.normal(0, 0.1, (3, size, size))).astype(np.float32)


def textures(seed: int, count: int, size: int) -> tuple[Floats, NDArray[np.int64]]:
    """Images (count, 3, size, size) and their kinds, each as often."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % TEXTURES
    return np.stack([texture(rng, int(kind), size) for kind in kinds]), kinds
