"""Pieces of video into one file with true timestamps and the source's sound; nothing is encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from vs_rafrvsr.encode.options import VIDEO_FILTERS, without
from vs_rafrvsr.encode.process import run_ffmpeg
from vs_rafrvsr.encode.render import quiet_ffmpeg
from vs_rafrvsr.encode.source import source_options
from vs_rafrvsr.encode.timing import aspect_options, retime


def join(
    pieces: Sequence[Path],
    out: Path,
    *,
    times: Sequence[Fraction],
    rate: Fraction,
    source: Path | None,
    delay: Fraction,
    ffmpeg_options: Sequence[str],
) -> None:
    """Write the pieces, one behind the other, to out.

    Args:
        pieces: files of the same encoder that run at `rate` frames per second.
        out: replaced if it exists; `OUT.video.SUFFIX` exists meanwhile.
        times: seconds at which each frame of the whole starts.
        source: what sound, subtitles, chapters and tags are copied from; the video starts `delay` seconds after it.
        ffmpeg_options: the user's; those for sound and container apply here.

    Raises:
        EncodeError: a piece cannot be read, the pieces do not fit together, ffmpeg failed.
    """
    video = out.with_name(f"{out.stem}.video{out.suffix}")
    streams = ["-map", "0:v:0"] if source is None else source_options(source, out)
    options = [*streams, *aspect_options(pieces[0]), *without(ffmpeg_options, VIDEO_FILTERS), "-c:v", "copy"]
    try:
        retime(pieces, video, times, rate)
        run_ffmpeg([*quiet_ffmpeg(), "-itsoffset", f"{float(delay):.6f}", "-i", str(video), *options, str(out)])
    finally:
        video.unlink(missing_ok=True)
