from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.training.fabricated import clip
from vs_rafrvsr.models.warp import warp
from vs_rafrvsr.training.degrade import KINDS, PHASE
from vs_rafrvsr.training.pool import PLAN, Pool

EVERY_AUGMENTATION = list(itertools.product((0, 1), repeat=4))


def pool_of(kind: str, age: int = 0) -> Pool:
    clips = [clip("a", 6, 96, 128, kind), clip("b", 5, 128, 96, kind, seed=1)]
    return Pool(clips, frames=4, crop=16, phase=PHASE[kind], age=age)


def plan_of(*rows: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int64)


@pytest.mark.parametrize("kind", ["bi", "bd"])
@pytest.mark.parametrize(("flip_y", "flip_x", "transpose", "reverse"), EVERY_AUGMENTATION)
def test_degrading_an_augmented_crop_gives_the_augmented_lr_crop(
    kind: str, flip_y: int, flip_x: int, transpose: int, reverse: int
) -> None:
    batch = pool_of(kind).cut(plan_of((1, 1, 4, 3, flip_y, flip_x, transpose, reverse, 1)))
    again = KINDS[kind](batch.hr[0])
    # The crop's own border is reflected, the frame's was not: two LR pixels in, they agree to 8-bit rounding.
    difference = (again - batch.lr[0])[..., 2:-2, 2:-2].abs().max()
    assert difference <= 0.5001 / 255


@pytest.mark.parametrize(("flip_y", "flip_x", "transpose", "reverse"), EVERY_AUGMENTATION)
def test_flow_of_an_augmented_crop_still_warps_the_frame_before_onto_the_frame(
    flip_y: int, flip_x: int, transpose: int, reverse: int
) -> None:
    batch = pool_of("bi", age=11).cut(plan_of((0, 2, 3, 5, flip_y, flip_x, transpose, reverse, 1)))
    for t in range(1, 15):
        moved = warp(batch.lr[:, t - 1], batch.flow[:, t])
        assert (moved - batch.lr[:, t])[..., 1:-1, 1:-1].abs().max() < 2.1 / 255


def test_an_unaugmented_cut_is_a_slice_of_the_clip() -> None:
    source = clip("a", 6, 96, 128)
    batch = pool_of("bi").cut(plan_of((0, 1, 2, 7, 0, 0, 0, 0, 1)))
    assert torch.equal(batch.lr[0] * 255, source.lr[1:5, :, 2:18, 7:23].float())
    assert torch.equal((batch.hr[0] * 255).round(), source.hr[1:5, :, 8:72, 28:92].float())


@pytest.mark.parametrize(
    ("reverse", "before"), [(0, [2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0]), (1, [1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3])]
)
def test_frames_before_the_crop_are_its_clip_played_to_and_fro(reverse: int, before: list[int]) -> None:
    source, plan = clip("b", 5, 128, 96, seed=1), plan_of((1, 1, 4, 3, 0, 0, 0, reverse, 1))
    batch, alone = pool_of("bi", age=11).cut(plan), pool_of("bi").cut(plan)
    assert torch.equal(batch.hr, alone.hr)
    assert torch.equal(batch.lr[:, 11:], alone.lr)
    assert torch.equal(batch.lr[0, :11] * 255, source.lr[before, :, 4:20, 3:19].float())


def test_the_second_clip_of_another_shape_is_found_at_its_offset() -> None:
    source = clip("b", 5, 128, 96, seed=1)
    batch = pool_of("bi").cut(plan_of((1, 0, 1, 1, 0, 0, 0, 0, 1)))
    assert torch.equal((batch.hr[0] * 255).round(), source.hr[0:4, :, 4:68, 4:68].float())


def test_plans_stay_inside_the_clips_and_blank_the_share_asked_for() -> None:
    pool = pool_of("bd")
    plan = pool.draw(np.random.default_rng(0), 4000, blank=0.25)
    column = dict(zip(PLAN, plan.T, strict=True))
    assert column["y"].min() == column["x"].min() == 1
    assert (column["time"] + 4 <= pool.lengths[column["clip"]]).all()
    assert (column["y"] + 16 <= pool.sizes[column["clip"], 0]).all()
    assert (column["x"] + 16 <= pool.sizes[column["clip"], 1]).all()
    assert abs(1 - column["keep"].mean() - 0.25) < 0.03


def test_clips_that_cannot_serve_are_named() -> None:
    pool = Pool(
        [clip("long", 6, 96, 128), clip("short", 3, 96, 128), clip("low", 6, 64, 128)], frames=4, crop=16, phase=-1.5
    )
    assert pool.left_out == ["short", "low"]
    with pytest.raises(ValueError, match="no clip of 1 has 4 frames of more than 16x16"):
        Pool([clip("short", 3, 96, 128)], frames=4, crop=16, phase=-1.5)


def test_camera_clips_are_drawn_by_their_weight() -> None:
    clips = [clip("real", 6, 96, 128), clip("still", 6, 96, 128, camera=True)]
    pool = Pool(clips, frames=4, crop=16, phase=-1.5, camera_weight=3.0)
    assert pool.share.tolist() == [0.25, 0.75]
