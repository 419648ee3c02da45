"""Which route a clip's frames take: kernels on the GPU where they know the format and CuPy works, else RGBS."""

from __future__ import annotations

import torch

from vs_rafrvsr.pixels import cuda
from vs_rafrvsr.pixels.exchange import Exchange
from vs_rafrvsr.pixels.formats import FORMATS
from vs_rafrvsr.pixels.rgb import RgbExchange


def choose(name: str, device: torch.device) -> tuple[Exchange, str | None]:
    """The exchange for a format, by VapourSynth's name, and why it is not the fastest one, if there is a remedy.

    Raises:
        RuntimeError, MemoryError: see `cuda.trouble`.
    """
    fmt = FORMATS.get(name)
    if device.type == "cpu" or fmt is None:
        return RgbExchange(device), None
    why = cuda.trouble(fmt, device)
    return (cuda.CudaExchange(fmt, device), None) if why is None else (RgbExchange(device), why)
