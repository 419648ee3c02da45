"""What a frame's colour means in numbers, and the parameters that the kernels take it in.

Matrix and range together are one affine map between RGB and codes; a chroma location is a shift of the resampling
filter, which is that of VapourSynth's `resize.Bicubic` (Catmull-Rom), widened where it scales down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vs_rafrvsr.pixels.formats import Format

YCGCO = 8

KR_KB = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470 BG
    6: (0.299, 0.114),  # BT.601
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
"""ITU-T H.273, table 4: `_Matrix` -> the shares of red and blue in luma."""

MATRICES = (*KR_KB, YCGCO)
"""The values of `_Matrix` that the kernels know."""

CHROMA_OFFSETS = {
    0: (-0.25, 0.0),  # left
    1: (0.0, 0.0),  # centre
    2: (-0.25, -0.25),  # top left
    3: (0.0, -0.25),  # top
    4: (-0.25, 0.25),  # bottom left
    5: (0.0, 0.25),  # bottom
}
"""`_ChromaLocation` (ITU-T H.273, 8.7) -> where chroma lies (x, y) from the middle of its luma samples, in its pixels.

Along a side that is not subsampled it lies on its luma sample, whatever the location says.
"""


@dataclass(frozen=True, kw_only=True)
class Colour:
    """How one frame's codes are meant."""

    matrix: int
    """One of MATRICES; nothing to RGB."""
    full: bool
    """Whether the range is full; nothing to floating point."""
    location: int = 0
    """One of CHROMA_OFFSETS; nothing without subsampling."""


FILTER = np.dtype([("first", np.int32, 2), ("weight", np.float32, (2, 8))], align=True)
PARAMETERS = np.dtype(
    [
        ("strides", np.int64, 3),
        ("width", np.int32),
        ("height", np.int32),
        ("affine", np.float32, (3, 4)),
        ("across", FILTER),
        ("down", FILTER),
        ("top", np.float32),
    ],
    align=True,
)
"""`Parameters` of kernels.cu."""


@lru_cache(64)
def parameters_in(
    fmt: Format, colour: Colour, size: tuple[int, int], strides: tuple[int, int, int]
) -> NDArray[np.void]:
    """For `planes_to_rgb`: a frame of size (h, w) into a tensor with strides (channel, row, column) in elements.

    Read-only: frames of one clip share it.
    """
    if fmt.family == "GRAY":
        affine = np.repeat(_inverse(_levels(fmt, colour))[:1], 3, 0)
    else:
        affine = _inverse(_encoding(fmt, colour))
    return _parameters(fmt, colour, size, strides, affine, scale=2.0)


@lru_cache(64)
def parameters_out(
    fmt: Format, colour: Colour, size: tuple[int, int], strides: tuple[int, int, int]
) -> NDArray[np.void]:
    """For `rgb_to_planes`: the other way round."""
    return _parameters(fmt, colour, size, strides, _encoding(fmt, colour), scale=0.5)


def _parameters(
    fmt: Format,
    colour: Colour,
    size: tuple[int, int],
    strides: tuple[int, int, int],
    affine: NDArray[np.float64],
    scale: float,
) -> NDArray[np.void]:
    x, y = CHROMA_OFFSETS[colour.location]
    values = np.zeros((), PARAMETERS)
    values["strides"] = strides
    values["height"], values["width"] = size
    values["affine"] = affine
    values["across"] = _filter(scale, x) if fmt.sub_w else _NO_FILTER
    values["down"] = _filter(scale, y) if fmt.sub_h else _NO_FILTER
    values["top"] = (1 << fmt.bits) - 1
    values.setflags(write=False)
    return values


def _encoding(fmt: Format, colour: Colour) -> NDArray[np.float64]:
    """(3, 4): codes = [:, :3] @ RGB + [:, 3]."""
    levels = _levels(fmt, colour)
    return levels if fmt.family == "RGB" else np.hstack([levels[:, :3] @ rgb_to_yuv(colour.matrix), levels[:, 3:]])


def _inverse(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = np.linalg.inv(affine[:, :3])
    return np.hstack([linear, -linear @ affine[:, 3:]])


def rgb_to_yuv(matrix: int) -> NDArray[np.float64]:
    """(3, 3): RGB in [0, 1] -> luma in [0, 1] and both chromas in [-0.5, 0.5] (ITU-T H.273, 8.3)."""
    if matrix == YCGCO:
        return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]])
    kr, kb = KR_KB[matrix]
    luma = np.array([kr, 1 - kr - kb, kb])
    red, blue = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    return np.stack([luma, (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)])


def _levels(fmt: Format, colour: Colour) -> NDArray[np.float64]:
    """(3, 4): codes of nominal values, channel by channel (ITU-T H.273, 8.3; limited YCgCo scales chroma like luma)."""
    if fmt.real:
        return np.eye(3, 4)
    unit = 1 << (fmt.bits - 8)
    luma = (256 * unit - 1, 0) if colour.full else (219 * unit, 16 * unit)
    chroma = (luma[0] if colour.full or colour.matrix == YCGCO else 224 * unit, 128 * unit)
    scales, offsets = zip(*([luma] * 3 if fmt.family == "RGB" else [luma, chroma, chroma]), strict=True)
    return np.hstack([np.diag(np.array(scales, np.float64)), np.array(offsets, np.float64)[:, None]])


_NO_FILTER = np.zeros((), FILTER)
_NO_FILTER["weight"][:, 0] = 1


def _filter(scale: float, offset: float) -> NDArray[np.void]:
    """Catmull-Rom from chroma that lies `offset` chroma pixels off centre to luma (scale 2), or back (scale 0.5).

    Output i takes samples from `first[i % 2] + (i // 2 if scale is 2 else 2 * i)` on; scale 0.5 has one phase only.
    """
    stretch = min(scale, 1.0)
    taps = round(4 / stretch)
    values = np.zeros((), FILTER)
    for phase in (0, 1) if scale > 1 else (0,):
        position = (phase + 0.5) / scale - (offset if scale > 1 else -offset / scale)
        first = int(np.floor(position - taps / 2 + 0.5))
        weights = _catmull_rom((first + 0.5 + np.arange(taps) - position) * stretch)
        values["first"][phase] = first
        values["weight"][phase, :taps] = weights / weights.sum()
    return values


def _catmull_rom(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """The cubic with b = 0, c = 1/2 (Mitchell and Netravali 1988)."""
    x = np.abs(x)
    near = 1 + x**2 * (1.5 * x - 2.5)
    far = 2 + x * (-4 + x * (2.5 - 0.5 * x))
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
