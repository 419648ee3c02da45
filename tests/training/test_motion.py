from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.fabricated import picture
from vs_rafrvsr.models.warp import warp
from vs_rafrvsr.training import motion
from vs_rafrvsr.training.degrade import degrade

CPU = torch.device("cpu")
STEP = (1.0, 1.25)


def test_a_pure_shift_renders_slices_and_has_that_flow() -> None:
    """The camera steps 4 HR pixels right a frame: the picture moves left, a pixel was at x + 1 LR pixel before."""
    still = picture(96, 160)
    maps = [motion.affine(0, 1, 4 * t, 0) for t in range(3)]
    frames = motion.render(still, maps, (64, 96))
    assert torch.equal(frames[0], still[:, 16:80, 32:128])
    assert torch.equal(frames[2], still[:, 16:80, 40:136])
    flow = motion.exact_flow(maps, (64, 96), CPU)
    assert torch.allclose(flow[1:, 0], torch.ones(2, 16, 24), atol=1e-4)
    assert torch.allclose(flow[:-1, 2], -torch.ones(2, 16, 24), atol=1e-4)
    assert flow[0, :2].abs().max() == flow[-1, 2:].abs().max() == 0
    assert flow[:, 1::2].abs().max() < 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_exact_flow_warps_a_frame_onto_its_neighbours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = motion.path(rng, 5, motion.Camera(STEP))
    lr = degrade(motion.render(picture(320, 416, seed, grain=32), maps, (128, 160)), "bi").float() / 255
    flow = motion.exact_flow(maps, (128, 160), CPU)
    for t, other, at in ((2, 1, 0), (2, 3, 2)):
        moved = warp(lr[None, other], flow[None, t, at : at + 2])[0]
        margin = int(flow[t].abs().max()) + 2
        error, still = ((x - lr[t])[:, margin:-margin, margin:-margin].abs().mean() for x in (moved, lr[other]))
        assert error.item() < max(0.15 * still.item(), 0.004)


def test_the_middle_of_the_way_looks_near_the_still_s_centre() -> None:
    for seed in range(20):
        maps = motion.path(np.random.default_rng(seed), 16, motion.Camera(STEP, speed=(4.0, 4.0)))
        assert np.abs(maps[8][:, 2]).max() <= 20


def test_sampling_steps_keep_to_their_range() -> None:
    camera = motion.Camera(STEP)
    for seed in range(20):
        first = motion.path(np.random.default_rng(seed), 2, camera)[0]
        assert STEP[0] <= np.sqrt(np.linalg.det(first[:, :2])) <= STEP[1]


def test_composition_and_inverse() -> None:
    a, b = motion.affine(0.3, 1.2, 5, -2), motion.affine(-0.1, 0.9, 1, 7)
    point = np.array([3.0, 4.0, 1.0])
    via = np.append(b @ point, 1)
    assert np.allclose(motion.compose(a, b) @ point, a @ via)
    assert np.allclose(motion.compose(motion.inverse(a), a), motion.affine(0, 1, 0, 0))
