"""What an encode takes over from the video that its script reads: all but the picture."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.errors import EncodeError

log = logging.getLogger(__name__)

MP4_FAMILY = (".mp4", ".m4v", ".mov")
MOV_TEXT = "mov_text"
MATROSKA_TIME = r"(\d+):(\d+):(\d+\.?\d*)"
"""At which a stream ends: it has no length there."""
MOST_APART = 0.5
"""Seconds by which a clip and the video that it was read from may differ."""


def source_options(source: Path, out: Path) -> list[str]:
    """ffmpeg's options after the video's own input: audio, subtitles, chapters, tags and, in Matroska, attachments.

    Streams are copied; only subtitles become mov_text where the container is MP4, which takes no other text, and
    mov_text becomes SubRip in Matroska, which does not take it.

    Raises:
        EncodeError: the source cannot be read.
    """
    options = ["-i", str(source), "-map", "0:v:0", "-map", "1:a?", "-map", "1:s?"]
    options += ["-map_metadata", "1", "-map_chapters", "1", "-c:a", "copy", "-c:t", "copy"]
    with _opened(source) as container:
        for index, stream in enumerate(container.streams.subtitles):
            options += [f"-c:s:{index}", _subtitle_codec(stream.codec_context.name, out)]
    return [*options, "-map", "1:t?"] if out.suffix.lower() == ".mkv" else options


def _subtitle_codec(found: str, out: Path) -> str:
    if out.suffix.lower() in MP4_FAMILY and found != MOV_TEXT:
        return MOV_TEXT
    return "srt" if out.suffix.lower() == ".mkv" and found == MOV_TEXT else "copy"


def video_delay(source: Path) -> Fraction:
    """Seconds from the start of the file to its first picture: often not 0, and sound is out of step without it.

    Sound alone begins with the first frame.

    Raises:
        EncodeError: the source cannot be read.
    """
    with _opened(source) as container:
        if not container.streams.video:
            return Fraction(0)
        video = container.streams.video[0]
        start = Fraction(container.start_time or 0, av.time_base)
        return (video.start_time or 0) * (video.time_base or Fraction(1)) - start


def warn_of_length(clip: Clip, source: Path | None) -> None:
    """Say that the clip is longer or shorter than the source's video, so that sound and subtitles do not fit.

    Raises:
        EncodeError: the source cannot be read.
    """
    if source is None or clip.variable:
        return
    ours, theirs = clip.frames / clip.rate, _video_seconds(source)
    if theirs is not None and abs(ours - theirs) > MOST_APART:
        log.warning(
            "the script's clip lasts %.1f s, the video of %s %.1f s: what the script cuts, adds or plays at another "
            "speed, the sound and subtitles copied from there do not follow; cut the source first (ffmpeg -ss … -t …)",
            ours, source, theirs,
        )  # fmt: skip


def _video_seconds(source: Path) -> Fraction | None:
    """How long a file's video lasts; None where the file does not say it."""
    with _opened(source) as container:
        video = next(iter(container.streams.video), None)
        if video is None or video.time_base is None:
            return None
        if video.duration is not None:
            return video.duration * video.time_base
        end = re.fullmatch(MATROSKA_TIME, video.metadata.get("DURATION", ""))
        start = (video.start_time or 0) * video.time_base
        return 3600 * int(end[1]) + 60 * int(end[2]) + Fraction(end[3]) - start if end else None


@contextmanager
def _opened(source: Path) -> Iterator[InputContainer]:
    try:
        with av.open(str(source)) as container:
            yield container
    except av.error.FFmpegError as error:
        raise EncodeError(f"source {source} is not a readable video file: {error}; give the script's video") from error
