from __future__ import annotations

import math

import pytest
import torch

from vs_rafrvsr.models.warp import BicubicBase
from vs_rafrvsr.training.degrade import KINDS, PHASE, degrade


@pytest.mark.parametrize("kind", KINDS)
def test_a_flat_frame_stays_flat(kind: str) -> None:
    assert torch.equal(degrade(torch.full((2, 3, 32, 32), 77, dtype=torch.uint8), kind), torch.full((2, 3, 8, 8), 77))


@pytest.mark.parametrize(("kind", "sigma", "radius"), [("bd", 1.6, 6), ("bd-1.5", 1.5, 4)])
def test_bd_is_a_gaussian_taken_at_every_fourth_pixel(kind: str, sigma: float, radius: int) -> None:
    hr = torch.zeros(1, 3, 32, 32)
    hr[..., 16, 18] = 1
    lr = KINDS[kind](hr)
    line = {d: math.exp(-(d**2) / (2 * sigma**2)) for d in range(-radius, radius + 1)}
    expected = line[0] * line[2] / sum(line.values()) ** 2
    assert lr[0, 0, 4, 4].item() == pytest.approx(expected, rel=1e-5)
    assert lr[0, 0, 4, 5].item() == pytest.approx(expected, rel=1e-5)
    assert lr[0, 0, 4, 3].item() == pytest.approx(line[0] * line.get(6, 0) / sum(line.values()) ** 2, rel=1e-4)


def test_bi_weighs_as_matlab_s_imresize_does() -> None:
    """Keys' cubic with a = -0.5, stretched by 4, centred on the LR pixel: HR pixels 1.5 off the centre weigh alike."""

    def cubic(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0

    weights = [cubic((x - 17.5) / 4) for x in range(10, 26)]
    hr = torch.zeros(1, 3, 32, 32)
    hr[..., :, 16] = 1
    lr = KINDS["bi"](hr)
    assert lr[0, 0, 4, 4].item() == pytest.approx(cubic(-1.5 / 4) / sum(weights), rel=1e-4)
    assert lr[0, 0, 4, 3].item() == pytest.approx(cubic(2.5 / 4) / sum(weights), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_phase_puts_the_bicubic_upscale_in_place(kind: str) -> None:
    """A ramp survives degradation and upscaling unmoved when the phase is right; a pixel off would be 1/64."""
    ramp = (torch.arange(64.0) / 64).expand(1, 3, 64, 64)
    for hr in (ramp, ramp.mT):
        back = BicubicBase(PHASE[kind])(KINDS[kind](hr))
        assert (back - hr)[..., 16:-16, 16:-16].abs().max() < 1e-3
