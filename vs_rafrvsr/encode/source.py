"""What an encode takes over from the video that its script reads: all but the picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from vs_rafrvsr.errors import EncodeError

MP4_FAMILY = (".mp4", ".m4v", ".mov")
MOV_TEXT = "mov_text"


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


@contextmanager
def _opened(source: Path) -> Iterator[InputContainer]:
    try:
        with av.open(str(source)) as container:
            yield container
    except av.error.FFmpegError as error:
        raise EncodeError(f"source {source} is not a readable video file: {error}; give the script's video") from error
