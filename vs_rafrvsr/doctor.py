"""What `python -m vs_rafrvsr doctor` looks at: each part of an installation, fine or not, and what to do."""

from __future__ import annotations

import importlib
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from vs_rafrvsr import __version__
from vs_rafrvsr.errors import RafrvsrError

OLDEST_VAPOURSYNTH, OLDEST_FFMPEG = 81, (5, 1)
GIB = 2**30
LITTLE_MEMORY = 2 * GIB  # on the CPU, 160x96 to 640x384 took 1.3 GB at most, 320x180 to 1280x720 took 2.4 GB
LITTLE_DEVICE_MEMORY = 2 * GIB  # a clip of 480x270 took 1.8 GB of an H200 at most (samples/benchmark.json)
REINSTALL = "in the checkout: pip install --force-reinstall --no-deps ."  # the package is in no index


class State(Enum):
    """How a part is, as printed."""

    FINE = "[green]fine   [/]"
    LIMITED = "[yellow]limited[/]"
    BROKEN = "[red]broken [/]"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and where it is not fine what to do."""

    state: State
    found: str
    remedy: str = ""


def examine(console: Console) -> int:
    """Print a line for every part; 1 if something that is needed is broken, else 0."""
    broken = False
    for name, check in CHECKS.items():
        finding = _safely(check)
        broken |= finding.state is State.BROKEN
        first, *more = finding.found.splitlines() or [""]
        console.print(f"{finding.state.value}  {name + ':':13}{escape(first)}", soft_wrap=True)
        for line in [*more, *([f"-> {finding.remedy}"] if finding.remedy else [])]:
            console.print(f"{'':22}{escape(line)}", soft_wrap=True)
    return int(broken)


def _safely(check: Callable[[], Finding]) -> Finding:
    """A check that stumbles has found something broken."""
    try:
        return check()
    except Exception as error:
        return Finding(State.BROKEN, f"{type(error).__name__}: {error}", "repair what the message names")


def check_python() -> Finding:
    """The interpreter; one older than pip allows cannot even read this package."""
    return Finding(State.FINE, f"{platform.python_version()}, {sys.executable}")


def check_vapoursynth() -> Finding:
    """The core that Python loads."""
    try:
        import vapoursynth
    except ImportError as error:
        return Finding(State.BROKEN, str(error), "pip install vapoursynth")
    version = vapoursynth.core.core_version
    found = f"R{version.release_major}, {Path(vapoursynth.__file__).parent}"
    if version.release_major < OLDEST_VAPOURSYNTH:
        return Finding(State.BROKEN, found, "pip install --upgrade vapoursynth")
    return Finding(State.FINE, found)


def check_vspipe() -> Finding:
    """Does vspipe run and find this Python?"""
    from vs_rafrvsr.encode.process import find_vspipe

    try:
        vspipe = find_vspipe()
    except RafrvsrError as error:
        return Finding(State.BROKEN, str(error), "pip install vapoursynth")
    run = subprocess.run([vspipe, "--version"], capture_output=True, text=True, check=False)
    if run.returncode != 0 or "VSScript" in run.stderr + run.stdout:
        said = (run.stderr + run.stdout).strip()
        return Finding(State.BROKEN, said or f"exit status {run.returncode}", "run: python -m vapoursynth config")
    return Finding(State.FINE, vspipe)


def check_plugin() -> Finding:
    """Is the plugin's file where VapourSynth looks, did it load, and does it upscale a frame?"""
    import vapoursynth

    folder = Path(vapoursynth.get_plugin_dir())
    files = [path for path in folder.glob("rafrvsr.*") if path.suffix in (".so", ".dll", ".dylib")]
    if not files:
        return Finding(State.BROKEN, f"no plugin file in {folder}", REINSTALL)
    core = vapoursynth.core
    if not hasattr(core, "rafrvsr"):
        try:
            core.std.LoadPlugin(str(files[0]))
        except vapoursynth.Error as error:
            return Finding(State.BROKEN, f"{files[0]} did not load: {error}", REINSTALL)
    version = str(core.rafrvsr.Version())
    if version != __version__:
        return Finding(State.BROKEN, f"{files[0]} is {version}, the package {__version__}", REINSTALL)
    core.rafrvsr.Upscale(core.std.BlankClip(width=32, height=32, length=1), device="cpu").get_frame(0).close()
    return Finding(State.FINE, f"{version}, {files[0]}; upscaled a frame on the CPU")


def check_torch() -> Finding:
    """PyTorch and the devices that it can use."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding(State.BROKEN, str(error), "reinstall PyTorch: https://pytorch.org/get-started")
    built = f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        needed = "an NVIDIA driver" if torch.version.cuda else "an NVIDIA driver and a CUDA build of PyTorch"
        remedy = f"for a GPU: {needed}" if sys.platform != "darwin" else ""
        return Finding(State.LIMITED, f"{built}; no CUDA device: the CPU computes, slowly", remedy)
    devices = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return Finding(State.FINE, "\n".join([built, *devices]))


def check_gpu() -> Finding:
    """Does the plugin upscale a frame on each device that PyTorch lists?"""
    import torch
    import vapoursynth

    if not torch.cuda.is_available():
        return Finding(State.FINE, "not needed without a CUDA device")
    core, found = vapoursynth.core, []
    for index in range(torch.cuda.device_count()):
        blank = core.std.BlankClip(width=32, height=32, length=1)
        try:
            core.rafrvsr.Upscale(blank, device=f"cuda:{index}").get_frame(0).close()
        except vapoursynth.Error as error:
            remedy = "another device, or a PyTorch that has code for this one: https://pytorch.org/get-started"
            return Finding(State.BROKEN, f"cuda:{index}: {error}", remedy)
        found.append(f"cuda:{index}")
    return Finding(State.FINE, f"upscaled a frame on {', '.join(found)}")


def check_device_memory() -> Finding:
    """Each device's memory that is free now."""
    import torch

    if not torch.cuda.is_available():
        return Finding(State.FINE, "not needed without a CUDA device")
    rows = [torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count())]
    found = "\n".join(
        f"cuda:{i} {free / GIB:.1f} of {total / GIB:.1f} GiB free" for i, (free, total) in enumerate(rows)
    )
    if min(free for free, _ in rows) < LITTLE_DEVICE_MEMORY:
        return Finding(
            State.LIMITED,
            found,
            f"480x270 needs {LITTLE_DEVICE_MEMORY / GIB:.0f} GiB, larger clips more: close other programs on the "
            "device, choose another, or upscale in smaller tiles, e.g. tile=[256, 256]",
        )
    return Finding(State.FINE, found)


def check_cupy() -> Finding:
    """CuPy, which only CUDA needs, must be of PyTorch's CUDA generation."""
    import torch

    theirs = (torch.version.cuda or "").partition(".")[0]
    if not torch.cuda.is_available():
        return Finding(State.FINE, "not needed without a CUDA device")
    install = f"in the checkout: pip install '.[cuda{theirs}]'"
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        return Finding(State.LIMITED, f"{error}: frames take a slower way to the device", install)
    ours = str(cupy.cuda.runtime.runtimeGetVersion() // 1000)
    found = f"CuPy {cupy.__version__} for CUDA {ours}, PyTorch for CUDA {theirs}"
    if ours != theirs:
        return Finding(State.BROKEN, found, f"pip uninstall cupy-cuda{ours}x, then {install}")
    return Finding(State.FINE, found)


def check_weights() -> Finding:
    """Every shipped weights file, read and verified."""
    from vs_rafrvsr import weights
    from vs_rafrvsr.models.registry import MODELS

    try:
        for row in MODELS.values():
            weights.load(row.path)
    except RafrvsrError as error:
        return Finding(State.BROKEN, str(error), REINSTALL)
    return Finding(State.FINE, ", ".join(MODELS))


def check_memory() -> Finding:
    """Main memory that is free now."""
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    if memory.available < LITTLE_MEMORY:
        return Finding(State.LIMITED, found, "close other programs, or upscale in smaller tiles")
    return Finding(State.FINE, found)


def check_ffmpeg() -> Finding:
    """The ffmpeg that `encode` would run."""
    from vs_rafrvsr.encode.process import find_ffmpeg

    try:
        ffmpeg = find_ffmpeg()
    except RafrvsrError as error:
        return Finding(State.LIMITED, "not found; only encode and the demo need it", str(error))
    said = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version n?(\d+)\.(\d+)\S*", said)
    if found and (int(found[1]), int(found[2])) < OLDEST_FFMPEG:
        return Finding(State.LIMITED, f"{found[0]}, {ffmpeg}", "encode needs {}.{} or newer".format(*OLDEST_FFMPEG))
    return Finding(State.FINE, f"{found[0] if found else 'unknown version'}, {ffmpeg}")


CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": check_python,
    "VapourSynth": check_vapoursynth,
    "vspipe": check_vspipe,
    "plugin": check_plugin,
    "PyTorch": check_torch,
    "GPU": check_gpu,
    "GPU memory": check_device_memory,
    "CuPy": check_cupy,
    "weights": check_weights,
    "memory": check_memory,
    "ffmpeg": check_ffmpeg,
}
