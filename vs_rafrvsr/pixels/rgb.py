"""RGBS frames <-> tensors, through pinned memory where there is a GPU.

Every other format reaches RGBS and comes back by VapourSynth's resizer (plugin/finish.py), on the CPU always, and on
CUDA where its kernels do not know the format or CuPy cannot be used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.exchange import Downloaded, Exchange, Staged, fetch
from vs_rafrvsr.pixels.formats import FORMATS


class RgbExchange(Exchange):
    """RGBS as it is."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(FORMATS["RGBS"], device)

    def upload(self, staged: Staged, size: tuple[int, int]) -> Tensor:
        """See Exchange."""
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
