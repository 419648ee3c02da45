from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from evaluating.scoring import ALEXNET, HEADS

from tests.metrics.pictures import blurred, moving
from vs_rafrvsr.metrics.lpips import Lpips, lpips_and_tlp

TRUTH = moving(3, 64, 80, 3)


@pytest.fixture(scope="module")
def made_up(features: Path) -> Lpips:
    """AlexNet with seeded weights."""
    return Lpips(features / ALEXNET, features / HEADS)


def test_golden_with_made_up_weights(made_up: Lpips) -> None:
    """The figures of the authors' package (lpips 0.1.4) with the same weights."""
    distances, changes = lpips_and_tlp(made_up, TRUTH, blurred(TRUTH))
    assert distances == pytest.approx([0.1151880, 0.1222438, 0.1180262], rel=1e-4)
    assert changes == pytest.approx([17.53499, 17.47157], rel=1e-3)


def test_equal_frames_are_at_no_distance_and_equal_clips_change_alike(made_up: Lpips) -> None:
    distances, changes = lpips_and_tlp(made_up, TRUTH, TRUTH)
    assert distances.tolist() == [0, 0, 0]
    assert changes.tolist() == [0, 0]


def test_more_blur_is_further_away(made_up: Lpips) -> None:
    once = blurred(TRUTH[:1])
    near, far = (lpips_and_tlp(made_up, TRUTH[:1], x)[0][0] for x in (once, blurred(blurred(once))))
    assert 0 < near < far


@pytest.mark.skipif("RAFRVSR_FEATURE_WEIGHTS" not in os.environ, reason="needs RAFRVSR_FEATURE_WEIGHTS=FOLDER")
def test_golden_with_the_real_weights() -> None:
    folder = Path(os.environ["RAFRVSR_FEATURE_WEIGHTS"])
    metric = Lpips(folder / ALEXNET, folder / HEADS)
    distances, _ = lpips_and_tlp(metric, TRUTH, blurred(TRUTH))
    assert np.allclose(distances, [0.1295595, 0.1377867, 0.1324394], rtol=1e-3)
