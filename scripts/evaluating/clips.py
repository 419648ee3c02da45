"""Arrays to VapourSynth clips and back, so that what is measured went through the plugin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import vapoursynth as vs
from rich.progress import track

from vs_rafrvsr.metrics.fidelity import Frames


def to_clip(frames: Frames) -> vs.VideoNode:
    """An RGB24 clip of frames (N, h, w, 3)."""
    core = vs.core
    count, height, width, _ = frames.shape
    blank = core.std.BlankClip(format=vs.RGB24, width=width, height=height, length=count, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        for p in range(3):
            np.copyto(np.asarray(out[p]), frames[n, :, :, p])
        return out

    return core.std.ModifyFrame(blank, blank, fill)


def play(clip: vs.VideoNode, name: str) -> Iterator[Frames]:
    """The frames of an RGB24 clip, (H, W, 3) each, under a progress bar."""
    for frame in track(clip.frames(close=True), name, clip.num_frames, transient=True):
        yield np.stack([np.asarray(frame[p]) for p in range(3)], -1)
