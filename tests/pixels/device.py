"""The kernels on a GPU, with the signatures of host.py."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.cuda import CudaExchange
from vs_rafrvsr.pixels.formats import Format

DEVICE = torch.device("cuda", 0)


@cache
def stream() -> torch.cuda.Stream:
    return torch.cuda.Stream(DEVICE)


def to_rgb(fmt: Format, frame: list[NDArray[Any]], colour: Colour) -> NDArray[Any]:
    """Planes -> RGB (3, h, w). Rows are padded, as VapourSynth's are."""
    exchange, size = CudaExchange(fmt, DEVICE), frame[0].shape
    padded = [np.pad(plane, ((0, 0), (0, 5)))[:, : plane.shape[1]] for plane in frame]

    def pack(memory: NDArray[np.uint8]) -> None:
        memory[0].fill(255)
        fmt.pack(padded, memory[1])

    with torch.inference_mode(), torch.cuda.stream(stream()):
        black, rgb = exchange.upload(exchange.stage([None, colour], pack, size), size).cpu()
    assert not black.any(), "a missing frame is black"
    return np.asarray(rgb)


def from_rgb(fmt: Format, rgb: NDArray[Any], colour: Colour) -> list[NDArray[Any]]:
    """RGB (3, h, w) -> planes. The tensor's memory is (h, w, 3), so that strides count."""
    with torch.inference_mode(), torch.cuda.stream(stream()):
        last = torch.from_numpy(np.ascontiguousarray(rgb.transpose(1, 2, 0))).to(DEVICE)
        packed = CudaExchange(fmt, DEVICE).download(last.permute(2, 0, 1), colour).wait()
    return fmt.planes(packed, rgb.shape[1:])
