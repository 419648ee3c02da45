#!/usr/bin/env python
"""Hours of use in minutes: a chain of two instances, played through with seeks mixed in, and what grows meanwhile.

    python scripts/soak.py [--frames 20000] [--size 32x32] [--device auto] [--json FILE]

Every hundredth frame there is a seek to a random place of the clip, from which a few frames are taken; all of them are
compared, bit for bit, with what linear play gave. Prints one JSON object: slopes are least-squares fits over the second
half, in bytes (handles, threads) per 1,000 frames. `host` is what the process occupies, `in_use` what of it the C
library has given out: what it merely keeps, because freed blocks lie between used ones, is in the first alone.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import random
import time
import zlib
from collections import deque
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import psutil
import torch
import vapoursynth as vs
from measuring import run_script, use_device

core = vs.core
AHEAD = 8  # requests under way at once, as in vspipe
SEEK_EVERY, SEEK_LENGTH = 100, 4
SAMPLES = 200


def chain(frames: int, width: int, height: int, device: str) -> vs.VideoNode:
    """Upscale, down again, Upscale: each frame differs from the one before."""
    period = 240
    noise = np.random.default_rng(0).integers(0, 255, (height, width + period), np.uint8)
    blank = core.std.BlankClip(format=vs.GRAY8, width=width, height=height, length=frames, keep=True)

    def draw(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        np.copyto(np.asarray(out[0]), noise[:, n % period : n % period + width])
        return out

    first = core.rafrvsr.Upscale(core.std.ModifyFrame(blank, blank, draw), device=device, chunk=48, warmup=4)
    return core.rafrvsr.Upscale(first.resize.Bicubic(width, height), device=device, chunk=40, warmup=4)


class MallInfo(ctypes.Structure):
    """What mallinfo2(3) returns."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    )


def in_use() -> int:
    """Bytes that glibc has given out; 0 with other C libraries."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = MallInfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


class Watch:
    """Samples of this process while it works."""

    def __init__(self, every: int) -> None:
        self.every, self.process, self.start = every, psutil.Process(), time.monotonic()
        self.rows: list[tuple[float, ...]] = []

    def look(self, frame: int) -> None:
        """Note frame number, seconds, host memory, what of it is in use, device memory, handles and threads."""
        if frame % self.every == 0:
            card = torch.cuda.memory_reserved() if torch.cuda.is_available() else 0
            now, host = time.monotonic() - self.start, self.process.memory_info().rss
            self.rows.append((frame, now, host, in_use(), card, self.process.num_fds(), self.process.num_threads()))

    def report(self) -> dict[str, object]:
        """Slopes of the second half, speed of both halves, and (frame, host, in use, device) in MiB now and then."""
        table = np.array(self.rows)
        late = table[len(table) // 2 :]
        slopes = [float(np.polyfit(late[:, 0], late[:, i], 1)[0] * 1000) for i in range(2, 7)]
        middle, last = late[0], late[-1]
        early_fps = (middle[0] - table[0, 0]) / (middle[1] - table[0, 1])
        late_fps = (last[0] - middle[0]) / (last[1] - middle[1])
        names = ("host_bytes", "in_use_bytes", "device_bytes", "handles", "threads")
        slope = {f"{name}_per_1000_frames": value for name, value in zip(names, slopes, strict=True)}
        memory = [(row[0], *(round(value / 2**20, 1) for value in row[2:5])) for row in self.rows[:: SAMPLES // 20]]
        return {**slope, "fps_first_half": early_fps, "fps_second_half": late_fps, "memory": memory}


def soak(frames: int, width: int, height: int, device: str) -> dict[str, object]:
    """Play and seek; every seek's frames must be those of linear play, before or after."""
    core.max_cache_size = 32  # MiB: VapourSynth's own cache is full early, what grows later is ours
    clip, watch, chance = chain(frames, width, height, device), Watch(max(1, frames // SAMPLES)), random.Random(0)
    sums: dict[int, int] = {}
    seen, wrong = 0, 0
    pending: deque[tuple[int, Future[vs.VideoFrame]]] = deque()

    def take() -> None:
        nonlocal seen, wrong
        n, future = pending.popleft()
        with future.result() as frame:
            total = zlib.crc32(np.ascontiguousarray(np.asarray(frame[0])))
        seen, wrong = seen + 1, wrong + (sums.setdefault(n, total) != total)

    for n in range(frames):
        asked = [n]
        if n % SEEK_EVERY == SEEK_EVERY - 1:
            start = chance.randrange(frames - SEEK_LENGTH)
            asked += chance.sample(range(start, start + SEEK_LENGTH), SEEK_LENGTH)
        for m in asked:
            pending.append((m, clip.get_frame_async(m)))
            if len(pending) >= AHEAD:
                take()
        watch.look(n)
    while pending:
        take()
    return {"input": f"{width}x{height}", "instances": 2, "frames": seen, "wrong": wrong, **watch.report()}


def main() -> None:
    """Run, print, and note it in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--size", default="32x32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    machine = {"machine": use_device(arguments.device)}
    result = machine | soak(arguments.frames, width, height, arguments.device)
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
