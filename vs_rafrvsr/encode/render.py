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

type Ready = Callable[[Clip, Sequence[str]], None]
"""Called with the script's clip and ffmpeg's options for it."""

EVERY_FRAME = ("-fps_mode", "passthrough")
"""Whatever their times are."""


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
    ready: Ready = lambda *_: None,
    progress: Show = lambda _: None,
) -> Rendered:
    """Encode frames of the script (None: all); the file runs at the clip's rate from 0 on, whatever the durations say.

    Args:
        job: script, arguments, options.
        out: absolute path of the file to write, replaced if it exists.
        frames: a rising range.
        streams: ffmpeg's options for what is copied from elsewhere.
        ready: called before ffmpeg is started.
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
        warn_of_conversion(clip, job.ffmpeg_options, pixel_formats)
        options = video_options(clip, job.ffmpeg_options)
        ready(clip, options)
        return _ffmpeg_command(clip, [*streams, *EVERY_FRAME, *options], out)

    def on_frames(clip: Clip, done: int, seconds: float) -> None:
        progress(Progress(done, clip.frames if frames is None else len(frames), done / seconds))

    with tempfile.TemporaryDirectory(prefix="rafrvsr-") as folder:
        notes = Path(folder) / "notes.txt"
        clip, written, seconds = transcode(_vspipe_command(job, frames, notes), ffmpeg, on_frames)
        durations, makers = read_notes(notes)
    check_written(written, len(durations))
    return Rendered(clip, durations, makers, seconds)


def render_blank(clip: Clip, options: Sequence[str], out: Path, frames: int) -> int:
    """Encode blank frames as `render` would encode the clip's, without its script; how many were written.

    Raises:
        EncodeError: ffmpeg failed.
    """
    size = f"color=size={clip.width}x{clip.height}:rate={clip.rate}"
    blank = ["-f", "lavfi", "-i", f"{size},trim=end_frame={frames},format={clip.pixel_format}"]
    return run_ffmpeg([*quiet_ffmpeg(), *blank, *EVERY_FRAME, *options, str(out)], quiet=True)


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


def output_path(out: Path) -> Path:
    """Where an output is written: behind a link, so that it is the file that is replaced, and not the link to it."""
    return out.resolve() if out.is_symlink() else out.absolute()


def check_files(script: Path, out: Path, source: Path | None, overwrite: bool) -> None:
    """Refuse files that can be refused before any work is done.

    Raises:
        EncodeError: an input does not exist, or the output is one of them, a folder, a device or a picture, or may
            not be replaced.
    """
    for role, path in (("script", script), ("source", source)):
        if path is not None and not path.is_file():
            raise EncodeError(f"{role} {path} does not exist")
        if path is not None and out.exists() and out.samefile(path):
            raise EncodeError(f"output {out} is the {role} itself; choose another name")
    if out.is_dir():
        raise EncodeError(f"output {out} is a folder; name a file in it")
    if out.exists() and not out.is_file():
        raise EncodeError(f"output {out} is a device or a pipe; name a file (to time a run, one with -- -f null)")
    if out.suffix[1:].lower() in av.ContainerFormat("image2", "w").extensions - {"avif"}:
        raise EncodeError(f"output {out} is a picture, and encode writes films; name one, such as {out.stem}.mkv")
    if out.exists() and not overwrite:
        raise EncodeError(f"output {out} exists; choose another name, or replace it with --overwrite")


def check_written(written: int, frames: int) -> None:
    """Refuse a file that has other frames than the clip.

    Raises:
        EncodeError: ffmpeg wrote another number of frames than it was given.
    """
    if written != frames:
        raise EncodeError(
            f"ffmpeg wrote {written} of {frames} frames; no option may limit them (-frames, -t), and no filter add or "
            "drop some (fps, decimate): do that in the script"
        )


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


def _ffmpeg_command(clip: Clip, options: Sequence[str], out: Path) -> list[str]:
    pixels = ["-f", "rawvideo", "-pixel_format", clip.pixel_format, "-video_size", f"{clip.width}x{clip.height}"]
    rate = ["-framerate", f"{clip.rate.numerator}/{clip.rate.denominator}"]
    return [*quiet_ffmpeg(), *pixels, *rate, "-i", "pipe:0", *options, str(out)]
