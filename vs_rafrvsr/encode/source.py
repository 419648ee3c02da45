"""What an encode takes over from the video that its script reads: all but the picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.error

from vs_rafrvsr.errors import EncodeError

MP4_FAMILY = (".mp4", ".m4v", ".mov")


def source_options(source: Path, out: Path) -> list[str]:
    """ffmpeg's options after the video's own input: audio, subtitles, chapters, tags and, in Matroska, attachments.

    Streams are copied; only subtitles become mov_text where the container is MP4, which takes no other text.
    """
    options = ["-i", str(source), "-map", "0:v:0", "-map", "1:a?", "-map", "1:s?"]
    options += ["-map_metadata", "1", "-map_chapters", "1", "-c:a", "copy", "-c:s", "copy", "-c:t", "copy"]
    if out.suffix.lower() == ".mkv":
        options += ["-map", "1:t?"]
    if out.suffix.lower() in MP4_FAMILY:
        options += ["-c:s", "mov_text"]
    return options


def video_delay(source: Path) -> Fraction:
    """Seconds from the start of the file to its first picture: often not 0, and sound is out of step without it."""
    try:
        with av.open(str(source)) as container:
            video = container.streams.video[0]
            start = Fraction(container.start_time or 0, av.time_base)
            return (video.start_time or 0) * (video.time_base or Fraction(1)) - start
    except (av.error.FFmpegError, IndexError) as error:
        raise EncodeError(f"source {source} is not a readable video file: {error}; give the script's video") from error
