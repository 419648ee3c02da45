"""Scene cuts: does a new shot begin at frame n? A function of frames n-1 and n alone.

Properties that a filter upstream left are believed first (`decide`). The built-in detector asks whether the *structure*
of frame n can be found in frame n-1: blocks of the current thumbnail are looked for in the previous one by normalised
correlation, all at one shift (the camera's), from which each block may stray by a pixel. A pan, a zoom, shake, a moving
foreground, a flash, a fade or flicker keeps the structure, elsewhere or at another gain; a cut does not.

The constants were tuned, and the detector measured on other sources, by scripts/measure_scenecut.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vs_rafrvsr.options import SceneCut

THRESHOLD = 0.52
"""Default score from which on a pair of frames is a cut."""

SIZE = (24, 32)
"""Height and width of a thumbnail, whatever the frame's shape: motion and blocks are shares of the frame."""
BLOCK = 8
"""Side of a block. Small ones find a look-alike in any picture, large ones hold several motions."""
REACH = (4, 6)
"""Largest camera shift, down and across: a sixth of the frame's height, three sixteenths of its width."""
STRAY = 1
"""How far a block's shift may lie from the camera's: parallax, zoom, rotation, things that move."""
DETAIL = 2
"""Radius of the local mean that is taken away, because bright sky over dark ground is common to most shots."""
NOISE = 3e-6
"""Variance of structure that counts as nothing: a standard deviation of 0.4/255, less than a quantisation step."""
BLACK = 1 / 32
"""Luma under which the whole of a frame is black. A shot that follows black is new."""
WHITE = (0.95, 0.8)
"""A frame with luma over the first on more than the second's share of its area is overexposed. It is a flash, or the
end of a fade: what little is left to compare is chance."""
RISE = 1e-2
"""Share of its own variance that structure is measured against after black: a fade's first step stays under NOISE."""


def decide(
    mode: SceneCut, prev_prop: int | None, next_prop_of_previous: int | None, score: float | None, threshold: float
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

    NaN and infinities are brought into range, so that a bad sample spoils one thumbnail pixel, not the score.
    """
    red, green, blue = F.adaptive_avg_pool2d(frames.to(torch.float32), SIZE).unbind(1)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return luma.nan_to_num(nan=0.0).clamp(0, 1)


def scores(previous: Tensor, current: Tensor) -> Tensor:
    """Two stacks (B, 24, 32) of thumbnails to (B,) float32 in [0, 1]: 0 the same structure, 1 nothing in common.

    One minus the blocks' mean correlation at the best camera shift. A block weighs as much as the structure that both
    frames have there: flat sky and clipped highlights say nothing, nor does a flat frame, unless the previous one is
    black. Overexposed frames score 0.
    Sums are taken in float64, so that their order, hence the batch and the device, does not show in the result.
    """
    (height, width), (down, across) = SIZE, REACH
    # Every shift of the previous frame, as one view (B, 2*down+1, 2*across+1, 24, 32).
    padded = F.pad(_structure(previous), (across, across, down, down), mode="replicate").squeeze(1)
    before = padded.unfold(1, height, 1).unfold(2, width, 1)
    now = _structure(current).unsqueeze(1)

    mean_before, mean_now = _block_means(before), _block_means(now)
    variance_before = (_block_means(before.square()) - mean_before.square()).clamp(min=0)
    variance_now = (_block_means(now.square()) - mean_now.square()).clamp(min=0)
    covariance = _block_means(before * now) - mean_before * mean_now

    after_black = (previous.amax((1, 2)) < BLACK).to(torch.float64)[:, None, None, None]
    scale = (variance_before * variance_now).sqrt().maximum(RISE * after_black * variance_now)
    match = (covariance + NOISE) / (scale + NOISE)  # (B, blocks, shifts down, shifts across)
    strayed = F.max_pool2d(match, 2 * STRAY + 1, stride=1, padding=STRAY)
    weight = scale[..., down, across] + NOISE
    weight = (weight / weight.sum(1, keepdim=True))[..., None, None]
    similarity = (strayed * weight).sum(1).amax((1, 2))
    known = ~(_overexposed(previous) | _overexposed(current))
    return ((1 - similarity).clamp(0, 1) * known).to(torch.float32)


def _overexposed(luma: Tensor) -> Tensor:
    """(B, H, W) to bool (B,)."""
    level, share = WHITE
    return (luma > level).to(torch.float64).mean((1, 2)) > share


def _structure(luma: Tensor) -> Tensor:
    """(B, H, W) to float64 (B, 1, H, W): luma without its local mean."""
    luma = luma.to(torch.float64).unsqueeze(1)
    around = F.pad(luma, (DETAIL,) * 4, mode="replicate")
    return luma - F.avg_pool2d(around, 2 * DETAIL + 1, stride=1)


def _block_means(x: Tensor) -> Tensor:
    """(B, shifts down, shifts across, 24, 32) to (B, blocks, shifts down, shifts across): the mean of each block."""
    rows, columns = SIZE[0] // BLOCK, SIZE[1] // BLOCK
    blocks: Tensor = x.unflatten(-1, (columns, BLOCK)).unflatten(-3, (rows, BLOCK))
    return blocks.mean((-3, -1)).flatten(-2).movedim(-1, 1)
