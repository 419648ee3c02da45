#!/usr/bin/env python
"""What the filter costs on this machine: the worst seek, steps backwards, reloads, half precision, a film, the pipe.

    python scripts/measure_filter.py seek   [--size 960x540]
    python scripts/measure_filter.py scrub  [--size 480x270] [--rounds 50]
    python scripts/measure_filter.py reload [--size 480x270] [--rounds 50]
    python scripts/measure_filter.py precision [--size 480x270 | --clip VIDEO]
    python scripts/measure_filter.py film VIDEO OUT [--size 480x270] [--ffmpeg PATH]
    python scripts/measure_filter.py pipe   [--size 3840x2160]

Each prints one JSON object; --json FILE adds it to that file under what was measured: the command, the size of the
input, and the video if there is one.
"""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import torch
import vapoursynth as vs
from benchmarking.contents import Contents
from benchmarking.identity import identity
from benchmarking.memory import Peak
from measuring import add_result, run_script, use_device

from vs_rafrvsr.encode.process import find_ffmpeg, find_vspipe
from vs_rafrvsr.encode.render import Job, render
from vs_rafrvsr.models.registry import MODELS

core = vs.core
FRAMES = 60
"""That `precision` compares."""

RELOADED = """
import vapoursynth as vs
clip = vs.core.std.BlankClip(format=vs.YUV420P8, width={width}, height={height}, length=20, color=[90, 120, 130])
vs.core.rafrvsr.Upscale(clip, device={device!r}).set_output(0)
vs.core.rafrvsr.Upscale(clip, device={device!r}, leadin=0).set_output(1)
"""

BLANK = """
import vapoursynth as vs
vs.core.std.BlankClip(format=vs.YUV420P8, width={width}, height={height}, length={frames}, keep=True).set_output()
"""
PIPED, PIPED_FRAMES = 3, 1000

SCRIPT = """
import vapoursynth as vs
clip = vs.core.bs.VideoSource({video!r})
clip = vs.core.resize.Bicubic(clip, {width}, {height}, format=vs.YUV420P8, matrix=1, matrix_in=1)
vs.core.rafrvsr.Upscale(clip, device={device!r}).set_output()
"""


def host_memory() -> float:
    """Bytes of this process."""
    return float(psutil.Process().memory_info().rss)


def device_memory() -> float:
    """Bytes in use on the first CUDA device, by anyone."""
    if not torch.cuda.is_available():
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return float(total - free)


def pinned_memory() -> float:
    """Bytes of host memory that PyTorch keeps for copies to and from a GPU."""
    return float(torch.cuda.host_memory_stats().get("allocated_bytes.current", 0)) if torch.cuda.is_available() else 0.0


def texture(width: int, height: int, frames: int) -> vs.VideoNode:
    """A moving texture, RGBS: each frame the one before, rolled by (3, 1) pixels."""
    picture = np.random.default_rng(0).random((3, height, width), np.float32)
    blank = core.std.BlankClip(format=vs.RGBS, width=width, height=height, length=frames, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        for p in range(3):
            np.copyto(np.asarray(out[p]), np.roll(picture[p], (n, 3 * n), (0, 1)))
        return out

    return core.std.ModifyFrame(blank, blank, fill)


def measure_seek(width: int, height: int, device: str) -> dict[str, object]:
    """The worst seek: the last frame of a chunk, from nothing. In worths of one RGBS input frame.

    A seek in another clip comes first: imports, weights and the driver's kernels are not the seek's.
    """
    core.rafrvsr.Upscale(texture(width, height, 480), device=device, scenecut="off").get_frame(479)
    clip = core.rafrvsr.Upscale(texture(width, height, 480), device=device, scenecut="off")
    clip.get_frame(0)
    gc.collect()
    frame = width * height * 12
    before = host_memory()
    host, buffers = Peak(host_memory), Peak(lambda: float(core.used_cache_size))
    start = time.perf_counter()
    with host.watched(), buffers.watched():
        clip.get_frame(479)
    return {
        "input": f"{width}x{height}",
        "seconds": time.perf_counter() - start,
        "host_growth_in_input_frames": (host.value - before) / frame,
        "vapoursynth_buffers_in_input_frames": buffers.value / frame,
        "pinned_in_input_frames": pinned_memory() / frame,
        "output_frame_in_input_frames": 16,
    }


def measure_scrub(width: int, height: int, rounds: int, device: str) -> dict[str, object]:
    """A seek to the last frame of the first chunk, then `rounds` single steps backwards, each waited for.

    VapourSynth's own cache is off, so that every step reaches the filter.
    """
    core.max_cache_size = 1
    clip = core.rafrvsr.Upscale(texture(width, height, 480), device=device, scenecut="off")
    clip.get_frame(479)
    card, latencies = Peak(device_memory), []
    before = card.value
    with card.watched():
        for n in range(239, 239 - rounds - 1, -1):
            start = time.perf_counter()
            clip.get_frame(n).close()
            latencies.append(time.perf_counter() - start)
    seek, steps = latencies[0], sorted(latencies[1:])
    return {
        "input": f"{width}x{height}",
        "steps_back": rounds,
        "seconds_of_the_seek": seek,
        "seconds_per_step_median": steps[len(steps) // 2],
        "seconds_per_step_mean": sum(steps) / len(steps),
        "seconds_per_step_worst": steps[-1],
        "device_growth_gb": (card.value - before) / 2**30,
    }


def measure_reload(width: int, height: int, rounds: int, device: str) -> dict[str, object]:
    """A script with two instances, evaluated again and again as previewers do; growth after the first two."""
    script = compile(RELOADED.format(width=width, height=height, device=device), "reloaded.vpy", "exec")
    host, card = [], []
    for _ in range(rounds):
        exec(script, ModuleType("__vapoursynth__").__dict__)
        for number in (0, 1):
            vs.get_output(number).clip.get_frame(5).close()
        vs.clear_outputs()
        gc.collect()
        host.append(host_memory())
        card.append(device_memory())
    return {
        "input": f"{width}x{height}",
        "instances": 2,
        "rounds": rounds,
        "host_growth_mb_after_two": (host[-1] - host[1]) / 2**20,
        "host_growth_mb_second_half": (host[-1] - host[rounds // 2]) / 2**20,
        "device_growth_mb_after_two": (card[-1] - card[1]) / 2**20,
        "host_mb_every_tenth": [round(value / 2**20, 1) for value in host[::10]],
    }


def measure_precision(width: int, height: int, video: Path | None, device: str) -> dict[str, object]:
    """How far every model's frames in half precision are from single precision's, unrounded; 60 dB is the aim."""
    if video is None:
        clip = core.resize.Bicubic(texture(width // 2, height // 2, FRAMES), width, height)
    else:
        clip = core.resize.Bicubic(core.bs.VideoSource(str(video))[:FRAMES], format=vs.RGBS, matrix_in=1)
    found = {}
    for name in MODELS:
        half, single = (core.rafrvsr.Upscale(clip, device=device, precision=p, model=name) for p in ("fp16", "fp32"))
        psnr = [_psnr(a, b) for a, b in zip(half.frames(close=True), single.frames(close=True), strict=True)]
        found[name] = {**identity(name), "psnr_db_mean": sum(psnr) / len(psnr), "psnr_db_worst": min(psnr)}
    named = {} if video is None else {"clip": video.name}
    return {"input": f"{clip.width}x{clip.height}", **named, "frames": len(clip), "models": found}


def _psnr(found: vs.VideoFrame, wanted: vs.VideoFrame) -> float:
    """Of RGBS frames, in dB for a range of 1."""
    errors = [np.mean((np.asarray(found[p]) - np.asarray(wanted[p])) ** 2, dtype=np.float64) for p in range(3)]
    return float(-10 * np.log10(np.mean(errors)))


def measure_film(video: Path, out: Path, width: int, height: int, ffmpeg: str, device: str) -> dict[str, object]:
    """A real video by bestsource -> Upscale -> vspipe -> ffmpeg, its sound copied: frames per second, memory.

    What came out is read again: whether its frames, duration, colour tags and sound are right.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "film.vpy"
        script.write_text(SCRIPT.format(video=str(video.resolve()), width=width, height=height, device=device))
        vspipe = subprocess.Popen([find_vspipe(), "-c", "y4m", str(script), "-"], stdout=subprocess.PIPE)
        tags = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
        command = [ffmpeg, "-v", "error", "-y", "-i", "-", "-i", str(video), "-map", "0:v", "-map", "1:a?"]
        command += ["-c:a", "copy", "-c:v", "libx264", "-preset", "superfast", "-crf", "34", *tags, str(out)]
        card, before, start = Peak(device_memory), device_memory(), time.perf_counter()
        with card.watched():
            subprocess.run(command, stdin=vspipe.stdout, check=True)
            code = vspipe.wait()
        seconds = time.perf_counter() - start
    made = Contents.of(out)
    return {
        "input": f"{width}x{height}",
        "clip": video.name,
        "vspipe_status": code,
        "frames": made.frames,
        "right": made.checked(Contents.of(video)),
        "seconds": seconds,
        "fps": made.frames / seconds,
        "device_peak_gb": (card.value - before) / 2**30,
    }


def measure_pipe(width: int, height: int) -> dict[str, object]:
    """Frames a second from a script to an ffmpeg that drops them, as a shell joins vspipe to it and as `encode` does.

    Medians of PIPED times, in turn; the start of all programs is in it.

    Raises:
        subprocess.CalledProcessError: vspipe or ffmpeg failed.
    """
    ffmpeg, dropped = find_ffmpeg(), ["-c:v", "wrapped_avframe", "-f", "null"]
    found: dict[str, list[float]] = {"shell": [], "encode": []}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "blank.vpy"
        script.write_text(BLANK.format(width=width, height=height, frames=PIPED_FRAMES))
        line = f"set -o pipefail; {shlex.join([find_vspipe(), '-c', 'y4m', str(script), '-'])} | "
        line += shlex.join([ffmpeg, "-v", "error", "-i", "-", *dropped, "-"])

        def shell() -> None:
            subprocess.run(["bash", "-c", line], check=True, stderr=subprocess.DEVNULL)

        def encoded() -> None:
            render(Job(script=script, arguments={}, ffmpeg_options=dropped), Path(folder) / "nothing")

        for _ in range(PIPED):
            for name, work in (("shell", shell), ("encode", encoded)):
                start = time.perf_counter()
                work()
                found[name].append(PIPED_FRAMES / (time.perf_counter() - start))
    version = subprocess.run([ffmpeg, "-version"], check=True, capture_output=True, text=True).stdout.split()[2]
    return {"input": f"{width}x{height}", "ffmpeg": version} | {
        f"fps_{name}": statistics.median(values) for name, values in found.items()
    }


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["seek", "scrub", "reload", "precision", "film", "pipe"])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--size", default="480x270")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--clip", type=Path, help="a video instead of a moving texture")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    files = 2 if arguments.what == "film" else 0
    if len(arguments.files) != files:
        parser.error(f"{arguments.what} takes {'a video and an output' if files else 'no files'}: {arguments.files}")
    if arguments.rounds < 2:
        parser.error(f"--rounds {arguments.rounds}: at least 2")
    machine = use_device(arguments.device)
    result: dict[str, object]
    match arguments.what:
        case "seek":
            result = measure_seek(width, height, arguments.device)
        case "scrub":
            result = measure_scrub(width, height, arguments.rounds, arguments.device)
        case "reload":
            result = measure_reload(width, height, arguments.rounds, arguments.device)
        case "precision":
            result = measure_precision(width, height, arguments.clip, arguments.device)
        case "pipe":
            result = measure_pipe(width, height)
        case _:
            video, out = arguments.files
            result = measure_film(video, out, width, height, arguments.ffmpeg, arguments.device)
    result = {"machine": machine, **result}
    print(json.dumps(result, indent=1))
    if arguments.json:
        name = " ".join(str(part) for part in (arguments.what, result["input"], result.get("clip", "")) if part)
        add_result(arguments.json, name, result)


if __name__ == "__main__":
    run_script(main)
