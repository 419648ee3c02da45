"""PSNR and SSIM by scikit-image, with the field's conventions for Y."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import mean_squared_error, structural_similarity

from vs_rafrvsr.metrics import LEAST_ERROR, STUDIO_LUMA

type Frames = NDArray[np.uint8]
type Curve = NDArray[np.float64]
type Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]

FLAT_WINDOW = 9
FLAT_LIMIT = 2.0


def luma(frames: Frames) -> NDArray[np.float64]:
    """Y of BT.601 in studio range, 16 to 235, unrounded: (..., 3) -> (...)."""
    y: NDArray[np.float64] = frames.astype(np.float64) / 255 @ STUDIO_LUMA + 16
    return y


def psnr_y(truth: Frames, output: Frames) -> Curve:
    """PSNR on Y in dB with a peak of 255, as BasicSR and MATLAB scripts compute it; equal frames give 148 dB."""
    return _each(luma(truth), luma(output), _psnr)


def psnr_rgb(truth: Frames, output: Frames) -> Curve:
    """PSNR over all three channels at once, in dB with a peak of 255 (REDS4's figure in the VSR papers)."""
    return _each(truth.astype(np.float64), output.astype(np.float64), _psnr)


def ssim_y(truth: Frames, output: Frames) -> Curve:
    """SSIM on Y (Wang et al. 2004): Gaussian 11x11 window of sigma 1.5, valid region, K = .01 and .03, peak 255."""
    return _each(luma(truth), luma(output), _ssim)


def flat_noise(truth: Frames, output: Frames) -> Curve:
    """Root mean square of the error on Y, in 8-bit steps, where the truth is flat: noise that was left or made.

    Flat: the truth's standard deviation in the FLAT_WINDOW around a pixel is under FLAT_LIMIT. A frame without such
    pixels gives NaN.
    """
    rows = []
    for t, o in zip(luma(truth), luma(output), strict=True):
        mean, square = (cv2.blur(x, (FLAT_WINDOW, FLAT_WINDOW)) for x in (t, t * t))
        flat = square - mean**2 < FLAT_LIMIT**2
        rows.append(float(np.sqrt(((o - t)[flat] ** 2).mean())) if flat.any() else np.nan)
    return np.array(rows)


def _psnr(truth: NDArray[np.float64], output: NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / max(mean_squared_error(truth, output), LEAST_ERROR)))


def _ssim(truth: NDArray[np.float64], output: NDArray[np.float64]) -> float:
    return float(
        structural_similarity(
            truth, output, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def _each(truth: NDArray[np.float64], output: NDArray[np.float64], measure: Measure) -> Curve:
    return np.array([measure(t, o) for t, o in zip(truth, output, strict=True)])
