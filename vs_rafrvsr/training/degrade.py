"""Degradations that make the low-resolution frame from the truth, each by its published name.

`PHASE` says where a kind's LR samples lie: LR pixel i on HR pixel 4i - offset, as `models.warp.BicubicBase` reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vs_rafrvsr.models.warp import SCALE


def bicubic(hr: Tensor) -> Tensor:
    """BI: antialiased bicubic x1/4, a = -0.5, MATLAB's `imresize`. (N, 3, H, W) in [0, 1] -> (N, 3, H/4, W/4)."""
    return F.interpolate(hr, scale_factor=1 / SCALE, mode="bicubic", antialias=True, align_corners=False)


def blur_down(hr: Tensor, sigma: float, radius: int) -> Tensor:
    """Gaussian blur (2 * radius + 1 taps a direction, reflected border), then every 4th pixel from pixel 0.

    (N, 3, H, W) in [0, 1] -> (N, 3, H/4, W/4).
    """
    taps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    line = torch.exp(-(taps**2) / (2 * sigma**2))
    line = (line / line.sum()).to(hr)
    count, channels, height, width = hr.shape
    padded = F.pad(hr.reshape(count * channels, 1, height, width), (radius,) * 4, mode="reflect")
    blurred = F.conv2d(padded, torch.outer(line, line)[None, None], stride=SCALE)
    return blurred.reshape(count, channels, height // SCALE, width // SCALE)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "bi": bicubic,
    "bd": partial(blur_down, sigma=1.6, radius=6),
    "bd-1.5": partial(blur_down, sigma=1.5, radius=4),
}
"""BI and BD of the benchmarks; TecoGAN's BD has a sigma of 1.5 and 9 taps."""
MADE_FOR = {
    "bi": "BI: bicubic x1/4 of clean video, centre-aligned",
    "bd": "BD: Gaussian blur of sigma 1.6, every 4th pixel; for benchmarks only",
    "bd-1.5": "BD: Gaussian blur of sigma 1.5, every 4th pixel; for benchmarks only",
    "real": "real video: blur, any downscaler, noise, JPEG, H.264 and H.265; centre-aligned",
}
"""What a model trained on each is for, as its weights file says it."""
AT_ONCE = 16
"""Frames that are degraded together: as fp32 a whole clip may not fit into memory."""
PHASE = {"bi": -1.5, "bd": 0.0, "bd-1.5": 0.0, "real": -1.5}


def degrade(hr: Tensor, kind: str) -> Tensor:
    """Truth frames (N, 3, H, W) uint8, sides divisible by 4 -> LR frames (N, 3, H/4, W/4) uint8, rounded."""
    small = [KINDS[kind](frames.float() / 255) for frames in hr.split(AT_ONCE)]
    return torch.cat([(x.clamp(0, 1) * 255).round().to(torch.uint8) for x in small])
