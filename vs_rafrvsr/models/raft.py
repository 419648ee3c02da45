"""RAFT optical flow for inference: our own forward over torchvision's `raft_small` (Teed & Deng 2020).

torchvision's forward keeps the correlation pyramid on the module, upsamples the flow of every update, rejects small
inputs and recomputes a frame's features for every pair. Ours keeps nothing, upsamples once, and splits encoding from
matching, so that a frame's features serve the two pairs it is in. Parameters and their names are torchvision's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import RAFT

STRIDE = 8
"""RAFT matches on a grid of every 8th pixel of its input."""

MAX_AREA = 960 * 544
"""Most pixels of RAFT's input: the correlation volume grows with the square of the area."""

MAX_PIXELS = 2 * MAX_AREA
"""Most pixels of RAFT's input that are encoded at once: the activations take some hundred times their memory."""

MAX_VOLUME = 2**26
"""Most entries of the correlation volumes (finest level) that are held at once; 256 MiB in fp32."""


class Features(NamedTuple):
    """One batch of encoded frames."""

    matching: Tensor
    """(B, 128, H/8, W/8), what is correlated."""
    context: Tensor
    """(B, 160, H/8, W/8), the update block's hidden state and context."""


def working_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """RAFT's input size for a frame: `scale` times as large where MAX_AREA allows it, never larger.

    Where that is less than a tenth away from the frame's own size, it is that: resampling would only blur.
    """
    scale = min(scale, math.sqrt(MAX_AREA / (height * width)))
    if 1 <= scale < 1.1:
        scale = 1
    return max(STRIDE, round(height * scale)), max(STRIDE, round(width * scale))


def encode(net: RAFT, frames: Tensor, scale: float) -> Features:
    """Frames (B, 3, h, w) in [0, 1] -> features at the working size.

    Large frames are encoded a few at a time; how many depends on the size alone.
    """
    height, width = working_size(frames.shape[-2], frames.shape[-1], scale)
    parts = [_encode(net, part, scale) for part in frames.split(max(1, MAX_PIXELS // (height * width)))]
    return Features(*(torch.cat(same) for same in zip(*parts, strict=True)))


def _encode(net: RAFT, frames: Tensor, scale: float) -> Features:
    x = prepare(frames, scale)
    return Features(net.feature_encoder(x), net.context_encoder(x))


def prepare(frames: Tensor, scale: float) -> Tensor:
    """RAFT's input: frames (B, 3, h, w) in [0, 1] -> [-1, 1] at the working size, padded to multiples of 8."""
    height, width = frames.shape[-2:]
    size = working_size(height, width, scale)
    x = frames * 2 - 1
    if size != (height, width):
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=size[0] < height)
    return F.pad(x, (0, -size[1] % STRIDE, 0, -size[0] % STRIDE), mode="replicate")


def flow(net: RAFT, current: Features, previous: Features, size: tuple[int, int], scale: float, updates: int) -> Tensor:
    """Flow of `current` towards `previous`, (B, 2, h, w) fp32 in pixels of the frames, whose size (h, w) is given.

    Large frames are matched a few pairs at a time; how many depends on the size alone.
    """
    rows, columns = current.matching.shape[-2:]
    pairs = max(1, MAX_VOLUME // (rows * columns) ** 2)
    parts = [
        _match(net, Features(*c), p, updates)
        for *c, p in zip(*(x.split(pairs) for x in (*current, previous.matching)), strict=True)
    ]
    return to_frame_size(torch.cat(parts), size, working_size(*size, scale))


def _match(net: RAFT, current: Features, previous: Tensor, updates: int) -> Tensor:
    """The iterative updates (RAFT, section 3.3): flow (B, 2, H/8, W/8) fp32 in pixels of the matching grid.

    Coordinates and what is sampled at them are fp32 under autocast too.
    """
    pyramid = _correlation_pyramid(current.matching, previous, net.corr_block.num_levels)
    hidden_size = net.update_block.hidden_state_size
    hidden = torch.tanh(current.context[:, :hidden_size])
    context = F.relu(current.context[:, hidden_size:])
    batch, _, rows, columns = hidden.shape
    ys = torch.arange(rows, device=hidden.device, dtype=torch.float32)[:, None].expand(rows, columns)
    xs = torch.arange(columns, device=hidden.device, dtype=torch.float32).expand(rows, columns)
    origin = torch.stack([xs, ys])
    estimate = torch.zeros(batch, 2, rows, columns, device=hidden.device, dtype=torch.float32)
    for _ in range(updates):
        samples = _look_up(pyramid, origin + estimate, net.corr_block.radius)
        hidden, delta = net.update_block(hidden, context, samples, estimate)
        estimate = estimate + delta
    return estimate


def _correlation_pyramid(current: Tensor, previous: Tensor, levels: int) -> list[Tensor]:
    """All-pairs correlation, pooled `levels - 1` times over the previous frame (RAFT, section 3.2).

    Level i is (B*rows*columns, 1, rows / 2^i, columns / 2^i). A side that has shrunk to 1 is not pooled further,
    which is what lets small frames through.
    """
    batch, channels, rows, columns = current.shape
    volume = (current / math.sqrt(channels)).flatten(2).transpose(1, 2) @ previous.flatten(2)
    pyramid = [volume.float().reshape(batch * rows * columns, 1, rows, columns)]
    for _ in range(levels - 1):
        kernel = [min(2, side) for side in pyramid[-1].shape[-2:]]
        pyramid.append(F.avg_pool2d(pyramid[-1], kernel, kernel))
    return pyramid


def _look_up(pyramid: list[Tensor], position: Tensor, radius: int) -> Tensor:
    """Sample each level in a (2r+1)^2 window around `position` (B, 2, rows, columns).

    Returns (B, levels * (2r+1)^2, rows, columns). The window runs down its columns first, as the published weights
    expect (RAFT's and torchvision's meshgrid).
    """
    batch, _, rows, columns = position.shape
    offsets = torch.arange(-radius, radius + 1, device=position.device, dtype=position.dtype)
    window = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1)
    centre = position.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    samples = []
    for level, volume in enumerate(pyramid):
        height, width = volume.shape[-2:]
        x, y = (centre / 2**level + window).unbind(-1)
        # Numbers, not a tensor of them: a copy from the host cannot be captured in a CUDA graph.
        grid = torch.stack([x * (2 / max(width - 1, 1)), y * (2 / max(height - 1, 1))], -1) - 1
        samples.append(F.grid_sample(volume, grid, align_corners=True).view(batch, rows, columns, -1))
    return torch.cat(samples, -1).permute(0, 3, 1, 2).contiguous()


def to_frame_size(estimate: Tensor, size: tuple[int, int], working: tuple[int, int]) -> Tensor:
    """Flow on the matching grid -> pixels of the frame: to the working size as RAFT-small does, then to `size`."""
    x = STRIDE * F.interpolate(estimate.float(), scale_factor=STRIDE, mode="bilinear", align_corners=True)
    x = x[:, :, : working[0], : working[1]]
    if working == size:
        return x
    mode = "area" if working[0] > size[0] else "bilinear"
    x = F.interpolate(x, size=size, mode=mode)
    return torch.cat([x[:, :1] * (size[1] / working[1]), x[:, 1:] * (size[0] / working[0])], 1)
