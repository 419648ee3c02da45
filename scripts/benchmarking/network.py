"""The network alone, without pixels, copies and detector: what to time, and the time of a CUDA graph's replay."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarking.identity import DEFAULT
from vs_rafrvsr.engine.cuda.fast import accelerate
from vs_rafrvsr.engine.cuda.flow import FastFlow, batch_size
from vs_rafrvsr.engine.cuda.step import EXTRA, FastStep
from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.models import raft, registry
from vs_rafrvsr.models.rafrvsr import RAFRVSR, State
from vs_rafrvsr.models.warp import warp
from vs_rafrvsr.schedule import GROUP

type Run = Callable[[], object]

REPEATS = 40


def milliseconds(device: torch.device, run: Run) -> float:
    """Median time of one replay; on the CPU, of a single run."""
    if device.type == "cpu":
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)
    replay = captured(run)
    for _ in range(5):
        replay()
    times = []
    for _ in range(REPEATS):
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        replay()
        after.record()
        torch.cuda.synchronize()
        times.append(float(before.elapsed_time(after)))
    return statistics.median(times)


def captured(run: Run) -> Run:
    """A replay of `run` in a CUDA graph; `run` itself, with a word about it, where it cannot be captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except RuntimeError as error:
        print("  (not captured, timed eagerly:", str(error)[:100], ")")
        return run
    return graph.replay


def texture(count: int, height: int, width: int, device: torch.device) -> Tensor:
    """Frames (count, 3, h, w) of a soft texture that moves by (2.5, -1.25) pixels a frame, known everywhere."""
    generator = torch.Generator().manual_seed(height)
    margin = 3 * count + 8
    coarse = torch.rand(1, 3, (height + 2 * margin) // 4, (width + 2 * margin) // 4, generator=generator).to(device)
    field = F.interpolate(coarse, size=(height + 2 * margin, width + 2 * margin), mode="bicubic").clamp(0, 1)
    shift = torch.ones(1, 2, *field.shape[-2:], device=device)
    shift = shift * torch.tensor([2.5, -1.25], device=device).view(1, 2, 1, 1)
    frames = [warp(field, n * shift)[..., margin:-margin, margin:-margin] for n in range(count)]
    return torch.cat(frames).contiguous()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured at one size: the model in fp32 and in fp16, and a step's inputs."""

    name: str
    size: tuple[int, int]
    plain: RAFRVSR
    half: RAFRVSR
    lr: Tensor
    """(17, 3, h, w)."""
    state: State
    """fp16."""
    flow: Tensor

    @property
    def work(self) -> dict[str, tuple[float, float]]:
        """(operations, bytes read and written once) of a step's pieces."""
        pixels, c, blocks = self.size[0] * self.size[1], self.plain.channels, len(self.plain.sr.body)
        work = {
            "align": (0.0, 4.0 * (3 + 48 + 2) + 2 * c + 2 * (c + EXTRA)),
            "head": (18.0 * (51 + c) * c, 2.0 * (c + EXTRA) + 2 * c),
            "body": (36.0 * blocks * c * c, 10.0 * blocks * c),  # layer by layer: read, write, and read the residual
            "tail": (18.0 * c * 48, 2.0 * c + 12 + 4 * 48),
        }
        work["step"] = (sum(f for f, _ in work.values()), sum(b for _, b in work.values()))
        return {piece: (pixels * flops, pixels * size) for piece, (flops, size) in work.items()}


def subject(name: str, device: torch.device, model: str = DEFAULT, *, toy: bool = False) -> Subject:
    """A shipped model, or a toy with fewer frames, and inputs of one size "WIDTHxHEIGHT"."""
    width, height = map(int, name.split("x"))
    if toy:
        plain = RAFRVSR(channels=16, blocks=1, flow_updates=1, flow_input_scale=1.0).eval().requires_grad_(False)
    else:
        plain = cast(RAFRVSR, registry.load(model, None, None))
    plain = plain.to(device)
    half = copy.deepcopy(plain)
    half.sr.half().to(memory_format=torch.channels_last)
    lr = texture(3 if toy else GROUP + 1, height, width, device)
    hidden = torch.rand(1, plain.channels, height, width, device=device).half()
    return Subject(
        name=name,
        size=(height, width),
        plain=plain,
        half=half,
        lr=lr,
        state=State(plain.base(lr[:1]), hidden.contiguous(memory_format=torch.channels_last)),
        flow=torch.randn(1, 2, height, width, device=device),
    )


def stepped(step: FastStep, lr: Tensor, state: State, flow: Tensor) -> State:
    """The state after `state`, which stays: as `RAFRVSR.step` of the nominal part of lr (1, 3, h, w) fp32."""
    hidden = torch.empty_like(state.hidden, memory_format=torch.channels_last)
    out = State(torch.empty_like(state.hr), hidden)
    step.run(lr, state, flow, out)
    return out


def pairs(features: raft.Features) -> tuple[raft.Features, raft.Features]:
    """Those of every frame but the first, and those of the frames before them."""
    return raft.Features(*(f[1:] for f in features)), raft.Features(*(f[:-1] for f in features))


def flow_inputs(features: raft.Features) -> tuple[Tensor, Tensor, Tensor]:
    """What FastFlow.flow takes of them."""
    current, previous = pairs(features)
    return current.context.contiguous(), current.matching.contiguous(), previous.matching.contiguous()


def per_frame(s: Subject, runtime: Runtime) -> dict[str, float]:
    """Milliseconds of the recurrent step, of encoding and of matching, on the kernels that the filter would choose."""
    device = runtime.device
    if accelerate(s.half, s.size, device, runtime.dtype) is not None:
        return {piece: milliseconds(device, run) / frames for piece, (run, frames) in _own(s).items()}
    with runtime.half_flow():
        runs = _plain(s, s.half if runtime.dtype == torch.float16 else s.plain)
        return {piece: milliseconds(device, run) / frames for piece, (run, frames) in runs.items()}


def _own(s: Subject) -> dict[str, tuple[Run, float]]:
    """Our kernels: the runs, and how many frames each serves, when the last batch of a group is filled up."""
    step, flow = FastStep(s.half), FastFlow(s.half)
    batch = batch_size(s.size, s.half.flow_input_scale, GROUP)
    frames = GROUP / math.ceil(GROUP / batch)
    features = flow_inputs(flow.encode(s.lr[: batch + 1]))
    return {
        "step": (lambda: stepped(step, s.lr[:1], s.state, s.flow), 1),
        "encode": (lambda: flow.encode(s.lr[:batch]), frames),
        "flow": (lambda: flow.flow(features, s.size), frames),
    }


def _plain(s: Subject, model: RAFRVSR) -> dict[str, tuple[Run, float]]:
    """The model's own code, a group at a time."""
    state = State(s.state.hr, s.state.hidden.to(model.sr.head.weight.dtype))
    current, previous = pairs(model.encode(s.lr))
    return {
        "step": (lambda: model.step(s.lr[:1], state, s.flow), 1),
        "encode": (lambda: model.encode(s.lr[1:]), GROUP),
        "flow": (lambda: model.flow(current, previous, s.size), GROUP),
    }
