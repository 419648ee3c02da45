"""The network as the engine runs it, beside itself in single precision."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarking.network import Subject, pairs
from benchmarking.rows import Bench, Row
from vs_rafrvsr.engine.cuda.fast import Fast

COMPARED = 9
"""Frames; memory grows with them."""


def whole(s: Subject, bench: Bench) -> None:
    """The network as the engine runs it, graphs included: time per frame, memory, and distance from fp32."""
    before = 0
    if not bench.rehearse:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
    fast, count = Fast(s.half, s.size), len(s.lr)
    _milliseconds(fast, s, bench)  # captures the graphs
    if not bench.rehearse:
        peak = (torch.cuda.max_memory_reserved() - before) / 2**30
        free, total = torch.cuda.mem_get_info()
        bench.facts[f"memory {s.name}"] = {"reserved_gib": peak, "device_in_use_gib": (total - free) / 2**30}
        print(f"  memory at {s.name}: {bench.facts[f'memory {s.name}']}")
    times = [_milliseconds(fast, s, bench) for _ in range(1 if bench.rehearse else 10)]
    ms = statistics.median(times) / count
    bench.note(Row(size=s.name, piece="network", variant="engine's graphs, end to end", ms=ms, note=f"{count} frames"))
    found, wanted = ([hr.to("cpu", copy=True) for hr in play(net, s.lr[:COMPARED], s.size)] for net in (fast, s.plain))
    worst = min(psnr(a, b) for a, b in zip(found, wanted, strict=True))
    bench.facts[f"psnr fp16 against fp32, {s.name}"] = worst
    print(f"  worst PSNR of fp16 against fp32 over {len(wanted)} frames at {s.name}: {worst:.1f} dB", flush=True)


def play(net: Any, lr: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:  # noqa: ANN401  (Fast or RAFRVSR)
    """The HR state after each frame; the next one may overwrite it."""
    flow = net.flow(*pairs(net.encode(lr)), size)
    state = net.empty_state(lr[:1])
    for frame, motion in zip(lr.split(1), (None, *flow.split(1)), strict=True):
        state = net.step(frame, state, motion)
        yield state.hr


def _milliseconds(fast: Fast, s: Subject, bench: Bench) -> float:
    """All frames by the clock, device included."""
    start = time.perf_counter()
    for _ in play(fast, s.lr, s.size):
        pass
    if not bench.rehearse:
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def psnr(found: Tensor, wanted: Tensor) -> float:
    """In dB for a range of 1, of values clamped to it."""
    error = (found.clamp(0, 1) - wanted.clamp(0, 1)).square().mean()
    return float(-10 * error.log10())
