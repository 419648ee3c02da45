"""Frames that cannot be had, wherever they lie and however they are asked for, cost themselves alone."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Set
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import vapoursynth as vs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encode.media import script
from tests.plugin.clips import DEVICES, core, failing_at, moving, pixels, rgb_clip, same
from vs_rafrvsr.encode.process import find_vspipe
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.schedule import GROUP

FRAMES = 22
"""Fewer than a chunk's, so that a shot begins after a gap alone; more than one read's."""
READS = -(-FRAMES // GROUP)


@cache
def source(fmt: int) -> vs.VideoNode:
    clip = rgb_clip(moving(FRAMES, 24, 32))
    return clip if fmt == vs.RGBS else core.resize.Bicubic(clip, format=fmt, matrix=1)


def upscaled(clip: vs.VideoNode, device: str) -> vs.VideoNode:
    return core.rafrvsr.Upscale(clip, device=device, leadin=4, flow_updates=1)


@cache
def alone(fmt: int, device: str, start: int, stop: int) -> list[vs.VideoFrame]:
    """The output of a run of frames that has nothing before and after it."""
    return [f.copy() for f in upscaled(source(fmt)[start:stop], device).frames(prefetch=1)]


def alone_in_its_run(n: int, bad: Set[int], fmt: int, device: str) -> vs.VideoFrame:
    start = max((m + 1 for m in bad if m < n), default=0)
    stop = min((m for m in bad if m > n), default=FRAMES)
    return alone(fmt, device, start, stop)[n - start]


def torn(bad: Set[int], fmt: int) -> vs.VideoNode:
    return failing_at(source(fmt), bad, "frame {n} is torn.")


def close(frame: vs.VideoFrame, wanted: vs.VideoFrame, device: str) -> bool:
    """Equal to rounding: a run of frames alone is read, and batched, in other groups."""
    tolerance = 1 if frame.format.sample_type == vs.INTEGER else {"cpu": 1e-5, "cuda": 1 / 510}[device]
    pairs = zip(pixels(frame), pixels(wanted), strict=True)
    return all(np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=0, atol=tolerance) for a, b in pairs)


def requested(out: vs.VideoNode, wanted: list[int], bad: Set[int]) -> dict[int, vs.VideoFrame]:
    """The good ones of some frames, asked for at once. One may fail once for each read that meets a bad one first.

    After that, only what is wrong with itself is said of a bad one.
    """
    found: dict[int, vs.VideoFrame] = {}
    for tries in range(1 + READS):
        futures = {n: out.get_frame_async(n) for n in wanted if n not in found}
        for n, future in futures.items():
            error = future.exception(timeout=120)
            if error is None:
                found[n] = future.result()
            else:
                causes = {n} if tries == READS else bad
                assert any(f"frame {m} is torn." in str(error) for m in causes), f"{n}: {error}"
    assert found.keys() == set(wanted) - bad
    return found


@pytest.mark.parametrize("fmt", [vs.RGBS, vs.YUV420P8], ids=["RGBS", "YUV420P8"])
@pytest.mark.parametrize("device", DEVICES)
@given(
    bad=st.sets(st.integers(0, FRAMES - 1), min_size=1, max_size=4),
    requests=st.lists(st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=8), min_size=1, max_size=4),
)
@settings(max_examples=8, deadline=None)
def test_frames_that_cannot_be_read_fail_and_all_others_come(
    device: str, fmt: int, bad: set[int], requests: list[list[int]]
) -> None:
    """In any order the same, bit for bit; the frame after a gap begins a shot."""
    played = requested(upscaled(torn(bad, fmt), device), list(range(FRAMES)), bad)
    assert all(close(frame, alone_in_its_run(n, bad, fmt, device), device) for n, frame in played.items())
    out = upscaled(torn(bad, fmt), device)
    for wanted in requests:
        for n, frame in requested(out, wanted, bad).items():
            assert same(frame, played[n]), f"frame {n} differs"


@pytest.mark.parametrize("other", [{"width": 48}, {"format": vs.YUV420P10}], ids=["size", "format"])
@pytest.mark.parametrize("device", DEVICES)
def test_frames_that_are_not_what_the_clip_declares_fail_and_those_before_come(
    device: str, other: dict[str, int]
) -> None:
    clip, until = source(vs.YUV420P8), 9
    changed = core.std.BlankClip(clip, **other)
    out = upscaled(core.std.FrameEval(clip, lambda n: clip if n < until else changed), device)
    for n in (until + 3, until, FRAMES - 1):
        with pytest.raises(vs.Error, match="FrameEval"):
            out.get_frame(n)
    gone = range(until, FRAMES)
    for n in (until - 1, 0, 4):
        futures = [out.get_frame_async(n) for n in gone]
        assert all(isinstance(future.exception(timeout=120), vs.Error) for future in futures)
        assert close(out.get_frame(n), alone_in_its_run(n, set(gone), vs.YUV420P8, device), device)


UPSCALE = "core.rafrvsr.Upscale({clip}, device='cpu', leadin=2, flow_updates=1{arguments}).set_output()"
BLANK = "clip = core.std.BlankClip(width=32, height=24, format=vs.YUV420P8, length=8)\n"
TORN = """
def read(n, f):
    if n == 5:
        raise ValueError("disc unreadable")
    return f
"""
FAULTS = {
    "failing source": (TORN + UPSCALE.format(clip="clip.std.ModifyFrame(clip, read)", arguments=""), "disc unreadable"),
    "interlaced frame": (
        UPSCALE.format(clip="clip[:5] + clip[5:].std.SetFieldBased(2)", arguments=""),
        r"Upscale: frame [567] is interlaced",
    ),
    "damaged weights": (UPSCALE.format(clip="clip", arguments=", weights='cut.safetensors'"), "cut.safetensors"),
    "variable size": (
        UPSCALE.format(clip="core.std.Splice([clip, clip.std.AddBorders(8)], mismatch=True)", arguments=""),
        "Upscale: the clip's size varies",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_vspipe_fails_and_says_why(fault: str, tmp_path: Path) -> None:
    body, message = FAULTS[fault]
    shipped = MODELS["rafrvsr"].path.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(shipped[: len(shipped) // 2])
    command = [find_vspipe(), str(script(tmp_path, BLANK + body)), "--"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode > 0, "neither success nor a crash"
    assert re.search(message, done.stderr)
