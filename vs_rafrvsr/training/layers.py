"""Something that moves over a picture of another motion: letters, stripes, or a piece of another picture.

A camera over a still moves all of it alike, and in the packs' footage hardly anything passes before anything else.
Where it does, the flow has no right answer: it is coarser than letters are, and what was hidden has no past. A network
that never met that trusts what was moved into place, and draws trails around titles and subtitles.
"""

from __future__ import annotations

import math
import string

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training.motion import Affine, Camera, affine, exact_flow, path, render

KINDS = ("letters", "stripes", "piece")
STANDING = 0.3
"""Share of what is in front that does not move: subtitles, logos."""
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
LETTERS = string.ascii_letters + string.digits + "    .,-?!"
FINER = 2
"""Letters are drawn so many times as large and averaged down."""

type Plane = NDArray[np.float64]
"""(H, W), in [0, 1]."""


def layered(
    back: Tensor, other: Tensor, rng: np.random.Generator, frames: int, size: tuple[int, int], camera: Camera
) -> tuple[Tensor, Tensor]:
    """A clip of two layers, and its flow as `motion.exact_flow` has it, of the layer that is seen.

    Args:
        back: (3, H, W) uint8, the picture behind.
        other: the same, what a piece is cut from.
        rng: draws everything.
        frames: n.
        size: of the frames.
        camera: how each layer moves.

    Returns:
        (n, 3, *size) uint8, and (n, 4, size / 4) fp32.
    """
    behind = path(rng, frames, camera)
    before = [affine(0, 1, 0, 0)] * frames if rng.random() < STANDING else path(rng, frames, camera)
    front = _front(other, rng).to(back.device)
    return _over(render(front, before, size), render(back, behind, size)), _seen(front, before, behind, size)


def _over(front: Tensor, back: Tensor) -> Tensor:
    """Frames (n, 4, H, W) uint8 with opacity over frames (n, 3, H, W) uint8."""
    opacity = front[:, 3:].float() / 255
    mixed = back.float() + (front[:, :3].float() - back.float()) * opacity
    return mixed.round().to(torch.uint8)


def _seen(front: Tensor, before: list[Affine], behind: list[Affine], size: tuple[int, int]) -> Tensor:
    """The front's flow where it covers more than half of an LR pixel, the back's elsewhere."""
    covered = F.avg_pool2d(render(front[3:], before, size).float() / 255, SCALE) > 0.5
    flow, hidden = (exact_flow(maps, size, front.device) for maps in (before, behind))
    return torch.where(covered, flow, hidden)


def _front(other: Tensor, rng: np.random.Generator) -> Tensor:
    """(4, H, W) uint8, RGB and opacity, as large as `other`."""
    size = (other.shape[-2], other.shape[-1])
    kind = KINDS[rng.integers(len(KINDS))]
    if kind == "piece":
        colour, opacity = other.cpu().numpy().astype(np.float64) / 255, _blobs(size, rng)
    elif kind == "stripes":
        colour, opacity = _stripes(size, rng)[None] * rng.uniform(0.5, 1, (3, 1, 1)), _shapes(size, rng)
    else:
        colour, opacity = np.broadcast_to(_ink(rng)[:, None, None], (3, *size)), _letters(size, rng)
    picture = np.concatenate([colour, opacity[None]])
    return torch.from_numpy(np.rint(picture.clip(0, 1) * 255).astype(np.uint8))


def _ink(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3,): white most often, black, or any colour."""
    chance = rng.random()
    return np.ones(3) if chance < 0.5 else np.zeros(3) if chance < 0.7 else rng.random(3)


def _letters(size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Lines of letters of 8 to 40 pixels."""
    height, width = size
    canvas = np.zeros((height * FINER, width * FINER), np.uint8)
    font, tall = FONTS[rng.integers(len(FONTS))], rng.uniform(8, 40)
    thickness = max(1, round(FINER * tall * rng.uniform(0.06, 0.2)))
    scale = cv2.getFontScaleFromHeight(font, round(FINER * tall), thickness)
    for line in np.arange(tall, height, tall * rng.uniform(1.4, 2.5)):
        text = "".join(rng.choice(list(LETTERS), int(width / tall * 1.5)))
        left = int(rng.integers(-40, 40))
        cv2.putText(canvas, text, (left, int(FINER * line)), font, scale, 255, thickness, cv2.LINE_AA)
    return rng.uniform(0.8, 1) * cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA) / 255


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Bars, rings or squares of 5 to 32 pixels a period, soft or hard."""
    y, x = np.mgrid[: size[0], : size[1]] - np.array(size).reshape(2, 1, 1) / 2
    angle, pace = rng.uniform(0, math.pi), 2 * math.pi / math.exp(rng.uniform(math.log(5), math.log(32)))
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    chance = rng.random()
    wave = np.cos(pace * (np.hypot(along, across) if chance < 0.25 else along))
    if chance > 0.75:
        wave *= np.cos(pace * across)
    sharpness = rng.choice([1, 4])
    grey: Plane = 0.5 + 0.5 * np.clip(sharpness * wave, -1, 1)
    return grey


def _shapes(size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Three discs or rectangles anywhere."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    inside = np.zeros(size)
    for _ in range(3):
        middle, half = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(20, 0.3 * min(size), 2)
        down, over = abs(y - middle[0]) / half[0], abs(x - middle[1]) / half[1]
        far = np.hypot(down, over) if rng.random() < 0.5 else np.maximum(down, over)
        inside = np.maximum(inside, ((1 - far) * min(half) + 0.5).clip(0, 1))
    return inside


def _blobs(size: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Smooth outlines around a quarter to a half of the picture, a pixel soft."""
    coarse = cv2.resize(rng.random((6, 6)), (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    level = np.quantile(coarse, rng.uniform(0.5, 0.75))
    slope = np.hypot(*np.gradient(coarse)) + 1e-6
    inside: Plane = np.clip((coarse - level) / slope + 0.5, 0, 1)
    return inside
