from __future__ import annotations

import numpy as np
import pytest

from tests.metrics.pictures import blurred, moving
from vs_rafrvsr.metrics.protocol import EvaluationError, inner_32
from vs_rafrvsr.metrics.tof import tof


def test_equal_clips_move_alike() -> None:
    clip = moving(3, 64, 80, 2)
    assert tof(clip, clip).tolist() == [0, 0]


def test_a_clip_that_stands_still_is_off_by_the_truth_s_motion() -> None:
    truth = moving(4, 112, 112, 2)
    still = np.repeat(truth[:1], 4, 0)
    assert tof(truth, still) == pytest.approx(2, abs=0.15)


def test_golden() -> None:
    """OpenCV 5.0's figures; what another OpenCV computes must be near."""
    truth = moving(3, 96, 128, 3)
    noise = np.random.default_rng(0).normal(0, 20, truth.shape)
    noisy = (blurred(truth) + noise).clip(0, 255).astype(np.uint8)
    assert tof(truth, noisy) == pytest.approx([0.1980, 0.1939], rel=0.02)


@pytest.mark.parametrize(
    ("sides", "inner"),
    [((576, 720), (544, 704)), ((480, 704), (448, 672)), ((48, 47 + 32), (32, 32)), ((64, 80), (32, 64))],
)
def test_tecogan_s_crop(sides: tuple[int, int], inner: tuple[int, int]) -> None:
    rows, columns = inner_32(*sides)
    assert (rows.stop - rows.start, columns.stop - columns.start) == inner
    assert rows.start == (sides[0] - inner[0]) // 2


def test_a_frame_too_small_for_the_crop_is_refused() -> None:
    with pytest.raises(EvaluationError, match="40x64 are too small"):
        inner_32(64, 40)
