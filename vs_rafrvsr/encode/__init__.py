"""From script to file with nothing lost: `vspipe | ffmpeg` with the clip's own colour, shape, timing and sound.

On POSIX systems, not on Windows: vspipe is given a pipe's end beside its standard streams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.encode.options import FILTERS, check_filters, without
from vs_rafrvsr.encode.process import run_ffmpeg
from vs_rafrvsr.encode.render import Job, Progress, Show, check_files, check_written, partial, quiet_ffmpeg, render
from vs_rafrvsr.encode.source import source_options, video_delay
from vs_rafrvsr.encode.timing import aspect_options, count_frames, edges, is_constant, retime, start_of
from vs_rafrvsr.errors import EncodeError

__all__ = ["Encoded", "Progress", "Show", "encode"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A finished encode: the clip, frames written, start of each in seconds, frames per second without start-up.

    Pieces that an earlier run has made do not count in the speed, which is 0 if those were all.
    """

    clip: Clip
    frames: int
    times: Sequence[Fraction]
    fps: float


def encode(
    script: Path,
    out: Path,
    *,
    source: Path | None = None,
    ffmpeg_options: Sequence[str] = (),
    frames: range | None = None,
    arguments: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Show = lambda _: None,
) -> Encoded:
    """Encode output 0 of a VapourSynth script to a file.

    Colour, sample aspect ratio, HDR10 metadata and timestamps are those of the clip's frames. ffmpeg gets RGB as
    YUV 4:4:4 and float as 16 bits. Until all is written, the file has the name `OUT.PID.part.SUFFIX`. What the script,
    vspipe and ffmpeg say is logged.

    Args:
        script: the .vpy file. It runs in its own folder, as under vspipe.
        out: the file to write; its suffix chooses the container.
        source: the video that the script reads; its audio, subtitles, chapters, tags and attachments are copied.
        ffmpeg_options: output options, which win over ours; without an encoder among them libx265 at CRF 18 encodes.
            Complex filters are refused.
        frames: encode these frames only. Not together with source, whose sound would not fit.
        arguments: what `vspipe --arg` would pass to the script.
        overwrite: replace an existing file.
        progress: called as frames are written.

    Raises:
        EncodeError: a file cannot be read or written, an option not used, the script has no usable output, vspipe or
            ffmpeg failed.
    """
    script, out = script.absolute(), out.absolute()  # so that ffmpeg takes no name for an option or a protocol
    source = None if source is None else source.absolute()
    check_files(script, out, source, overwrite)
    _check_frames(frames, source)
    check_filters(ffmpeg_options)
    delay = Fraction(0) if source is None else video_delay(source)
    job = Job(script=script, arguments=arguments or {}, ffmpeg_options=ffmpeg_options)
    with partial(out) as path:
        streams = [] if source is None else source_options(source, out)
        done = render(job, path, frames=frames, streams=streams, progress=progress)
        times = edges(done.durations, done.clip.rate)
        if delay or not is_constant(times, done.clip.rate):
            _retime(path, [delay + time for time in times], done.clip.rate, ffmpeg_options)
    return Encoded(done.clip, len(done.durations), times[:-1], len(done.durations) / done.seconds)


def _check_frames(frames: range | None, source: Path | None) -> None:
    if frames is not None and (frames.step != 1 or not frames or frames.start < 0):
        raise EncodeError(f"frames {frames.start}:{frames.stop} is not a rising range from 0 on")
    if frames is not None and source is not None:
        raise EncodeError("a range of frames has no use for a source, whose sound would not fit; cut in the script")


def _retime(path: Path, times: Sequence[Fraction], rate: Fraction, ffmpeg_options: Sequence[str]) -> None:
    """Move the file's video to other times, which ffmpeg cannot do for a raw pipe; nothing is encoded again.

    Of the user's options those for the container apply once more.
    """
    video, whole = (path.with_name(f"{path.stem}.{name}{path.suffix}") for name in ("video", "whole"))
    try:
        start = start_of(path)
        shape = [*retime([path], video, [start + time for time in times], rate), *aspect_options(path)]
        inputs = ["-copyts", "-i", str(video), "-i", str(path), "-map", "0:v:0", "-map", "1", "-map", "-1:v:0"]
        everything = ["-map", "-1:d", "-map_metadata", "1", "-map_chapters", "1", *shape]
        options = [*without(ffmpeg_options, (*FILTERS, "-map")), "-c", "copy"]
        run_ffmpeg([*quiet_ffmpeg(), *inputs, *everything, *options, str(whole)], quiet=True)
        check_written(count_frames(whole), len(times) - 1)
        whole.replace(path)
    finally:
        video.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)
