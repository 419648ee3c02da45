"""LAW 3: every format in and out, with each frame's own colour, and its properties kept."""

from __future__ import annotations

import numpy as np
import pytest
import vapoursynth as vs

from tests.plugin.clips import DEVICES, core, moving, pixels, rgb_clip, same

FORMATS = [
    core.query_video_format(family, sample, bits, sub_w, sub_h)
    for family, subsamplings in (
        (vs.GRAY, [(0, 0)]),
        (vs.RGB, [(0, 0)]),
        (vs.YUV, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 2), (0, 1)]),
    )
    for sub_w, sub_h in subsamplings
    for sample, bits in (
        (vs.INTEGER, 8),
        (vs.INTEGER, 9),
        (vs.INTEGER, 10),
        (vs.INTEGER, 16),
        (vs.FLOAT, 16),
        (vs.FLOAT, 32),
    )
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_every_format_comes_back_x4_with_its_colours_and_properties(fmt: vs.VideoFormat, device: str) -> None:
    """A flat frame of an ordinary colour must come back as it was; a wrong matrix, range or plane order shows."""
    integer = fmt.sample_type == vs.INTEGER
    top = (1 << fmt.bits_per_sample) - 1 if integer else 1.0
    shares = [0.4, 0.55, 0.35] if integer or fmt.color_family == vs.RGB else [0.4, 0.05, -0.1]
    colour = [round(s * top) if integer else s for s in shares[: fmt.num_planes]]
    clip = core.std.BlankClip(format=fmt.id, width=32, height=24, length=3, color=colour)
    clip = core.std.SetFrameProps(clip, _SARNum=4, _SARDen=3, Note="kept")
    if fmt.color_family != vs.RGB:
        clip = core.std.SetFrameProps(clip, _Matrix=1, _Range=0)
    out = core.rafrvsr.Upscale(clip, device=device)
    assert (out.width, out.height, out.format.id, out.num_frames) == (128, 96, fmt.id, 3)
    frame, source = out.get_frame(1), clip.get_frame(1)
    for plane, value in zip(pixels(frame), colour, strict=True):
        middle = plane[plane.shape[0] // 4 : -plane.shape[0] // 4, plane.shape[1] // 4 : -plane.shape[1] // 4]
        tolerance = 1.01 * max(1, top / 255) if integer else 5e-3
        np.testing.assert_allclose(middle.astype(np.float64), value, atol=tolerance)
    assert {key: frame.props[key] for key in source.props} == dict(source.props)


def splice(*clips: vs.VideoNode) -> vs.VideoNode:
    """The clips one after the other, each marked as a shot of its own."""
    marked = [
        core.std.SetFrameProps(c[0], _SceneChangePrev=1) + core.std.SetFrameProps(c[1:], _SceneChangePrev=0)
        for c in clips
    ]
    return core.std.Splice(marked)


def yuv(matrix: int, colour_range: int, chromaloc: int, seed: int) -> vs.VideoNode:
    clip = rgb_clip(moving(3, 24, 32, seed))
    return core.resize.Bicubic(clip, format=vs.YUV420P8, matrix=matrix, range=colour_range, chromaloc=chromaloc)


def by_hand(
    clip: vs.VideoNode, matrix: int, colour_range: int, chromaloc: int, *, device: str = "auto", precision: str = "auto"
) -> vs.VideoNode:
    """What Upscale must equal, with the resizer's arguments written out."""
    rgb = core.resize.Bicubic(clip, format=vs.RGBS, matrix_in=matrix, range_in=colour_range, chromaloc_in=chromaloc)
    return core.resize.Bicubic(
        core.rafrvsr.Upscale(rgb, device=device, precision=precision),
        format=clip.format.id,
        matrix=matrix,
        range=colour_range,
        chromaloc=chromaloc,
    )


KINDS = [(6, 0, 0), (1, 1, 2), (9, 0, 1)]
"""Matrix, range, chroma location."""

COLOUR_PROPS = ("_Matrix", "_Range", "_ChromaLocation", "_Transfer", "_Primaries")


def test_matrix_range_and_chroma_location_are_taken_per_frame() -> None:
    parts = [yuv(*kind, seed) for seed, kind in enumerate(KINDS)]
    out = core.rafrvsr.Upscale(splice(*parts), device="cpu")
    for i, (part, kind) in enumerate(zip(parts, KINDS, strict=True)):
        expected = by_hand(splice(part), *kind, device="cpu")
        for n in range(3):
            frame = out.get_frame(3 * i + n)
            assert same(frame, expected.get_frame(n)), f"{kind}, frame {n}"
            assert (frame.props["_Matrix"], frame.props["_Range"], frame.props["_ChromaLocation"]) == kind
    assert not same(out.get_frame(0), by_hand(parts[0], 1, 1, 2, device="cpu").get_frame(0)), "kinds must differ"


@pytest.mark.cuda
@pytest.mark.parametrize("fmt", [vs.YUV420P8, vs.YUV420P10, vs.YUV422P16, vs.YUV444P8, vs.YUV444PS])
def test_the_kernels_route_agrees_with_the_resizers_per_frame(fmt: int) -> None:
    """At most 1 LSB at 8 bits, 2 above, 1e-3 in float; the network in fp32, so that it adds nothing of its own."""
    parts = [core.resize.Bicubic(yuv(*kind, seed), format=fmt) for seed, kind in enumerate(KINDS)]
    out = core.rafrvsr.Upscale(splice(*parts), device="cuda", precision="fp32")
    for i, (part, kind) in enumerate(zip(parts, KINDS, strict=True)):
        expected = by_hand(splice(part), *kind, device="cuda", precision="fp32")
        for n in range(3):
            frame, wanted = out.get_frame(3 * i + n), expected.get_frame(n)
            tolerance = 1e-3 if frame.format.sample_type == vs.FLOAT else 1 + (frame.format.bits_per_sample > 8)
            for ours, theirs in zip(pixels(frame), pixels(wanted), strict=True):
                np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), atol=tolerance)
            assert {name: frame.props[name] for name in COLOUR_PROPS if name in frame.props} == {
                name: wanted.props[name] for name in COLOUR_PROPS if name in wanted.props
            }


GREY_MATRICES = [None, 0, 1, 2, 5, 6, 9]
"""What a grey frame may say, 0 being what is left where a plane was taken out of RGB."""


def grey(fmt: int, matrix: int | None, colour_range: int = 0) -> vs.VideoNode:
    clip = core.resize.Bicubic(rgb_clip(moving(3, 24, 32)), format=fmt, matrix=1, range=colour_range)
    clip = core.std.RemoveFrameProps(clip, ["_Matrix"])
    return clip if matrix is None else core.std.SetFrameProps(clip, _Matrix=matrix)


@pytest.mark.parametrize("device", DEVICES)
def test_what_grey_says_of_its_matrix_changes_nothing_and_is_kept(device: str) -> None:
    wanted = list(core.rafrvsr.Upscale(grey(vs.GRAY16, 1), device=device).frames())
    for matrix in GREY_MATRICES:
        found = core.rafrvsr.Upscale(grey(vs.GRAY16, matrix), device=device).frames()
        for frame, same_frame in zip(found, wanted, strict=True):
            assert same(frame, same_frame), f"_Matrix={matrix}"
            assert frame.props.get("_Matrix") == matrix


@pytest.mark.parametrize("device", DEVICES)
def test_a_plane_of_rgb_is_grey(device: str) -> None:
    rgb = core.resize.Bicubic(rgb_clip(moving(2, 24, 32)), format=vs.RGB24)
    plane = core.std.ShufflePlanes(rgb, 0, vs.GRAY)
    assert plane.get_frame(0).props["_Matrix"] == vs.MATRIX_RGB
    frame = core.rafrvsr.Upscale(plane, device=device).get_frame(1)
    assert frame.props["_Matrix"] == vs.MATRIX_RGB
    assert frame.props["_Range"] == plane.get_frame(1).props["_Range"]


@pytest.mark.parametrize("device", DEVICES)
def test_planes_of_yuv_are_rgb(device: str) -> None:
    """Whatever `_Matrix` they have kept."""
    yuv = core.resize.Bicubic(rgb_clip(moving(2, 24, 32)), format=vs.YUV444P8, matrix=1)
    planes = core.std.ShufflePlanes(yuv, [0, 1, 2], vs.RGB)
    assert planes.get_frame(0).props["_Matrix"] == vs.MATRIX_BT709
    frame = core.rafrvsr.Upscale(planes, device=device).get_frame(1)
    plain = core.rafrvsr.Upscale(core.std.RemoveFrameProps(planes, ["_Matrix"]), device=device).get_frame(1)
    assert same(frame, plain)
    assert frame.props["_Matrix"] == vs.MATRIX_BT709


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("matrix", GREY_MATRICES)
def test_the_luma_of_grey_is_taken_by_bt709(matrix: int | None, device: str) -> None:
    """Of what the network makes, which is not exactly grey; to 1 LSB at 16 bits, the network in fp32."""
    rgb = core.resize.Bicubic(grey(vs.GRAY16, 1), format=vs.RGBS)
    network = core.rafrvsr.Upscale(rgb, device=device, precision="fp32")
    out = core.rafrvsr.Upscale(grey(vs.GRAY16, matrix), device=device, precision="fp32")
    for found, colours in zip(out.frames(), network.frames(), strict=True):
        red, green, blue = (plane.astype(np.float64) for plane in pixels(colours))
        codes = 4096 + 56064 * (0.2126 * red + 0.7152 * green + 0.0722 * blue)
        assert max(abs(red - green).max(), abs(blue - green).max()) > 1e-3, "the weights must matter"
        np.testing.assert_allclose(pixels(found)[0].astype(np.float64), codes.clip(0, 65535), rtol=0, atol=1)


@pytest.mark.cuda
@pytest.mark.parametrize("colour_range", [0, 1])
@pytest.mark.parametrize("fmt", [vs.GRAY8, vs.GRAY10, vs.GRAY16, vs.GRAYH, vs.GRAYS])
def test_both_routes_agree_on_grey_whatever_its_matrix(fmt: int, colour_range: int) -> None:
    """As close as for YUV; BT.709 is written out for the resizer."""
    expected = list(by_hand(grey(fmt, 1, colour_range), 1, colour_range, 0, device="cuda", precision="fp32").frames())
    for matrix in GREY_MATRICES:
        clip = grey(fmt, matrix, colour_range)
        found = core.rafrvsr.Upscale(clip, device="cuda", precision="fp32").frames()
        for frame, wanted, source in zip(found, expected, clip.frames(), strict=True):
            tolerance = 1e-3 if frame.format.sample_type == vs.FLOAT else 1 + (frame.format.bits_per_sample > 8)
            ours, theirs = pixels(frame)[0].astype(np.float64), pixels(wanted)[0].astype(np.float64)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
            for name in COLOUR_PROPS:
                assert frame.props.get(name) == source.props.get(name)


@pytest.mark.parametrize("device", DEVICES)
def test_yuv_that_says_it_is_rgb_is_refused(device: str) -> None:
    """Whatever was meant by `_Matrix=0`, a guess would give wrong colours without a word."""
    with pytest.raises(vs.Error, match=r"(?i)matri"):
        core.rafrvsr.Upscale(core.std.SetFrameProps(yuv(1, 0, 0, 0), _Matrix=0), device=device).get_frame(0)


@pytest.mark.cuda
def test_a_matrix_that_the_kernels_do_not_know_costs_its_own_frames_only() -> None:
    clip = yuv(1, 0, 0, 0)
    mixed = clip[0] + core.std.SetFrameProps(clip[1], _Matrix=14) + clip[2]
    out = core.rafrvsr.Upscale(mixed, device="cuda")
    with pytest.raises(vs.Error, match=r"^Upscale: frame 1 has _Matrix=14.*resize\.Bicubic"):
        out.get_frame(1)
    out.get_frame(0)
    out.get_frame(2)


@pytest.mark.parametrize(("matrix", "transfer"), [(10, 14), (14, 16), (14, 18)])
def test_a_matrix_that_means_nothing_without_transfer_and_primaries_gets_them(matrix: int, transfer: int) -> None:
    """BT.2020 with constant luminance, and ICtCp: the resizer refuses them alone."""
    clip = core.std.BlankClip(format=vs.YUV420P10, width=32, height=24, length=1, color=[400, 540, 480])
    said = core.std.SetFrameProps(clip, _Matrix=matrix, _Transfer=transfer, _Primaries=9)
    frame = core.rafrvsr.Upscale(said, device="cpu").get_frame(0)
    for plane, value in zip(pixels(frame), (400, 540, 480), strict=True):
        middle = plane[plane.shape[0] // 4 : -plane.shape[0] // 4, plane.shape[1] // 4 : -plane.shape[1] // 4]
        np.testing.assert_allclose(middle.astype(np.float64), value, atol=1.01)


def test_the_deprecated_color_range_still_counts_where_range_is_absent() -> None:
    full = yuv(1, 1, 0, 0)
    old = core.std.SetFrameProps(core.std.RemoveFrameProps(full, ["_Range"]), _ColorRange=0)
    assert same(core.rafrvsr.Upscale(old).get_frame(1), core.rafrvsr.Upscale(full).get_frame(1))


@pytest.mark.parametrize(("width", "height", "guess"), [(32, 24, 6), (1040, 16, 1), (16, 592, 1)])
def test_an_unset_matrix_is_guessed_by_size_and_written_on_the_output(width: int, height: int, guess: int) -> None:
    said = core.std.BlankClip(format=vs.YUV444P8, width=width, height=height, length=1, color=[120, 90, 170])
    unset = core.std.RemoveFrameProps(said, ["_Matrix"])
    out = core.rafrvsr.Upscale(unset).get_frame(0)
    assert out.props["_Matrix"] == guess
    assert same(out, core.rafrvsr.Upscale(core.std.SetFrameProps(unset, _Matrix=guess)).get_frame(0))


def test_values_beyond_the_nominal_range_pass_instead_of_being_cut_off() -> None:
    frames = moving(3, 24, 32)
    frames[:, :, 6:18, 8:24] = 1.5
    frames[:, :, :4, :4] = -0.25
    out = pixels(core.rafrvsr.Upscale(rgb_clip(frames)).get_frame(1))[0]
    assert abs(out[48, 64] - 1.5) < 0.02
    assert abs(out[2, 2] + 0.25) < 0.05


def test_the_output_is_centre_aligned() -> None:
    """A picture symmetric about its centre must stay so: any shift of the sampling grid breaks it."""
    half = moving(1, 24, 16)
    frames = np.concatenate([half, half[..., ::-1]], -1).repeat(3, 0)
    out = pixels(core.rafrvsr.Upscale(rgb_clip(frames), leadin=0).get_frame(0))[1]
    base = pixels(core.resize.Bicubic(rgb_clip(frames), 128, 96).get_frame(0))[1]
    shift = [np.mean((np.roll(out, s, 1) - base)[:, 8:-8] ** 2) for s in (-1, 0, 1)]
    assert shift[1] < min(shift[0], shift[2])
    assert abs(shift[0] - shift[2]) < 0.2 * (min(shift[0], shift[2]) - shift[1])
