"""`python -m benchmarking.child WHAT JOB`: one measurement in a process of its own; prints one JSON object."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
import vapoursynth as vs

from benchmarking.filters import FILTERS, source, upscaled
from benchmarking.identity import shape
from benchmarking.jobs import BURST, LIMIT, WARM_UP, Job, RowError, environment

SEEKS = 50
SEEKING = 180
"""Seconds after which there are no more."""

SEEK_SPAN = 1000
"""Seeks go to frames under this number."""


def ask(what: str, job: Job) -> dict[str, Any]:
    """What a child of this process finds.

    Raises:
        RowError: it failed.
    """
    words = [sys.executable, "-P", "-m", "benchmarking.child", what, job.text]
    try:
        done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=True)
    except subprocess.CalledProcessError as error:
        raise RowError(error.stderr[-2000:]) from error
    except subprocess.TimeoutExpired as error:
        raise RowError(str(error)) from error
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def machine(job: Job) -> dict[str, object]:
    """The card, after it has been used: what this process holds of its memory is PyTorch's and CUDA's own.

    And VapourSynth's threads, which are how many frames vspipe asks for at once; and our network.
    """
    facts: dict[str, object] = {"torch": torch.__version__, "vapoursynth": str(vs.core.core_version.release_major)}
    facts |= shape() | {"threads": vs.core.num_threads}
    index, cards = int(job.device.partition(":")[2] or 0), torch.cuda.device_count()
    if job.device.startswith("cuda") and index >= cards:
        sys.exit(f"device {job.device}: PyTorch finds {cards} CUDA devices; use one of them, or cpu")
    if job.device == "cpu" or not cards:
        return {"machine": "CPU", "uuid": None, **facts}
    torch.cuda.set_device(index)
    torch.zeros(1, device="cuda").add_(1)
    torch.cuda.synchronize()
    card = torch.cuda.get_device_properties(index)
    return {"machine": card.name, "uuid": str(card.uuid), **facts}


def frames(job: Job) -> dict[str, object]:
    """Through clip.frames(), then seeks in a second instance."""
    clip = source(job)
    ours = {} if FILTERS[job.filter].variant is None else shape()
    played = ours | play(upscaled(clip, job), job)
    return played | ({} if job.filter == "source" else seek(upscaled(clip, job), job))


def play(clip: vs.VideoNode, job: Job) -> dict[str, object]:
    """Frames per second after the warm-up."""
    start = 0.0
    for done, _ in enumerate(clip.frames(close=True), 1):
        now = time.perf_counter()
        if done == WARM_UP:
            start = now
        elif done >= WARM_UP + job.count and (done - WARM_UP) % BURST == 0 and now - start >= job.seconds:
            return {"fps_python": (done - WARM_UP) / (now - start)}
    raise AssertionError("the clip is endless")


def seek(clip: vs.VideoNode, job: Job) -> dict[str, object]:
    """Milliseconds until a random frame is there, when frame 0 has been seen; fewer seeks where time runs out."""
    clip.get_frame(0).close()
    times: list[float] = []
    for n in random.Random(0).sample(range(SEEK_SPAN), SEEKS):
        start = time.perf_counter()
        clip.get_frame(n).close()
        times.append(1e3 * (time.perf_counter() - start))
        if sum(times) > 1e3 * SEEKING:
            break
    return {"seek_ms_median": statistics.median(times), "seek_ms_worst": max(times), "seeks": len(times)}


def network(job: Job) -> dict[str, object]:
    """The network's own time, piece by piece."""
    from benchmarking.network import per_frame, subject
    from vs_rafrvsr.engine.runtime import Runtime
    from vs_rafrvsr.options import Options

    variant = FILTERS[job.filter].variant
    assert variant is not None
    variant()
    runtime = Runtime.choose(Options(device=job.device))
    with runtime.entered():
        ms = per_frame(subject(job.input, runtime.device), runtime)
    return {**shape(), "network_fps": 1e3 / sum(ms.values()), "network_ms": ms}


if __name__ == "__main__":
    _, what, text = sys.argv
    result = {"machine": machine, "frames": frames, "network": network}[what](Job.read(text))
    print(json.dumps(result))
