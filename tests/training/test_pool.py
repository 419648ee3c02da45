from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tests.training.fabricated import clip, tiny
from vs_rafrvsr.models.warp import warp
from vs_rafrvsr.training.data import DataError, Source
from vs_rafrvsr.training.degrade import KINDS, PHASE
from vs_rafrvsr.training.pool import PLAN, Pool, to_and_fro
from vs_rafrvsr.training.prepare import _bare, fast_clips

CPU = torch.device("cpu")
EVERY_AUGMENTATION = list(itertools.product((0, 1), (0, 1), (0, 1), (1, -4)))
"""Flips, transposition, and the time of the first of 4 frames: forwards, or backwards from frame 4."""


def pool_of(kind: str) -> Pool:
    clips = [clip("a", 6, 96, 128, kind), clip("b", 5, 128, 96, kind, seed=1)]
    return Pool(clips, frames=4, crop=16, phase=PHASE[kind])


def plan_of(*rows: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int64)


@pytest.mark.parametrize("kind", ["bi", "bd"])
@pytest.mark.parametrize(("flip_y", "flip_x", "transpose", "time"), EVERY_AUGMENTATION)
def test_degrading_an_augmented_crop_gives_the_augmented_lr_crop(
    kind: str, flip_y: int, flip_x: int, transpose: int, time: int
) -> None:
    batch = pool_of(kind).cut(plan_of((1, time, 4, 3, flip_y, flip_x, transpose, 1)))
    again = KINDS[kind](batch.hr[0])
    # The crop's own border is reflected, the frame's was not: two LR pixels in, they agree to 8-bit rounding.
    difference = (again - batch.lr[0, 1:])[..., 2:-2, 2:-2].abs().max()
    assert difference <= 0.5001 / 255


@pytest.mark.parametrize(("flip_y", "flip_x", "transpose", "time"), EVERY_AUGMENTATION)
def test_flow_of_an_augmented_crop_still_warps_the_frame_before_onto_the_frame(
    flip_y: int, flip_x: int, transpose: int, time: int
) -> None:
    rows = [(0, time + 4 * part, 3, 5, flip_y, flip_x, transpose, 1) for part in range(3)]
    batch = pool_of("bi").cut(plan_of(*rows))
    for t in range(1, 5):
        moved = warp(batch.lr[:, t - 1], batch.flow[:, t])
        assert (moved - batch.lr[:, t])[..., 1:-1, 1:-1].abs().max() < 2.1 / 255


def test_an_unaugmented_cut_is_a_slice_of_the_clip() -> None:
    source = clip("a", 6, 96, 128)
    batch = pool_of("bi").cut(plan_of((0, 1, 2, 7, 0, 0, 0, 1)))
    assert torch.equal(batch.lr[0] * 255, source.lr[0:5, :, 2:18, 7:23].float())
    assert torch.equal((batch.hr[0] * 255).round(), source.hr[1:5, :, 8:72, 28:92].float())


@pytest.mark.parametrize(
    ("time", "shown"),
    [(1, [0, 1, 2, 3, 4, 3, 2, 1, 0]), (-4, [3, 4, 3, 2, 1, 0, 1, 2, 3]), (18, [1, 2, 3, 4, 3, 2, 1, 0, 1])],
)
def test_a_clip_is_played_to_and_fro(time: int, shown: list[int]) -> None:
    source, rows = clip("b", 5, 128, 96, seed=1), [(1, time + at, 4, 3, 0, 0, 0, 0) for at in (0, 4)]
    batch = pool_of("bi").cut(plan_of(*rows))
    for row, frames in enumerate((shown[:5], shown[4:])):
        assert torch.equal(batch.lr[row] * 255, source.lr[frames, :, 4:20, 3:19].float())
        assert torch.equal((batch.hr[row] * 255).round(), source.hr[frames[1:], :, 16:80, 12:76].float())


def test_followed_rows_go_on_to_the_end_of_their_clip_and_see_no_frame_twice() -> None:
    clips = [clip("a", 30, 32, 40), clip("b", 5, 40, 32, seed=1)]
    pool, rng = Pool(clips, frames=4, crop=4, phase=PHASE["bi"]), np.random.default_rng(0)
    column = {name: index for index, name in enumerate(PLAN)}
    seen = [list[int]() for _ in range(300)]
    plan, lengths = None, list[int]()
    for _ in range(20):
        before, plan = plan, pool.draw(rng, 300, before=plan, followed=1.0)
        order = torch.from_numpy(plan[:, [column["time"]]]) + torch.arange(4)
        frames = to_and_fro(order, torch.from_numpy(pool.lengths[plan[:, column["clip"]]])[:, None])[0]
        for row, (line, shown) in enumerate(zip(plan, frames.tolist(), strict=True)):
            if line[column["anew"]]:
                lengths.append(len(seen[row]))
                seen[row] = []
            else:
                assert before is not None
                kept = ["clip", "y", "x", "flip_y", "flip_x", "transpose"]
                assert all(line[column[name]] == before[row, column[name]] for name in kept)
                assert abs(shown[0] - seen[row][-1]) == 1
            seen[row] += shown
            assert len(set(seen[row])) == len(seen[row])
    assert max(lengths) == 28
    assert pool.draw(rng, 300, before=plan)[:, column["anew"]].all()


def test_of_some_followed_rows_the_others_begin_anew_anywhere() -> None:
    pool, rng = Pool([clip("a", 30, 32, 40)], frames=4, crop=4, phase=PHASE["bi"]), np.random.default_rng(0)
    before = pool.draw(rng, 400, followed=0.25)
    times, anew = PLAN.index("time"), PLAN.index("anew")
    assert set(before[:100, times]) <= {*range(4), *range(-29, -25)}
    assert len(set(before[100:, times])) > 40
    after = pool.draw(rng, 400, before=before, followed=0.25)
    assert not after[:100, anew].any()
    assert after[100:, anew].all()


def test_the_second_clip_of_another_shape_is_found_at_its_offset() -> None:
    source = clip("b", 5, 128, 96, seed=1)
    batch = pool_of("bi").cut(plan_of((1, 0, 1, 1, 0, 0, 0, 1)))
    assert torch.equal((batch.hr[0] * 255).round(), source.hr[0:4, :, 4:68, 4:68].float())


def test_plans_stay_inside_the_clips() -> None:
    pool = pool_of("bd")
    plan = pool.draw(np.random.default_rng(0), 4000)
    column = dict(zip(PLAN, plan.T, strict=True))
    assert column["y"].min() == column["x"].min() == 1
    for begin in (column["time"], -column["time"] - 3):  # forwards, backwards
        some = column["time"] >= 0 if begin is column["time"] else column["time"] < 0
        assert abs(some.mean() - 0.5) < 0.05
        assert (begin[some] >= 0).all()
        assert (begin[some] + 4 <= pool.lengths[column["clip"]][some]).all()
    assert (column["y"] + 16 <= pool.sizes[column["clip"], 0]).all()
    assert (column["x"] + 16 <= pool.sizes[column["clip"], 1]).all()


def test_clips_that_cannot_serve_are_named() -> None:
    pool = Pool(
        [clip("long", 6, 96, 128), clip("short", 3, 96, 128), clip("low", 6, 64, 128)], frames=4, crop=16, phase=-1.5
    )
    assert pool.left_out == ["short", "low"]
    with pytest.raises(DataError, match="no clip of 1 has 4 frames of more than 16x16"):
        Pool([clip("short", 3, 96, 128)], frames=4, crop=16, phase=-1.5)


def test_a_clip_that_cannot_serve_is_named_once_of_all_its_copies() -> None:
    recipe = tiny(frames=2, crop=16, data={"variants": 3})
    sources = [Source(name, name, clip(name, 6, side, side).hr.numpy()) for name, side in (("a#b", 64), ("long", 96))]
    made = [_bare(s, v, 0, recipe, CPU) for s in [*sources, *fast_clips(sources, recipe)] for v in range(3)]
    assert [c.name for c in made[-2:]] == ["long, double speed#1", "long, double speed#2"]
    assert Pool(made, frames=2, crop=16, phase=-1.5).left_out == ["a#b"]


def test_camera_clips_are_drawn_by_their_weight() -> None:
    clips = [clip("real", 6, 96, 128), clip("still", 6, 96, 128, camera=True)]
    pool = Pool(clips, frames=4, crop=16, phase=-1.5, camera_weight=3.0)
    assert pool.share.tolist() == [0.25, 0.75]
