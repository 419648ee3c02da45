#!/usr/bin/env python
"""The result page: `scripts/report.py [--truth DIR] [--curves DIR] [MODEL...]` writes build/report/index.html.

DIR holds a folder of truth frames per clip (Vid4); without it the three shots of the project's own sample clip serve.
Each clip is made four times smaller (bicubic, BI), goes through the plugin, and is shown as low-res, bicubic, every
MODEL (by default frvsr-bi and rafrvsr-bi, if installed) and truth: videos, stills under a slider, crops. Tables come
from the JSON files in samples/ that evaluate.py, noise.py, compare_flow.py, plateau_table.py, measure_stability.py,
measure_overfit.py and measure_training.py (training.json) wrote, curves from every curves.csv below --curves. The page
needs no server and loads nothing from elsewhere.
"""

from __future__ import annotations

import argparse
import runpy
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jinja2
import numpy as np
from evaluating import figures
from evaluating.clips import play, to_clip
from evaluating.scoring import BICUBIC, named, packed, upscaler
from measuring import run_script, shrink

from vs_rafrvsr.encode.process import find_ffmpeg
from vs_rafrvsr.metrics.fidelity import Frames, luma, psnr_y
from vs_rafrvsr.metrics.protocol import PROTOCOLS
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.training import data

ROOT = Path(__file__).resolve().parent.parent
PAGE, SAMPLES = ROOT / "scripts" / "page", ROOT / "samples"
CROP = (96, 128)
CROPS = 2
RATE = 24
SHOWN = ("frvsr-bi", "rafrvsr-bi")
"""Models by default, those of them that are installed."""
COSTS = {
    "steps_per_second": ("steps/s", 1),
    "clips_per_second": ("clips/s", 1),
    "waiting_for_data": ("waiting for data, %", 100),
    "peak_gib": ("memory, GiB", 1),
}
"""Of a training step, what its table shows: the column, and what its figures are multiplied by."""


class Way(NamedTuple):
    """One way of showing a clip."""

    name: str
    psnr: float | None
    """PSNR-Y, mean over frames, in dB."""
    frames: Frames


def main() -> None:
    """The command line."""
    args = arguments()
    started = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    clips = []
    for name, truth in read_folder(args.truth) if args.truth else read_samples():
        clips.append(show(args.out, name, upscaled(name, truth[: args.frames], args.models, args.device)))
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True)
    page = environment.get_template("index.html").render(
        clips=clips,
        crop=CROP,
        tables=[*figures.tables(args.samples), *training_steps(args.samples / "training.json")],
        charts=list(figures.charts(sorted(args.curves.rglob("curves.csv")))),
        chart=figures.SIZE,
    )
    (args.out / "index.html").write_text(page)
    for file in ("style.css", "page.js"):
        shutil.copy(PAGE / file, args.out)
    print(args.out / "index.html")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    installed = [name for name in SHOWN if name in MODELS]
    parser.add_argument("models", nargs="*", default=installed, metavar="MODEL", help="name or weights file")
    parser.add_argument("--truth", type=Path, help="a folder of frames per clip")
    parser.add_argument("--frames", type=int, help="only so many of each clip, for a rehearsal")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="where the figures' JSON files are")
    parser.add_argument("--curves", type=Path, default=SAMPLES / "curves", metavar="DIR", help="runs, anywhere below")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "report", metavar="DIR")
    parser.add_argument("--device", default="auto")
    return parser.parse_intermixed_args()


def read_folder(root: Path) -> Iterator[tuple[str, Frames]]:
    """Clips of a folder; prints what was read and skipped."""
    reading = data.read_folders(root, shortest=1)
    print(reading.summary())
    for source in reading.sources:
        yield source.name, packed(source.hr)


def read_samples() -> Iterator[tuple[str, Frames]]:
    """The shots of samples/pictures.py."""
    pictures = runpy.run_path(str(SAMPLES / "pictures.py"))
    for index, shot in enumerate(pictures["SHOTS"]):
        first = index * pictures["SHOT"]
        yield shot.__name__, np.stack([pictures["frame"](n) for n in range(first, first + pictures["SHOT"])])


def training_steps(file: Path) -> Iterator[figures.Table]:
    """What measure_training.py wrote, where it is there: a row per recipe, none the best, for their work differs."""
    if file.exists():
        result = figures.read(file)
        rows: list[figures.Row] = [
            ((name,), {column: run[key] * units for key, (column, units) in COSTS.items() if key in run})
            for name, run in result["runs"].items()
        ]
        yield figures.table(f"training steps, {result['device']}", ["recipe"], rows)


def show(out: Path, name: str, ways: Iterable[Way]) -> dict[str, Any]:
    """Write a clip's files; what the page says of it."""
    *others, truth = ways
    height, width = truth.frames.shape[1:3]
    still = len(truth.frames) * 2 // 3
    corners = list(detailed(truth.frames[still]))
    for way in (*others, truth):
        stem = f"{name}-{way.name}"
        write_video(out / f"{stem}.mp4", way.frames)
        write_picture(out / f"{stem}.png", way.frames[still])
        scale = height // way.frames.shape[1]
        for index, (top, left) in enumerate(corners):
            rows, columns = (
                slice(at // scale, (at + side) // scale) for at, side in zip((top, left), CROP, strict=True)
            )
            write_picture(out / f"{stem}-{index}.png", way.frames[still, rows, columns])
    shown = [{"name": way.name, "psnr": way.psnr} for way in (*others, truth)]
    return {"name": name, "size": (width, height), "ways": shown, "crops": len(corners)}


def upscaled(name: str, truth: Frames, models: list[str], device: str) -> Iterator[Way]:
    """Every way of showing a clip, from the worst to the truth."""
    lr = shrink(truth)
    yield Way("low-res", None, lr)
    for way, model in named((BICUBIC, *models)).items():
        clip = upscaler(model, PROTOCOLS["bi"], device)(to_clip(lr))
        frames = np.stack(list(play(clip, f"{name} {model}")))
        yield Way(way, float(psnr_y(truth, frames).mean()), frames)
    yield Way("truth", None, truth)


def detailed(frame: Frames) -> Iterator[tuple[int, int]]:
    """Top and left, multiples of 4, of the CROPS windows with the most detail that do not overlap, where they fit."""
    energy = cv2.boxFilter(cv2.Laplacian(luma(frame), cv2.CV_64F) ** 2, -1, CROP[::-1], anchor=(0, 0))
    energy = energy[: max(0, frame.shape[0] - CROP[0] + 1) : 4, : max(0, frame.shape[1] - CROP[1] + 1) : 4].copy()
    for _ in range(CROPS):
        if energy.size == 0 or energy.max() < 0:
            return
        row, column = (int(i) for i in np.unravel_index(energy.argmax(), energy.shape))
        yield 4 * row, 4 * column
        rows, columns = (
            slice(max(0, at - side // 4), at + side // 4) for at, side in zip((row, column), CROP, strict=True)
        )
        energy[rows, columns] = -1


def write_picture(path: Path, frame: Frames) -> None:
    """A PNG."""
    cv2.imwrite(str(path), frame[..., ::-1])


def write_video(path: Path, frames: Frames) -> None:
    """An MP4 that browsers play: H.264, 4:2:0, BT.709."""
    height, width = frames.shape[1:3]
    colour = [word for name in ("colorspace", "color_primaries", "color_trc") for word in (f"-{name}", "bt709")]
    command = [find_ffmpeg(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(RATE), "-i", "-", "-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]
    command += ["-c:v", "libx264", "-crf", "12", "-preset", "slow", *colour, "-movflags", "+faststart", str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)


if __name__ == "__main__":
    run_script(main)
