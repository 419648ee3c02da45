"""tOF: whether the output moves as the truth does (TecoGAN, Chu et al. 2020, arXiv 1811.09393)."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from vs_rafrvsr.metrics.fidelity import Curve, Frames
from vs_rafrvsr.metrics.protocol import inner_32


def tof(truth: Frames, output: Frames) -> Curve:
    """Mean length, in pixels, of the difference between both clips' Farneback flows from t - 1 to t: (N - 1,).

    Flow of grey 8-bit whole frames with OpenCV's parameters 0.5, 3, 15, 3, 5, 1.2, then TecoGAN's crop (`inner_32`),
    as in its metrics.py.
    """
    rows = []
    for a, b in zip(_flows(truth), _flows(output), strict=True):
        height, width = inner_32(a.shape[0], a.shape[1])
        rows.append(float(np.sqrt(((a - b)[height, width] ** 2).sum(-1)).mean()))
    return np.array(rows)


def _flows(frames: Frames) -> list[NDArray[np.float32]]:
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return [
        np.asarray(cv2.calcOpticalFlowFarneback(a, b, np.empty((*a.shape, 2), np.float32), 0.5, 3, 15, 3, 5, 1.2, 0))
        for a, b in pairwise(grey)
    ]
