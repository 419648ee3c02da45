from __future__ import annotations

import math

import pytest
import torch

from tests.training.fabricated import clip
from vs_rafrvsr.models.warp import BicubicBase, warp
from vs_rafrvsr.training.pool import to_and_fro
from vs_rafrvsr.training.validate import (
    LAST,
    LONG,
    SETTLED,
    psnr_y,
    validate,
    validate_bicubic,
    validate_long,
)


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


def test_clips_too_short_to_settle_are_scored_by_their_last_frame() -> None:
    score = validate(lambda lr, _: BicubicBase()(lr.flatten(0, 1)).unflatten(0, lr.shape[:2]), [clip("a", 7, 64, 64)])
    assert all(value > 10 for value in score)


def test_a_clip_is_played_to_and_fro_with_the_flow_of_its_direction() -> None:
    order, backwards = to_and_fro(torch.arange(10), 4)
    assert order.tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert backwards.tolist() == [True, False, False, False, True, True, True, False, False, False]
    assert to_and_fro(torch.arange(3), 1)[0].tolist() == [0, 0, 0]


def test_long_shots_are_compared_at_their_end_and_move_with_their_flow() -> None:
    """Frames warped by the flow given are the next ones; what goes wrong at the end alone is all lost."""
    clips = [clip("a", 6, 64, 64), clip("b", 6, 64, 64, seed=1), clip("other", 6, 48, 64)]

    def unroll(lr: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        assert lr.shape[:2] == (2, LONG)
        for t in range(1, 12):
            moved = warp(lr[:, t - 1], flow[:, t])
            assert (moved - lr[:, t])[..., 3:-3, 3:-3].abs().max() < 2.1 / 255  # the border was reduced differently
        order, _ = to_and_fro(torch.arange(LONG), 6)
        truth = torch.stack([c.hr[order] for c in clips[:2]]).float() / 255
        truth[:, LONG - LAST :] = 0
        return truth

    assert validate_long(unroll, clips) > 80


def test_a_recurrence_that_goes_wrong_with_time_loses_and_a_steady_one_does_not() -> None:
    def drifting(lr: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        sharp: torch.Tensor = BicubicBase()(lr.flatten(0, 1)).unflatten(0, lr.shape[:2])
        return sharp + torch.linspace(0, 0.2, lr.shape[1])[:, None, None, None]

    def steady(lr: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        sharp: torch.Tensor = BicubicBase()(lr.flatten(0, 1)).unflatten(0, lr.shape[:2])
        return sharp

    def settling(lr: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        return steady(lr, flow) + 0.2 * (torch.arange(lr.shape[1]) < 4)[:, None, None, None]

    clips = [clip("a", 8, 64, 64)]
    assert validate_long(settling, clips) == pytest.approx(0, abs=1e-4)
    assert validate_long(drifting, clips) > 2
    assert validate_long(steady, clips) == pytest.approx(0, abs=1e-4)
