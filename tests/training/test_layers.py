from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.fabricated import picture
from vs_rafrvsr.models.warp import warp
from vs_rafrvsr.training import layers
from vs_rafrvsr.training.degrade import degrade
from vs_rafrvsr.training.motion import Camera

FRAMES, SIZE = 4, (128, 160)


def made(seed: int) -> tuple[Tensor, Tensor]:
    back, other = picture(320, 416, seed, grain=32), picture(256, 320, seed + 100, grain=32)
    return layers.layered(
        back, other, np.random.default_rng(seed), FRAMES, SIZE, Camera(step=(1.0, 1.25), speed=(0.5, 3.0))
    )


@pytest.mark.parametrize("kind", layers.KINDS)
def test_every_kind_covers_a_part_and_is_the_same_again(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "KINDS", (kind,))
    monkeypatch.setattr(layers, "STANDING", 1.0)
    for seed in range(4):
        frames, flow = made(seed)
        assert (frames.shape, frames.dtype) == ((FRAMES, 3, *SIZE), torch.uint8)
        assert flow.shape == (FRAMES, 4, SIZE[0] // 4, SIZE[1] // 4)
        standing = (flow[1:, :2] == 0).all(1).float().mean()
        assert 0.01 < standing < 0.99
        assert all(torch.equal(a, b) for a, b in zip((frames, flow), made(seed), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_what_stands_in_front_stays_while_the_rest_moves(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "STANDING", 1.0)
    monkeypatch.setattr(layers, "KINDS", ("piece", "stripes"))
    frames, flow = made(seed)
    lr = degrade(frames, "bi").float()
    change = (lr[2] - lr[1]).abs().mean(0)
    front = (flow[2, :2] == 0).all(0)
    assert change[front].median() == 0
    assert change[~front].mean() > 1


@pytest.mark.parametrize("seed", range(4))
def test_the_flow_is_that_of_the_layer_that_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves a frame onto its neighbour, save where one layer hides the other and at edges."""
    monkeypatch.setattr(layers, "KINDS", ("piece",))
    monkeypatch.setattr(layers, "STANDING", 0.0)
    frames, flow = made(seed)
    lr = degrade(frames, "bi").float() / 255
    for t, other, at in ((2, 1, 0), (2, 3, 2)):
        wanted, still = lr[t], lr[other]
        moved = warp(still[None], flow[None, t, at : at + 2])[0]
        margin = int(flow[t].abs().max()) + 2
        error, difference = (
            (x - wanted).abs().mean(0)[margin:-margin, margin:-margin].flatten().median() for x in (moved, still)
        )
        assert error.item() < max(0.15 * difference.item(), 0.004)
