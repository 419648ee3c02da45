#!/usr/bin/env python
"""Where the filter's time goes on a GPU: what the device does, when it waits, and how busy its host thread is.

    python scripts/profile_filter.py [--input 480x270] [--format YUV420P8] [--video FILE] [--threads 16] [--frames 640]
        [--arguments leadin=0 chunk=480 ...] [--json FILE [--name NAME]]

The benchmark's clip, played by clip.frames() with that many VapourSynth threads and requests at once: first --frames
timed as they are, then --frames under PyTorch's profiler, which slows the host. Prints one JSON object, and adds it to
FILE under NAME; times in ms per frame:
- `device`: time from the first kernel to the last, of which `busy` with kernels or copies, and `gaps` of over 50 us
  that leave it idle; `kernels`: the longest by their sums.
- `host`: the device's thread, inside the engine's calls, and inside the pace that holds it back; calls per frame.
- `memory`: MiB that PyTorch holds on the device and pinned on the host, now and at most.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import vapoursynth as vs
from benchmarking.filters import source
from benchmarking.jobs import Job
from evaluating.scoring import machine
from measuring import add_result

from vs_rafrvsr.engine.engine import Engine
from vs_rafrvsr.engine.runtime import Runtime

core = vs.core
WARM_UP = 400
"""Frames: more than a chunk, so that every graph is captured and all memory taken."""
GAP = 50.0
"""Microseconds; shorter gaps are the launches' own."""
LONGEST = 16
"""Kernels listed."""


class Clock:
    """Sums the time inside functions, and counts their calls."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def timed[R](self, name: str, work: Callable[..., R]) -> Callable[..., R]:
        """The same function, watched."""

        def watched(*args: Any, **kwargs: Any) -> R:  # noqa: ANN401
            start = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start
                self.calls[name] += 1

        return watched

    def report(self, frames: int) -> dict[str, object]:
        """Per frame; and from now on."""
        found = {f"{name}_ms": 1e3 * seconds / frames for name, seconds in self.seconds.items()}
        found |= {f"{name}_calls": count / frames for name, count in self.calls.items()}
        self.seconds.clear()
        self.calls.clear()
        return dict(sorted(found.items()))


def watch() -> Clock:
    """Put a clock into the engine."""
    clock, run = Clock(), Runtime.run

    def timed_run(self: Runtime, work: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        return run(self, clock.timed("engine", work), *args)

    Runtime.run = timed_run  # type: ignore[method-assign]
    Engine._pace = clock.timed("pace", Engine._pace)  # type: ignore[method-assign]
    return clock


def timeline(intervals: Iterable[tuple[float, float, str]], frames: int) -> dict[str, object]:
    """Of (start, end, name) in microseconds."""
    ordered = sorted(intervals)
    busy, gaps, end = 0.0, list[float](), ordered[0][0]
    sums: defaultdict[str, float] = defaultdict(float)
    for start, stop, name in ordered:
        if start - end > GAP:
            gaps.append(start - end)
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
        sums[name[:60]] += stop - start
    scale = 1e3 * frames
    return {
        "device": {
            "span": (end - ordered[0][0]) / scale,
            "busy": busy / scale,
            "gaps": sum(gaps) / scale,
            "gaps_per_frame": len(gaps) / frames,
            "longest_gaps": [gap / 1e3 for gap in sorted(gaps)[-8:]],
        },
        "kernels": {name: total / scale for name, total in sorted(sums.items(), key=lambda item: -item[1])[:LONGEST]},
    }


def memory() -> dict[str, float]:
    """MiB."""
    pinned = torch.cuda.host_memory_stats()
    return {
        "device_now": torch.cuda.memory_reserved() / 2**20,
        "device_most": torch.cuda.max_memory_reserved() / 2**20,
        "pinned_now": pinned.get("allocated_bytes.current", 0) / 2**20,
        "pinned_most": pinned.get("allocated_bytes.peak", 0) / 2**20,
    }


def measure(job: Job, arguments: dict[str, int], threads: int, frames: int) -> dict[str, object]:
    """Play, time, play, profile."""
    core.num_threads = threads
    played = core.rafrvsr.Upscale(source(job), **arguments).frames(prefetch=threads, close=True)
    clock, cuda = watch(), torch.cuda.is_available()

    def play(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            next(played)
        return time.perf_counter() - start

    play(WARM_UP)
    clock.report(1)
    fps = frames / play(frames)
    result: dict[str, object] = {"fps": fps, "host": clock.report(frames)}
    if cuda:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as profiler:
            play(frames)
            torch.cuda.synchronize()
        found = [e for e in profiler.events() or [] if e.device_type.name == "CUDA"]
        result |= timeline(((e.time_range.start, e.time_range.end, e.name) for e in found), frames)
        result["memory"] = memory()
    return result


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", default="480x270")
    parser.add_argument("--format", default="YUV420P8")
    parser.add_argument("--video", type=Path, help="of at least 200 frames; without one, the project's own test clip")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--frames", type=int, default=640)
    parser.add_argument("--arguments", type=argument, nargs="*", default=[], metavar="NAME=NUMBER", help="of Upscale")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--name", help="in the JSON file; the input, the arguments and the threads if left out")
    options = parser.parse_args()
    conditions = {
        "machine": machine("auto"),
        "input": options.input,
        "format": options.format,
        "threads": options.threads,
        "arguments": dict(options.arguments),
    }
    video = str(options.video.resolve()) if options.video else None
    job = Job(
        filter="rafrvsr", input=options.input, format=options.format, device="auto", seconds=0, least=0, video=video
    )
    result = conditions | measure(job, dict(options.arguments), options.threads, options.frames)
    print(json.dumps(result, indent=1))
    if options.json:
        given = (f"{name}={value}" for name, value in options.arguments)
        add_result(
            options.json, options.name or ", ".join((options.input, *given, f"{options.threads} threads")), result
        )


def argument(text: str) -> tuple[str, int]:
    """`name=number`."""
    name, number = text.split("=")
    return name, int(number)


if __name__ == "__main__":
    main()
