#!/usr/bin/env python
"""What the pixel kernels cost on a GPU, beside the physical limit.

    python scripts/measure_pixels.py [--json FILE] [--formats YUV420P8 YUV420P10 ...]

Per format and source size: the kernels' own time, the bytes that they must move at least and the rate which that makes,
the time a call keeps the host, and upload and download from host planes to host planes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch

from vs_rafrvsr.pixels import cuda
from vs_rafrvsr.pixels.colour import Colour, parameters_in, parameters_out
from vs_rafrvsr.pixels.cuda import download, upload
from vs_rafrvsr.pixels.exchange import Downloaded, stage
from vs_rafrvsr.pixels.formats import FORMATS, Format

SIZES = ((270, 480), (540, 960), (1080, 1920))
COLOUR = Colour(matrix=1, full=False)
REPEATS = 50


def device_ms(work: Callable[[], object], stream: torch.cuda.Stream) -> float:
    """Median time of the stream between two events."""
    times = []
    for _ in range(REPEATS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(500_000)  # so that the host is ahead
        start.record(stream)
        made = work()
        if isinstance(made, Downloaded):
            stream.wait_event(cast(torch.cuda.Event, made.event))  # its copy has a stream of its own
        end.record(stream)
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times))


def host_ms(work: Callable[[], object], stream: torch.cuda.Stream) -> float:
    """Median time until the call returns."""
    times = []
    for _ in range(REPEATS):
        stream.synchronize()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def measure(fmt: Format, size: tuple[int, int], stream: torch.cuda.Stream) -> dict[str, object]:
    """One row."""
    large = (4 * size[0], 4 * size[1])
    planes = [np.ones(s, fmt.dtype) for s in fmt.shapes(size)]
    rgb = torch.rand((3, *large), device=stream.device)
    lr = torch.empty((3, *size), device=stream.device)
    source, target = (torch.zeros(fmt.bytes(s), dtype=torch.uint8, device=stream.device) for s in (size, large))
    kernels = cuda._kernels(fmt, stream.device)
    into, out = parameters_in(fmt, COLOUR, size, lr.stride()), parameters_out(fmt, COLOUR, large, rgb.stride())
    height, width = fmt.shapes(large)[-1]
    work: dict[str, Callable[[], object]] = {
        "kernel_in": lambda: cuda._launch(kernels["planes_to_rgb"], size, source, lr, into),
        "kernel_out": lambda: cuda._launch(
            kernels["rgb_to_planes"], (-(-height // cuda.STRIP), width), rgb, target, out
        ),
        "upload": lambda: upload(
            stage([COLOUR], lambda memory: fmt.pack(planes, memory[0]), fmt, size, stream.device), size, stream.device
        ),
        "download": lambda: download(rgb, fmt, COLOUR),
    }
    moved = {
        "kernel_in": source.numel() + 4 * lr.numel(),
        "kernel_out": target.numel() + 4 * rgb.numel(),
        "upload": source.numel(),
        "download": target.numel(),
    }
    row: dict[str, object] = {"format": fmt.name, "input": f"{size[1]}x{size[0]}"}
    for name, call in work.items():
        for _ in range(5):
            call()
        ms = device_ms(call, stream)
        row |= {
            f"{name}_ms": round(ms, 4),
            f"{name}_gb_per_s": round(moved[name] / ms / 1e6, 1),
            f"{name}_host_ms": round(host_ms(call, stream), 4),
        }
    return row


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["YUV420P8", "YUV420P10", "YUV444P16", "RGBS"])
    args = parser.parse_args()
    stream = torch.cuda.Stream(torch.device("cuda", 0))
    with torch.inference_mode(), torch.cuda.stream(stream):
        rows = [measure(FORMATS[name], size, stream) for name in args.formats for size in SIZES]
    for row in rows:
        print(*(f"{key} {value}" for key, value in row.items()))
    if args.json:
        result = {"machine": torch.cuda.get_device_name(stream.device), "rows": rows}
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
