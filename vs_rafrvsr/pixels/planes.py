"""RGBS frames <-> tensors, through pinned memory where there is a GPU.

Every other format reaches RGBS and comes back by VapourSynth's resizer (plugin/finish.py), on the CPU always, and on
CUDA where its kernels do not know the format or CuPy cannot be used.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.exchange import Downloaded, Pack, Staged, fetch, stage
from vs_rafrvsr.pixels.formats import FORMATS


class RgbExchange:
    """See Exchange."""

    format = FORMATS["RGBS"]

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stage(self, colours: Sequence[Colour | None], pack: Pack, size: tuple[int, int]) -> Staged:
        """See Exchange."""
        return stage(colours, pack, self.format, size, self.device)

    def upload(self, staged: Staged, size: tuple[int, int]) -> Tensor:
        """NaN becomes 0, infinities the end of the nominal range: one bad sample must not poison the recurrence."""
        rgb = staged.packed.view(torch.float32).view(-1, 3, *size).to(self.device, non_blocking=True)
        return rgb.nan_to_num(nan=0.0, posinf=1.0, neginf=0.0)

    def download(self, rgb: Tensor, colour: Colour) -> Downloaded:
        """The same numbers; RGB has no other colour."""
        del colour
        if self.device.type == "cpu":
            return Downloaded(packed=_bytes(rgb.contiguous()), event=None)
        return fetch(_bytes(rgb.clone(memory_format=torch.contiguous_format)))  # a CUDA graph's own is overwritten soon


def _bytes(rgb: Tensor) -> Tensor:
    return rgb.view(-1).view(torch.uint8)
