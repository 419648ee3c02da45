"""Frames of a test clip with known truth: textures, gratings and text in sub-pixel motion, three shots, two cuts.

Every frame is a pure function of its number, computed at twice the size and averaged down, so that nothing is aliased
and motion is exact to any fraction of a pixel. clip.vpy makes VapourSynth clips of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

type Picture = NDArray[np.float32]
"""(height, width, 3), RGB in [0, 1]."""

WIDTH, HEIGHT = 640, 384  # of the truth; the input is a quarter of that
SHOT = 18  # frames
SUPERSAMPLING = 2

POSTER = """
RAFRVSR  x4  VIDEO SUPER-RESOLUTION
The quick brown fox jumps over the lazy dog.
0123456789  ABCDEFGHIJKLMNOPQRSTUVWXYZ
Detail that one frame lost may be found in another.
"""
CREDITS = "\n".join(
    ["WRITTEN BY", "A RANDOM GENERATOR", "", "TEXTURES", "FILTERED NOISE", "", "GRATINGS", "SINE AND SQUARE", ""] * 2
)


def frame(n: int) -> NDArray[np.uint8]:
    """Frame n as (HEIGHT, WIDTH, 3) RGB in 0 to 255."""
    shot, t = divmod(n, SHOT)
    large = SHOTS[shot](float(t))
    small = large.reshape(HEIGHT, SUPERSAMPLING, WIDTH, SUPERSAMPLING, 3).mean(axis=(1, 3))
    return np.rint(small.clip(0, 1) * 255).astype(np.uint8)


def pan(t: float) -> Picture:
    """A camera that moves over a poster on a rough wall."""
    return _window(_wall(), 60 + 3.7 * t, 40 + 1.3 * t)


def patterns(t: float) -> Picture:
    """A zone plate that grows, a turning grating, a sliding chequerboard, over a drifting texture."""
    x, y = _grid()
    picture = _window(_noise(2), 20 + 0.7 * t, 80 - 0.4 * t)
    rings = 0.5 + 0.5 * np.cos((x - 150) ** 2 / (170 + 4 * t) + (y - 190) ** 2 / (170 + 4 * t))
    angle = 0.4 + 0.02 * t
    bars = 0.5 + 0.5 * np.sin((x * np.cos(angle) + y * np.sin(angle)) * 0.9 + 0.5 * t)
    squares = (np.floor((x + 2.3 * t) / 9) + np.floor((y - 1.1 * t) / 9)) % 2
    picture = _over(picture, rings, (x - 150) ** 2 + (y - 190) ** 2 < 110**2, (1.0, 0.9, 0.8))
    picture = _over(picture, bars, (abs(x - 370) < 90) & (abs(y - 120) < 80), (0.7, 0.9, 1.0))
    return _over(picture, squares, (abs(x - 500) < 90) & (abs(y - 280) < 60), (1.0, 0.8, 0.6))


def credits(t: float) -> Picture:
    """Text that scrolls up over a texture that moves the other way."""
    back = _window(_noise(3), 40 + 1.9 * t, 30 + 0.6 * t)
    letters = _window(_text(CREDITS, 24, (WIDTH + 1, 1200)), 0, 20 + 1.7 * t)
    return back * 0.6 * (1 - letters) + letters


SHOTS: tuple[Callable[[float], Picture], ...] = (pan, patterns, credits)
FRAMES = SHOT * len(SHOTS)


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of every sample, in pixels of the truth."""
    y, x = np.mgrid[: HEIGHT * SUPERSAMPLING, : WIDTH * SUPERSAMPLING]
    return (x + 0.5) / SUPERSAMPLING, (y + 0.5) / SUPERSAMPLING


def _over(picture: Picture, grey: NDArray[np.float64], where: NDArray[np.bool_], colour: object) -> Picture:
    return np.where(where[..., None], grey[..., None] * np.array(colour), picture).astype(np.float32)


def _window(canvas: Picture, left: float, top: float) -> Picture:
    """The part of a canvas under the camera, between samples by bilinear interpolation."""
    left, top = left * SUPERSAMPLING, top * SUPERSAMPLING
    x, y = int(left), int(top)
    a, b = np.float32(left - x), np.float32(top - y)
    part = canvas[y : y + HEIGHT * SUPERSAMPLING + 1, x : x + WIDTH * SUPERSAMPLING + 1]
    part = part[:, :-1] * (1 - a) + part[:, 1:] * a
    return part[:-1] * (1 - b) + part[1:] * b


@cache
def _wall() -> Picture:
    """Texture with a poster: text in several sizes and line gratings of rising frequency."""
    wall = _noise(1).copy()
    height, width = 330 * SUPERSAMPLING, 560 * SUPERSAMPLING
    poster = np.full((height, width, 3), (0.93, 0.9, 0.82), np.float32)
    row = 0
    for size in (22, 18, 14, 11):
        text = _text(POSTER, size, (560, size * 8))
        poster[row : row + len(text)] *= 1 - 0.9 * text[: height - row]
        row += len(text) * 5 // 8
    x = np.arange(width) / SUPERSAMPLING
    lines = (np.sin(x * (0.35 + x / 400)) > 0).astype(np.float32)
    poster[-40 * SUPERSAMPLING :] = lines[None, :, None] * np.array((0.8, 0.2, 0.15))
    wall[90 * SUPERSAMPLING :, 120 * SUPERSAMPLING :][:height, :width] = poster
    return wall


@cache
def _noise(seed: int) -> Picture:
    """Coloured noise whose spectrum falls a little faster than that of photographs, on a larger canvas."""
    height, width = (HEIGHT + 96) * SUPERSAMPLING, (WIDTH + 160) * SUPERSAMPLING
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    falloff = np.where(frequency < 0.25, 1 / np.maximum(frequency, 1 / width) ** 1.4, 0)  # 0.25: the truth's limit

    def plane() -> NDArray[np.float64]:
        spectrum = np.fft.rfft2(random.standard_normal((height, width))) * falloff
        values = np.fft.irfft2(spectrum, (height, width))
        return (values - values.mean()) / values.std()

    grey = plane()
    return np.stack([0.5 + 0.16 * grey + 0.05 * plane() for _ in range(3)], axis=-1).astype(np.float32).clip(0, 1)


@cache
def _text(text: str, size: int, box: tuple[int, int]) -> Picture:
    """Letters as 1 on 0, in a box of pixels of the truth."""
    image = Image.new("L", (box[0] * SUPERSAMPLING, box[1] * SUPERSAMPLING))
    font = ImageFont.load_default(size * SUPERSAMPLING)
    ImageDraw.Draw(image).multiline_text((24, 0), text.strip(), fill=255, font=font, spacing=size // 2)
    return np.repeat(np.asarray(image, np.float32)[..., None] / 255, 3, axis=-1)
