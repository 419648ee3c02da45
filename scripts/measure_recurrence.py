#!/usr/bin/env python
"""What the recurrence's parameters cost and bring, through the real plugin: lead-in, warm-up, alignment.

    python scripts/measure_recurrence.py [--vid4 DIR] [--clip VIDEO] [--device cuda] [--json samples/recurrence.json]

DIR holds the four folders of Vid4's ground truth (calendar, city, foliage, walk), a picture a frame. VIDEO is any long
clip, decoded by bestsource. Low-resolution frames are MATLAB-style bicubic x1/4 (BI), rounded to 8 bits. PSNR is on Y
(BT.601 studio range, as MATLAB's rgb2ycbcr), no crop, output rounded to 8 bits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import vapoursynth as vs
from evaluating.clips import play, to_clip
from evaluating.scoring import machine, packed
from measuring import add_result, run_script, shrink

from vs_rafrvsr.metrics.fidelity import Curve, Frames, luma, psnr_y
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training import data

core = vs.core
LEADINS = (0, 1, 2, 4, 6, 8, 12, 16)
WARMUPS = (0, 2, 4, 6, 8, 12, 16, 24)
NEVER = 10_000
"""A chunk longer than any clip here: never restarted."""


def read_truth(root: Path) -> dict[str, Frames]:
    """Frames of every folder in `root`; prints what was read and skipped."""
    reading = data.read_folders(root, multiple=SCALE)
    print(reading.summary())
    return {source.name: packed(source.hr) for source in reading.sources}


def measure_shift(truths: dict[str, Frames], device: str) -> dict[str, list[float]]:
    """`best_shift` of each clip's middle frame."""
    table = {}
    for name, truth in truths.items():
        middle = len(truth) // 2
        out = core.rafrvsr.Upscale(to_clip(shrink(truth)), device=device)[middle : middle + 1]
        table[name] = best_shift(truth[middle], next(play(out, name)))
    return table


def best_shift(truth: Frames, found: Frames) -> list[float]:
    """(x, y) in HR pixels by which `found` lies off `truth`: the slope of their cross spectrum's phase."""
    a, b = (np.fft.fft2((luma(x) - luma(x).mean()) * np.outer(*map(np.hanning, x.shape[:2]))) for x in (truth, found))
    fy, fx = np.meshgrid(np.fft.fftfreq(a.shape[0]), np.fft.fftfreq(a.shape[1]), indexing="ij")
    cross = a * np.conj(b)
    low = (np.hypot(fx, fy) < 0.1) & (np.hypot(fx, fy) > 0)
    weight = np.abs(cross[low])
    design = 2 * np.pi * np.stack([fx[low], fy[low]], -1) * np.sqrt(weight)[:, None]
    solution, *_ = np.linalg.lstsq(design, np.angle(cross[low]) * np.sqrt(weight), rcond=None)
    return [float(v) for v in solution]


def measure_leadin(truths: dict[str, Frames], device: str) -> dict[str, list[float]]:
    """PSNR-Y of frames 0 to 8, mean of the clips, by lead-in."""
    table = {}
    for leadin in LEADINS:
        curves = []
        for name, truth in truths.items():
            out = core.rafrvsr.Upscale(to_clip(shrink(truth)), leadin=leadin, device=device)[:9]
            curves.append(psnr_y(truth[:9], np.stack(list(play(out, f"{name} leadin={leadin}")))))
        table[str(leadin)] = [float(v) for v in np.mean(curves, 0)]
    return table


def measure_warmup(truths: dict[str, Frames], chunk: int, device: str) -> dict[str, dict[str, float]]:
    """Loss in dB against never restarting, over the frames of all clips, by warm-up, for a grid of `chunk` frames."""
    free = {name: curve(truth, play(upscale_grid(truth, NEVER, 0, device), name)) for name, truth in truths.items()}
    table = {}
    for warmup in (w for w in WARMUPS if w < chunk):
        losses: list[float] = []
        for name, truth in truths.items():
            out = play(upscale_grid(truth, chunk, warmup, device), f"{name} warmup={warmup}")
            losses += (free[name] - curve(truth, out)).tolist()
        table[str(warmup)] = {"mean": float(np.mean(losses)), "worst": max(losses), "waste": warmup / chunk}
    return table


def curve(truth: Frames, output: Iterator[Frames]) -> Curve:
    """PSNR-Y by frame, of a clip too long to hold twice."""
    return np.array([psnr_y(t[None], o[None])[0] for t, o in zip(truth, output, strict=True)])


def upscale_grid(truth: Frames, chunk: int, warmup: int, device: str) -> vs.VideoNode:
    """The BI clip, upscaled on a grid."""
    return core.rafrvsr.Upscale(to_clip(shrink(truth)), chunk=chunk, warmup=warmup, device=device)


def read_video(path: Path, frames: int) -> Frames:
    """The first frames of a video as RGB, sides cut to multiples of 4."""
    clip = core.resize.Bicubic(core.bs.VideoSource(str(path)), format=vs.RGB24, matrix_in=1)[:frames]
    truth = np.stack(list(play(clip, path.name)))
    return truth[:, : truth.shape[1] // 4 * 4, : truth.shape[2] // 4 * 4]


def main() -> None:
    """Measure what the arguments name; write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vid4", type=Path)
    parser.add_argument("--clip", type=Path, help="a long video for the warm-up")
    parser.add_argument("--clip-frames", type=int, default=1000)
    parser.add_argument("--chunk", type=int, default=240, help="the grid on the long video")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, default=Path("samples/recurrence.json"))
    arguments = parser.parse_args()
    if not (arguments.vid4 or arguments.clip):
        parser.error("nothing to measure: give --vid4 DIR, --clip VIDEO or both")
    device = arguments.device
    called = machine(device)

    def record(part: str, figures: object) -> None:
        """Add a part to the file as soon as it is measured."""
        result = {"machine": called, "figures": figures}
        add_result(arguments.json, part, result)
        print(json.dumps({part: result}, indent=1), flush=True)

    if arguments.vid4:
        truths = read_truth(arguments.vid4)
        record("shift, Vid4, middle frames", measure_shift(truths, device))
        record("leadin, Vid4, frames 0 to 8", measure_leadin(truths, device))
        record("warmup, Vid4, chunk 25", measure_warmup(truths, 25, device))
    if arguments.clip:
        clip = {arguments.clip.stem: read_video(arguments.clip, arguments.clip_frames)}
        part = f"warmup, {arguments.clip.name}, {len(clip[arguments.clip.stem])} frames, chunk {arguments.chunk}"
        record(part, measure_warmup(clip, arguments.chunk, device))


if __name__ == "__main__":
    run_script(main)
