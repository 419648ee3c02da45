"""The tables of formats and colours."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.pixels.pictures import vapoursynth_format
from vs_rafrvsr.pixels.colour import MATRICES, PARAMETERS, Colour, parameters_in, parameters_out, rgb_to_yuv
from vs_rafrvsr.pixels.formats import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_rows_are_named_as_vapoursynth_names_them(name: str) -> None:
    fmt = vapoursynth_format(FORMATS[name])
    assert fmt.name == name
    assert fmt.bytes_per_sample == FORMATS[name].dtype.itemsize
    assert fmt.num_planes == len(FORMATS[name].shapes((8, 8)))


def test_packing_takes_padded_rows_and_unpacking_gives_views() -> None:
    fmt = FORMATS["YUV420P10"]
    planes = [np.arange(h * 40, dtype=np.uint16).reshape(h, 40)[:, :w] for h, w in fmt.shapes((6, 10))]
    packed = np.empty(fmt.bytes((6, 10)), np.uint8)
    fmt.pack(planes, packed)
    for view, plane in zip(fmt.planes(packed, (6, 10)), planes, strict=True):
        np.testing.assert_array_equal(view, plane)
        assert np.shares_memory(view, packed)


def test_samples_of_another_type_are_refused() -> None:
    fmt = FORMATS["Gray8"]
    with pytest.raises(TypeError, match="Cannot cast"):
        fmt.pack([np.zeros((2, 2), np.uint16)], np.empty(4, np.uint8))


@pytest.mark.parametrize("matrix", MATRICES)
def test_white_is_luma_alone_and_pure_colours_reach_the_ends_of_chroma(matrix: int) -> None:
    yuv = rgb_to_yuv(matrix)
    np.testing.assert_allclose(yuv @ [1, 1, 1], [1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(np.abs(yuv[1:]).max(1), 0.5)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("name", ["Gray8", "GrayS", "RGB24", "RGBH", "YUV420P8", "YUV422P10", "YUV444P16", "YUV444PS"])
def test_the_way_out_undoes_the_way_in(name: str, matrix: int, full: bool) -> None:
    colour, size, strides = Colour(matrix=matrix, full=full), (8, 8), (64, 8, 1)
    into = parameters_in(FORMATS[name], colour, size, strides)["affine"].astype(np.float64)
    back = parameters_out(FORMATS[name], colour, size, strides)["affine"].astype(np.float64)
    whole = np.vstack([back, [0, 0, 0, 1]]) @ np.vstack([into, [0, 0, 0, 1]])
    planes = len(FORMATS[name].shapes(size))
    top = 1 if FORMATS[name].real else (1 << FORMATS[name].bits) - 1
    np.testing.assert_allclose(whole[:planes, :planes], np.eye(planes), atol=1e-6)
    np.testing.assert_allclose(whole[:planes, 3], 0, atol=1e-6 * top)


@pytest.mark.parametrize("location", range(6))
@pytest.mark.parametrize("name", ["YUV420P8", "YUV422P8", "YUV444P8"])
def test_filters_keep_flat_areas(name: str, location: int) -> None:
    colour = Colour(matrix=1, full=False, location=location)
    for make in (parameters_in, parameters_out):
        values = make(FORMATS[name], colour, (8, 8), (64, 8, 1))
        for side in ("across", "down"):
            sums = values[side]["weight"].sum(-1)
            np.testing.assert_allclose(sums[: 2 if make is parameters_in and sums[1] else 1], 1, atol=1e-6)


def test_the_parameters_are_laid_out_as_in_the_kernels() -> None:
    """kernels.cu asserts the same number."""
    assert PARAMETERS.itemsize == 232


def test_importing_the_cuda_route_does_not_load_cupy() -> None:
    code = "import sys, vs_rafrvsr.pixels.cuda; sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
