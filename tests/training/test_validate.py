from __future__ import annotations

import math

import pytest
import torch

from tests.training.fabricated import clip
from vs_rafrvsr.models.warp import BicubicBase
from vs_rafrvsr.training.validate import SETTLED, psnr_y, validate, validate_bicubic


def test_psnr_y_of_a_known_error() -> None:
    """Green off by 10 of 255 moves studio luma by 128.553 * 10 / 255."""
    truth = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    output = truth.float() / 255
    output[1, 1] += 10.3 / 255  # rounds to 10
    curve = psnr_y(output, truth)
    assert curve[1].item() == pytest.approx(20 * math.log10(255 / (128.553 * 10 / 255)), abs=1e-3)
    assert curve[0] > 100


def test_clips_of_any_shape_are_scored_alone_and_frames_by_their_time() -> None:
    """The truth with an error at frame 0 and a smaller one from SETTLED on; clips of two shapes."""
    clips = [clip("a", SETTLED + 2, 48, 64), clip("b", SETTLED + 2, 48, 64, seed=1), clip("c", SETTLED + 4, 64, 48)]
    truth = {tuple(c.lr[0, :, 0, 0].tolist()): c.hr.float() / 255 for c in clips}

    def unroll(lr: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        assert flow.shape == (*lr.shape[:2], 2, *lr.shape[3:])
        frames = torch.stack([truth[tuple((x[0, :, 0, 0] * 255).round().int().tolist())].clone() for x in lr])
        grey = torch.full_like(frames[:, :1], 0.5)
        frames[:, :1] += (grey - frames[:, :1]) * 0.5
        frames[:, SETTLED:] += (grey - frames[:, SETTLED:]) * 0.1
        return frames

    score = validate(unroll, clips)
    assert score.first < score.settled < score.all
    single = [validate(unroll, [c]) for c in clips]
    assert score.first == pytest.approx(sum(s.first for s in single) / 3, abs=1e-3)


def test_bicubic_scores_the_same_on_every_frame_of_a_shift_by_whole_pixels() -> None:
    score = validate_bicubic(BicubicBase(), [clip("a", SETTLED + 2, 96, 128)])
    assert score.first == pytest.approx(score.settled, abs=0.3)
