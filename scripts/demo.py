#!/usr/bin/env python
"""The work of scripts/demo: make a clip with known truth, upscale it, measure and show; or upscale a given video."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vs_rafrvsr.encode import Encoded, encode
from vs_rafrvsr.encode.display import displayed
from vs_rafrvsr.errors import RafrvsrError

ROOT = Path(__file__).resolve().parent.parent
SAMPLES, OUT = ROOT / "samples", ROOT / "build" / "demo"
LOSSLESS = ("-c:v", "libx264", "-qp", "0", "-preset", "veryfast")  # so that figures are about upscaling alone
CROPS = ((14, 60, 130), (32, 40, 70), (50, 10, 60))  # frame, left and top in the truth
CROP, ZOOM = (160, 120), 2


def main(words: list[str]) -> int:
    """Run the demo; its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that children are ended
    try:
        return upscale_video(Path(words[0])) if words else demonstrate()
    except RafrvsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def upscale_video(video: Path) -> int:
    """Upscale a video to NAME_x4.mkv beside it; what is there already is left."""
    out = video.with_name(f"{video.stem}_x4.mkv")
    if out.exists():
        print(f"{out} is there already; delete or move it to have it made again")
        return 0
    print(f"upscaling {video} to {out}")
    with displayed() as progress:
        script = SAMPLES / "upscale.vpy"
        done = encode(script, out, source=video, arguments={"source": str(video)}, progress=progress)
    print(f"{done.frames} frames of {done.clip.width}x{done.clip.height}, {done.fps:.1f} fps: {out}")
    return 0


def demonstrate() -> int:
    """Make the clip, upscale it twice, compare."""
    OUT.mkdir(parents=True, exist_ok=True)
    make("truth", "clip.vpy", scale="4")
    make("input", "clip.vpy")
    source = str(OUT / "input.mkv")
    make("bicubic", "bicubic.vpy", source=source)
    ours = make("upscaled", "upscale.vpy", source=source)
    compare().save(OUT / "compare.png")
    print(f"look at {OUT / 'compare.png'}, play {OUT / 'upscaled.mkv'} beside bicubic.mkv and truth.mkv")
    print(f"bicubic {psnr('bicubic'):.2f} dB, rafrvsr {psnr('upscaled'):.2f} dB, {ours.fps:.1f} fps")
    return 0


def make(name: str, script: str, **arguments: str) -> Encoded:
    """Encode a sample script to OUT/name.mkv."""
    print(f"making {name}.mkv with samples/{script}")
    out = OUT / f"{name}.mkv"
    with displayed() as progress:
        return encode(
            SAMPLES / script, out, ffmpeg_options=LOSSLESS, arguments=arguments, overwrite=True, progress=progress
        )


def frames(name: str, pixel_format: str) -> Iterator[NDArray[np.uint8]]:
    """The frames of OUT/name.mkv in a format of PyAV."""
    with av.open(str(OUT / f"{name}.mkv")) as file:
        for frame in file.decode(video=0):
            yield frame.to_ndarray(format=pixel_format).astype(np.uint8, copy=False)


def psnr(name: str) -> float:
    """PSNR of luma against the truth in dB, mean over frames, no crop."""
    pairs = zip(frames("truth", "gray"), frames(name, "gray"), strict=True)
    errors = [np.mean((truth.astype(np.float64) - ours) ** 2) for truth, ours in pairs]
    return float(np.mean(10 * np.log10(255**2 / np.array(errors))))


def compare() -> Image.Image:
    """Enlarged crops: a row for each of CROPS, a column each for truth, input, bicubic and ours."""
    columns = {"truth": "truth", "input": "input", "bicubic": "bicubic x4", "upscaled": "rafrvsr x4"}
    width, height, head = CROP[0] * ZOOM, CROP[1] * ZOOM, 28
    sheet = Image.new("RGB", (width * len(columns), head + height * len(CROPS)), "white")
    draw = ImageDraw.Draw(sheet)
    for x, (name, label) in enumerate(columns.items()):
        draw.text((x * width + 8, 4), label, fill="black", font=ImageFont.load_default(18))
        pictures = list(frames(name, "rgb24"))
        for y, (n, left, top) in enumerate(CROPS):
            picture = Image.fromarray(pictures[n])
            scale = 4 if name == "input" else 1
            box = (left // scale, top // scale, (left + CROP[0]) // scale, (top + CROP[1]) // scale)
            enlarged = picture.crop(box).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (x * width, head + y * height))
    return sheet


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
