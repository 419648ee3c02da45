"""What is in a video file: enough to tell whether an encode is whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

BT709 = (1, 1, 1, 1)
"""Matrix, primaries, transfer and limited range, in FFmpeg's numbers."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Of the first video stream and the first audio stream."""

    frames: int
    seconds: float
    """When the last frame ends."""
    tags: tuple[int, int, int, int]
    """Matrix, primaries, transfer, range."""
    sound: tuple[int, int]
    """Packets and bytes."""

    @classmethod
    def of(cls, path: Path) -> Contents:
        """Read the whole file."""
        frames, seconds, packets, size = 0, 0.0, 0, 0
        with av.open(str(path)) as file:
            video, audio = file.streams.video[0], file.streams.audio[:1]
            for packet in file.demux([video, *audio]):
                if packet.size == 0:  # the end
                    continue
                if packet.stream is not video:
                    packets, size = packets + 1, size + packet.size
                    continue
                frames += 1
                if packet.pts is not None and packet.time_base is not None:
                    seconds = max(seconds, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            codec = video.codec_context
            tags = codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range
        return cls(frames=frames, seconds=seconds, tags=tags, sound=(packets, size))

    def checked(self, source: Contents) -> dict[str, bool]:
        """What of an upscaled file with its source's sound is as it must be."""
        return {
            "frames": self.frames == source.frames,
            "duration": abs(self.seconds - source.seconds) < 0.1,
            "colour tags": self.tags == BT709,
            "sound": self.sound == source.sound,
        }
