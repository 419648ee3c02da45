"""Geometry that every recurrent model shares: backward warping, space-to-depth, and the bicubic base."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 4


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Fetch x at every pixel's position plus its flow: out(p) = x(p + flow(p)), bilinear, border replicated.

    Args:
        x: (B, C, H, W), any floating dtype.
        flow: (B, 2, H, W), (x, y) in pixels of x.

    Returns:
        (B, C, H, W) in x's dtype. Coordinates are kept in fp32: half precision is off by up to 0.17 px at a width
        of 180, and more on wider frames.
    """
    height, width = x.shape[-2:]
    ys = torch.arange(height, device=x.device, dtype=torch.float32)[:, None]
    xs = torch.arange(width, device=x.device, dtype=torch.float32)
    grid_x = (xs + flow[:, 0].float()) * (2 / (width - 1)) - 1
    grid_y = (ys + flow[:, 1].float()) * (2 / (height - 1)) - 1
    grid = torch.stack([grid_x, grid_y], -1)
    return F.grid_sample(x.float(), grid, padding_mode="border", align_corners=True).to(x.dtype)


def upsample_flow(flow: Tensor) -> Tensor:
    """LR flow (B, 2, h, w) in LR pixels -> HR flow (B, 2, 4h, 4w) in HR pixels, bilinear around pixel centres."""
    return F.interpolate(flow.float(), scale_factor=SCALE, mode="bilinear", align_corners=False) * SCALE


def space_to_depth(hr: Tensor) -> Tensor:
    """(B, C, 4h, 4w) -> (B, 16C, h, w): channel 16c + 4dy + dx is HR pixel (4y + dy, 4x + dx) (FRVSR, sec. 3.2)."""
    return F.pixel_unshuffle(hr, SCALE)


def depth_to_space(features: Tensor) -> Tensor:
    """(B, 16C, h, w) -> (B, C, 4h, 4w), the inverse of `space_to_depth`."""
    return F.pixel_shuffle(features, SCALE)


def _catmull_rom(x: float) -> float:
    """Keys' cubic kernel with a = -0.5 (Keys 1981)."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


class BicubicBase(nn.Module):
    """Bicubic x4 (a = -0.5, replicated border) as a convolution with one 5x5 kernel per output phase.

    `offset` places LR pixel i on HR pixel 4i - offset: -1.5 centres it as every resizer does, 0 is the phase of
    the BD benchmark, whose samples lie on HR pixel 4i.
    """

    kernel: Tensor

    def __init__(self, offset: float = -1.5) -> None:
        super().__init__()
        rows = torch.tensor(
            [[_catmull_rom(tap - 2 - (phase + offset) / SCALE) for tap in range(5)] for phase in range(4)],
            dtype=torch.float32,
        )
        kernel = torch.einsum("ai,bj->abij", rows, rows).reshape(16, 1, 5, 5)
        self.register_buffer("kernel", kernel / kernel.sum((2, 3), keepdim=True), persistent=False)

    def forward(self, lr: Tensor, residual: Tensor | None = None) -> Tensor:
        """(B, C, h, w) fp32 -> (B, C, 4h, 4w) fp32, with a residual (B, 16C, h, w) before depth-to-space added."""
        batch, channels, height, width = lr.shape
        padded = F.pad(lr.reshape(batch * channels, 1, height, width), (2, 2, 2, 2), mode="replicate")
        phases = F.conv2d(padded, self.kernel).reshape(batch, channels * SCALE**2, height, width)
        if residual is not None:
            phases += residual
        return depth_to_space(phases)
