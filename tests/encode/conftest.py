"""A source that has all that an encode takes over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.encode.media import X264, ffmpeg

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
