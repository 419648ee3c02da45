"""The kernels on a GPU, with the signatures of host.py."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.cuda import Exchange, HostFrame
from vs_rafrvsr.pixels.formats import Format


@cache
def stream() -> torch.cuda.Stream:
    return torch.cuda.Stream(torch.device("cuda", 0))


def to_rgb(fmt: Format, frame: list[NDArray[Any]], colour: Colour) -> NDArray[np.float32]:
    """Planes -> RGB (3, h, w). Rows are padded, as VapourSynth's are."""
    padded = [np.pad(plane, ((0, 0), (0, 5)))[:, : plane.shape[1]] for plane in frame]
    with torch.inference_mode(), torch.cuda.stream(stream()):
        batch = [None, HostFrame(planes=padded, colour=colour)]
        both: NDArray[np.float32] = Exchange(fmt, stream()).upload(batch, frame[0].shape).cpu().numpy()
    assert not both[0].any(), "a missing frame is black"
    rgb: NDArray[np.float32] = both[1]
    return rgb


def from_rgb(fmt: Format, rgb: NDArray[np.float32], colour: Colour) -> list[NDArray[Any]]:
    """RGB (3, h, w) -> planes. The tensor's memory is (h, w, 3), so that strides count."""
    with torch.inference_mode(), torch.cuda.stream(stream()):
        last = torch.from_numpy(np.ascontiguousarray(rgb.transpose(1, 2, 0))).to(stream().device)
        exchange = Exchange(fmt, stream())
        packed = exchange.download(last.permute(2, 0, 1), colour)
        stream().synchronize()
    return exchange.planes(packed, rgb.shape[1:])
