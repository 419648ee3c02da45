"""Timestamps: is a clip's frame rate constant, and if not, giving a file the true ones without encoding again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from av.video.stream import VideoStream

from vs_rafrvsr.errors import EncodeError

# Sources in Matroska have timestamps in whole milliseconds, so a constant rate shows as one within half a millisecond,
# and one more half for a first frame that was rounded the other way.
TOLERANCE = Fraction(1, 1000)


def read_timecodes(path: Path) -> list[Fraction]:
    """Start of every frame in seconds, from the file that `vspipe --timecodes` writes (milliseconds, a line each)."""
    lines = path.read_text().splitlines()
    return [Fraction(line) / 1000 for line in lines if line and not line.startswith("#")]


def is_constant(times: Sequence[Fraction], rate: Fraction) -> bool:
    """Does every frame start where a constant rate (frames per second) puts it?"""
    return all(abs(time - index / rate) <= TOLERANCE for index, time in enumerate(times))


def display_aspect(path: Path) -> Fraction | None:
    """Width to height of a file's picture as displayed; None where its pixels have no known shape."""
    with av.open(str(path)) as source:
        video = source.streams.video[0]
        pixels = cast(Fraction | None, video.sample_aspect_ratio)
        return pixels * Fraction(video.width, video.height) if pixels else None


def retime(path: Path, out: Path, times: Sequence[Fraction], rate: Fraction) -> None:
    """Copy a file's video, which runs at a constant rate, its frame n moved to times[n] seconds.

    Nothing is encoded again. Decoding times move through the same increasing map as presentation times, so packets keep
    their order.

    Raises:
        EncodeError: the file cannot be read, or the other one not written.
    """
    try:
        _copy(path, out, times, rate)
    except av.error.FFmpegError as error:
        raise EncodeError(f"giving {path.name} its timestamps failed: {error}") from error


def _copy(path: Path, out: Path, times: Sequence[Fraction], rate: Fraction) -> None:
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video, opaque=True)
        copy.time_base = video.time_base
        first: int | None = None
        for packet in source.demux(video):
            if packet.pts is None:  # the empty packet that ends the stream
                continue
            first = packet.pts if first is None else first
            _move(packet, first, times, rate)
            packet.stream = copy
            target.mux(packet)


def _move(packet: av.Packet[VideoStream], first: int, times: Sequence[Fraction], rate: Fraction) -> None:
    base = packet.time_base
    assert packet.pts is not None

    def index(stamp: int) -> int:
        return round((stamp - first) * base * rate)

    def moved(n: int) -> int:
        return round(_time(n, times, rate) / base)

    n = index(packet.pts)
    packet.pts = moved(n)
    packet.duration = moved(n + 1) - packet.pts
    if packet.dts is not None:
        packet.dts = moved(index(packet.dts))


def _time(n: int, times: Sequence[Fraction], rate: Fraction) -> Fraction:
    """times, continued at the rate before its first frame (where decoding starts) and after its last."""
    if n < 0:
        return times[0] + n / rate
    return times[n] if n < len(times) else times[-1] + (n + 1 - len(times)) / rate
