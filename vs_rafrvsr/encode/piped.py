"""Run by vspipe in place of the user's script, never imported.

It evaluates that script as vspipe would, describes the script's output 0 in one line of JSON on stderr (the pipe itself
carries pixels only), gives vspipe a clip that the pipe can carry (RGB becomes YUV 4:4:4 and float becomes 16 bits), and
notes how long each frame lasts and what made it. It ends with the process that started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import vapoursynth as vs

from vs_rafrvsr.properties import DEVICE, FALLBACK, NUMERICS

MARK = "rafrvsr-clip "  # how clip.py knows the line
BT709, BT2020_NCL = 1, 9


def evaluate(script: Path, arguments: dict[str, Any]) -> vs.VideoNode:
    """Output 0 of the script, which sees its folder, name and arguments as it would without us."""
    os.chdir(script.parent)
    names = {"__name__": "__vapoursynth__", "__file__": str(script), **arguments}
    exec(compile(script.read_bytes(), str(script), "exec"), names)
    outputs = vs.get_outputs()
    if 0 not in outputs:
        raise vs.Error(f"{script.name} sets no output 0; end it with clip.set_output()")
    output = outputs[0]
    if not isinstance(output, vs.VideoOutputTuple):
        raise vs.Error(f"output 0 of {script.name} is not video; set the video clip as output 0")
    clip = output.clip
    if clip.format is None or clip.format.color_family == vs.UNDEFINED or 0 in (clip.width, clip.height):
        raise vs.Error(f"output 0 of {script.name} changes its format or size; resize it to one format and size")
    return clip


def for_pipe(clip: vs.VideoNode, props: dict[str, Any]) -> vs.VideoNode:
    """The clip as integers of at most 16 bits, never RGB. BT.2020 RGB takes BT.2020's matrix, any other BT.709's."""
    integers = clip.format.replace(sample_type=vs.INTEGER, bits_per_sample=_bits(clip.format))
    if clip.format.color_family == vs.RGB:
        matrix = BT2020_NCL if props.get("_Primaries") == BT2020_NCL else BT709
        return clip.resize.Bicubic(format=integers.replace(color_family=vs.YUV).id, matrix=matrix, range_s="limited")
    return clip if integers.id == clip.format.id else clip.resize.Point(format=integers.id)


def _bits(given: vs.VideoFormat) -> int:
    return 16 if given.sample_type == vs.FLOAT else min(given.bits_per_sample, 16)


def rate_of(clip: vs.VideoNode, props: Mapping[str, Any]) -> Fraction:
    """Frames per second: declared, or where the clip declares a variable rate, that of frame 0."""
    if clip.fps:
        return Fraction(clip.fps)
    if props.get("_DurationNum") and props.get("_DurationDen"):
        return Fraction(props["_DurationDen"], props["_DurationNum"])
    raise vs.Error("output 0 has neither a frame rate nor durations; give it one with std.AssumeFPS")


def noting_frames(clip: vs.VideoNode, rate: Fraction, path: Path) -> vs.VideoNode:
    """The clip, which adds a line to a file for every frame that it makes.

    The line is `frame numerator denominator` (seconds) and, where Upscale made the frame, its weights and device.
    vspipe's own timecodes are rounded, lack the end of the last frame, and fail on a frame without a duration, as the
    last one of a source often is. Such a frame lasts as long as the rate says.
    """
    notes = path.open("w", buffering=1)

    def noted(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        numerator, denominator = f.props.get("_DurationNum", 0), f.props.get("_DurationDen", 0)
        if not (numerator and denominator):
            numerator, denominator = rate.denominator, rate.numerator
        maker = f"{f.props[NUMERICS]} on {f.props.get(DEVICE)}" if NUMERICS in f.props else ""
        notes.write(f"{n} {numerator} {denominator} {maker}\n")
        return f

    return vs.core.std.ModifyFrame(clip, clip, noted)


def refusing_fallback(clip: vs.VideoNode) -> vs.VideoNode:
    """The clip, which fails at a frame that Upscale made in other tiles than the rest for lack of memory."""

    def refused(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        if f.props.get(FALLBACK):
            raise vs.Error(
                f"frame {n} was made in smaller tiles because GPU memory ran out, so that its piece would fit the "
                "others only to rounding; give Upscale a smaller tile=[…], or use fewer workers a GPU"
            )
        return f

    return vs.core.std.ModifyFrame(clip, clip, refused)


def plain(props: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that JSON can hold: numbers, text and lists of them."""
    lists = {
        name: list(value) for name, value in props.items() if isinstance(value, Sequence) and not isinstance(value, str)
    }
    return {
        name: lists.get(name, value)
        for name, value in props.items()
        if all(isinstance(item, int | float | str) for item in lists.get(name, [value]))
    }


def end_with_parent() -> None:
    """End this process when the one that holds the other end of its standard input has gone, however it went."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(script: Path, arguments: dict[str, Any], notes: Path, piece: bool) -> None:
    """Set output 0, whole or as a piece, and describe it: format, size, frames, rate and the properties of frame 0."""
    end_with_parent()
    clip = evaluate(script, arguments)
    if piece:
        clip = refusing_fallback(clip)
    with clip.get_frame(0) as frame:
        clip = for_pipe(clip, plain(frame.props))
    with clip.get_frame(0) as frame:
        props = plain(frame.props)
    rate = rate_of(clip, props)
    noting_frames(clip, rate, notes).set_output(0)
    report = {
        "format": clip.format.name,
        "width": clip.width,
        "height": clip.height,
        "frames": clip.num_frames,
        "rate": [rate.numerator, rate.denominator],
        "props": props,
    }
    print("\n" + MARK + json.dumps(report), file=sys.stderr, flush=True)


if __name__ == "__vapoursynth__":
    given = globals()
    main(
        Path(given["rafrvsr_script"]),
        json.loads(given["rafrvsr_arguments"]),
        Path(given["rafrvsr_notes"]),
        piece=given["rafrvsr_piece"] == "1",
    )
