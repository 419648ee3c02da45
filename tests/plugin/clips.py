"""Clips for the filter's tests: deterministic pictures in every format, built in memory."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs
from numpy.typing import NDArray

core = vs.core

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def rgb_clip(frames: NDArray[np.float32], **props: int) -> vs.VideoNode:
    """RGBS clip of frames (N, 3, h, w)."""
    count, _, height, width = frames.shape
    blank = core.std.BlankClip(format=vs.RGBS, width=width, height=height, length=count, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        for p in range(3):
            np.copyto(np.asarray(out[p]), frames[n, p])
        return out

    clip = core.std.ModifyFrame(blank, blank, fill)
    return core.std.SetFrameProps(clip, **props) if props else clip


def moving(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """A smooth random texture that moves by (1.5, 0.75) pixels a frame: (N, 3, h, w) in [0.1, 0.9]."""
    random = np.random.default_rng(seed)
    waves = [(random.uniform(-0.8, 0.8, 2), random.uniform(0, 6.3, 3), random.uniform(0.5, 1)) for _ in range(12)]
    ys, xs = np.mgrid[:height, :width]
    frames = np.zeros((count, 3, height, width), np.float64)
    for n in range(count):
        for (fy, fx), phases, weight in waves:
            angle = fy * (ys + 0.75 * n) + fx * (xs + 1.5 * n)
            frames[n] += weight * np.sin(angle[None] + phases[:, None, None])
    frames -= frames.min()
    return (0.1 + 0.8 * frames / frames.max()).astype(np.float32)


def pixels(frame: vs.VideoFrame) -> list[NDArray[Any]]:
    """The planes, copied."""
    return [np.asarray(frame[p]).copy() for p in range(frame.format.num_planes)]


def same(a: vs.VideoFrame, b: vs.VideoFrame) -> bool:
    """Whether two frames agree bit for bit."""
    return all(np.array_equal(x, y) for x, y in zip(pixels(a), pixels(b), strict=True))


def failing_at(clip: vs.VideoNode, bad: int | Set[int], message: str) -> vs.VideoNode:
    """The clip, of which a frame or several cannot be read; `{n}` in the message stands for the frame's number."""

    def maybe(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        if n in ({bad} if isinstance(bad, int) else bad):
            raise ValueError(message.format(n=n))
        return f

    return core.std.ModifyFrame(clip, clip, maybe)
