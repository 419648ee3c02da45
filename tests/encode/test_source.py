"""Sound, subtitles, chapters, tags and attachments of the source arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.encode.media import X264, probe, script, streams, times
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


def test_without_a_source_there_is_only_video(tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    encode(script(tmp_path, CLIP), out, ffmpeg_options=X264)
    assert [s["codec_type"] for s in probe(out, "-show_streams")["streams"]] == ["video"]
