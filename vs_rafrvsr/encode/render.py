"""The picture of a script, or a range of it, as a file that runs at a constant rate: what all encodes are made of."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.encode.options import video_options, warn_of_conversion
from vs_rafrvsr.encode.process import describe, find_ffmpeg, find_vspipe, pixel_formats, run_ffmpeg, transcode
from vs_rafrvsr.encode.timing import read_notes
from vs_rafrvsr.errors import EncodeError


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an encode is.

    Args:
        frames: written so far.
        total: frames in all.
        fps: frames per second since the script was ready.
        workers: of a split encode, the progress of each worker by its name.
    """

    frames: int
    total: int
    fps: float
    workers: Mapping[str, Progress] = field(default_factory=dict)


type Show = Callable[[Progress], None]
"""Called as frames are written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What to encode.

    Args:
        script: absolute path of the .vpy file.
        arguments: what `vspipe --arg` would pass to it.
        ffmpeg_options: output options, which win over ours.
    """

    script: Path
    arguments: Mapping[str, str]
    ffmpeg_options: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered file.

    Args:
        clip: the script's.
        durations: seconds that each written frame lasts.
        makers: what made frames, each once: weights, precision, tiles and device; none where no Upscale did.
        seconds: of work since the script was ready.
    """

    clip: Clip
    durations: Sequence[Fraction]
    makers: Sequence[str]
    seconds: float


def read_clip(job: Job) -> Clip:
    """What the script's output 0 is. It makes frame 0, whose properties are part of the answer.

    Raises:
        EncodeError: the script has no usable output.
    """
    with tempfile.TemporaryDirectory(prefix="rafrvsr-") as folder:
        return describe(_vspipe_command(job, None, Path(folder) / "notes.txt"))


def render(
    job: Job,
    out: Path,
    *,
    frames: range | None = None,
    streams: Sequence[str] = (),
    progress: Show = lambda _: None,
) -> Rendered:
    """Encode frames of the script (None: all); the file runs at the clip's rate from 0 on, whatever the durations say.

    Args:
        job: script, arguments, options.
        out: absolute path of the file to write, replaced if it exists.
        frames: a rising range.
        streams: ffmpeg's options for what is copied from elsewhere.
        progress: called as frames are written.

    Raises:
        EncodeError: the script has no usable output, vspipe or ffmpeg failed, frames are missing; in a
            range, memory ran out and Upscale went on in smaller tiles.
    """

    def ffmpeg(clip: Clip) -> Sequence[str]:
        if frames is not None and frames.stop > clip.frames:
            raise EncodeError(
                f"frames {frames.start} to {frames.stop - 1} are asked for; the clip has frames 0 to {clip.frames - 1}"
                ": ask for some of those"
            )
        return _ffmpeg_command(clip, out, streams, job)

    def on_frames(clip: Clip, done: int, seconds: float) -> None:
        progress(Progress(done, clip.frames if frames is None else len(frames), done / seconds))

    with tempfile.TemporaryDirectory(prefix="rafrvsr-") as folder:
        notes = Path(folder) / "notes.txt"
        clip, written, seconds = transcode(_vspipe_command(job, frames, notes), ffmpeg, on_frames)
        durations, makers = read_notes(notes)
    check_written(written, len(durations))
    return Rendered(clip, durations, makers, seconds)


def render_blank(job: Job, clip: Clip, out: Path, frames: int) -> None:
    """Encode blank frames as `render` would encode the clip's, without its script.

    Raises:
        EncodeError: ffmpeg failed.
    """
    blank = f"color=size={clip.width}x{clip.height}:rate={clip.rate},format={clip.pixel_format}"
    options = ["-frames:v", str(frames), *video_options(clip, job.ffmpeg_options)]
    run_ffmpeg([*quiet_ffmpeg(), "-f", "lavfi", "-i", blank, *options, str(out)], quiet=True)


@contextmanager
def partial(out: Path) -> Iterator[Path]:
    """A name beside out that becomes out when the block succeeds, and disappears when it does not."""
    path = out.with_name(f"{out.stem}.{os.getpid()}.part{out.suffix}")
    try:
        path.touch()
    except OSError as error:
        raise EncodeError(f"output {out} cannot be written: {error.strerror}") from error
    try:
        yield path
        path.replace(out)
    finally:
        path.unlink(missing_ok=True)


def check_files(script: Path, out: Path, source: Path | None, overwrite: bool) -> None:
    """Refuse files that can be refused before any work is done.

    Raises:
        EncodeError: an input does not exist, or the output is one of them, a folder or a picture, or may not be
            replaced.
    """
    for role, path in (("script", script), ("source", source)):
        if path is not None and not path.is_file():
            raise EncodeError(f"{role} {path} does not exist")
        if path is not None and out.exists() and out.samefile(path):
            raise EncodeError(f"output {out} is the {role} itself; choose another name")
    if out.is_dir():
        raise EncodeError(f"output {out} is a folder; name a file in it")
    if out.suffix[1:].lower() in av.ContainerFormat("image2", "w").extensions - {"avif"}:
        raise EncodeError(f"output {out} is a picture, and encode writes films; name one, such as {out.stem}.mkv")
    if out.exists() and not overwrite:
        raise EncodeError(f"output {out} exists; choose another name, or replace it with --overwrite")


def check_written(written: int, frames: int) -> None:
    """Refuse a file that lacks frames.

    Raises:
        EncodeError: ffmpeg wrote another number of frames than it was given.
    """
    if written != frames:
        raise EncodeError(f"ffmpeg wrote {written} of {frames} frames; is one of its options a limit?")


def quiet_ffmpeg() -> list[str]:
    """The start of every ffmpeg command."""
    return [find_ffmpeg(), "-hide_banner", "-nostdin", "-loglevel", "warning", "-nostats", "-progress", "pipe:1", "-y"]


def _vspipe_command(job: Job, frames: range | None, notes: Path) -> list[str]:
    # No container: YUV4MPEG2 lacks some formats, and in Matroska timecodes follow the declared rate, not the frames.
    command = [find_vspipe()]
    command += ["--arg", f"rafrvsr_script={job.script}"]
    command += ["--arg", f"rafrvsr_arguments={json.dumps(dict(job.arguments))}"]
    command += ["--arg", f"rafrvsr_notes={notes}"]
    command += ["--arg", f"rafrvsr_piece={int(frames is not None)}"]
    if frames is not None:
        command += ["--start", str(frames.start), "--end", str(frames.stop - 1)]
    return [*command, str(Path(__file__).with_name("piped.py"))]


def _ffmpeg_command(clip: Clip, out: Path, streams: Sequence[str], job: Job) -> list[str]:
    warn_of_conversion(clip, job.ffmpeg_options, pixel_formats)
    pixels = ["-f", "rawvideo", "-pixel_format", clip.pixel_format, "-video_size", f"{clip.width}x{clip.height}"]
    rate = ["-framerate", f"{clip.rate.numerator}/{clip.rate.denominator}"]
    options = [*streams, "-fps_mode", "passthrough", *video_options(clip, job.ffmpeg_options)]
    return [*quiet_ffmpeg(), *pixels, *rate, "-i", "pipe:0", *options, str(out)]
