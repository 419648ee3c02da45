#!/usr/bin/env python
"""What splitting an encode costs on this machine, and from it an estimate for many GPUs.

    python scripts/measure_split.py pieces   [--lengths 240,480,960]                   pieces, one at a time
    python scripts/measure_split.py workers  [--frames 1920] [--workers 1,2,3]         workers on --gpus 1
    python scripts/measure_split.py estimate --rate 40 --start 8 [--join 0.0004]      the model of README, a 2-hour film

Common: --size 480x270 (of the input), --chunk 240. Each prints one JSON object; --json FILE adds it to that file under
the command's name, or --name. The clip is a moving texture, made in the script; it is upscaled on the device that
Upscale chooses, and encoded without loss by x264 at its fastest, so that frames can be compared and little time is its.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from measuring import add_result

from vs_rafrvsr.encode import Encoded, encode
from vs_rafrvsr.encode.parallel import encode_split
from vs_rafrvsr.encode.process import find_ffmpeg
from vs_rafrvsr.encode.render import Job, read_clip, render
from vs_rafrvsr.encode.split import ON_GPU, plan
from vs_rafrvsr.properties import DEVICE

LOSSLESS = ["-c:v", "libx264", "-qp", "0", "-preset", "ultrafast"]
FILM = 2 * 60 * 60 * 24  # frames
SCRIPT = """
import numpy as np
import vapoursynth as vs
from vapoursynth import core
y, x = np.mgrid[:{height}, :{width}]
picture = (126 + 60 * np.sin(x / 9) * np.cos(y / 7) + 40 * np.sin((x + 2 * y) / 4)).astype(np.uint8)
blank = core.std.BlankClip(format=vs.YUV420P8, width={width}, height={height}, length={frames}, keep=True)
def moved(n, f):
    f = f.copy()
    np.copyto(np.asarray(f[0]), np.roll(picture, (n, 3 * n), (0, 1)))
    return f
clip = core.std.ModifyFrame(blank, blank, moved)
core.rafrvsr.Upscale(clip, chunk={chunk}, warmup={warmup}).set_output()
"""


def job(folder: Path, arguments: argparse.Namespace) -> Job:
    """The test clip, upscaled."""
    width, height = map(int, arguments.size.split("x"))
    warmup = min(12, arguments.chunk - 1)
    script = folder / "clip.vpy"
    script.write_text(
        SCRIPT.format(width=width, height=height, frames=arguments.frames, chunk=arguments.chunk, warmup=warmup)
    )
    return Job(script=script, arguments={}, ffmpeg_options=LOSSLESS)


def measure_pieces(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds that pieces of several lengths take, one at a time, and what of it is the start.

    They are the second piece of their clip each: the first one has no warm-up.
    """
    with tempfile.TemporaryDirectory() as name:
        lengths, rows = numbers(arguments.lengths), []
        arguments.frames = arguments.chunk + max(lengths)
        given = job(Path(name), arguments)
        device = read_clip(given).props.get(DEVICE)
        for length in lengths:
            begin = time.monotonic()
            done = render(given, Path(name) / "piece.mkv", frames=range(arguments.chunk, arguments.chunk + length))
            seconds = time.monotonic() - begin
            start = seconds - done.seconds
            rows.append(
                {"frames": length, "start": start, "fps": length / done.seconds, "start's share": start / seconds}
            )
    return {"device": device, "size": arguments.size, "pieces": rows}


def measure_workers(arguments: argparse.Namespace) -> dict[str, Any]:
    """One encode and several workers: frames per second of the work, seconds in all, and are the frames the same?"""
    rates, whole = dict[str, float](), dict[str, float]()
    with tempfile.TemporaryDirectory() as name:
        given = job(Path(name), arguments)
        device = read_clip(given).props.get(DEVICE)

        def measure(what: str, run: Callable[..., Encoded], **options: object) -> str:
            out, begin = Path(name) / f"{what}.mkv", time.monotonic()
            rates[what] = run(given.script, out, ffmpeg_options=given.ffmpeg_options, **options).fps
            whole[what] = time.monotonic() - begin
            print(f"{what}: {rates[what]:.1f} fps, {whole[what]:.1f} s in all", file=sys.stderr, flush=True)
            return frames_hash(out)

        hashes = {measure("one encode", encode)}
        for workers in numbers(arguments.workers):
            share = None if str(device).startswith("CPU") else min(1, arguments.gpus / workers)
            hashes.add(measure(str(workers), encode_split, workers=workers, gpus_per_worker=share))
    facts = {"device": device, "gpus": arguments.gpus, "size": arguments.size, "frames": arguments.frames}
    return facts | {"fps": rates, "seconds": whole, "identical": len(hashes) == 1}


def frames_hash(video: Path) -> str:
    """Of all decoded frames, in order."""
    hashing = ["-map", "0:v", "-fps_mode", "passthrough", "-f", "hash", "-hash", "murmur3", "-"]
    command = [find_ffmpeg(), "-v", "error", "-i", str(video), *hashing]
    found: str = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return found


def estimate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Hours of a 2-hour film by the model in README, for more and more workers."""
    rows = {}
    for workers in (1, 2, 4, 8, 16, 32, 64, 100, 200, 400):
        pieces = plan(FILM, arguments.chunk, workers, ON_GPU)
        rounds = math.ceil(len(pieces) / workers)
        seconds = arguments.ray + rounds * (arguments.start + len(pieces[0]) / arguments.rate) + FILM * arguments.join
        alone = arguments.start + FILM / arguments.rate
        rows[workers] = {"hours": seconds / 3600, "efficiency": alone / seconds / workers, "pieces": len(pieces)}
    given = {name: getattr(arguments, name) for name in ("rate", "start", "ray", "join")}
    return {"estimate": rows, **given}


def numbers(text: str) -> Sequence[int]:
    """1,2,3"""
    return [int(word) for word in text.split(",")]


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pieces", "workers", "estimate"])
    parser.add_argument("--size", default="480x270")
    parser.add_argument("--chunk", type=int, default=240)
    parser.add_argument("--frames", type=int, default=960)
    parser.add_argument("--lengths", default="240,480,960")
    parser.add_argument("--workers", default="1,2,3")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--rate", type=float, default=40.0, help="frames per second of one worker, once started")
    parser.add_argument("--start", type=float, default=8.0, help="seconds from a piece's beginning to its first frame")
    parser.add_argument("--ray", type=float, default=10.0, help="seconds until the first piece begins")
    parser.add_argument("--join", type=float, default=0.0004, help="seconds a frame takes to be joined")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--name", help="in the JSON file")
    arguments = parser.parse_args()
    measure = {"pieces": measure_pieces, "workers": measure_workers, "estimate": estimate}[arguments.what]
    result = measure(arguments)
    print(json.dumps(result, indent=1))
    if arguments.json:
        add_result(arguments.json, arguments.name or arguments.what, result)


if __name__ == "__main__":
    main()
