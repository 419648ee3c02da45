"""Scene cuts: does a new shot begin at frame n? A function of frames n-1 and n alone.

Properties that a filter upstream left are believed first (`decide`). The built-in detector asks whether the *structure*
of frame n can be found in frame n-1: each block of the current thumbnail is looked for in the previous one, by
normalised correlation over a few shifts. A pan, a zoom, a moving foreground, a flash, a fade or flicker keeps the
structure, shifted or at another gain; a cut does not.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

type Mode = Literal["auto", "props", "detect", "off"]

THRESHOLD = 0.5
"""Default score from which on a pair of frames is a cut."""

SIZE = (24, 32)
"""Height and width of a thumbnail, whatever the frame's shape: pans and blocks are shares of the frame."""
BLOCK = (12, 16)
"""Height and width of a block. Small ones find a look-alike in any picture, large ones hold several motions."""
REACH = (4, 6)
"""Largest shift searched, in thumbnail pixels: a sixth of the frame's height, three sixteenths of its width."""
DETAIL = 4
"""Radius of the local mean that is taken away: what is left is structure; the sky is above in most shots."""
NOISE = 1e-5
"""Variance of structure (of luma in [0, 1]) that counts as nothing: a standard deviation of 0.8 of 255."""
GAIN = 1e-3
"""Ratio of variances from which on a change of contrast is itself new structure: a shot out of black."""


def decide(
    mode: Mode, prev_prop: int | None, next_prop_of_previous: int | None, score: float | None, threshold: float
) -> bool:
    """Whether the state is emptied before frame n.

    `prev_prop` is `_SceneChangePrev` of frame n, `next_prop_of_previous` is `_SceneChangeNext` of frame n-1, `score`
    comes from `scores`; each is None where unknown. The first that the mode allows and that is known decides; a
    property of 0 says "no cut".
    """
    if mode in ("auto", "props"):
        for prop in (prev_prop, next_prop_of_previous):
            if prop is not None:
                return prop != 0
    return mode in ("auto", "detect") and score is not None and score >= threshold


def thumbnails(frames: Tensor) -> Tensor:
    """RGB (B, 3, h, w) in [0, 1], any h and w, to BT.709 luma (B, 24, 32) in [0, 1], float32, by area averaging.

    NaN counts as black, so that one bad sample cannot hide a cut.
    """
    red, green, blue = F.adaptive_avg_pool2d(frames.to(torch.float32), SIZE).unbind(1)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return luma.nan_to_num(nan=0.0).clamp(0, 1)


def scores(previous: Tensor, current: Tensor) -> Tensor:
    """Two stacks (B, 24, 32) of thumbnails to (B,) float32 in [0, 1]: 0 the same structure, 1 nothing in common.

    One minus the best normalised correlation of each block, averaged with the structure that both frames have there as
    the weight (flat sky and clipped highlights say nothing). Sums are taken in float64: their order, hence the batch
    and the device, does not show in the result.
    """
    (height, width), (down, across) = SIZE, REACH
    # Every shift of the previous frame as one view: (B, 2*down+1, 2*across+1, 24, 32).
    padded = F.pad(_structure(previous), (across, across, down, down), mode="replicate")
    before = padded.squeeze(1).to(torch.float64).unfold(1, height, 1).unfold(2, width, 1)
    now = _structure(current).to(torch.float64).unsqueeze(1)

    mean_before, mean_now = _block_means(before), _block_means(now)
    variance_before = (_block_means(before.square()) - mean_before.square()).clamp(min=0)
    variance_now = (_block_means(now.square()) - mean_now.square()).clamp(min=0)
    covariance = _block_means(before * now) - mean_before * mean_now

    scale = ((variance_before + GAIN * variance_now) * (variance_now + GAIN * variance_before)).sqrt()
    match = ((covariance + NOISE) / (scale + NOISE)).amax((1, 2))
    weight = (variance_before[:, down, across] * variance_now[:, 0, 0]).sqrt() + NOISE
    similarity = (match * weight).sum((1, 2)) / weight.sum((1, 2))
    return (1 - similarity).clamp(0, 1).to(torch.float32)


def _structure(luma: Tensor) -> Tensor:
    """(B, H, W) to (B, 1, H, W): luma without its local mean."""
    luma = luma.unsqueeze(1)
    around = F.pad(luma, (DETAIL,) * 4, mode="replicate")
    return luma - F.avg_pool2d(around, 2 * DETAIL + 1, stride=1)


def _block_means(x: Tensor) -> Tensor:
    """(..., 24, 32) to (..., rows, columns): the mean of each block."""
    (height, width), (tall, wide) = SIZE, BLOCK
    blocks: Tensor = x.unflatten(-1, (width // wide, wide)).unflatten(-3, (height // tall, tall))
    return blocks.mean((-3, -1))
