"""Timestamps: is a clip's frame rate constant, and if not, giving a file the true ones without encoding again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from vs_rafrvsr.errors import EncodeError

# Sources in Matroska have timestamps in whole milliseconds, so a constant rate shows as one within half a millisecond,
# and one more half for a first frame that was rounded the other way.
TOLERANCE = Fraction(1, 1000)


def read_notes(path: Path) -> tuple[list[Fraction], list[str]]:
    """Seconds that each frame lasts, in order, and what made frames, see Rendered, from the file of piped.py."""
    durations, makers = dict[int, Fraction](), set[str]()
    for line in path.read_text().splitlines():
        frame, numerator, denominator, *maker = line.split(maxsplit=3)
        durations[int(frame)] = Fraction(int(numerator), int(denominator))
        makers.update(maker)
    return [durations[frame] for frame in sorted(durations)], sorted(makers)


def starts(durations: Sequence[Fraction], rate: Fraction) -> list[Fraction]:
    """The start of every frame in seconds, the first at 0; exact multiples where the rate is constant."""
    times = list(accumulate(durations[:-1], initial=Fraction(0)))
    steady = [index / rate for index in range(len(times))]
    constant = all(abs(time - exact) <= TOLERANCE for time, exact in zip(times, steady, strict=True))
    return steady if constant else times


def is_constant(times: Sequence[Fraction], rate: Fraction) -> bool:
    """Does every frame start exactly where a constant rate (frames per second) puts it, from 0 on?"""
    return all(time == index / rate for index, time in enumerate(times))


def aspect_options(path: Path) -> list[str]:
    """ffmpeg's option by which the copy of a retimed video is shown in the shape of this file's: PyAV leaves it out."""
    with av.open(str(path)) as source:
        video = source.streams.video[0]
        pixel = video.sample_aspect_ratio
        return ["-aspect", f"{pixel.numerator * video.width}:{pixel.denominator * video.height}"] if pixel else []


def retime(paths: Sequence[Path], out: Path, times: Sequence[Fraction], rate: Fraction) -> None:
    """Copy the video of files, one behind the other, frame n of the whole moved to times[n] seconds.

    Nothing is encoded again. Each file runs at a constant rate.

    Raises:
        EncodeError: a file cannot be read, the other one not written, or the files do not fit together.
    """
    try:
        copied = _copy(paths, out, times, rate)
    except av.error.FFmpegError as error:
        raise EncodeError(f"giving {out.name} its timestamps failed: {error}") from error
    if copied != len(times):
        raise EncodeError(f"giving {out.name} its timestamps failed: its parts hold {copied} of {len(times)} frames")


def _copy(paths: Sequence[Path], out: Path, times: Sequence[Fraction], rate: Fraction) -> int:
    """See retime; the number of frames."""
    done = 0
    with av.open(str(paths[0])) as first, av.open(str(out), "w") as target:
        video = first.streams.video[0]
        copy = target.add_stream_from_template(video, opaque=True)
        copy.time_base = video.time_base
        for path in paths:
            with av.open(str(path)) as source:
                _check_same_codec(source.streams.video[0], video, path)
                for packet in _moved(source, done, times, rate):
                    packet.stream = copy
                    target.mux(packet)
                    done += 1
    return done


def _check_same_codec(stream: VideoStream, first: VideoStream, path: Path) -> None:
    ours, theirs = stream.codec_context, first.codec_context
    if (ours.name, ours.extradata) != (theirs.name, theirs.extradata):
        raise EncodeError(
            f"{path.name} was encoded in another way than the pieces before it, so that one file cannot hold both; "
            "use the same ffmpeg on every machine"
        )


def _moved(
    source: InputContainer, offset: int, times: Sequence[Fraction], rate: Fraction
) -> Iterator[av.Packet[VideoStream]]:
    """The video packets of a file whose first frame is frame `offset` of the whole."""
    stream = source.streams.video[0]
    packets = (packet for packet in source.demux(stream) if packet.pts is not None)  # an empty one ends the stream
    first: int | None = None
    for position, packet in enumerate(packets):
        assert packet.pts is not None
        base = packet.time_base
        first = packet.pts if first is None else first
        n = offset + round((packet.pts - first) * base * rate)
        # Not from the packet: Matroska stores no decoding times, and what is guessed for them breaks off at each file.
        decoded = offset + position - stream.codec_context.reorder_depth
        packet.pts, packet.dts, end = (_nearest(_time(m, times, rate) / base) for m in (n, decoded, n + 1))
        packet.duration = end - packet.pts
        yield packet


def _nearest(ticks: Fraction) -> int:
    """Halves go up, as in ffmpeg."""
    return math.floor(ticks + Fraction(1, 2))


def _time(n: int, times: Sequence[Fraction], rate: Fraction) -> Fraction:
    """times, continued at the rate before its first frame (where decoding starts) and after its last."""
    if n < 0:
        return times[0] + n / rate
    return times[n] if n < len(times) else times[-1] + (n + 1 - len(times)) / rate
