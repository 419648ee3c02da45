"""RGBS frames <-> tensors, through pinned memory where there is a GPU.

Every other format reaches RGBS and comes back by VapourSynth's resizer (plugin/finish.py), on the CPU always, and on
CUDA where its kernels do not know the format or CuPy cannot be used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.exchange import HostFrame
from vs_rafrvsr.pixels.formats import FORMATS


class RgbExchange:
    """See Exchange."""

    format = FORMATS["RGBS"]

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def upload(self, frames: Sequence[HostFrame | None], size: tuple[int, int]) -> Tensor:
        """NaN becomes 0, infinities the end of the nominal range: one bad sample must not poison the recurrence."""
        pinned = self.device.type == "cuda"
        staging = torch.zeros((len(frames), 3, *size), dtype=torch.float32, device="cpu", pin_memory=pinned)
        for target, frame in zip(staging.numpy(), frames, strict=True):
            if frame is not None:
                for channel, plane in zip(target, frame.planes, strict=True):
                    np.copyto(channel, plane)
        return staging.to(self.device, non_blocking=True).nan_to_num_(nan=0.0, posinf=1.0, neginf=0.0)

    def download(self, rgb: Tensor, colour: Colour) -> Tensor:
        """The same numbers; RGB has no other colour."""
        del colour
        if rgb.device.type == "cuda":
            host = torch.empty(rgb.shape, dtype=rgb.dtype, device="cpu", pin_memory=True)
            rgb = host.copy_(rgb, non_blocking=True)
        return rgb.contiguous().view(-1).view(torch.uint8)
