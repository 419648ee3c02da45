"""Timestamps of the file are those of the clip's frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from tests.encode.media import FFV1, X264, ffmpeg, pixels, probe, script, streams, times
from vs_rafrvsr.encode import encode
from vs_rafrvsr.errors import EncodeError

MOVING = """
clip = core.std.BlankClip(width=64, height=48, format=vs.YUV420P8, length={length}, fpsnum=24000, fpsden=1001)
clip = core.std.FrameEval(clip, lambda n, c=clip: core.std.BlankClip(c, color=[16 + 3 * n, 128, 128]))
"""
# Ten frames at 24000/1001, then ten at 30000/1001: two declarations that make a clip of variable rate.
TWO_RATES = (
    MOVING.format(length=20)
    + """
slow, fast = clip[:10], clip[10:].std.AssumeFPS(fpsnum=30000, fpsden=1001)
clip = core.std.Splice([slow, fast], mismatch=True)
clip.set_output()
"""
)
# The same durations under a declaration of one constant rate, as sources of variable rate are often read.
WRONGLY_CONSTANT = (
    MOVING.format(length=20)
    + """
def durations(n, f):
    f = f.copy()
    f.props["_DurationNum"], f.props["_DurationDen"] = 1001, 24000 if n < 10 else 30000
    return f
clip.std.ModifyFrame(clip, durations).set_output()
"""
)
STARTS = [n * 1001 / 24000 if n < 10 else 10 * 1001 / 24000 + (n - 10) * 1001 / 30000 for n in range(20)]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("body", [TWO_RATES, WRONGLY_CONSTANT], ids=["declared variable", "declared constant"])
def test_a_variable_frame_rate_is_kept(body: str, suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{suffix}"
    result = encode(script(tmp_path, body), out, ffmpeg_options=(*X264, "-bf", "3"))  # B-frames: packets out of order
    tolerance = 0.0006 if suffix == "mkv" else 0.0001  # Matroska counts milliseconds
    assert times(out) == pytest.approx(STARTS, abs=tolerance)
    assert [float(time) for time in result.times] == pytest.approx(STARTS, abs=1e-6)
    greys = pixels(out)[:: 64 * 48 * 3 // 2]
    assert list(greys) == sorted(greys)
    assert len(set(greys)) == 20


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("frames", ["0", "3"], ids=["in order", "with B-frames"])
@pytest.mark.parametrize("body", [TWO_RATES, MOVING.format(length=20) + "clip.set_output()"], ids=["varying", "steady"])
def test_the_last_frame_lasts_as_long_as_it_says(body: str, frames: str, suffix: str, tmp_path: Path) -> None:
    lasting = "clip = core.std.Splice([clip[:19], clip[19].std.SetFrameProps(_DurationNum=1, _DurationDen=2)])"
    path = script(tmp_path, body.replace("clip.set_output", f"{lasting}\nclip.set_output"))
    out = tmp_path / f"out.{suffix}"
    encode(path, out, ffmpeg_options=(*X264, "-bf", frames))
    last = times(out)[-1]
    assert float(probe(out, "-show_format")["format"]["duration"]) == pytest.approx(last + 0.5, abs=0.002)


@pytest.mark.parametrize(("suffix", "options"), [("mkv", FFV1), ("mkv", ()), ("mp4", X264)])
def test_a_constant_frame_rate_is_exact(suffix: str, options: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / f"out.{suffix}"
    result = encode(script(tmp_path, MOVING.format(length=30) + "clip.set_output()"), out, ffmpeg_options=options)
    video = streams(out, "video")[0]
    assert video["r_frame_rate"] == video["avg_frame_rate"] == "24000/1001"
    assert times(out) == pytest.approx([n * 1001 / 24000 for n in range(30)], abs=0.0006)
    assert result.times[29] == Fraction(29 * 1001, 24000)


@pytest.mark.parametrize(
    "body", [MOVING.format(length=20) + "clip.set_output()", TWO_RATES], ids=["constant", "variable"]
)
def test_options_for_the_container_apply_whatever_the_rate(body: str, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    options = (*X264, "-vf", "hflip", "-movflags", "+faststart", "-metadata", "title=Dunes")
    encode(script(tmp_path, body), out, ffmpeg_options=options)
    data = out.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    assert b"Dunes" in data


def test_a_variable_rate_source_read_by_bestsource(tmp_path: Path) -> None:
    """Twelve frames at 24 per second, then twelve at 10, in a file whose video starts 0.7 s after its sound."""
    pytest.importorskip("vapoursynth").core.bs  # noqa: B018
    pattern = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=24:duration=1", "-f", "lavfi", "-i", "sine=duration=3")
    slowed = "setpts='if(lt(N,12),N/24,0.5+(N-12)/10)/TB+0.7/TB'"
    timing = ("-fps_mode", "passthrough", "-enc_time_base", "1/1000")
    ffmpeg(*pattern, "-vf", slowed, *timing, *X264, "-c:a", "flac", tmp_path / "source.mkv")
    body = f"core.bs.VideoSource(r'{tmp_path / 'source.mkv'}', showprogress=False).set_output()"
    out = tmp_path / "out.mkv"
    encode(script(tmp_path, body), out, source=tmp_path / "source.mkv", ffmpeg_options=X264)
    assert times(out) == pytest.approx(times(tmp_path / "source.mkv"), abs=0.0011)
    assert times(out, "a") == times(tmp_path / "source.mkv", "a")


def test_a_range_of_frames(tmp_path: Path) -> None:
    path = script(tmp_path, MOVING.format(length=20) + "clip.set_output()")
    encode(path, tmp_path / "all.mkv", ffmpeg_options=FFV1)
    result = encode(path, tmp_path / "part.mkv", ffmpeg_options=FFV1, frames=range(5, 9))
    assert result.frames == 4
    size = 64 * 48 * 3 // 2
    assert pixels(tmp_path / "part.mkv") == pixels(tmp_path / "all.mkv")[5 * size : 9 * size]


def test_frames_that_the_true_times_push_out_are_missed_and_what_is_encoded_is_kept(tmp_path: Path) -> None:
    """At frame 0's rate the clip ends before 0.9 s, at its true times after it."""
    slowing = TWO_RATES.replace("30000", "15000")
    with pytest.raises(EncodeError, match=r"(?s)wrote 1\d of 20 frames.* kept in .*out\.\d+\.encoded\.mkv; make room"):
        encode(script(tmp_path, slowing), tmp_path / "out.mkv", ffmpeg_options=(*FFV1, "-t", "0.9"))
    kept, _ = sorted(tmp_path.iterdir())
    assert len(times(kept)) == 20


def test_a_container_that_takes_no_varying_times_costs_no_frames(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match=r"(?s)giving .* its timestamps failed.* kept in .*out\.\d+\.encoded"):
        encode(script(tmp_path, TWO_RATES), tmp_path / "out.h264", ffmpeg_options=X264)
    kept, _ = sorted(tmp_path.iterdir())
    assert len(pixels(kept)) == 20 * 64 * 48 * 3 // 2


def test_a_variable_rate_keeps_the_pixels_shape(tmp_path: Path) -> None:
    shaped = TWO_RATES.replace("clip.set_output()", "clip.std.SetFrameProps(_SARNum=12, _SARDen=11).set_output()")
    encode(script(tmp_path, shaped), tmp_path / "out.mkv", ffmpeg_options=FFV1)
    assert streams(tmp_path / "out.mkv", "video")[0]["sample_aspect_ratio"] == "12:11"
