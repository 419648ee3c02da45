"""Sound, subtitles, chapters, tags and attachments of the source arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.encode.media import X264, ffmpeg, probe, script, streams, times
from vs_rafrvsr.encode import encode

CLIP = "core.std.BlankClip(width=64, height=48, format=vs.YUV420P8, length=48, fpsnum=24).set_output()"
CHAPTERS = """;FFMETADATA1
title=A film
[CHAPTER]
TIMEBASE=1/1000
START=0
END=1000
title=One
[CHAPTER]
TIMEBASE=1/1000
START=1000
END=2000
title=Two
"""
SUBTITLES = "1\n00:00:00,250 --> 00:00:01,000\nHello\n\n2\n00:00:01,500 --> 00:00:01,900\nBye\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two seconds of video that starts 0.5 s late, two sound tracks, subtitles, chapters, a font."""
    (tmp_path / "chapters.txt").write_text(CHAPTERS)
    (tmp_path / "subtitles.srt").write_text(SUBTITLES)
    (tmp_path / "font.ttf").write_bytes(bytes(range(256)))
    inputs = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=24:duration=2", "-f", "lavfi", "-i", "sine=duration=2.5"]
    inputs += ["-i", str(tmp_path / "subtitles.srt"), "-i", str(tmp_path / "chapters.txt")]
    maps = ["-map", "0", "-map", "1", "-map", "1", "-map", "2", "-map_metadata", "3", "-vf", "setpts=PTS+0.5/TB"]
    tags = ["-metadata:s:a:0", "language=fre", "-metadata:s:a:1", "language=jpn", "-metadata:s:s:0", "language=eng"]
    font = ["-attach", str(tmp_path / "font.ttf"), "-metadata:s:t", "mimetype=font/ttf"]
    ffmpeg(*inputs, *maps, *tags, *font, *X264, "-c:a", "flac", tmp_path / "source.mkv")
    return tmp_path / "source.mkv"


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


def test_without_a_source_there_is_only_video(tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    encode(script(tmp_path, CLIP), out, ffmpeg_options=X264)
    assert [s["codec_type"] for s in probe(out, "-show_streams")["streams"]] == ["video"]
