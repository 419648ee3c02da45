"""Frames on which an error of colour, siting or rounding shows, and VapourSynth's resizer as the judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import vapoursynth as vs
from numpy.typing import NDArray

from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.formats import Format

core = vs.core

type Frame = list[NDArray[Any]]


def vapoursynth_format(fmt: Format) -> vs.VideoFormat:
    return core.query_video_format(
        {"GRAY": vs.GRAY, "RGB": vs.RGB, "YUV": vs.YUV}[fmt.family],
        vs.FLOAT if fmt.real else vs.INTEGER,
        fmt.bits,
        fmt.sub_w,
        fmt.sub_h,
    )


def patterns(shapes: Sequence[tuple[int, int]], seed: int) -> Iterator[list[NDArray[np.float64]]]:
    """Planes in [0, 1]: ramps, checkerboards and stripes of extremes, lone samples and edges, noise."""
    random = np.random.default_rng(seed)
    grids = [np.indices(shape) for shape in shapes]
    yield [(x * (1 + 2 * p) + y * 3) % (w + p) / (w + p - 1 or 1) for p, ((y, x), (_, w)) in _each(grids, shapes)]
    yield [((x >> p) + (y >> (2 - p))) % 2.0 for p, ((y, x), _) in _each(grids, shapes)]
    yield [(x if p else y) % 2.0 for p, ((y, x), _) in _each(grids, shapes)]
    yield [((x * 7 + y * 5 + p) % 11 == 0) * 1.0 for p, ((y, x), _) in _each(grids, shapes)]
    yield [((x > w // 2) ^ (y > h // 3) ^ (p == 1)) * 1.0 for p, ((y, x), (h, w)) in _each(grids, shapes)]
    yield [random.random(shape) for shape in shapes]


def _each(grids: list[NDArray[Any]], shapes: Sequence[tuple[int, int]]) -> Any:  # noqa: ANN401
    return enumerate(zip(grids, shapes, strict=True))


def frames(fmt: Format, size: tuple[int, int], seed: int = 0) -> Iterator[Frame]:
    """Frames of size (h, w) with codes from 0 to the greatest, most of which no RGB in [0, 1] has."""
    for planes in patterns(fmt.shapes(size), seed):
        if fmt.real:
            lowest = [-0.7 if fmt.family == "YUV" and p > 0 else -0.2 for p in range(len(planes))]
            yield [(1.4 * plane + low).astype(fmt.dtype) for plane, low in zip(planes, lowest, strict=True)]
        else:
            yield [np.rint(plane * ((1 << fmt.bits) - 1)).astype(fmt.dtype) for plane in planes]


def pictures(size: tuple[int, int], seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """RGB (3, h, w) from -0.25 to 1.25."""
    for planes in patterns([size] * 3, seed):
        yield (1.5 * np.stack(planes) - 0.25).astype(np.float32)


def _clip(frame: Sequence[NDArray[Any]], fmt: vs.VideoFormat, **props: int) -> vs.VideoNode:
    height, width = frame[0].shape
    blank = core.std.BlankClip(format=fmt.id, width=width, height=height, length=1, keep=True)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        out.props.clear()
        out.props.update(props)
        for p, plane in enumerate(frame):
            np.copyto(np.asarray(out[p]), plane)
        return out

    return core.std.ModifyFrame(blank, blank, fill)


def _planes(clip: vs.VideoNode) -> Frame:
    frame = clip.get_frame(0)
    return [np.asarray(plane).copy() for plane in frame]


def resized_to_rgb(fmt: Format, frame: Frame, colour: Colour) -> NDArray[np.float32]:
    """What VapourSynth's resizer makes of a frame: (3, h, w) fp32."""
    props = {"_Range": int(colour.full)}
    if fmt.family != "RGB":
        props |= {"_Matrix": colour.matrix, "_ChromaLocation": colour.location}
    return np.stack(_planes(core.resize.Bicubic(_clip(frame, vapoursynth_format(fmt), **props), format=vs.RGBS)))


def resized_from_rgb(fmt: Format, rgb: NDArray[np.float32], colour: Colour) -> Frame:
    """What VapourSynth's resizer makes of RGB (3, h, w): planes."""
    clip = _clip(list(rgb), core.get_video_format(vs.RGBS))
    target = vapoursynth_format(fmt)
    if fmt.family == "RGB":
        return _planes(core.resize.Bicubic(clip, format=target.id, range=int(colour.full)))
    location = {"chromaloc": colour.location} if fmt.sub_w or fmt.sub_h else {}
    return _planes(
        core.resize.Bicubic(clip, format=target.id, matrix=colour.matrix, range=int(colour.full), **location)
    )
