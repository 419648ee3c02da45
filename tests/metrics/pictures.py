"""Made-up pictures that the metrics' tests share."""

from __future__ import annotations

import cv2
import numpy as np

from vs_rafrvsr.metrics.fidelity import Frames


def picture(height: int, width: int, seed: int = 0, grain: int = 4) -> Frames:
    """(height, width, 3), random with features of `grain` pixels."""
    coarse = np.random.default_rng(seed).random((height // grain, width // grain, 3), np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return np.asarray((fine * 255).round(), np.uint8)


def blurred(frames: Frames) -> Frames:
    """Every frame under a Gaussian of sigma 2."""
    return np.stack([cv2.GaussianBlur(frame, (13, 13), 2.0) for frame in frames]).astype(np.uint8)


def moving(frames: int, height: int, width: int, step: int) -> Frames:
    """A picture that moves left by `step` pixels a frame."""
    wide = picture(height, width + step * frames)
    return np.stack([wide[:, step * t : step * t + width] for t in range(frames)])
