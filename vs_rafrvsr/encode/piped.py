"""Run by vspipe in place of the user's script, never imported.

It evaluates that script as vspipe would, describes the script's output 0 in one line of JSON on stderr (the pipe itself
carries pixels only), gives vspipe a clip that the pipe can carry (RGB becomes YUV 4:4:4 and float becomes 16 bits), and
notes how long each frame lasts and what made it. It ends with the process that started it.

What is written to standard output is read as stderr is: vspipe writes the pixels elsewhere, see process.py.
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

import av
import vapoursynth as vs

from vs_rafrvsr.properties import DEVICE, FALLBACK, NUMERICS

MARK = "rafrvsr-clip "  # how clip.py knows the line
BT709, BT2020_NCL = 1, 9
DURATION = ("_DurationNum", "_DurationDen")
CARRIED = (
    *DURATION,
    *("_SARNum", "_SARDen", "_Matrix", "_Primaries", "_Transfer", "_Range", "_ChromaLocation", "_FieldBased"),
)


def evaluate(script: Path, arguments: dict[str, Any]) -> vs.VideoNode:
    """Output 0 of the script, which sees its folder, name and arguments as it would without us."""
    os.chdir(script.parent)
    names = {**arguments, "__name__": "__vapoursynth__", "__file__": str(script)}
    exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), names)
    outputs = vs.get_outputs()
    if 0 not in outputs:
        raise vs.Error(f"{script.name} sets no output 0; end it with clip.set_output()")
    output = outputs[0]
    if not isinstance(output, vs.VideoOutputTuple):
        raise vs.Error(f"output 0 of {script.name} is not video; set the video clip as output 0")
    clip = output.clip
    if len(outputs) > 1:
        warn(f"of {script.name}'s outputs only 0 is encoded, not {', '.join(str(n) for n in sorted(outputs) if n)}")
    if output.alpha is not None:
        warn(f"the alpha of {script.name}'s output 0 is not encoded")
    if clip.format is None or clip.format.color_family == vs.UNDEFINED or 0 in (clip.width, clip.height):
        raise vs.Error(f"output 0 of {script.name} changes its format or size; resize it to one format and size")
    return clip


def warn(message: str) -> None:
    """Have vspipe say it."""
    vs.core.log_message(vs.MESSAGE_TYPE_WARNING, message)


def check(n: int, props: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse properties of frame n that something is made of, and that are no such number."""
    for name in names:
        value = props.get(name, 0)
        if not isinstance(value, int) or value < 0:
            raise vs.Error(
                f"frame {n} has {name}={value!r}, which must be one whole number, 0 or more; set it with "
                "std.SetFrameProps, or remove it with std.RemoveFrameProps"
            )


def for_pipe(clip: vs.VideoNode, props: dict[str, Any]) -> vs.VideoNode:
    """The clip as integers of at most 16 bits, never RGB. BT.2020 RGB takes BT.2020's matrix, any other BT.709's."""
    rgb = clip.format.color_family == vs.RGB
    carried = _carried(clip.format.replace(color_family=vs.YUV) if rgb else clip.format)
    if rgb:
        matrix = BT2020_NCL if props.get("_Primaries") == BT2020_NCL else BT709
        return clip.resize.Bicubic(format=carried.id, matrix=matrix, range_s="limited")
    return clip if carried.id == clip.format.id else clip.resize.Point(format=carried.id)


def _carried(given: vs.VideoFormat) -> vs.VideoFormat:
    """The integers for a format of YUV or grey: of its depth, or the next one that ffmpeg has."""
    depth = 16 if given.sample_type == vs.FLOAT else min(given.bits_per_sample, 16)
    for bits in range(depth, 17):
        integers = given.replace(sample_type=vs.INTEGER, bits_per_sample=bits)
        if pixel_format(integers) in av.video.format.names:
            return integers
    raise vs.Error(
        f"ffmpeg has no pixels like those of output 0, {given.name}; end the script with others, for example "
        f"resize.Bicubic(format=vs.YUV444P{depth})"
    )


def pixel_format(given: vs.VideoFormat) -> str:
    """ffmpeg's name of a format: YUV420P8 is yuv420p, Gray10 is gray10le."""
    name = given.name.lower()
    return name.removesuffix("8") if given.bits_per_sample == 8 else f"{name}le"


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
        check(n, f.props, DURATION)
        numerator, denominator = (f.props.get(name, 0) for name in DURATION)
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
    """End this process when the one that holds the other end of its standard input has gone, however it went.

    The script finds nothing in its standard input.
    """
    alive = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def wait() -> None:
        while os.read(alive, 1):
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
    check(0, props, CARRIED)
    if props.get("_FieldBased"):
        warn("the clip's frames are interlaced (_FieldBased), which is lost: they are encoded as progressive ones")
    rate = rate_of(clip, props)
    noting_frames(clip, rate, notes).set_output(0)
    report = {
        "format": pixel_format(clip.format),
        "width": clip.width,
        "height": clip.height,
        "frames": clip.num_frames,
        "rate": [rate.numerator, rate.denominator],
        "variable": not clip.fps,
        "props": props,
    }
    print("\n" + MARK + json.dumps(report), file=sys.stderr, flush=True)


if __name__ == "__vapoursynth__":
    given = globals()
    main(
        Path(os.fsdecode(given["rafrvsr_script"])),  # bytes where it is no UTF-8
        json.loads(given["rafrvsr_arguments"]),
        Path(given["rafrvsr_notes"]),
        piece=given["rafrvsr_piece"] == "1",
    )
