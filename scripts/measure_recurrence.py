"""What the recurrence's parameters cost and bring, through the real plugin: Vid4, lead-in, warm-up, alignment.

    python scripts/measure_recurrence.py [--vid4 DIR] [--clip VIDEO] [--device cuda] [--json samples/recurrence.json]

DIR holds the four folders of Vid4's ground truth (calendar, city, foliage, walk), a picture a frame. VIDEO is any long
clip, decoded by bestsource. Low-resolution frames are MATLAB-style bicubic x1/4 (BI), rounded to 8 bits. PSNR and SSIM
are on Y (BT.601 studio range, as MATLAB's rgb2ycbcr), no crop, output rounded to 8 bits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import vapoursynth as vs
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vs_rafrvsr.training.degrade import degrade

type Frames = NDArray[np.uint8]
"""(N, H, W, 3), RGB."""

core = vs.core
NAMES = ("calendar", "city", "foliage", "walk")
LEADINS = (0, 1, 2, 4, 6, 8, 12, 16)
WARMUPS = (0, 2, 4, 6, 8, 12, 16, 24)
NEVER = 10_000
"""A chunk longer than any clip here: never restarted."""


def read_truth(folder: Path) -> Frames:
    """All frames of a folder, cropped to multiples of 4."""
    frames = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.iterdir())])
    return frames[:, : frames.shape[1] // 4 * 4, : frames.shape[2] // 4 * 4]


def shrink(truth: Frames) -> Frames:
    """BI: bicubic x1/4, rounded."""
    tensor = torch.from_numpy(np.ascontiguousarray(truth.transpose(0, 3, 1, 2)))
    return degrade(tensor, "bi").numpy().transpose(0, 2, 3, 1)


def to_clip(frames: Frames) -> vs.VideoNode:
    """An RGB24 clip of the frames."""
    count, height, width, _ = frames.shape
    blank = core.std.BlankClip(format=vs.RGB24, width=width, height=height, length=count, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        for p in range(3):
            np.copyto(np.asarray(out[p]), frames[n, :, :, p])
        return out

    return core.std.ModifyFrame(blank, blank, fill)


def play(clip: vs.VideoNode, name: str) -> Iterator[Frames]:
    """The frames of an RGB24 clip, (H, W, 3) each."""
    for frame in track(clip.frames(close=True), name, clip.num_frames, transient=True):
        yield np.stack([np.asarray(frame[p]) for p in range(3)], -1)


def luma(rgb: Frames) -> NDArray[np.float64]:
    """Y of BT.601 in studio range, unrounded."""
    y: NDArray[np.float64] = rgb.astype(np.float64) / 255 @ np.array([65.481, 128.553, 24.966]) + 16
    return y


def psnr(truth: Frames, found: Frames) -> float:
    """On Y."""
    return float(peak_signal_noise_ratio(luma(truth), luma(found), data_range=255))


def ssim(truth: Frames, found: Frames) -> float:
    """On Y, Gaussian 11x11 window of sigma 1.5, valid region."""
    return float(
        structural_similarity(
            luma(truth), luma(found), data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def bicubic(clip: vs.VideoNode) -> vs.VideoNode:
    """The resizer's own x4, the kernel of MATLAB's imresize."""
    return core.resize.Bicubic(
        clip, 4 * clip.width, 4 * clip.height, filter_param_a=0, filter_param_b=0.5, format=vs.RGB24
    )


def measure_vid4(truths: dict[str, Frames], device: str) -> dict[str, object]:
    """Mean PSNR-Y and SSIM-Y per clip: bicubic, strictly causal, default."""
    table: dict[str, object] = {}
    for name, truth in truths.items():
        clip = to_clip(shrink(truth))
        ways = {
            "bicubic": bicubic(clip),
            "leadin=0": core.rafrvsr.Upscale(clip, leadin=0, device=device),
            "default": core.rafrvsr.Upscale(clip, device=device),
        }
        row: dict[str, dict[str, object]] = {}
        for way, out in ways.items():
            pairs = list(zip(truth, play(out, f"{name} {way}"), strict=True))
            row[way] = {
                "psnr": float(np.mean([psnr(t, f) for t, f in pairs])),
                "ssim": float(np.mean([ssim(t, f) for t, f in pairs])),
            }
        row["default"]["shift"] = best_shift(truth[len(truth) // 2], pairs[len(truth) // 2][1])
        table[name] = row
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
            curves.append([psnr(t, f) for t, f in zip(truth, play(out, f"{name} leadin={leadin}"), strict=False)])
        table[str(leadin)] = [float(v) for v in np.mean(curves, 0)]
    return table


def measure_warmup(truths: dict[str, Frames], chunk: int, device: str) -> dict[str, dict[str, float]]:
    """Loss in dB against never restarting, over the frames of all clips, by warm-up, for a grid of `chunk` frames."""
    free = {
        name: [psnr(t, f) for t, f in zip(truth, play(upscale_grid(truth, NEVER, 0, device), name), strict=True)]
        for name, truth in truths.items()
    }
    table = {}
    for warmup in (w for w in WARMUPS if w < chunk):
        losses = []
        for name, truth in truths.items():
            out = play(upscale_grid(truth, chunk, warmup, device), f"{name} warmup={warmup}")
            losses += [before - psnr(t, f) for before, t, f in zip(free[name], truth, out, strict=True)]
        table[str(warmup)] = {"mean": float(np.mean(losses)), "worst": max(losses), "waste": warmup / chunk}
    return table


def upscale_grid(truth: Frames, chunk: int, warmup: int, device: str) -> vs.VideoNode:
    """The BI clip, upscaled on a grid."""
    return core.rafrvsr.Upscale(to_clip(shrink(truth)), chunk=chunk, warmup=warmup, device=device)


def read_video(path: Path, frames: int) -> Frames:
    """The first frames of a video as RGB, at most 1280x720, sides multiples of 4."""
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
    device = arguments.device
    cuda = device != "cpu" and torch.cuda.is_available()
    result: dict[str, object] = {"machine": torch.cuda.get_device_name() if cuda else "CPU"}
    if arguments.vid4:
        truths = {name: read_truth(arguments.vid4 / name) for name in NAMES}
        result["vid4"] = measure_vid4(truths, device)
        result["leadin"] = measure_leadin(truths, device)
        result["warmup, Vid4, chunk 25"] = measure_warmup(truths, 25, device)
    if arguments.clip:
        clip = {arguments.clip.stem: read_video(arguments.clip, arguments.clip_frames)}
        key = f"warmup, {arguments.clip.name}, {len(clip[arguments.clip.stem])} frames, chunk {arguments.chunk}"
        result[key] = measure_warmup(clip, arguments.chunk, device)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
