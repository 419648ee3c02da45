"""Smooth camera motion over stills: clips with the exact flow between their frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vs_rafrvsr.models.warp import SCALE

Affine = NDArray[np.float64]
"""(2, 3): maps centred pixel coordinates (x, y) of one frame to another's."""


@dataclass(frozen=True)
class Camera:
    """Ranges from which a path is drawn."""

    step: tuple[float, float]
    """Sampling step in pixels of the still; under 1 enlarges it, so the clip is soft."""
    speed: tuple[float, float] = (0.05, 4.0)
    """LR pixels a frame, log-uniform."""


def path(rng: np.random.Generator, frames: int, camera: Camera) -> list[Affine]:
    """One map per frame, from its pixels to the still's; the middle of the way looks near the still's centre."""
    here = affine(rng.uniform(-0.3, 0.3), rng.uniform(*camera.step), 0, 0)
    first, last = _velocity(rng, camera, frames), _velocity(rng, camera, frames)
    maps = [here]
    for t in range(1, frames):
        mix = 0.5 - 0.5 * math.cos(math.pi * t / frames)
        maps.append(compose(maps[-1], first * (1 - mix) + last * mix))
    centre = maps[frames // 2][:, 2] + rng.uniform(-20, 20, 2)
    return [np.column_stack([m[:, :2], m[:, 2] - centre]) for m in maps]


def render(still: Tensor, maps: list[Affine], size: tuple[int, int]) -> Tensor:
    """The still (3, H, W) uint8 seen along the path: (n, 3, *size) uint8, bicubic, reflected beyond its border."""
    image = still[None].float() / 255
    frames = [_fetch(image, m, size) for m in maps]
    return torch.cat([(x.clamp(0, 1) * 255).round().to(torch.uint8) for x in frames])


def exact_flow(maps: list[Affine], size: tuple[int, int], device: torch.device) -> Tensor:
    """(n, 4, h, w) fp32 in LR pixels for HR frames of `size`: to the frame before, to the frame after, 0 at the ends.

    An LR pixel stands for the centre of its 4x4 HR pixels.
    """
    rows, columns = size[0] // SCALE, size[1] // SCALE
    centres = _positions((rows, columns), device) * SCALE
    flow = torch.zeros(len(maps), 4, rows, columns, device=device)
    for t, here in enumerate(maps):
        for at, other in ((0, t - 1), (2, t + 1)):
            if 0 <= other < len(maps):
                moved = _apply(compose(inverse(maps[other]), here), centres)
                flow[t, at : at + 2] = ((moved - centres) / SCALE).permute(2, 0, 1)
    return flow


def affine(rotation: float, scale: float, x: float, y: float) -> Affine:
    """Rotation in radians, then scaling, then translation in pixels."""
    c, s = math.cos(rotation) * scale, math.sin(rotation) * scale
    return np.array([[c, -s, x], [s, c, y]])


def compose(after: Affine, before: Affine) -> Affine:
    """The map that applies `before`, then `after`."""
    return np.column_stack([after[:, :2] @ before[:, :2], after[:, :2] @ before[:, 2] + after[:, 2]])


def inverse(m: Affine) -> Affine:
    """The map back."""
    back = np.linalg.inv(m[:, :2])
    return np.column_stack([back, -back @ m[:, 2]])


def _velocity(rng: np.random.Generator, camera: Camera, frames: int) -> Affine:
    """Motion between neighbouring frames: slow paths turn and zoom less, and long ones not more than those of 16."""
    low, high = np.log(camera.speed)
    speed = math.exp(rng.uniform(low, high))
    angle = rng.uniform(0, 2 * math.pi)
    share = min(1.0, max(0.1, speed / camera.speed[1])) * min(1.0, 16 / frames)
    turn, zoom = rng.uniform(-0.03, 0.03, 2) * share
    return affine(turn, 1 + zoom, SCALE * speed * math.cos(angle), SCALE * speed * math.sin(angle))


def _positions(size: tuple[int, int], device: torch.device) -> Tensor:
    """(h, w, 2) centred (x, y)."""
    height, width = size
    ys = torch.arange(height, device=device, dtype=torch.float32) - (height - 1) / 2
    xs = torch.arange(width, device=device, dtype=torch.float32) - (width - 1) / 2
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)


def _apply(m: Affine, positions: Tensor) -> Tensor:
    matrix = torch.from_numpy(m).to(positions)
    return positions @ matrix[:, :2].T + matrix[:, 2]


def _fetch(image: Tensor, m: Affine, size: tuple[int, int]) -> Tensor:
    height, width = image.shape[-2:]
    grid = _apply(m, _positions(size, image.device)) * torch.tensor(
        [2 / (width - 1), 2 / (height - 1)], device=image.device
    )
    return F.grid_sample(image, grid[None], mode="bicubic", padding_mode="reflection", align_corners=True)
