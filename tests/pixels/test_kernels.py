"""The CUDA kernels against VapourSynth's resizer: as C++ on the CPU everywhere, and themselves where there is a GPU."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.pixels import device, host
from tests.pixels.pictures import frames, pictures, resized_from_rgb, resized_to_rgb
from vs_rafrvsr.pixels.colour import CHROMA_OFFSETS, MATRICES, Colour
from vs_rafrvsr.pixels.formats import FORMATS, Format

type Route = Any
"""A module with `to_rgb` and `from_rgb`."""

SIZE = (24, 36)
BT709 = Colour(matrix=1, full=False)


@pytest.fixture(params=["host", pytest.param("device", marks=pytest.mark.cuda)])
def route(request: pytest.FixtureRequest) -> Route:
    return {"host": host, "device": device}[request.param]


def tolerance(fmt: Format) -> float:
    """On the way out: a code, where fp32 sums in another order fall on the other side of a half; else a last place."""
    return (1e-3 if fmt.bits == 16 else 1e-6) if fmt.real else 1


def check(route: Route, fmt: Format, colour: Colour, size: tuple[int, int] = SIZE) -> None:
    """All revealing frames and pictures, both ways."""
    for n, frame in enumerate(frames(fmt, size)):
        got = route.to_rgb(fmt, frame, colour)
        report = f"{fmt.name} {colour} {size}, frame {n}"
        np.testing.assert_allclose(got, resized_to_rgb(fmt, frame, colour), rtol=0, atol=2e-6, err_msg=report)
    for n, rgb in enumerate(pictures(size)):
        got = route.from_rgb(fmt, rgb, colour)
        for p, (plane, expected) in enumerate(zip(got, resized_from_rgb(fmt, rgb, colour), strict=True)):
            report = f"{fmt.name} {colour} {size}, picture {n}, plane {p}"
            assert_close(plane, expected, tolerance(fmt), report)


def assert_close(plane: NDArray[Any], expected: NDArray[Any], limit: float, report: str) -> None:
    """Nowhere more than `limit` apart; codes are the same but for a few."""
    apart = np.abs(plane.astype(np.float64) - expected)
    histogram = np.unique(apart, return_counts=True)
    assert apart.max() <= limit, f"{report}: {histogram}"
    if limit == 1:
        assert (apart > 0).sum() <= max(2, 0.1 * apart.size), f"{report}: {histogram}"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_in_both_ranges(route: Route, name: str) -> None:
    for full in (False, True):
        check(route, FORMATS[name], Colour(matrix=1, full=full))


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(
    "name",
    ["Gray8", "YUV444P8", "YUV444PS", "YUV420P8", "YUV420P10", "YUV420PS", "YUV422P8", "YUV422P16", "YUV422PH"],
)
def test_every_matrix_in_both_ranges_with_every_chroma_location(route: Route, name: str, matrix: int) -> None:
    for full, location in itertools.product((False, True), CHROMA_OFFSETS):
        check(route, FORMATS[name], Colour(matrix=matrix, full=full, location=location))


@pytest.mark.parametrize("size", [(2, 2), (2, 4), (4, 2), (6, 10), (14, 6), (34, 66), (58, 134)])
@pytest.mark.parametrize("name", ["Gray16", "RGB24", "YUV420P8", "YUV422P10", "YUV420PS"])
def test_sizes_that_fill_no_block_or_are_smaller_than_the_filter(
    route: Route, name: str, size: tuple[int, int]
) -> None:
    for location in CHROMA_OFFSETS if FORMATS[name].sub_w else (0,):
        check(route, FORMATS[name], Colour(matrix=6, full=False, location=location), size)


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in ("Gray8", "RGB30", "YUV444P8", "YUV444PH") for size in ((1, 1), (3, 5), (13, 37))]
    + [("YUV422P8", size) for size in ((1, 2), (5, 6), (35, 66))],
)
def test_odd_sizes_where_the_format_allows_them(route: Route, name: str, size: tuple[int, int]) -> None:
    check(route, FORMATS[name], Colour(matrix=9, full=True, location=2), size)


@pytest.mark.parametrize("name", [name for name, fmt in FORMATS.items() if not fmt.real])
@pytest.mark.parametrize("full", [False, True])
def test_a_way_in_and_out_again_returns_flat_codes(route: Route, name: str, full: bool) -> None:
    fmt = FORMATS[name]
    for matrix in (1,) if fmt.family == "RGB" else MATRICES:
        colour = Colour(matrix=matrix, full=full)
        for level in (0.0, 0.07, 0.45, 0.8, 1.0):
            code = round(level * ((1 << fmt.bits) - 1))
            frame = [np.full(shape, code, fmt.dtype) for shape in fmt.shapes((4, 8))]
            back = route.from_rgb(fmt, route.to_rgb(fmt, frame, colour), colour)
            for plane, expected in zip(back, frame, strict=True):
                np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize(
    ("value", "becomes"), [(np.nan, 0), (np.inf, 1), (-np.inf, 0), (3.0, 3.0), (-2.5, -2.5), (60000.0, 60000.0)]
)
@pytest.mark.parametrize("name", ["GrayH", "GrayS", "RGBH", "RGBS"])
def test_one_bad_sample_stays_alone(route: Route, name: str, value: float, becomes: float) -> None:
    fmt = FORMATS[name]
    frame = [np.full((4, 6), 0.25, fmt.dtype) for _ in fmt.shapes((4, 6))]
    frame[-1][2, 3] = value
    expected = np.full((3, 4, 6), 0.25, np.float32)
    expected[2 if fmt.family == "RGB" else slice(None), 2, 3] = becomes
    np.testing.assert_array_equal(route.to_rgb(fmt, frame, BT709), expected)


@pytest.mark.parametrize("name", ["YUV420PS", "YUV444PH"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_chroma_gives_finite_rgb(route: Route, name: str, value: float) -> None:
    fmt = FORMATS[name]
    frame = [np.zeros(shape, fmt.dtype) for shape in fmt.shapes((8, 8))]
    frame[1][1, 1] = value
    assert np.isfinite(route.to_rgb(fmt, frame, BT709)).all()


@pytest.mark.parametrize("name", ["Gray8", "RGB48", "YUV420P10"])
def test_a_number_that_is_none_goes_out_as_the_lowest_code(route: Route, name: str) -> None:
    fmt = FORMATS[name]
    rgb = np.full((3, 8, 8), np.nan, np.float32)
    assert all((plane == 0).all() for plane in route.from_rgb(fmt, rgb, BT709))


def test_halves_between_two_codes_go_where_the_resizer_puts_them(route: Route) -> None:
    """To the even code; and what lies beyond the first and last code stops there."""
    fmt, full = FORMATS["RGB24"], Colour(matrix=1, full=True)
    rgb = np.repeat(np.arange(-16, 528, dtype=np.float32)[None, None] / np.float32(510), 3, 0)
    np.testing.assert_array_equal(route.from_rgb(fmt, rgb, full), resized_from_rgb(fmt, rgb, full))
