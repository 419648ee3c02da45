"""All clips on the device as flat uint8 tensors, and batches cut from them by one gather each.

A batch is a small table of integers, the plan, drawn on the host; crops, flips, turns and time reversal are only other
indices into the pool. So sampling belongs to the step's CUDA graph and a run resumes from the host generator's state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training.data import DataError

PLAN = ("clip", "time", "y", "x", "flip_y", "flip_x", "transpose", "anew")
"""Columns of a plan; positions in LR pixels; flips come before the transposition; a clip's time as in `to_and_fro`."""


@dataclass(frozen=True)
class PoolClip:
    """One clip on the device."""

    name: str
    """Of the clip that it is a copy of, and behind it the copy's speed and number (`prepare`)."""
    source: str
    """Where it comes from: validation is split by it."""
    hr: Tensor
    """(n, 3, 4h, 4w) uint8."""
    lr: Tensor
    """(n, 3, h, w) uint8."""
    flow: Tensor
    """(n, 4, h, w) fp16 in LR pixels: (x, y) to the frame before, (x, y) to the frame after; 0 where there is none.

    Trained jointly, each step estimates its own; then this is the true flow, NaN where that is unknown."""
    weight: float
    """How often it is drawn, relative to the others."""
    camera: bool
    """Made from stills by camera motion."""

    @property
    def original(self) -> str:
        """The name of the clip that it is a copy of."""
        return re.sub(r"(, double speed)?(#\d+)?$", "", self.name)


class Batch(NamedTuple):
    """Training crops: images in [0, 1] fp32."""

    hr: Tensor
    """(B, T, 3, 4s, 4s)."""
    lr: Tensor
    """(B, 1 + T, 3, s, s): the frame before comes first."""
    flow: Tensor
    """(B, 1 + T, 2, s, s) fp32, to the frame before, see `PoolClip`; the first one's points out of the batch: not to be
    used."""
    anew: Tensor
    """(B,), 1 where the state is empty, 0 where the clip goes on from the batch before."""


class Pool:
    """Clips, and batches of (frames, crop) from them.

    Args:
        clips: those too short or too small for a crop are left out; `left_out` names each once, of however many copies.
        frames: T.
        crop: s, in LR pixels.
        phase: offset of the degradation's samples (`degrade.PHASE`): flips shift the HR crop to keep it.
        camera_weight: factor on the weight of camera clips.

    Raises:
        DataError: none is left.
    """

    def __init__(
        self,
        clips: Sequence[PoolClip],
        *,
        frames: int,
        crop: int,
        phase: float,
        camera_weight: float = 1.0,
    ) -> None:
        fits = [len(c.lr) >= frames and min(c.lr.shape[-2:]) > crop for c in clips]
        fit = [c for c, fine in zip(clips, fits, strict=True) if fine]
        self.left_out = list(dict.fromkeys(c.original for c, fine in zip(clips, fits, strict=True) if not fine))
        if not fit:
            raise DataError(f"no clip of {len(clips)} has {frames} frames of more than {crop}x{crop} LR pixels")
        self.frames, self.crop = frames, crop
        # A flip turns every LR pixel's 4 HR pixels round their centre; the HR crop moves so that its samples stay.
        self.flip_shift = round(2 * phase) + SCALE - 1
        self.lengths = np.array([len(c.lr) for c in fit])
        self.sizes = np.array([c.lr.shape[-2:] for c in fit])
        weights = np.array([c.weight * (camera_weight if c.camera else 1) for c in fit], np.float64)
        self.share = weights / weights.sum()
        device = fit[0].lr.device
        self.hr = torch.cat([c.hr.flatten() for c in fit])
        self.lr = torch.cat([c.lr.flatten() for c in fit])
        self.flow = torch.cat([c.flow.flatten() for c in fit])
        pixels = np.array([c.lr[:, 0].numel() for c in fit])
        start = np.concatenate([[0], np.cumsum(pixels)[:-1]])
        self.table = torch.from_numpy(np.column_stack([start, self.sizes, self.lengths])).to(device)

    def draw(
        self,
        rng: np.random.Generator,
        batch: int,
        before: NDArray[np.int64] | None = None,
        *,
        followed: float = 0.0,
    ) -> NDArray[np.int64]:
        """A plan (batch, len(PLAN)).

        The first rows, a share of `followed`, go on where the plan `before` left them, up to the end of their clip.
        """
        follows = np.arange(batch) < round(followed * batch)
        plan = self._begin(rng, batch, follows)
        if before is not None:
            clip, time, anew = (PLAN.index(name) for name in ("clip", "time", "anew"))
            following = before.copy()
            following[:, time] += self.frames
            following[:, anew] = 0
            end = np.where(before[:, time] < 0, 0, self.lengths[before[:, clip]] - 1)
            stays = follows & (following[:, time] + self.frames - 1 <= end)
            plan[stays] = following[stays]
        return plan

    def _begin(self, rng: np.random.Generator, batch: int, follows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """A plan whose rows all begin anew, half of them backwards; those that follow a clip begin near an end."""
        clip = rng.choice(len(self.share), batch, p=self.share)
        length = self.lengths[clip]
        room = length - self.frames + 1
        time = rng.integers(0, np.where(follows, np.minimum(room, self.frames), room))
        time = np.where(rng.random(batch) < 0.5, time + 1 - length, time)
        # From 1: a flipped crop of the BD phase starts 3 HR pixels before its LR crop.
        y, x = (rng.integers(1, self.sizes[clip, axis] - self.crop + 1) for axis in (0, 1))
        coins = rng.random((3, batch)) < 0.5
        return np.column_stack([clip, time, y, x, *coins, np.ones(batch)]).astype(np.int64)

    def cut(self, plan: Tensor) -> Batch:
        """The batch of a plan (B, len(PLAN)) int64 on the device; no host synchronisation, so it can be captured."""
        clip, time, y, x, flip_y, flip_x, transpose, anew = plan.unbind(1)
        start, height, width, length = self.table[clip].unbind(1)
        order = torch.arange(-1, self.frames, device=plan.device)
        frame, reached_backwards = to_and_fro(time[:, None] + order, length[:, None])
        backwards = reached_backwards.long()

        def gather(flat: Tensor, frame: Tensor, channels: Tensor, count: int, scale: int) -> Tensor:
            rows, columns = height * scale, width * scale
            shift = self.flip_shift if scale > 1 else 0
            side = self.crop * scale
            across = torch.arange(side, device=plan.device).expand(len(plan), side, side)
            down = across.mT
            swap = transpose[:, None, None] > 0
            row, column = torch.where(swap, across, down), torch.where(swap, down, across)
            row = (y * scale - flip_y * shift)[:, None, None] + _flip(row, flip_y, side)
            column = (x * scale - flip_x * shift)[:, None, None] + _flip(column, flip_x, side)
            base = start * (count * scale * scale)
            plane = base[:, None, None] + (frame[:, :, None] * count + channels) * (rows * columns)[:, None, None]
            return flat[plane[..., None, None] + (row * columns[:, None, None] + column)[:, None, None]]

        colours, axes = torch.arange(3, device=plan.device), torch.arange(2, device=plan.device)
        axis = torch.where(transpose[:, None] > 0, 1 - axes, axes)
        flow = gather(self.flow, frame, axis[:, None] + 2 * backwards[..., None], 4, 1).float()
        flipped = torch.where(axis == 0, flip_x[:, None], flip_y[:, None])
        return Batch(
            gather(self.hr, frame[:, 1:], colours, 3, SCALE).float() / 255,
            gather(self.lr, frame, colours, 3, 1).float() / 255,
            flow * (1 - 2 * flipped)[:, None, :, None, None],
            anew.float(),
        )


def to_and_fro(time: Tensor, length: Tensor | int) -> tuple[Tensor, Tensor]:
    """Frames at some times of a clip of n that is played 0 … n-1 … 1 and again; whether each is reached backwards."""
    turn = torch.as_tensor(2 * (length - 1)).clamp(min=1)
    phase = time % turn
    return torch.where(phase < length, phase, turn - phase), (phase >= length) | (phase == 0)


def _flip(index: Tensor, flip: Tensor, side: int) -> Tensor:
    return torch.where(flip[:, None, None] > 0, side - 1 - index, index)
