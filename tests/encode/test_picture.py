"""Pixels, colour, shape and HDR10 metadata of the file are the clip's."""

from __future__ import annotations

import logging
import re
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.encode.media import FFV1, X264, pixels, script, side_data, streams, vspipe_pixels
from vs_rafrvsr.encode import encode
from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.encode.options import picture_options, video_options
from vs_rafrvsr.encode.process import find_vspipe, pixel_formats
from vs_rafrvsr.errors import EncodeError

# A ramp that differs in every plane and frame; odd sizes where the subsampling allows.
RAMP = """
def ramp(fmt, width, height):
    grey = core.std.BlankClip(width=width, height=height, format=vs.GRAY8, length=1, color=0)
    def draw(n, f):
        f = f.copy()
        for y in range(height):
            for x in range(width):
                f[0][y, x] = (7 * x + 3 * y + 40 * n) % 256
        return f
    def plane(shift):
        return core.std.ModifyFrame(grey * 3, grey * 3, lambda n, f: draw(n + shift, f))
    rgb = core.std.ShufflePlanes([plane(0), plane(1), plane(2)], [0, 0, 0], vs.RGB)
    if fmt.color_family == vs.RGB:
        return rgb.resize.Bicubic(format=fmt.id)
    return rgb.resize.Bicubic(format=fmt.id, matrix=5)
"""
FORMATS = "GRAY8 GRAY10 GRAY16 YUV420P8 YUV420P10 YUV420P16 YUV422P8 YUV422P12 YUV444P8 YUV444P10 YUV410P8 YUV411P8"


@pytest.mark.parametrize("name", FORMATS.split())
def test_integer_yuv_and_grey_arrive_bit_for_bit(name: str, tmp_path: Path) -> None:
    path = script(tmp_path, RAMP + f"ramp(core.get_video_format(vs.{name}), 40, 36).set_output()")
    encode(path, tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert pixels(tmp_path / "out.mkv") == vspipe_pixels(find_vspipe(), path)


@pytest.mark.parametrize(
    ("name", "arrives_as", "pixel_format"),
    [
        ("RGB24", "YUV444P8, matrix=1", "yuv444p"),
        ("RGB30", "YUV444P10, matrix=1", "yuv444p10le"),
        ("RGBS", "YUV444P16, matrix=1", "yuv444p16le"),
        ("YUV420PS", "YUV420P16", "yuv420p16le"),
        ("GRAYH", "GRAY16", "gray16le"),
    ],
)
def test_rgb_becomes_444_and_float_16_bits(name: str, arrives_as: str, pixel_format: str, tmp_path: Path) -> None:
    clip = RAMP + f"clip = ramp(core.get_video_format(vs.{name}), 40, 36)\n"
    path = script(tmp_path, clip + "clip.set_output()")
    encode(path, tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert streams(tmp_path / "out.mkv", "video")[0]["pix_fmt"] == pixel_format
    expected = script(tmp_path, clip + f"clip.resize.Bicubic(format=vs.{arrives_as}).set_output()", "expected.vpy")
    assert pixels(tmp_path / "out.mkv") == vspipe_pixels(find_vspipe(), expected)


@pytest.mark.parametrize(("bits", "deeper"), [(11, 12), (13, 14), (15, 16)])
def test_depths_that_ffmpeg_lacks_become_deeper(bits: int, deeper: int, tmp_path: Path) -> None:
    clip = RAMP + f"clip = ramp(core.query_video_format(vs.YUV, vs.INTEGER, {bits}, 1, 1), 40, 36)\n"
    encode(script(tmp_path, clip + "clip.set_output()"), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert streams(tmp_path / "out.mkv", "video")[0]["pix_fmt"] == f"yuv420p{deeper}le"
    expected = script(tmp_path, clip + f"clip.resize.Point(format=vs.YUV420P{deeper}).set_output()", "expected.vpy")
    assert pixels(tmp_path / "out.mkv") == vspipe_pixels(find_vspipe(), expected)


def test_pixels_that_ffmpeg_lacks_are_refused(tmp_path: Path) -> None:
    body = "core.std.BlankClip(format=core.query_video_format(vs.YUV, vs.INTEGER, 16, 0, 1).id, width=64, height=48)"
    with pytest.raises(EncodeError, match=r"no pixels like .* YUV440P16; .* resize\.Bicubic\(format=vs\.YUV444P16\)"):
        encode(script(tmp_path, f"{body}.set_output()"), tmp_path / "out.mkv", ffmpeg_options=FFV1)


def test_rgb_of_bt2020_takes_its_matrix(tmp_path: Path) -> None:
    clip = RAMP + "clip = ramp(core.get_video_format(vs.RGB48), 40, 36).std.SetFrameProps(_Primaries=9)\n"
    encode(script(tmp_path, clip + "clip.set_output()"), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert streams(tmp_path / "out.mkv", "video")[0]["color_space"] == "bt2020nc"
    converted = clip + "clip.resize.Bicubic(format=vs.YUV444P16, matrix=9).set_output()"
    assert pixels(tmp_path / "out.mkv") == vspipe_pixels(find_vspipe(), script(tmp_path, converted, "expected.vpy"))


HDR10_PROPS = """
clip = clip.std.SetFrameProps(
    MasteringDisplayPrimariesX=[.68, .265, .15], MasteringDisplayPrimariesY=[.32, .69, .06],
    MasteringDisplayWhitePointX=.3127, MasteringDisplayWhitePointY=.329,
    MasteringDisplayMinLuminance=.0001, MasteringDisplayMaxLuminance=1000.,
    ContentLightLevelMax=900, ContentLightLevelAverage=400)
"""


def tagged(folder: Path, props: dict[str, int], extra: str = "") -> Path:
    body = "clip = core.std.BlankClip(width=320, height=240, format=vs.YUV420P10, length=3, color=[300, 500, 700])\n"
    named = ", ".join(f"{name}={value}" for name, value in props.items())
    return script(folder, f"{body}clip = clip.std.SetFrameProps({named})\n{extra}\nclip.set_output()")


HDR = {"_Matrix": 9, "_Primaries": 9, "_Transfer": 16, "_Range": 0, "_ChromaLocation": 2, "_SARNum": 1, "_SARDen": 1}
HDR_TAGS = ("bt2020nc", "bt2020", "smpte2084", "tv", "topleft", "1:1")
PAL = {"_Matrix": 5, "_Primaries": 5, "_Transfer": 6, "_Range": 0, "_ChromaLocation": 0, "_SARNum": 64, "_SARDen": 45}
PAL_TAGS = ("bt470bg", "bt470bg", "smpte170m", "tv", "left", "64:45")
FULL = {
    "_Matrix": 1,
    "_Primaries": 1,
    "_Transfer": 1,
    "_Range": 1,
    "_ChromaLocation": 1,
    "_SARNum": 311,
    "_SARDen": 309,
}
FULL_TAGS = ("bt709", "bt709", "bt709", "pc", "center", "311:309")


@pytest.mark.parametrize(("props", "tags"), [(HDR, HDR_TAGS), (PAL, PAL_TAGS), (FULL, FULL_TAGS)])
@pytest.mark.parametrize("encoder", [(), X264, FFV1], ids=["default", "x264", "ffv1"])
def test_colour_and_aspect_are_tagged_and_pixels_kept(
    encoder: tuple[str, ...], props: dict[str, int], tags: tuple[str, ...], tmp_path: Path
) -> None:
    encode(tagged(tmp_path, props), tmp_path / "out.mkv", ffmpeg_options=encoder)
    video = streams(tmp_path / "out.mkv", "video")[0]
    names = ("color_space", "color_primaries", "color_transfer", "color_range", "chroma_location")
    assert tuple(video.get(name) for name in (*names, "sample_aspect_ratio")) == tags
    first = pixels(tmp_path / "out.mkv", "-frames:v", "1")
    assert abs(int.from_bytes(first[:2], "little") - 300) <= 1  # a wrong range would have moved it by dozens


def test_unspecified_stays_unspecified(tmp_path: Path) -> None:
    encode(tagged(tmp_path, {"_Matrix": 2, "_Primaries": 2, "_Transfer": 2}), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    video = streams(tmp_path / "out.mkv", "video")[0]
    assert not {"color_space", "color_primaries", "color_transfer"} & video.keys()


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("encoder", [(), FFV1], ids=["default", "ffv1"])
def test_codes_that_say_nothing_of_yuv_are_not_handed_over(code: int, encoder: tuple[str, ...], tmp_path: Path) -> None:
    props = {"_Matrix": code, "_Primaries": code, "_Transfer": code, "_Range": 1}
    encode(tagged(tmp_path, props), tmp_path / "out.mkv", ffmpeg_options=encoder)
    video = streams(tmp_path / "out.mkv", "video")[0]
    assert not {"color_space", "color_primaries", "color_transfer"} & video.keys()
    assert video["color_range"] == "pc"


def test_the_users_filter_and_parameters_join_ours(tmp_path: Path) -> None:
    """The last ones, as ffmpeg takes them."""
    twice = ("-x265-params", "fast-intra=1", "-filter:v", "crop=200:200")
    options = ("-c:v", "libx265", *twice, "-x265-params", "keyint=1", "-vf", "crop=160:120")
    encode(tagged(tmp_path, HDR, HDR10_PROPS), tmp_path / "out.mkv", ffmpeg_options=options)
    video = streams(tmp_path / "out.mkv", "video")[0]
    assert (video["width"], video["height"], video["color_space"]) == (160, 120, "bt2020nc")
    assert "Mastering display metadata" in {data["side_data_type"] for data in side_data(tmp_path / "out.mkv")}


@pytest.mark.parametrize("encoder", ["libx265", "libsvtav1"])
def test_hdr10_metadata_arrives(encoder: str, tmp_path: Path) -> None:
    if not pixel_formats(encoder):
        pytest.skip(f"this ffmpeg has no {encoder}")
    encode(tagged(tmp_path, HDR, HDR10_PROPS), tmp_path / "out.mkv", ffmpeg_options=("-c:v", encoder))
    found: dict[str, Any] = {data["side_data_type"]: data for data in side_data(tmp_path / "out.mkv")}
    display = found["Mastering display metadata"]
    values = [float(Fraction(display[name])) for name in ("red_x", "green_y", "white_point_x", "max_luminance")]
    assert values == pytest.approx([0.68, 0.69, 0.3127, 1000], rel=1e-3)
    assert float(Fraction(display["min_luminance"])) == pytest.approx(0.0001, abs=3e-5)
    light = found["Content light level metadata"]
    assert (light["max_content"], light["max_average"]) == (900, 400)


def test_hdr10_metadata_arrives_in_h264(tmp_path: Path) -> None:
    """Looked for in the stream itself: ffmpeg's decoder did not report it for long."""
    encode(tagged(tmp_path, HDR, HDR10_PROPS), tmp_path / "out.mkv", ffmpeg_options=X264)
    trace = ("-c", "copy", "-frames:v", "1", "-bsf:v", "trace_headers", "-f", "null", "-")
    shown = subprocess.run(["ffmpeg", "-i", tmp_path / "out.mkv", *trace], check=True, capture_output=True, text=True)
    values = dict(re.findall(r"(\w+(?:\[\d\])?) +[01]+ = (\d+)$", shown.stderr, re.MULTILINE))
    names = ("display_primaries_x[2]", "display_primaries_y[0]", "white_point_x")  # in G, B, R's order
    assert [int(values[name]) for name in names] == [34000, 34500, 15635]
    assert int(values["max_display_mastering_luminance"]) == 1000 * 10_000
    assert int(values["min_display_mastering_luminance"]) == 1
    assert (values["max_content_light_level"], values["max_pic_average_light_level"]) == ("900", "400")


@pytest.mark.parametrize("encoder", ["libx265", "libsvtav1"])
def test_a_content_light_level_needs_no_display(encoder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """None at all, or one that lacks its luminance, which is told."""
    if not pixel_formats(encoder):
        pytest.skip(f"this ffmpeg has no {encoder}")
    gone = re.findall(r"\w+(?==)", HDR10_PROPS.split("ContentLight")[0])
    for lacking, said in ((gone, ""), (gone[-1:], "mastering display has no MasteringDisplayMaxLuminance: it is lost")):
        caplog.clear()
        props = f"{HDR10_PROPS}\nclip = clip.std.RemoveFrameProps({lacking})"
        encode(tagged(tmp_path, HDR, props), tmp_path / "out.mkv", ffmpeg_options=("-c:v", encoder), overwrite=True)
        found = {data["side_data_type"]: data for data in side_data(tmp_path / "out.mkv")}
        light = found["Content light level metadata"]
        assert (light["max_content"], light["max_average"]) == (900, 400)
        assert "Mastering display metadata" not in found
        assert caplog.text.count("lost") == (1 if said else 0)
        assert said in caplog.text


def test_hdr10_metadata_that_an_encoder_cannot_take_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        encode(tagged(tmp_path, HDR, HDR10_PROPS), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert "ffv1" in caplog.text
    assert "libx265" in caplog.text


def test_the_default_encoder_and_quality() -> None:
    clip = Clip(pixel_format="yuv420p", width=64, height=48, frames=1, rate=Fraction(24), variable=False, props={})
    assert video_options(clip, ()) == ["-c:v", "libx265", "-crf", "18"]


def test_options_of_sound_and_container_are_told_from_those_of_the_picture() -> None:
    """What a piece of a split encode does not depend on."""
    picture = "-c:v libx265 -x265-params keyint=1:aq-mode=2 -b:v 1M -tag:v hvc1 -vf scale=-2:48 -unknown"
    others = "-c:a aac -b:a:1 96k -shortest -map -1:a:1 -metadata:s:v:0 title=x -movflags +faststart -an -c:s srt"
    for options in (f"{picture} {others}", f"{others} {picture}"):
        assert " ".join(picture_options(options.split())) == picture
