"""The real vspipe on one row's chain, its output discarded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarking.jobs import LIMIT, WARM_UP, Job, RowError, environment
from vs_rafrvsr.encode.process import find_vspipe

CACHES = ("TRITON_CACHE_DIR", "CUPY_CACHE_DIR", "CUDA_CACHE_PATH", "TORCHINDUCTOR_CACHE_DIR")
"""Where compiled kernels are kept."""


@dataclass(frozen=True)
class _Report:
    """What vspipe says every half second, and when the last frame is done."""

    clock: float
    """Seconds."""
    frames: int
    """Done so far."""
    cpu: float
    """Seconds of all its threads."""


def play(job: Job, frames: int) -> dict[str, object]:
    """Frames per second and busy CPU cores, over about `frames` frames after the warm-up."""
    reports = list(_reports(job, WARM_UP + frames, {}))
    if len(reports) < 2:
        raise RowError("vspipe was done before it had reported twice: give it more seconds")
    timed = [report for report in reports[:-1] if report.frames >= WARM_UP]
    first, *_, last = timed if len(timed) > 1 else reports
    seconds = last.clock - first.clock
    return {
        "fps": (last.frames - first.frames) / seconds,
        "frames": last.frames - first.frames,
        "cpu_cores": (last.cpu - first.cpu) / seconds,
    }


def first_frame(job: Job, caches: Path) -> float:
    """Seconds from vspipe's start to its first frame, of a blank clip; compiled kernels are kept in `caches`."""
    start = time.perf_counter()
    first, *_ = _reports(job.blank(), 1, {name: str(caches / name) for name in CACHES})
    return first.clock - start


def _reports(job: Job, frames: int, extra: dict[str, str]) -> Iterator[_Report]:
    """Run a vspipe that makes so many frames.

    Raises:
        RowError: it failed, with what it said last; or it took longer than LIMIT.
    """
    script = str(Path(__file__).with_name("clip.vpy"))
    words = [find_vspipe(), "--progress", "--arg", f"job={job.text}", "--end", str(frames - 1), script, "--"]
    said = b""
    env = {**environment(), **extra}
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=env, start_new_session=True) as process:
        assert process.stderr is not None
        timer = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        while news := os.read(process.stderr.fileno(), 2**16):
            clock, said = time.perf_counter(), said + news
            for count in re.findall(rb"(?:Frame: |Output )(\d+)", news)[-1:]:
                yield _Report(clock, int(count), _cpu_seconds(process.pid))
        timer.cancel()
    if process.returncode:
        raise RowError(said[-2000:].decode(errors="replace"))


def _cpu_seconds(pid: int) -> float:
    """Of a process and its children: pip's vspipe is a script that starts the true one."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)
