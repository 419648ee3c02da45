"""The GPU itself: lost, in a forked child, one of several, or without what makes it fast."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import vapoursynth as vs

from tests.plugin.clips import core, moving, pixels, rgb_clip, same
from tests.plugin.test_process import CORES, run
from vs_rafrvsr.engine import once, runtime
from vs_rafrvsr.engine.cuda.graphs import Graph
from vs_rafrvsr.errors import DeviceError
from vs_rafrvsr.pixels import route
from vs_rafrvsr.pixels.rgb import RgbExchange

FORKED = "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use 'spawn'"

LOST = """
import sys, time, torch
import vapoursynth as vs
clip = vs.core.std.BlankClip(width=96, height=64, length=1000, format=vs.YUV420P8, color=[90, 120, 130])
played = vs.core.rafrvsr.Upscale(clip, device="cuda")
for n in range(40):
    played.get_frame(n)
beyond = torch.zeros(4, device="cuda"), torch.tensor([9], device="cuda")
if sys.argv[1] == "noticed":
    try:
        beyond[0][beyond[1]].cpu()
    except RuntimeError:
        pass
    else:
        sys.exit("the GPU is not lost")
else:
    lost = beyond[0][beyond[1]]
    time.sleep(0.5)
for n in (400, 401, 700) if sys.argv[1] == "noticed" else (40, 41, 42):
    try:
        played.get_frame(n)
    except vs.Error as error:
        print(error)
try:
    vs.core.rafrvsr.Upscale(clip, device="cuda").get_frame(0)
except vs.Error as error:
    print(error)
sys.stdout.flush()
sys.exit(7)
"""

CHILD = """
import multiprocessing
mine = enter()
ramp = vs.core.std.BlankClip(width=48, height=48, length=20, format=vs.RGBS, color=[0.2, 0.4, 0.6])
clip = vs.core.rafrvsr.Upscale(ramp, device="cuda")
clip.get_frame(0)

def work(queue):
    enter()
    ramp = vs.core.std.BlankClip(width=48, height=48, length=20, format=vs.RGBS, color=[0.2, 0.4, 0.6])
    for device in ("auto", "cuda", "cuda:0"):
        try:
            vs.core.rafrvsr.Upscale(ramp, device=device)
        except vs.Error as error:
            queue.put(str(error))
        else:
            queue.put("no error")
    queue.put(len(pixels(ask(upscaled()))))

context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=work, args=(queue,))
child.start()
for device in ("auto", "cuda", "cuda:0"):
    said = queue.get(timeout=60)
    assert said.startswith(f"Upscale: device='{device}' cannot be used in a process that was forked"), said
    assert "spawn" in said and "device='cpu'" in said, said
assert queue.get(timeout=60) == 12
child.join(20)
assert child.exitcode == 0, child.exitcode
del clip
policy.set_environment(None)
policy.api.destroy_environment(mine)
"""


@pytest.fixture
def log() -> Iterator[list[str]]:
    """VapourSynth's warnings that are ours."""
    lines: list[str] = []

    def note(kind: vs.MessageType, text: str) -> None:
        if kind == vs.MESSAGE_TYPE_WARNING and text.startswith("Upscale: "):
            lines.append(text)

    handle = core.add_log_handler(note)
    yield lines
    core.remove_log_handler(handle)


@pytest.mark.cuda
@pytest.mark.parametrize("seen", ["noticed", "by a frame on its way"])
def test_a_lost_gpu_costs_frames_but_not_the_program(seen: str) -> None:
    command = [sys.executable, "-c", LOST, seen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 7, done.stderr[-3000:]
    errors = done.stdout.splitlines()
    assert len(errors) == 4 or seen != "noticed", done.stdout
    assert errors
    for error in errors:
        assert error.startswith("Upscale: the GPU failed (")
        assert "device-side assert" in error
        assert "start the program anew" in error


def fail_to_begin(message: str) -> None:
    raise RuntimeError(message)


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1"])
def test_a_forked_child_is_told_how_to_be_started(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "init", lambda: fail_to_begin(FORKED))
    with pytest.raises(DeviceError, match=rf"device='{device}' cannot be used in a process that was forked.*spawn"):
        runtime._device(device)
    assert runtime._device("cpu").type == "cpu"


def test_a_number_chooses_among_the_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    chosen = {name: str(runtime._device(name)) for name in ("auto", "cuda", "cuda:0", "cuda:1")}
    assert chosen == {"auto": "cuda:0", "cuda": "cuda:0", "cuda:0": "cuda:0", "cuda:1": "cuda:1"}
    with pytest.raises(DeviceError, match=r"device='cuda:2' does not exist; .*cuda:0 to cuda:1"):
        runtime._device("cuda:2")


def test_a_driver_that_is_too_old_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "init", lambda: fail_to_begin("The NVIDIA driver on your system is too old"))
    assert runtime._device("auto").type == "cpu"
    with pytest.raises(DeviceError, match="PyTorch sees no CUDA device"):
        runtime._device("cuda")


def test_a_gpu_that_this_pytorch_has_no_code_for(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "CUDA error: no kernel image is available for execution on the device"
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: fail_to_begin(missing))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    cuda = torch.device("cuda", 0)
    assert runtime._running(cuda, "auto").type == "cpu"
    with pytest.raises(DeviceError, match=r"device='cuda:0': PyTorch .* has no code for the Old GPU; install a build"):
        runtime._running(cuda, "cuda:0")


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_of_a_process_that_has_used_cuda() -> None:
    run(CORES + CHILD)


def test_why_frames_are_converted_on_the_cpu_is_said_once(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "_said", set())
    monkeypatch.setattr(route, "choose", lambda name, device: (RgbExchange(device), "CuPy is unwell"))
    clip = rgb_clip(moving(2, 24, 32))
    for _ in range(2):
        core.rafrvsr.Upscale(clip, device="cpu")
    assert log == ["Upscale: CuPy is unwell. Frames are converted on the CPU, which is slower"]


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("precision", "network"),
    [("auto", "fp16, own kernels"), ("fp16", "fp16, own kernels"), ("fp32", "fp32, PyTorch's kernels")],
)
def test_a_gpu_gets_all_that_makes_it_fast_unless_single_precision_is_asked_for(precision: str, network: str) -> None:
    clip = core.resize.Bicubic(rgb_clip(moving(1, 24, 32)), format=vs.YUV420P8, matrix=1)
    frame = core.rafrvsr.Upscale(clip, precision=precision).get_frame(0)
    assert str(frame.props["_RafrvsrNumerics"]).endswith(f", {network}, pixels on the device, whole frames")


@pytest.mark.cuda
def test_encoding_flow_and_step_run_as_cuda_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a capture fails, frames are the same, and come more slowly."""
    graphs, capture = [], Graph._capture

    def noted(self: Graph) -> None:
        graphs.append(self)
        capture(self)

    monkeypatch.setattr(Graph, "_capture", noted)
    for _ in core.rafrvsr.Upscale(rgb_clip(moving(20, 24, 32)), device="cuda").frames():
        pass
    assert [graph._graph is not None for graph in graphs] == [True] * 3


@pytest.mark.cuda
def test_without_cupy_frames_equal_the_resizers_and_one_warning_names_the_extra(
    log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(once, "_said", set())
    monkeypatch.setitem(sys.modules, "cupy", None)
    rgb = rgb_clip(moving(4, 24, 32))
    clip = core.resize.Bicubic(rgb, format=vs.YUV420P8, matrix=1, range=0, chromaloc=0)
    found = [list(core.rafrvsr.Upscale(clip, device="cuda").frames()) for _ in range(2)]
    assert len(log) == 1, log
    assert "pip install '.[cuda" in log[0]
    through = core.resize.Bicubic(clip, format=vs.RGBS, matrix_in=1, range_in=0, chromaloc_in=0)
    upscaled = core.rafrvsr.Upscale(through, device="cuda")
    wanted = core.resize.Bicubic(upscaled, format=vs.YUV420P8, matrix=1, range=0, chromaloc=0)
    for n, frame in enumerate(wanted.frames()):
        assert all(same(frames[n], frame) for frames in found), n


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
def test_two_gpus_make_the_same_frames_side_by_side() -> None:
    last = torch.cuda.device_count() - 1
    if torch.cuda.get_device_name(last) != torch.cuda.get_device_name(0):
        pytest.skip("the last GPU is of another kind than the first")
    clip = core.resize.Bicubic(rgb_clip(moving(40, 48, 64)), format=vs.YUV420P8, matrix=1)
    alone = [pixels(frame) for frame in core.rafrvsr.Upscale(clip, device="cuda:0").frames()]
    filters = [core.rafrvsr.Upscale(clip, device=f"cuda:{index}") for index in (0, last)]
    asked = [[out.get_frame_async(n) for out in filters] for n in range(40)]
    for n, futures in enumerate(asked):
        for future in futures:
            frame = future.result(60)
            assert all(np.array_equal(a, b) for a, b in zip(pixels(frame), alone[n], strict=True)), n
