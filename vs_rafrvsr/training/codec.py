"""Frames through a real encoder and back: what compression does to a clip."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.reformatter import Interpolation

type Frames = NDArray[np.uint8]
"""(n, h, w, 3) RGB."""

STREAMS = {"libx264": "h264", "libx265": "hevc"}
"""Encoders and the bare streams they make: without timestamps, which x265 leaves unset in clips of a few frames."""
PARAMS = {
    "libx264": {"x264-params": "asm=avx2"},
    "libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"},
}
"""With AVX-512, x264 (PyAV 19) gave 13 different streams in 16 tries of one clip; without, or without mbtree, one."""
RATE = 25
"""Frames a second that encoders are told: how much a crf keeps depends on it."""
SMALLEST = {"libx264": (2, 2), "libx265": (16, 64)}
"""Heights and widths that encoders take. In narrower frames x265 (PyAV 19) writes behind its buffers: a later crash."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """An encoder and how hard it compresses."""

    name: str
    """One of STREAMS."""
    crf: int
    preset: str = "medium"


def compress(frames: Frames, codec: Codec) -> Frames:
    """Encode and decode a clip as 8-bit 4:2:0: the same shape; odd sides and small frames have their border repeated.

    Equal input gives equal output from x264. x265's was seen to differ between two runs once in some hundreds, on a
    machine with more work than cores.
    """
    import av  # loads FFmpeg, which only video needs
    from av.video.reformatter import ChromaLocation

    height, width = frames.shape[1:3]
    sides = zip((height, width), SMALLEST[codec.name], strict=True)
    down, across = (max(side + side % 2, least) - side for side, least in sides)
    frames = np.pad(frames, ((0, 0), (0, down), (0, across), (0, 0)), "edge")
    file = io.BytesIO()
    options = {"crf": str(codec.crf), "preset": codec.preset, **PARAMS[codec.name]}
    with av.open(file, "w", format=STREAMS[codec.name]) as container:
        stream = cast(Any, container.add_stream(codec.name, rate=RATE, options=options))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            rgb.chroma_location = ChromaLocation.LEFT  # where the decoder finds it; else colours would move
            container.mux(stream.encode(rgb.reformat(format="yuv420p", interpolation=exact())))
        container.mux(stream.encode(None))
    file.seek(0)
    return decode(file, STREAMS[codec.name])[:, :height, :width]


def decode(file: Path | io.BytesIO, stream: str | None = None) -> Frames:
    """All frames of a video, with the matrix and range that it says; `stream` names a bare one.

    Raises:
        ValueError: it cannot be read, or has no frames.
    """
    import av
    import av.error

    try:
        with av.open(file, "r", format=stream) as container:
            decoded = list(container.decode(video=0))
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{file} is not a readable video: {error}") from error
    return np.stack([f.reformat(format="rgb24", interpolation=exact()).to_ndarray() for f in decoded]).astype(np.uint8)


def exact() -> Interpolation:
    """Swscale's flags. Its default is fast: every colour one to three steps darker, and chroma in blocks of 2x2.

    A network would learn both, from truth or from damage that was made so.
    """
    from av.video.reformatter import Interpolation

    careful = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    return careful | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP


def jpeg(frames: Frames, quality: int) -> Frames:
    """Every frame through JPEG, as motion JPEG and stills of cameras are."""
    out = []
    for frame in frames:
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
        out.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])
    return np.stack(out).astype(np.uint8)
