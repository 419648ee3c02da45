#!/usr/bin/env python
"""Measure the built-in scene-cut detector on real clips: python scripts/measure_scenecut.py --data DIR --json OUT.

DIR holds folders with an index.json that lists clips of consecutive frames without a cut (file, first, count, size,
src = "repository:path", src_first). Needs ffmpeg. Deterministic for one seed.

Clips of one repository, or of one file name, count as one source. Sources are dealt into two halves by the hash of
their names: the detector's constants were tuned on the first, and this reports the second. Everything is done at two
sizes: the clips as stored (about 480x270) and a quarter of that, as when such clips are the truth of a x4 benchmark.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measuring import run_script
from torch import Tensor

from vs_rafrvsr.encode.process import find_ffmpeg
from vs_rafrvsr.scenecut import THRESHOLD, scores, thumbnails
from vs_rafrvsr.training import pool
from vs_rafrvsr.training.data import FAULTY_CLIPS, DataError

type Random = np.random.Generator
type Transform = Callable[[Tensor, Random], Tensor]

SIZES = {"as stored": 1, "a quarter": 4}
SPLICES = 400


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames of one shot; `source` is what it must not share with the other half."""

    path: Path
    first: int
    count: int
    width: int
    height: int
    file: str
    file_first: int
    source: str

    def frames(self) -> Tensor:
        """(count, 3, height, width) uint8."""
        command = [find_ffmpeg(), "-v", "error", "-i", str(self.path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        data = subprocess.run(command, check=True, capture_output=True).stdout
        frames = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        frames = frames.view(-1, self.height, self.width, 3)[self.first : self.first + self.count]
        return frames.permute(0, 3, 1, 2)


def read_clips(folder: Path) -> list[Clip]:
    """All clips below the folder. Sources: connected by a repository or a file name in common."""
    rows = [
        (index.parent, row) for index in sorted(folder.glob("*/index.json")) for row in json.loads(index.read_text())
    ]
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for _, row in rows:
        repository, path = row["src"].split(":", 1)
        a, b = root(repository), root("file " + path.rsplit("/", 1)[-1])
        parent[max(a, b)] = min(a, b)
    return [
        Clip(
            path=base / row["file"],
            first=row["first"],
            count=row["count"],
            width=row["size"][0],
            height=row["size"][1],
            file=row["src"],
            file_first=row["src_first"],
            source=root(row["src"].split(":", 1)[0]),
        )
        for base, row in rows
    ]


def half(clips: Sequence[Clip], which: int) -> list[Clip]:
    """Deal whole sources, in the order of their hashes, to the half that has fewer clips so far."""
    sizes = [0, 0]
    dealt: dict[str, int] = {}
    for source in sorted({c.source for c in clips}, key=lambda s: hashlib.sha256(s.encode()).digest()):
        dealt[source] = 0 if sizes[0] <= sizes[1] else 1
        sizes[dealt[source]] += sum(c.source == source for c in clips)
    return [c for c in clips if dealt[c.source] == which and c.path.stem not in FAULTY_CLIPS]


def as_8bit(frames: Tensor) -> Tensor:
    """Clip to [0, 1] and round to 8 bits, as a file would hold it."""
    return (frames.clamp(0, 1) * 255).round() / 255


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Area-average (B, 3, h, w)."""
    return F.interpolate(frames, (height, width), mode="area")


def to_and_fro(shot: Tensor, length: int) -> Tensor:
    """The shot forwards, backwards, forwards: as long as wanted, without a jump."""
    return shot[pool.to_and_fro(torch.arange(length), len(shot))[0]]


# What must not count as a cut: each turns a shot, float (n, 3, h, w), into a sequence without one.


def every(step: int) -> Transform:
    """Fast motion: only every step-th frame."""
    return lambda x, _: x[::step]


def pan(slowest: float, fastest: float) -> Transform:
    """A window of half the width that moves over the shot by that share of its own width a frame."""

    def move(x: Tensor, random: Random) -> Tensor:
        height, width = x.shape[2] * 3 // 4, x.shape[3] // 2
        step = max(1, round(random.uniform(slowest, fastest) * width))
        lefts = range(0, x.shape[3] - width + 1, step)
        shot = to_and_fro(x, len(lefts))
        frames = [frame[:, :height, left : left + width] for frame, left in zip(shot, lefts, strict=True)]
        return torch.stack(frames if random.random() < 0.5 else frames[::-1])

    return move


def flash(x: Tensor, random: Random) -> Tensor:
    """One frame in four brighter by 2 to 4 times, clipped."""
    gain = torch.ones(len(x))
    gain[2:-1:4] = torch.from_numpy(random.uniform(2, 4, len(gain[2:-1:4]))).float()
    return as_8bit(x * gain[:, None, None, None])


def fade(colour: float) -> Transform:
    """Out to a flat colour over 8 to 24 frames, one flat frame, and in again."""

    def out_and_in(x: Tensor, random: Random) -> Tensor:
        length = int(random.integers(8, 25))
        share = torch.linspace(1, 0, length + 1).tolist()
        shares = torch.tensor(share + share[::-1])[:, None, None, None]
        return as_8bit(to_and_fro(x, len(shares)) * shares + colour * (1 - shares))

    return out_and_in


def noise(x: Tensor, random: Random) -> Tensor:
    """Gaussian, sigma 10 of 255, new in every frame."""
    x = x[:16]
    return as_8bit(x + torch.from_numpy(random.normal(0, 10 / 255, tuple(x.shape))).float())


def flicker(x: Tensor, random: Random) -> Tensor:
    """Every frame 0.7 to 1.3 times as bright."""
    x = x[:16]
    return as_8bit(x * torch.from_numpy(random.uniform(0.7, 1.3, len(x))).float()[:, None, None, None])


def dark(x: Tensor, random: Random) -> Tensor:
    """The whole shot at 0.1 to 0.25 of its brightness."""
    return as_8bit(x[:16] * random.uniform(0.1, 0.25))


def shake(x: Tensor, random: Random) -> Tensor:
    """A window of 0.7 of the frame on a random walk, 2 % of the width a frame and direction."""
    x = x[:16]
    height, width = x.shape[2:]
    tall, wide = int(0.7 * height), int(0.7 * width)
    walk = np.cumsum(random.normal(0, 0.02 * width, (len(x), 2)), axis=0)
    tops = np.clip(np.rint((height - tall) / 2 + walk[:, 0]), 0, height - tall).astype(int)
    lefts = np.clip(np.rint((width - wide) / 2 + walk[:, 1]), 0, width - wide).astype(int)
    return torch.stack([f[:, t : t + tall, s : s + wide] for f, t, s in zip(x, tops, lefts, strict=True)])


def zoom(x: Tensor, random: Random) -> Tensor:
    """In by 2 to 8 % a frame, 8 frames."""
    factor, (height, width) = random.uniform(1.02, 1.08), x.shape[2:]
    frames = []
    for i, frame in enumerate(x[:8]):
        tall, wide = int(height / factor**i), int(width / factor**i)
        top, left = (height - tall) // 2, (width - wide) // 2
        window = frame[None, :, top : top + tall, left : left + wide]
        frames.append(F.interpolate(window, (height, width), mode="bilinear", align_corners=False))
    return torch.cat(frames)


def crop(side: int) -> Transform:
    """A small window somewhere."""

    def cut_out(x: Tensor, random: Random) -> Tensor:
        top, left = (int(random.integers(0, size - min(size, side) + 1)) for size in x.shape[2:])
        return x[:, :, top : top + side, left : left + side]

    return cut_out


STEADY: dict[str, Transform] = {
    "consecutive frames": every(1),
    "every 2nd frame": every(2),
    "every 4th frame": every(4),
    "pans, 2-12 % of the width a frame": pan(0.02, 0.12),
    "flashes, x2-4 and back": flash,
    "fades to and from black, 8-24 frames": fade(0),
    "fades to and from white, 8-24 frames": fade(1),
    "noise, sigma 10": noise,
    "flicker, x0.7-1.3": flicker,
    "dark, x0.1-0.25": dark,
    "shake": shake,
    "zoom": zoom,
}
"""Counted together in the total of false cuts."""

REPORTED: dict[str, Transform] = {
    "every 8th frame": every(8),
    "whip pans, 15-40 % of the width a frame": pan(0.15, 0.4),
    "64x64 windows": crop(64),
    "32x32 windows": crop(32),
}
"""Reported only: at this speed or size little of a frame is in the next one."""


def seeded(seed: int, *names: str) -> Random:
    """The same random numbers for the same names, whatever else is measured."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def score_sequence(frames: Tensor) -> Tensor:
    """(n, 3, h, w) to the n-1 scores of its neighbours."""
    small = thumbnails(frames)
    return scores(small[:-1], small[1:])


def splices(
    clips: Sequence[Clip], ends: Sequence[tuple[Tensor, Tensor]], seed: int
) -> Iterator[tuple[str, str, Tensor]]:
    """Cuts: (category, names, frames (2, 3, h, w)). `ends` are each clip's first and last frames."""

    def join(a: int, b: int) -> Tensor:
        last, first = ends[a][1], ends[b][0]
        return torch.cat([last, resize(first, *last.shape[2:])])

    pairs = [(a, b) for a in range(len(clips)) for b in range(len(clips)) if a != b]
    seeded(seed, "splices").shuffle(pairs)
    for a, b in [(a, b) for a, b in pairs if clips[a].source != clips[b].source][:SPLICES]:
        names, both = f"{clips[a].path.stem} {clips[b].path.stem}", join(a, b)
        random = seeded(seed, names)
        yield "other source", names, both
        yield "other source, dark to dark", names, dark(both, random)
        yield "other source, noise sigma 10", names, noise(both, random)
        yield "other source, 64x64 windows", names, crop(64)(both, random)
    for a, b in [(a, b) for a, b in pairs if clips[a].source == clips[b].source and clips[a].file != clips[b].file][
        :SPLICES
    ]:
        yield "same repository, other file", f"{clips[a].path.stem} {clips[b].path.stem}", join(a, b)
    for a, b in pairs:
        if clips[a].file == clips[b].file and abs(clips[a].file_first - clips[b].file_first) >= 64:
            yield "same file, 64 or more frames on", f"{clips[a].path.stem} {clips[b].path.stem}", join(a, b)
    for clip, (first, _) in zip(clips, ends, strict=True):
        height, width = first.shape[2] * 2 // 3, first.shape[3] // 2
        opposite = torch.cat([first[:, :, :height, :width], first[:, :, -height:, -width:]])
        yield "two windows of one frame", clip.path.stem, opposite
        yield "black to shot", clip.path.stem, torch.cat([torch.zeros_like(first), first])


CUTS = (
    "other source",
    "other source, dark to dark",
    "other source, noise sigma 10",
    "other source, 64x64 windows",
    "two windows of one frame",
    "black to shot",
)
"""Counted as cuts. The other splices are often of one view (a fixed camera, one flight), where a reset is a matter of
taste, and are reported only."""


def measure(clips: Sequence[Clip], shrink: int, seed: int) -> dict[str, Tensor]:
    """Category to the scores of all its pairs, at the clips' size over `shrink`."""
    found: dict[str, list[Tensor]] = {}
    ends: list[tuple[Tensor, Tensor]] = []
    for clip in clips:
        frames = clip.frames().float() / 255
        frames = as_8bit(resize(frames, clip.height // shrink, clip.width // shrink))
        for name, transform in (STEADY | REPORTED).items():
            sequence = transform(frames, seeded(seed, name, clip.path.stem))
            found.setdefault(name, []).append(score_sequence(sequence))
        if ends:
            before, length = ends[-1][1], 12
            shares = torch.linspace(0, 1, length)[:, None, None, None]
            after = resize(to_and_fro(frames, length), *before.shape[2:])
            mixed = as_8bit(before * (1 - shares) + after * shares)
            found.setdefault("cross-fades over 12 frames", []).append(score_sequence(mixed))
        ends.append((frames[:1], frames[-1:]))
    for name, _, both in splices(clips, ends, seed):
        found.setdefault(name, []).append(score_sequence(both))
    return {name: torch.cat(values) for name, values in found.items()}


def summary(found: dict[str, Tensor], threshold: float) -> dict[str, Any]:
    """Counts and rates, as written to the file."""

    def row(values: Tensor) -> dict[str, Any]:
        detected = int((values >= threshold).sum())
        return {"pairs": len(values), "detected": detected, "share": round(detected / max(1, len(values)), 5)}

    rest = [name for name in found if name not in CUTS and name not in STEADY]
    return {
        "cuts": {name: row(found[name]) for name in CUTS},
        "all cuts": row(torch.cat([found[name] for name in CUTS])),
        "no cuts": {name: row(found[name]) for name in STEADY},
        "all without cuts": row(torch.cat([found[name] for name in STEADY])),
        "reported only": {name: row(found[name]) for name in rest},
    }


def show(size: str, result: dict[str, Any]) -> None:
    """Print one size's table."""
    print(f"\n{size:42} {'pairs':>7} {'detected':>9}")
    for name, row in [*result["cuts"].items(), ("= all cuts", result["all cuts"])]:
        print(f"{name:42} {row['pairs']:7} {row['detected']:9}   recall {row['share']:.4f}")
    for name, row in [*result["no cuts"].items(), ("= all without cuts", result["all without cuts"])]:
        print(f"{name:42} {row['pairs']:7} {row['detected']:9}   {1000 * row['share']:.2f} per 1,000")
    for name, row in result["reported only"].items():
        print(f"({name}){'':{40 - len(name)}} {row['pairs']:7} {row['detected']:9}   {row['share']:.4f}")


def main() -> None:
    """Read the arguments, measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of folders with an index.json")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--half", choices=("tuning", "reporting"), default="reporting")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    arguments = parser.parse_args()
    clips = half(read_clips(arguments.data), ("tuning", "reporting").index(arguments.half))
    sources = len({clip.source for clip in clips})
    if sources < 2:
        raise DataError(
            f"{arguments.data}: {sources} sources for the {arguments.half} half, and cuts need two; "
            "--data takes the folder of the folders with an index.json"
        )
    result: dict[str, Any] = {
        "half": arguments.half,
        "clips": len(clips),
        "sources": sources,
        "seed": arguments.seed,
        "threshold": arguments.threshold,
    }
    for size, shrink in SIZES.items():
        result[size] = summary(measure(clips, shrink, arguments.seed), arguments.threshold)
        show(size, result[size])
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
