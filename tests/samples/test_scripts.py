"""Every sample script runs under the real vspipe and gives what its comments promise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import vapoursynth as vs
from vapoursynth import core

from tests.encode.media import FFV1, ffmpeg, side_data, streams, times
from vs_rafrvsr.encode import encode
from vs_rafrvsr.encode.process import find_vspipe

SAMPLES = Path(__file__).parents[2] / "samples"
PATTERN = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=0.2")


def run(name: str, source: Path, out: Path, *options: str, **arguments: str) -> Path:
    everything = {"source": str(source), **arguments}
    encode(SAMPLES / name, out, source=source, ffmpeg_options=options or FFV1, arguments=everything)
    return out


def difference(out: Path, truth: Path) -> float:
    """Of the worst frame and plane: the mean difference, of the range, after `out` is brought to `truth`'s size."""
    found, wanted = (core.bs.VideoSource(str(path), showprogress=False) for path in (out, truth))
    found = found.resize.Bicubic(wanted.width, wanted.height, format=vs.YUV444P16)
    wanted = wanted.resize.Bicubic(format=vs.YUV444P16)
    assert len(found) == len(wanted)
    planes = [found.std.PlaneStats(wanted, plane=plane) for plane in range(3)]
    return max(float(f.props["PlaneStatsDiff"]) for plane in planes for f in plane.frames())


def test_plain_upscale(tmp_path: Path) -> None:
    source = tmp_path / "film.mkv"
    ffmpeg(*PATTERN, "-f", "lavfi", "-i", "sine=duration=0.2", *FFV1, "-c:a", "flac", source)
    out = run("upscale.vpy", source, tmp_path / "out.mkv")
    video = streams(out, "video")[0]
    assert (video["width"], video["height"], video["pix_fmt"], video["r_frame_rate"]) == (384, 256, "yuv420p", "25/1")
    assert len(times(out)) == 5
    assert len(streams(out, "audio")) == 1
    assert difference(out, source) < 0.02


def test_a_variable_rate_and_oblong_pixels_and_sound_come_through(tmp_path: Path) -> None:
    source = tmp_path / "film.mkv"
    slowed = "setpts='if(lt(N,3),N/25,0.12+(N-3)/10)/TB',setsar=16/11"
    timing = ("-fps_mode", "passthrough", "-enc_time_base", "1/1000")
    ffmpeg(*PATTERN, "-f", "lavfi", "-i", "sine=duration=0.4", "-vf", slowed, *timing, *FFV1, "-c:a", "flac", source)
    out = run("upscale.vpy", source, tmp_path / "out.mkv")
    video = streams(out, "video")[0]
    assert (video["width"], video["height"], video["sample_aspect_ratio"]) == (384, 256, "16:11")
    assert times(out) == pytest.approx(times(source), abs=0.0011)
    assert times(out, "a") == times(source, "a")


def test_bicubic(tmp_path: Path) -> None:
    ffmpeg(*PATTERN, *FFV1, tmp_path / "film.mkv")
    video = streams(run("bicubic.vpy", tmp_path / "film.mkv", tmp_path / "out.mkv"), "video")[0]
    assert (video["width"], video["height"]) == (384, 256)


def test_resize_makes_oblong_pixels_square(tmp_path: Path) -> None:
    ffmpeg(*PATTERN, "-vf", "setsar=16/11", *FFV1, tmp_path / "film.mkv")
    video = streams(run("resize.vpy", tmp_path / "film.mkv", tmp_path / "out.mkv", height="200"), "video")[0]
    assert (video["width"], video["height"]) == (436, 200)  # 96/64 * 16/11 * 200 = 436.4
    assert video["sample_aspect_ratio"] == "1:1"


def test_restore_deinterlaces_to_the_double_rate_in_10_bits(tmp_path: Path) -> None:
    """The fields in their order: taken for bottom field first, this film comes out 0.11 away from what was filmed."""
    filmed, source = tmp_path / "filmed.mkv", tmp_path / "film.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=50:duration=0.12,scroll=horizontal=0.04", *FFV1, filmed)
    ffmpeg("-i", filmed, "-vf", "noise=alls=10:allf=t,tinterlace=interleave_top,setfield=tff", *FFV1, source)
    out = run("restore.vpy", source, tmp_path / "out.mkv")
    video = streams(out, "video")[0]
    assert (video["width"], video["height"], video["pix_fmt"]) == (384, 256, "yuv420p10le")
    assert video["r_frame_rate"] == "50/1"
    assert len(times(out)) == 2 * len(times(source))
    assert difference(out, filmed) < 0.05


def test_restore_keeps_sound_colour_tags_and_oblong_pixels(tmp_path: Path) -> None:
    tags = ("-colorspace", "bt470bg", "-color_primaries", "bt470bg", "-color_trc", "smpte170m", "-color_range", "tv")
    interlace = "noise=alls=10:allf=t,tinterlace=interleave_top,setfield=tff,setsar=16/11"
    sound = ("-f", "lavfi", "-i", "sine=duration=0.12")
    source = tmp_path / "film.mkv"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=50:duration=0.12")
    ffmpeg(*picture, *sound, "-vf", interlace, *tags, *FFV1, "-c:a", "flac", source)
    out = run("restore.vpy", source, tmp_path / "out.mkv")
    names = ("color_space", "color_primaries", "color_transfer", "color_range", "sample_aspect_ratio")
    before, after = streams(source, "video")[0], streams(out, "video")[0]
    assert [before[name] for name in names] == ["bt470bg", "bt470bg", "smpte170m", "tv", "16:11"]
    assert [after[name] for name in names] == [before[name] for name in names]
    assert times(out, "a") == times(source, "a")


def test_hdr10_stays_hdr10(tmp_path: Path) -> None:
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    tags = ("-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "smpte2084", "-color_range", "tv")
    source = tmp_path / "film.mkv"
    ffmpeg(*PATTERN, "-pix_fmt", "yuv420p10le", *tags, "-c:v", "libx265", "-x265-params", display, source)
    out = run("hdr10.vpy", source, tmp_path / "out.mkv", "-c:v", "libx265", "-preset", "ultrafast")
    names = ("pix_fmt", "color_space", "color_primaries", "color_transfer", "color_range")
    before, after = streams(source, "video")[0], streams(out, "video")[0]
    assert [after[name] for name in names] == [before[name] for name in names]
    kinds = ("Mastering display metadata", "Content light level metadata")
    assert [d for d in side_data(out) if d["side_data_type"] in kinds] == [
        d for d in side_data(source) if d["side_data_type"] in kinds
    ]
    assert difference(out, source) < 0.02


@pytest.mark.parametrize("output", ["0", "1"])
def test_preview_has_two_outputs_of_one_size(output: str, tmp_path: Path) -> None:
    ffmpeg(*PATTERN, *FFV1, tmp_path / "film.mkv")
    command = [find_vspipe(), "--arg", f"source={tmp_path / 'film.mkv'}", "--outputindex", output]
    script = str(SAMPLES / "preview.vpy")
    info = subprocess.run([*command, "--info", script, "-"], check=True, capture_output=True, text=True).stdout
    assert "Width: 384" in info
    subprocess.run([*command, "--end", "1", script, "--"], check=True, capture_output=True)


def test_the_clip_is_deterministic_and_its_input_is_a_quarter_of_the_truth() -> None:
    def md5(*arguments: str) -> bytes:
        command = [find_vspipe(), "--start", "17", "--end", "18", *arguments, str(SAMPLES / "clip.vpy"), "-"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    assert md5() == md5()
    assert len(md5("--arg", "scale=4")) == 16 * len(md5()) == 2 * 640 * 384 * 3 // 2
