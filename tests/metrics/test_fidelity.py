from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.metrics.pictures import blurred, picture
from vs_rafrvsr.metrics.fidelity import flat_noise, luma, psnr_rgb, psnr_y, ssim_y
from vs_rafrvsr.training import validate


def test_luma_is_matlab_s() -> None:
    """rgb2ycbcr of black, white, red, green, blue."""
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    assert luma(colours).tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966])


def test_an_error_of_ten_steps() -> None:
    """On Y ten steps of grey are 10 * 219 / 255."""
    truth = np.full((1, 16, 16, 3), 100, np.uint8)
    output = truth + 10
    assert psnr_rgb(truth, output).tolist() == pytest.approx([20 * math.log10(25.5)])
    assert psnr_y(truth, output).tolist() == pytest.approx([20 * math.log10(25.5 * 255 / 219)])


def test_black_frames_without_an_error_have_the_figure_that_training_s_validation_gives_them() -> None:
    black = np.zeros((2, 16, 16, 3), np.uint8)
    planes = torch.from_numpy(black).permute(0, 3, 1, 2)
    expected = pytest.approx(validate.psnr_y(planes / 255, planes).tolist())
    assert psnr_y(black, black).tolist() == expected
    assert psnr_rgb(black, black).tolist() == expected


def test_one_channel_s_error_counts_by_its_share() -> None:
    truth = np.full((1, 16, 16, 3), 100, np.uint8)
    output = truth + np.array([0, 0, 30], np.uint8)
    assert psnr_rgb(truth, output)[0] == pytest.approx(20 * math.log10(255 / (30 / math.sqrt(3))))
    assert psnr_y(truth, output)[0] == pytest.approx(20 * math.log10(255 / (30 / 255 * 24.966)))


def reference_ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Wang et al. 2004, equations 13 to 16, on (H, W) fp64 of peak 255."""
    taps = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    window = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
    mean_a, mean_b, aa, bb, ab = (F.conv2d(x[None, None], window) for x in (a, b, a * a, b * b, a * b))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * (ab - mean_a * mean_b) + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (aa - mean_a**2 + bb - mean_b**2 + c2)
    return float((top / bottom).mean())


def test_ssim_is_the_paper_s() -> None:
    truth = picture(40, 56)[None]
    output = blurred(truth)
    expected = reference_ssim(torch.from_numpy(luma(truth)[0]), torch.from_numpy(luma(output)[0]))
    assert 0.3 < expected < 0.95
    assert ssim_y(truth, output)[0] == pytest.approx(expected, abs=1e-3)
    assert ssim_y(truth, truth)[0] == 1


def test_flat_noise_sees_noise_where_the_truth_is_flat_and_nothing_of_what_detail_loses() -> None:
    detail = picture(64, 64)[None]
    truth = np.full((1, 64, 128, 3), 100, np.uint8)
    truth[:, :, 64:] = detail
    blurry = truth.copy()
    blurry[:, :, 64:] = blurred(detail)
    assert flat_noise(truth, blurry)[0] == pytest.approx(0, abs=1e-6)
    noise = np.random.default_rng(0).normal(0, 5, (1, 64, 128, 1)).round()
    noisy = (truth + noise).clip(0, 255).astype(np.uint8)
    assert flat_noise(truth, noisy)[0] == pytest.approx(5 * 219 / 255, rel=0.05)
    assert np.isnan(flat_noise(detail, detail)[0])


@pytest.mark.parametrize(("step", "flat"), [(4, True), (5, False)])
def test_flat_is_a_deviation_under_two_steps(step: int, flat: bool) -> None:
    """A chessboard's on Y is half the step between its greys * 219 / 255: 1.7 and 2.1."""
    board = 100 + step * (np.indices((32, 32)).sum(0) % 2)
    truth = np.stack([board] * 3, -1)[None].astype(np.uint8)
    expected = 10 * 219 / 255 if flat else np.nan
    assert flat_noise(truth, truth + 10)[0] == pytest.approx(expected, nan_ok=True)
