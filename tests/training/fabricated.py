"""Small made-up clips, and a recipe for them, that the training tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vs_rafrvsr.training.degrade import degrade
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.pool import PoolClip
from vs_rafrvsr.training.recipe import Recipe, change


def picture(height: int, width: int, seed: int = 0, grain: int = 4) -> Tensor:
    """(3, height, width) uint8, random with features of `grain` pixels, and without any symmetry."""
    coarse = torch.rand(1, 3, height // grain, width // grain, generator=torch.Generator().manual_seed(seed))
    fine = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (fine[0] * 255).round().to(torch.uint8)


def clip(
    name: str, frames: int, height: int, width: int, kind: str = "bi", seed: int = 0, camera: bool = False
) -> PoolClip:
    """A clip whose frame t is a picture moved left by 4t HR pixels: its flow to the frame before is exactly (+1, 0)."""
    wide = picture(height, width + 4 * frames, seed)
    hr = torch.stack([wide[:, :, 4 * t : 4 * t + width] for t in range(frames)])
    flow = torch.zeros(frames, 4, height // 4, width // 4, dtype=torch.float16)
    flow[1:, 0] = 1
    flow[:-1, 2] = -1
    return PoolClip(name, name, hr, degrade(hr, kind), flow, 1.0, camera)


def write_image(path: Path, height: int, width: int, value: int = 0) -> None:
    """A PNG of black but for its red, which OpenCV keeps last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = value
    cv2.imwrite(str(path), image)


def tiny(**changes: Any) -> Recipe:  # noqa: ANN401  (recipe values)
    recipe = Recipe(name="tiny", steps=12, batch=2, frames=3, crop=8, warm_up=2, report_every=4, validate_every=8)
    model = {"channels": 4, "blocks": 1, **changes.pop("model", {})}
    return change(recipe, {"checkpoint_every": 4, "model": model, **changes})


def losses_of(trainer: Trainer) -> list[float]:
    """What a run reports, to its end."""
    return [row["loss"] for row in trainer.run()]
