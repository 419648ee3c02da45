"""Validation: PSNR of whole clips, and how much of it comes from time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import torch
from torch import Tensor

from vs_rafrvsr.metrics import LEAST_ERROR, STUDIO_LUMA
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training.pool import PoolClip, to_and_fro

SETTLED = 8
"""From this frame on the quality no longer rises: a recurrence takes about 4 frames to settle."""
AT_ONCE = 8
"""Clips of one shape that are run together."""
LONG, LAST = 240, 16
"""Frames of a long shot, as many as the plugin plays without a restart, and how many at its end are compared with their
first passage."""
LONG_SHOTS = 4

Unroll = Callable[[Tensor, Tensor], Tensor]
"""(lr (B, T, 3, h, w) in [0, 1], flow (B, T, 2, h, w)) -> (B, T, 3, 4h, 4w)."""


class Score(NamedTuple):
    """Means over clips, in dB of PSNR-Y, no border cropped, output rounded to 8 bits."""

    all: float
    settled: float
    """Frames SETTLED and later; of shorter clips the last one."""
    first: float
    """Frame 0: no past, the single-frame quality."""


@torch.no_grad()
def validate(unroll: Unroll, clips: Sequence[PoolClip]) -> Score:
    """Run every clip from an empty state and score it."""
    by_shape: dict[tuple[int, ...], list[PoolClip]] = {}
    for clip in clips:
        by_shape.setdefault(tuple(clip.lr.shape), []).append(clip)
    rows = []
    for alike in by_shape.values():
        for start in range(0, len(alike), AT_ONCE):
            part = alike[start : start + AT_ONCE]
            lr = torch.stack([c.lr for c in part]).float() / 255
            outputs = unroll(lr, torch.stack([c.flow[:, :2] for c in part]).float())
            for clip, output in zip(part, outputs, strict=True):
                curve = psnr_y(output, clip.hr)
                rows.append(torch.stack([curve.mean(), curve[min(SETTLED, len(curve) - 1) :].mean(), curve[0]]))
    return Score(*torch.stack(rows).mean(0).tolist())


@torch.no_grad()
def validate_long(unroll: Unroll, clips: Sequence[PoolClip]) -> float:
    """PSNR-Y that frames lose from their first settled passage in a long shot to the last one, in dB.

    A recurrence may go wrong later than training's clips are long. The shots are the first few clips of the first one's
    shape, played to and fro.
    """
    alike = [clip for clip in clips if clip.lr.shape == clips[0].lr.shape][:LONG_SHOTS]
    order, backwards = to_and_fro(torch.arange(LONG), len(alike[0].lr))
    lr = torch.stack([clip.lr[order] for clip in alike]).float() / 255
    where = backwards[:, None, None, None].to(lr.device)
    flows = [torch.where(where, c.flow[order, 2:], c.flow[order, :2]) for c in alike]
    # Earlier passages count from where the recurrence has settled, else they would be worse than they can be.
    first = [SETTLED + int((order[SETTLED:] == n).nonzero()[0]) for n in order[-LAST:]]
    output = unroll(lr, torch.stack(flows).float())
    truths = [clip.hr[order[-LAST:]] for clip in alike]
    lost = [psnr_y(shot[first], t) - psnr_y(shot[-LAST:], t) for shot, t in zip(output, truths, strict=True)]
    return float(torch.stack(lost).mean())


def validate_bicubic(base: Callable[[Tensor], Tensor], clips: Sequence[PoolClip]) -> Score:
    """The score of the bicubic base alone: what a model's gain, and its gain from time, are counted from."""
    return validate(
        lambda lr, _: base(lr.flatten(0, 1)).view(*lr.shape[:3], *(SCALE * side for side in lr.shape[3:])), clips
    )


@torch.no_grad()
def write_picture(file: Path, unroll: Unroll, clip: PoolClip) -> None:
    """A settled frame of the clip, output beside truth, as a PNG."""
    part = slice(SETTLED + 1)
    output = unroll(clip.lr[None, part].float() / 255, clip.flow[None, part, :2].float())[0, -1]
    pair = torch.cat([(output.clamp(0, 1) * 255).round().byte(), clip.hr[part][-1]], 2)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), pair.flip(0).permute(1, 2, 0).contiguous().cpu().numpy())


def psnr_y(output: Tensor, truth: Tensor) -> Tensor:
    """PSNR on Y of each frame, (n,): output (n, 3, H, W) in [0, 1], truth uint8 of the same size."""
    weights = output.new_tensor(STUDIO_LUMA)[:, None, None]
    rounded = (output.clamp(0, 1) * 255).round()
    errors = ((rounded - truth.float()) / 255 * weights).sum(1)
    return 10 * torch.log10(255**2 / (errors**2).mean((1, 2)).clamp(min=LEAST_ERROR))
