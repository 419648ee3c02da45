"""Pieces of video into one file with true timestamps and the source's sound; nothing is encoded again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vs_rafrvsr.encode.options import VIDEO_FILTERS, without
from vs_rafrvsr.encode.process import run_ffmpeg
from vs_rafrvsr.encode.render import check_written, quiet_ffmpeg
from vs_rafrvsr.encode.source import source_options
from vs_rafrvsr.encode.timing import count_frames, retime


@dataclass(frozen=True, kw_only=True, slots=True)
class Mux:
    """What joined pieces become a file with.

    Args:
        rate: frames per second at which each piece runs.
        source: what sound, subtitles, chapters and tags are copied from.
        delay: seconds from the source's start to the video's.
        ffmpeg_options: the user's; those for sound and container apply here.
    """

    rate: Fraction
    source: Path | None
    delay: Fraction
    ffmpeg_options: Sequence[str]


def join(
    pieces: Sequence[Path],
    out: Path,
    mux: Mux,
    *,
    times: Sequence[Fraction],
    of_source: Sequence[str] = (),
    quiet: bool = False,
) -> None:
    """Write the pieces, one behind the other, to out.

    Args:
        pieces: files of the same encoder.
        out: replaced if it exists; `OUT.video.SUFFIX` exists meanwhile.
        mux: what else goes into the file.
        times: seconds at which each frame of the whole starts, and the last one ends.
        of_source: ffmpeg's options for reading the source.
        quiet: ffmpeg's warnings are not said.

    Raises:
        EncodeError: a piece cannot be read, the pieces do not fit together, ffmpeg failed, frames are missing.
    """
    video = out.with_name(f"{out.stem}.video{out.suffix}")
    streams = ["-map", "0:v:0"] if mux.source is None else [*of_source, *source_options(mux.source, out)]
    refused = VIDEO_FILTERS if mux.source is not None else (*VIDEO_FILTERS, "-map")
    start = ["-itsoffset", f"{float(mux.delay):.6f}"]
    try:
        copying = retime(pieces, video, times, mux.rate)
        options = [*streams, *copying, *without(mux.ffmpeg_options, refused), "-c:v", "copy"]
        run_ffmpeg([*quiet_ffmpeg(), *start, "-i", str(video), *options, str(out)], quiet=quiet)
    finally:
        video.unlink(missing_ok=True)
    check_written(count_frames(out), len(times) - 1)


def rehearse(blank: Path, out: Path, mux: Mux, frames: int) -> None:
    """Join a file of blank frames, as if they were the clip's first and last, with ten seconds of the source.

    What comes of it is thrown away.

    Args:
        blank: a file of two frames, or one where the clip has no more.
        out: what will be joined later.
        mux: what else goes into it.
        frames: of the clip.

    Raises:
        EncodeError: joining would fail.
    """
    endless = [option for option in mux.ffmpeg_options if option != "-shortest"]  # the source is only cut short here
    with tempfile.TemporaryDirectory(prefix="rafrvsr-") as folder:
        times = sorted({Fraction(0), (frames - 1) / mux.rate, frames / mux.rate})
        trial = replace(mux, ffmpeg_options=endless)
        join([blank], Path(folder) / out.name, trial, times=times, of_source=("-t", "10"), quiet=True)
