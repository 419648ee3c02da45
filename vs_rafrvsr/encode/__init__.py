"""From script to file with nothing lost: `vspipe | ffmpeg` with the clip's own colour, shape, timing and sound.

On POSIX systems, not on Windows: vspipe is given a pipe's end beside its standard streams.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.encode.join import Mux, join, rehearse
from vs_rafrvsr.encode.options import check_filters, picture_options
from vs_rafrvsr.encode.render import (
    Job,
    Progress,
    Show,
    check_files,
    check_written,
    output_path,
    partial,
    render,
    render_blank,
)
from vs_rafrvsr.encode.source import source_options, video_delay, warn_of_length
from vs_rafrvsr.encode.timing import edges, is_constant
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
    YUV 4:4:4 and float as 16 bits. Until all is written, the file has the name `OUT.PID.part.SUFFIX`; if it then cannot
    be given its true times, what is encoded is kept as `OUT.PID.encoded.SUFFIX`. What the script, vspipe and ffmpeg say
    is logged.

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
    script, out = script.absolute(), output_path(out)  # so that ffmpeg takes no name for an option or a protocol
    source = None if source is None else source.absolute()
    check_files(script, out, source, overwrite)
    _check_frames(frames, source)
    check_filters(ffmpeg_options)
    delay = Fraction(0) if source is None else video_delay(source)
    streams = [] if source is None or delay else source_options(source, out)
    job = Job(
        script=script,
        arguments=arguments or {},
        ffmpeg_options=list(picture_options(ffmpeg_options)) if delay else ffmpeg_options,
    )

    def mux(clip: Clip) -> Mux:
        return Mux(rate=clip.rate, source=source, delay=delay, ffmpeg_options=ffmpeg_options)

    def ready(clip: Clip, options: Sequence[str]) -> None:
        warn_of_length(clip, source)
        _rehearse(clip, options, out, mux(clip) if delay else None)

    with partial(out) as path:
        done = render(job, path, frames=frames, streams=streams, ready=ready, progress=progress)
        times = edges(done.durations, done.clip.rate)
        if delay or not is_constant(times, done.clip.rate):
            with _keeping(path), partial(path) as whole:
                join([path], whole, mux(done.clip), times=times)
    return Encoded(done.clip, len(done.durations), times[:-1], len(done.durations) / done.seconds)


def _rehearse(clip: Clip, options: Sequence[str], out: Path, mux: Mux | None) -> None:
    """Encode a blank first and last frame, so that what ffmpeg would refuse, or count otherwise, is known at once."""
    frames = min(2, clip.frames)
    with tempfile.TemporaryDirectory(prefix="rafrvsr-") as folder:
        blank = Path(folder) / f"blank{out.suffix}"
        try:
            check_written(render_blank(clip, options, blank, frames), frames)
            if mux is not None:
                rehearse(blank, out, mux, clip.frames)
        except EncodeError as error:
            raise EncodeError(f"encoding would fail, tried with a blank first and last frame: {error}") from error


@contextmanager
def _keeping(path: Path) -> Iterator[None]:
    """Around what follows the encoding of a file: where that fails, hours of work are not lost."""
    try:
        yield
    except EncodeError as error:
        kept = path.with_stem(f"{path.stem.removesuffix('.part')}.encoded")
        path.replace(kept)
        raise EncodeError(
            f"{error}\nAll frames are encoded, at a constant rate, and kept in {kept}; make room if there was none, or "
            "choose another container, such as .mkv"
        ) from error


def _check_frames(frames: range | None, source: Path | None) -> None:
    if frames is not None and (frames.step != 1 or not frames or frames.start < 0):
        raise EncodeError(f"frames {frames.start}:{frames.stop} is not a rising range from 0 on")
    if frames is not None and source is not None:
        raise EncodeError(
            "a range of frames has no use for a source, whose sound would not fit; leave the source out, or cut it "
            "first (ffmpeg -ss … -t …) and have the script read that"
        )
