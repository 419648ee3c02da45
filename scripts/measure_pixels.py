#!/usr/bin/env python
"""What pixels cost on a GPU, beside the rates of its memory and of its bus.

    python scripts/measure_pixels.py [--json samples/pixels.json] [--formats YUV420P8 YUV420P10 ...]

Per format and source size, in the filter's portions: a flow group in, one frame out. All figures are per frame.

- kernel_in, kernel_out: the kernels alone. Bytes: planes and RGB once each, to be compared with the memory's rate.
- upload, download: copies to and from pinned memory too. Bytes: the planes once, to be compared with the bus's rates.
- `_ms` is the time on the device, `_gb_per_s` the bytes over it, `_host_ms` the time that the call keeps the host; what
  the host copies into pinned memory before an upload is `stage_host_ms`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.cuda import CudaExchange
from vs_rafrvsr.pixels.exchange import Downloaded, host_memory
from vs_rafrvsr.pixels.formats import FORMATS, Format
from vs_rafrvsr.schedule import GROUP

SIZES = ((270, 480), (540, 960), (1080, 1920))
COLOUR = Colour(matrix=1, full=False)
REPEATS = 50

type Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One thing to measure."""

    work: Work
    moved: int
    """Bytes that it must read and write at least."""
    frames: int = 1


class Clock:
    """Times work on a stream of a GPU."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.stream = stream
        self.source, self.target = (torch.zeros(2**28, device=stream.device) for _ in range(2))

    def sweep(self) -> None:
        """Read a GiB and write another: it empties the caches, keeps the device busy meanwhile, and tells its rate."""
        torch.add(self.source, 1.0, out=self.target)

    def device_ms(self, work: Work) -> float:
        """Median time between two events, with nothing in the caches and the host ahead."""
        times = []
        for _ in range(REPEATS):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self.sweep()
            start.record(self.stream)
            made = work()
            if isinstance(made, Downloaded):
                self.stream.wait_event(cast(torch.cuda.Event, made.event))  # its copy has a stream of its own
            end.record(self.stream)
            end.synchronize()
            times.append(start.elapsed_time(end))
        return float(np.median(times))

    def host_ms(self, work: Work) -> float:
        """Median time until the call returns, with nothing to wait for."""
        times = []
        for _ in range(REPEATS):
            torch.cuda.synchronize(self.stream.device)
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return float(np.median(times)) * 1e3

    def limits(self) -> dict[str, float]:
        """GB/s of the memory, read and written in equal parts, and of the bus both ways."""
        packed = self.target.view(torch.uint8)[: 2**28]
        host = host_memory(packed.shape, packed.device)
        pieces = {
            "memory": Piece(work=self.sweep, moved=self.source.nbytes + self.target.nbytes),
            "to_device": Piece(work=lambda: packed.copy_(host, non_blocking=True), moved=packed.nbytes),
            "to_host": Piece(work=lambda: host.copy_(packed, non_blocking=True), moved=packed.nbytes),
        }
        return {f"{name}_gb_per_s": rate(piece, self.device_ms(piece.work)) for name, piece in pieces.items()}


def rate(piece: Piece, ms: float) -> float:
    """GB/s."""
    return short(piece.moved / ms / 1e6)


def short(value: float) -> float:
    """Four digits are more than a measurement repeats."""
    return float(f"{value:.4g}")


def measure(fmt: Format, size: tuple[int, int], clock: Clock) -> dict[str, object]:
    """One row."""
    exchange = CudaExchange(fmt, clock.stream.device)
    frame = [np.ones(shape, fmt.dtype) for shape in fmt.shapes(size)]

    def pack(memory: NDArray[np.uint8]) -> None:
        for packed in memory:
            fmt.pack(frame, packed)

    stage = partial(exchange.stage, [COLOUR] * GROUP, pack, size)
    staged = stage()
    on_device = replace(staged, packed=staged.packed.to(exchange.device))
    rgb = torch.rand((3, SCALE * size[0], SCALE * size[1]), device=exchange.device)
    codes_in, codes_out = staged.packed.nbytes, fmt.bytes((rgb.shape[1], rgb.shape[2]))
    rgb_in = GROUP * 3 * size[0] * size[1] * 4
    pieces = {
        "kernel_in": Piece(work=lambda: exchange.upload(on_device, size), moved=codes_in + rgb_in, frames=GROUP),
        "kernel_out": Piece(work=lambda: exchange.planes(rgb, COLOUR), moved=rgb.nbytes + codes_out),
        "upload": Piece(work=lambda: exchange.upload(staged, size), moved=codes_in, frames=GROUP),
        "download": Piece(work=lambda: exchange.download(rgb, COLOUR), moved=codes_out),
    }
    row: dict[str, object] = {
        "format": fmt.name,
        "input": f"{size[1]}x{size[0]}",
        "stage_host_ms": short(clock.host_ms(stage) / GROUP),
    }
    for name, piece in pieces.items():
        ms = clock.device_ms(piece.work)
        row |= {
            f"{name}_ms": short(ms / piece.frames),
            f"{name}_gb_per_s": rate(piece, ms),
            f"{name}_host_ms": short(clock.host_ms(piece.work) / piece.frames),
        }
    return row


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("samples/pixels.json"))
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["YUV420P8", "YUV420P10", "YUV444P16", "RGBS"])
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no CUDA device")
    stream = torch.cuda.Stream(torch.device("cuda", 0))
    with torch.inference_mode(), torch.cuda.stream(stream):
        clock = Clock(stream)
        result: dict[str, object] = {"machine": torch.cuda.get_device_name(stream.device), **clock.limits()}
        print(*(f"{key} {value}" for key, value in result.items()))
        rows = []
        for fmt, size in ((FORMATS[name], size) for name in args.formats for size in SIZES):
            rows.append(measure(fmt, size, clock))
            print(*(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    args.json.write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
