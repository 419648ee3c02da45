"""From script to file with nothing lost: `vspipe | ffmpeg` with the clip's own colour, shape, timing and sound."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.encode.options import video_options
from vs_rafrvsr.encode.process import find_ffmpeg, find_vspipe, run_ffmpeg, transcode
from vs_rafrvsr.encode.source import source_options, video_delay
from vs_rafrvsr.encode.timing import display_aspect, is_constant, read_timecodes, retime
from vs_rafrvsr.errors import EncodeError

__all__ = ["Encoded", "Progress", "encode"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an encode is: frames written, frames in all, frames per second since the script was ready."""

    frames: int
    total: int
    fps: float


@dataclass(frozen=True, slots=True)
class Encoded:
    """A finished encode: the clip, frames written, start of each in seconds, frames per second without start-up."""

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
    progress: Callable[[Progress], None] = lambda _: None,
) -> Encoded:
    """Encode output 0 of a VapourSynth script to a file.

    Colour, sample aspect ratio, HDR10 metadata and timestamps are those of the clip's frames. RGB is encoded as
    YUV 4:4:4, float as 16 bits. Until all is written, the file has the name `OUT.PID.part.SUFFIX`.

    Args:
        script: the .vpy file. It runs in its own folder, as under vspipe.
        out: the file to write; its suffix chooses the container.
        source: the video that the script reads; its audio, subtitles, chapters, tags and attachments are copied.
        ffmpeg_options: output options, which win over ours; without an encoder among them libx265 at CRF 18 encodes.
        frames: encode these frames only. Not together with source, whose sound would not fit.
        arguments: what `vspipe --arg` would pass to the script.
        overwrite: replace an existing file.
        progress: called as frames are written.

    Raises:
        EncodeError: a file cannot be read or written, the script has no usable output, vspipe or ffmpeg failed.
    """
    out = out.absolute()  # so that ffmpeg takes no name for an option or a protocol
    source = None if source is None else source.absolute()
    _check(script, out, source, frames, overwrite)
    delay = Fraction(0) if source is None else video_delay(source)
    with tempfile.TemporaryDirectory(prefix="rafrvsr-") as folder, _partial(out) as partial:
        timecodes = Path(folder) / "timecodes.txt"
        vspipe = _vspipe_command(script, frames, arguments or {}, timecodes)

        def on_frames(clip: Clip, done: int, seconds: float) -> None:
            progress(Progress(done, clip.frames if frames is None else len(frames), done / seconds))

        clip, written, seconds = transcode(
            vspipe, lambda c: _ffmpeg_command(c, partial, source, ffmpeg_options), on_frames
        )
        times = read_timecodes(timecodes)
        if written != len(times):
            raise EncodeError(f"ffmpeg wrote {written} of vspipe's {len(times)} frames; is one of its options a limit?")
        times = _settle_timing(partial, times, clip.rate, delay)
    return Encoded(clip, written, times, written / seconds)


def _check(script: Path, out: Path, source: Path | None, frames: range | None, overwrite: bool) -> None:
    """Refuse what can be refused before any work is done."""
    for role, path in (("script", script), ("source", source)):
        if path is not None and not path.is_file():
            raise EncodeError(f"{role} {path} does not exist")
        if path is not None and out.exists() and out.samefile(path):
            raise EncodeError(f"output {out} is the {role} itself; choose another name")
    if out.exists() and not overwrite:
        raise EncodeError(f"output {out} exists; choose another name, or replace it with --overwrite")
    if frames is not None and (frames.step != 1 or not frames or frames.start < 0):
        raise EncodeError(f"frames {frames.start}:{frames.stop} is not a rising range from 0 on")
    if frames is not None and source is not None:
        raise EncodeError("a range of frames has no use for a source, whose sound would not fit; cut in the script")


@contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """A name beside out that becomes out when the block succeeds, and disappears when it does not."""
    partial = out.with_name(f"{out.stem}.{os.getpid()}.part{out.suffix}")
    try:
        partial.touch()
    except OSError as error:
        raise EncodeError(f"output {out} cannot be written: {error.strerror}") from error
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _vspipe_command(script: Path, frames: range | None, arguments: Mapping[str, str], timecodes: Path) -> list[str]:
    # No container: YUV4MPEG2 lacks some formats, and in Matroska timecodes follow the declared rate, not the frames.
    command = [find_vspipe(), "--timecodes", str(timecodes)]
    command += ["--arg", f"rafrvsr_script={script.resolve()}"]
    command += ["--arg", f"rafrvsr_arguments={json.dumps(dict(arguments))}"]
    if frames is not None:
        command += ["--start", str(frames.start), "--end", str(frames.stop - 1)]
    return [*command, str(Path(__file__).with_name("piped.py")), "-"]


def _ffmpeg_command(clip: Clip, out: Path, source: Path | None, chosen: Sequence[str]) -> list[str]:
    pixels = ["-f", "rawvideo", "-pixel_format", clip.pixel_format, "-video_size", f"{clip.width}x{clip.height}"]
    rate = ["-framerate", f"{clip.rate.numerator}/{clip.rate.denominator}"]
    streams = [] if source is None else source_options(source, out)
    options = [*streams, "-fps_mode", "passthrough", *video_options(clip, chosen)]
    return [*_quiet_ffmpeg(), *pixels, *rate, "-i", "pipe:0", *options, str(out)]


def _settle_timing(path: Path, times: list[Fraction], rate: Fraction, delay: Fraction) -> list[Fraction]:
    """Give the file's frames their true times, where a constant rate from 0 on is not yet that; return the clip's."""
    constant = is_constant(times, rate)
    if constant:
        times = [index / rate for index in range(len(times))]
    if delay or not constant:
        _retime(path, [delay + time for time in times], rate)
    return times


def _retime(path: Path, times: Sequence[Fraction], rate: Fraction) -> None:
    """Move the file's video to other times, which ffmpeg cannot do for a raw pipe; nothing is encoded again."""
    video, whole = (path.with_name(f"{path.stem}.{name}{path.suffix}") for name in ("video", "whole"))
    try:
        retime(path, video, times, rate)
        inputs = ["-copyts", "-i", str(video), "-i", str(path), "-map", "0:v:0", "-map", "1", "-map", "-1:v:0"]
        everything = ["-map", "-1:d", "-map_metadata", "1", "-map_chapters", "1", "-c", "copy"]
        aspect = display_aspect(path)  # which retime loses where the coded pictures do not say it
        shape = [] if aspect is None else ["-aspect:v", f"{aspect.numerator}:{aspect.denominator}"]
        run_ffmpeg([*_quiet_ffmpeg(), *inputs, *everything, *shape, str(whole)])
        whole.replace(path)
    finally:
        video.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)


def _quiet_ffmpeg() -> list[str]:
    return [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "warning", "-nostats", "-progress", "pipe:1", "-y"]
