"""RGBS planes <-> tensors, through pinned memory where there is a GPU.

Every other format reaches RGBS and comes back by VapourSynth's resizer (plugin/nodes.py and finish.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

type Planes = Sequence[NDArray[np.float32]]
"""R, G and B of one frame: views (h, w) of plane memory, rows may be padded."""


def upload(frames: Sequence[Planes | None], size: tuple[int, int], device: torch.device) -> Tensor:
    """Frames -> (B, 3, h, w) fp32 on the device; a missing frame is black.

    NaN becomes 0, infinities the end of the nominal range, so that one bad sample cannot poison the recurrence.
    """
    staging = torch.zeros((len(frames), 3, *size), dtype=torch.float32, device="cpu", pin_memory=device.type == "cuda")
    for target, planes in zip(staging.numpy(), frames, strict=True):
        if planes is not None:
            for channel, plane in zip(target, planes, strict=True):
                np.copyto(channel, plane)
    return staging.to(device, non_blocking=True).nan_to_num_(nan=0.0, posinf=1.0, neginf=0.0)


def download(pixels: Tensor) -> Tensor:
    """(3, H, W) on the device -> the same in host memory; on CUDA the copy is only enqueued on the current stream."""
    if pixels.device.type == "cpu":
        return pixels
    host = torch.empty(pixels.shape, dtype=pixels.dtype, device="cpu", pin_memory=True)
    return host.copy_(pixels, non_blocking=True)
