"""The *real* degradation: what happens to video before users get it, drawn anew for every clip.

Blur, downscaling by 4 with any kernel, noise, JPEG, and a real H.264 or H.265 encoder, in the order in which a picture
meets them; a share of the clips is only downscaled, so that clean sources stay sharp. After Real-ESRGAN (Wang et al.
2021, arXiv 2107.10833) and RealBasicVSR (Chan et al. 2022, arXiv 2111.12704), with milder ranges, because a
restoration that expects the worst paints over what is there. Samples stay centred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training.codec import Codec, compress, jpeg
from vs_rafrvsr.training.degrade import AT_ONCE

CLEAN = 0.2
"""Share of clips that are downscaled and nothing else."""
RESAMPLERS = ("bicubic", "bilinear", "area")
RADIUS = 8
"""Of the blur's kernel, in HR pixels."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What one clip goes through; None and 0 leave a step out."""

    blur: tuple[float, float, float] | None = None
    """Gaussian: sigma along and across in HR pixels, angle in radians."""
    middle: float | None = None
    """An earlier resize, to this fraction of the truth's sides: a source that was scaled before."""
    resampler: str = "bicubic"
    """Of both resizes."""
    noise: float = 0.0
    """Sigma of Gaussian noise in 8-bit steps."""
    shot: float = 0.0
    """Shot noise: sigma at full white in 8-bit steps; it falls with the root of brightness."""
    grey: bool = False
    """The same noise in all channels."""
    quality: int | None = None
    """JPEG's."""
    codec: Codec | None = None


def draw(rng: np.random.Generator) -> Damage:
    """A clip's damage. Most are compressed, as nearly all video is, and a third of those nothing else."""
    if rng.random() < CLEAN:
        return Damage()
    chance = rng.random(6)
    name = "libx264" if rng.random() < 0.6 else "libx265"
    preset = "medium" if rng.random() < 0.5 else "veryfast"
    return Damage(
        blur=(*rng.uniform(0.4, 2.4, 2), rng.uniform(0, math.pi)) if chance[0] < 0.3 else None,
        middle=rng.uniform(0.35, 0.9) if chance[1] < 0.15 else None,
        resampler=RESAMPLERS[rng.integers(len(RESAMPLERS))],
        noise=rng.uniform(0.5, 12) if chance[2] < 0.3 else 0.0,
        shot=rng.uniform(1, 12) if chance[3] < 0.15 else 0.0,
        grey=rng.random() < 0.4,
        quality=int(rng.integers(50, 96)) if chance[4] < 0.1 else None,
        codec=Codec(name=name, crf=int(rng.integers(16, 38)), preset=preset) if chance[5] < 0.85 else None,
    )


def shrink(hr: Tensor, damage: Damage, rng: np.random.Generator) -> Tensor:
    """The steps on the device: truth (N, 3, H, W) uint8 -> (N, 3, H/4, W/4) uint8, noise in it, not yet compressed."""
    parts = []
    for frames in hr.split(AT_ONCE):
        x = frames.float() / 255
        if damage.blur is not None:
            x = blur(x, damage.blur)
        height, width = x.shape[-2:]
        if damage.middle is not None:
            x = resize(x, (round(height * damage.middle), round(width * damage.middle)), damage.resampler)
        parts.append(resize(x, (height // SCALE, width // SCALE), damage.resampler))
    lr = torch.cat(parts)
    if damage.noise or damage.shot:
        variance = damage.noise**2 + damage.shot**2 * lr.clamp(min=0)
        shape = (len(lr), 1 if damage.grey else 3, *lr.shape[-2:])
        lr = lr + torch.from_numpy(rng.standard_normal(shape, np.float32)).to(lr) * variance.sqrt() / 255
    return (lr.clamp(0, 1) * 255).round().to(torch.uint8)


def squeeze(lr: Tensor, damage: Damage) -> Tensor:
    """The steps on the CPU: LR frames (N, 3, h, w) uint8 through JPEG and the encoder, the same shape and device."""
    if damage.quality is None and damage.codec is None:
        return lr
    frames = np.ascontiguousarray(lr.permute(0, 2, 3, 1).cpu().numpy())
    if damage.quality is not None:
        frames = jpeg(frames, damage.quality)
    if damage.codec is not None:
        frames = compress(frames, damage.codec)
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).to(lr.device)


def blur(x: Tensor, shape: tuple[float, float, float]) -> Tensor:
    """Gaussian of two sigmas at an angle, reflected border: (N, 3, H, W) -> the same."""
    along, across, angle = shape
    line = torch.arange(-RADIUS, RADIUS + 1, device=x.device, dtype=torch.float32)
    ys, xs = torch.meshgrid(line, line, indexing="ij")
    u, v = xs * math.cos(angle) + ys * math.sin(angle), ys * math.cos(angle) - xs * math.sin(angle)
    kernel = torch.exp(-((u / along) ** 2 + (v / across) ** 2) / 2)
    planes = F.pad(x.flatten(0, 1)[:, None], (RADIUS,) * 4, mode="reflect")
    return F.conv2d(planes, (kernel / kernel.sum())[None, None]).view_as(x)


def resize(x: Tensor, size: tuple[int, int], resampler: str) -> Tensor:
    """To `size` around pixel centres, antialiased."""
    if resampler == "area":
        return F.interpolate(x, size, mode="area")
    return F.interpolate(x, size, mode=resampler, antialias=True, align_corners=False)
