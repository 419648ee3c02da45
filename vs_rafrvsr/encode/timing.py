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

from vs_rafrvsr.encode.source import MP4_FAMILY
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


def edges(durations: Sequence[Fraction], rate: Fraction) -> list[Fraction]:
    """The start of every frame in seconds from 0 on, and the last one's end; multiples where the rate is constant."""
    times = list(accumulate(durations, initial=Fraction(0)))
    steady = [index / rate for index in range(len(times))]
    constant = all(abs(time - exact) <= TOLERANCE for time, exact in zip(times, steady, strict=True))
    return steady if constant else times


def is_constant(times: Sequence[Fraction], rate: Fraction) -> bool:
    """Does every frame start, and the last one end, exactly where a constant rate (frames per second) puts it?"""
    return all(time == index / rate for index, time in enumerate(times))


def _shape(path: Path) -> list[str]:
    """ffmpeg's option by which the copy of a retimed video is shown in the shape of this file's: PyAV leaves it out."""
    with av.open(str(path)) as source:
        video = source.streams.video[0]
        pixel = video.sample_aspect_ratio
        return ["-aspect", f"{pixel.numerator * video.width}:{pixel.denominator * video.height}"] if pixel else []


def count_frames(path: Path) -> int:
    """How many frames the first video of a file has. (ffmpeg 7.0 counts none of those that it only copies.)

    Raises:
        EncodeError: it cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            return sum(packet.size > 0 for packet in container.demux(video=0))
    except (av.error.FFmpegError, IndexError) as error:
        raise EncodeError(f"the file that ffmpeg wrote cannot be read: {error}") from error


def retime(paths: Sequence[Path], out: Path, times: Sequence[Fraction], rate: Fraction) -> list[str]:
    """Copy the video of files, one behind the other, frame n of the whole moved to times[n] seconds.

    Nothing is encoded again. Each file runs at a constant rate. The last of the times is the last frame's end. Returned
    are ffmpeg's options for copying what was written, so that it ends there too, and has its shape.

    Raises:
        EncodeError: a file cannot be read, the other one not written, or the files do not fit together.
    """
    try:
        copied, last = _copy(paths, out, times, rate)
        shape = _shape(paths[0])
    except (av.error.FFmpegError, ValueError, IndexError) as error:  # ValueError: a container that PyAV cannot write
        raise EncodeError(f"giving {out.name} its timestamps failed: {error}") from error
    frames = len(times) - 1
    if copied != frames:
        raise EncodeError(f"giving {out.name} its timestamps failed: its parts hold {copied} of {frames} frames")
    if frames == 1 or out.suffix.lower() not in MP4_FAMILY:
        return shape
    return [*shape, "-bsf:v:0", _lasting(frames, (times[-1] - last) / (last - times[0]))]


def _lasting(frames: int, ratio: Fraction) -> str:
    """A filter of packets by which the one that is decoded last lasts to the end, ratio times the time before it.

    ffmpeg reads no durations from MP4 where frames are not decoded as they are shown, and ends MP4 with that packet.
    Not in seconds, because ffmpeg 5.1 tells this filter a wrong unit.
    """
    last = f"if(eq(N\\,{frames - 1})\\,(PTS-STARTPTS)*{float(ratio)}\\,DURATION)"
    return f"setts=pts=PTS:dts=DTS:duration={last}"


def _copy(paths: Sequence[Path], out: Path, times: Sequence[Fraction], rate: Fraction) -> tuple[int, Fraction]:
    """See retime; the number of frames, and the time of the one that is decoded last."""
    done, last = 0, times[0]
    with av.open(str(paths[0])) as first, av.open(str(out), "w") as target:
        video = first.streams.video[0]
        copy = target.add_stream_from_template(video, opaque=True)
        copy.time_base = video.time_base
        for path in paths:
            with av.open(str(path)) as source:
                _check_same_codec(source.streams.video[0], video, path)
                for packet, n in _moved(source, done, times, rate):
                    packet.stream = copy
                    target.mux(packet)
                    done, last = done + 1, _time(n, times, rate)
    return done, last


def _check_same_codec(stream: VideoStream, first: VideoStream, path: Path) -> None:
    ours, theirs = stream.codec_context, first.codec_context
    if (ours.name, ours.extradata) != (theirs.name, theirs.extradata):
        raise EncodeError(
            f"{path.name} was encoded in another way than the pieces before it, so that one file cannot hold both; "
            "use the same ffmpeg on every machine"
        )


def _moved(
    source: InputContainer, offset: int, times: Sequence[Fraction], rate: Fraction
) -> Iterator[tuple[av.Packet[VideoStream], int]]:
    """The video packets, and their frames' numbers, of a file whose first frame is frame `offset` of the whole."""
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
        yield packet, n


def _nearest(ticks: Fraction) -> int:
    """Halves go up, as in ffmpeg."""
    return math.floor(ticks + Fraction(1, 2))


def _time(n: int, times: Sequence[Fraction], rate: Fraction) -> Fraction:
    """times, continued at the rate before its first frame (where decoding starts) and after its end."""
    if n < 0:
        return times[0] + n / rate
    return times[n] if n < len(times) else times[-1] + (n + 1 - len(times)) / rate
