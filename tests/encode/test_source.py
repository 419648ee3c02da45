"""Sound, subtitles, chapters, tags and attachments of the source arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.encode.media import X264, ffmpeg, probe, script, streams, times
from vs_rafrvsr.encode import encode

CLIP = "core.std.BlankClip(width=64, height=48, format=vs.YUV420P8, length=48, fpsnum=24).set_output()"


def languages(path: Path, kind: str) -> list[str]:
    return [stream["tags"]["language"] for stream in streams(path, kind)]


def chapters(path: Path) -> list[tuple[str, str]]:
    return [(c["start_time"], c["tags"]["title"]) for c in probe(path, "-show_chapters")["chapters"]]


def test_matroska_gets_everything(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    encode(script(tmp_path, CLIP), out, source=source, ffmpeg_options=X264)
    assert [s["codec_name"] for s in streams(out, "audio")] == ["flac", "flac"]
    assert languages(out, "audio") == ["fre", "jpn"]
    assert languages(out, "subtitle") == ["eng"]
    assert streams(out, "attachment")[0]["tags"]["filename"] == "font.ttf"
    assert chapters(out) == [("0.000000", "One"), ("1.000000", "Two")]
    assert probe(out, "-show_format")["format"]["tags"]["title"] == "A film"
    assert times(out, "a") == times(source, "a")
    assert times(out, "s") == times(source, "s")
    assert times(out) == pytest.approx([0.5 + n / 24 for n in range(48)], abs=0.0006)


def test_mp4_gets_what_it_can_hold(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    encode(script(tmp_path, CLIP), out, source=source, ffmpeg_options=(*X264, "-c:a", "aac"))
    assert [s["codec_name"] for s in streams(out, "audio")] == ["aac", "aac"]
    assert [s["codec_name"] for s in streams(out, "subtitle")] == ["mov_text"]
    assert chapters(out) == [("0.000000", "One"), ("1.000000", "Two")]
    assert times(out)[0] == pytest.approx(0.5, abs=0.001)


def test_subtitles_of_mp4_become_what_matroska_can_hold(source: Path, tmp_path: Path) -> None:
    mp4, out = tmp_path / "source.mp4", tmp_path / "out.mkv"
    copied = ("-map", "0:v", "-map", "0:a:0", "-map", "0:s", "-c:v", "copy", "-c:a", "aac", "-c:s", "mov_text")
    ffmpeg("-i", source, *copied, mp4)
    encode(script(tmp_path, CLIP), out, source=mp4, ffmpeg_options=X264)
    assert [s["codec_name"] for s in streams(out, "subtitle")] == ["subrip"]
    assert languages(out, "subtitle") == ["eng"]
    shown, expected = ([time - times(path)[0] for time in times(path, "s")] for path in (out, source))
    assert shown == pytest.approx(expected, abs=0.002)
    encode(script(tmp_path, CLIP), tmp_path / "out.mp4", source=mp4, ffmpeg_options=X264)
    assert [s["codec_name"] for s in streams(tmp_path / "out.mp4", "subtitle")] == ["mov_text"]


def test_a_source_of_sound_alone_begins_with_the_picture(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=2", "-c:a", "flac", tmp_path / "sound.flac")
    encode(script(tmp_path, CLIP), tmp_path / "out.mkv", source=tmp_path / "sound.flac", ffmpeg_options=X264)
    assert [s["codec_name"] for s in streams(tmp_path / "out.mkv", "audio")] == ["flac"]
    assert times(tmp_path / "out.mkv")[0] == 0


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_a_clip_that_is_not_as_long_as_the_source_is_told(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a file whose picture starts late; sound may be longer than the picture."""
    source = tmp_path / f"source.{suffix}"
    pattern = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=24:duration=2", "-f", "lavfi", "-i", "sine=duration=5")
    ffmpeg(*pattern, "-vf", "setpts=PTS+0.7/TB", *X264, "-c:a", "aac", source)
    encode(script(tmp_path, CLIP), tmp_path / "whole.mkv", source=source, ffmpeg_options=X264)
    assert caplog.text == ""
    cut = script(tmp_path, CLIP.replace(".set_output", "[12:24].set_output"))
    encode(cut, tmp_path / "cut.mkv", source=source, ffmpeg_options=X264)
    assert "lasts 0.5 s, the video of" in caplog.text
    assert "2.0 s: what the script cuts" in caplog.text


def test_without_a_source_there_is_only_video(tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    encode(script(tmp_path, CLIP), out, ffmpeg_options=X264)
    assert [s["codec_type"] for s in probe(out, "-show_streams")["streams"]] == ["video"]
