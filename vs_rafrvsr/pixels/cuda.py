"""Planes <-> RGB tensors on a CUDA device: kernels.cu through CuPy, memory and streams through PyTorch.

Both sides run on one stream, and tensors reach the kernels as CuPy arrays through DLPack, without a copy. The only
module that knows CuPy; importing it does not load CuPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vs_rafrvsr.pixels.colour import Colour, parameters_in, parameters_out
from vs_rafrvsr.pixels.formats import FORMATS, Format

BLOCK = (32, 8)
"""Threads of a block: a warp takes neighbours of one row."""

STRIP = 4
"""Rows of chroma that a thread of `rgb_to_planes` makes, as in kernels.cu."""


@dataclass(frozen=True, kw_only=True)
class HostFrame:
    """One source frame for the kernels."""

    planes: Sequence[NDArray[Any]]
    """As they are in host memory; rows may be padded."""
    colour: Colour


class Exchange:
    """Frames of one format <-> RGB on one device and stream, both of which the caller has made current.

    Copies and kernels are only enqueued. A frame's numbers do not depend on what else is in its batch.
    """

    def __init__(self, fmt: Format, stream: torch.cuda.Stream) -> None:
        self.format, self.stream = fmt, stream
        self.kernels = _kernels(tuple(fmt.defines.items()), stream.device)

    def upload(self, frames: Sequence[HostFrame | None], size: tuple[int, int]) -> Tensor:
        """Frames of size (h, w) -> (B, 3, h, w) fp32, nominally in [0, 1]; a missing frame is black.

        NaN becomes 0, infinities the end of the nominal range, so that one bad sample cannot poison the recurrence.
        """
        host = self._buffer(len(frames), size, pinned=True)
        planes = self._buffer(len(frames), size, pinned=False)
        rgb = torch.empty((len(frames), 3, *size), dtype=torch.float32, device=self.stream.device)
        for i, frame in enumerate(frames):
            if frame is None:
                rgb[i].zero_()
                continue
            self.format.pack(frame.planes, host[i].numpy().view(self.format.dtype))
            planes[i].copy_(host[i], non_blocking=True)  # goes on while the next frame is packed
            parameters = parameters_in(self.format, frame.colour, size, _strides(rgb[i]))
            self._launch("planes_to_rgb", size, planes[i], rgb[i], parameters)
        return rgb

    def download(self, rgb: Tensor, colour: Colour) -> Tensor:
        """RGB (3, H, W) fp32 of any strides -> the packed frame's bytes in pinned memory, there with the stream."""
        size = (rgb.shape[1], rgb.shape[2])
        planes = self._buffer(1, size, pinned=False)[0]
        height, width = self.format.shapes(size)[-1]
        parameters = parameters_out(self.format, colour, size, _strides(rgb))
        self._launch("rgb_to_planes", (-(-height // STRIP), width), rgb, planes, parameters)
        return self._buffer(1, size, pinned=True)[0].copy_(planes, non_blocking=True)

    def planes(self, packed: Tensor, size: tuple[int, int]) -> list[NDArray[Any]]:
        """The planes of size (H, W) in what `download` gave, as views of its memory."""
        return self.format.planes(packed.numpy().view(self.format.dtype), size)

    def _buffer(self, frames: int, size: tuple[int, int], *, pinned: bool) -> Tensor:
        """(frames, bytes of a packed frame), in pinned host memory or on the device."""
        length = self.format.samples(size) * self.format.dtype.itemsize
        device = torch.device("cpu") if pinned else self.stream.device
        return torch.empty((frames, length), dtype=torch.uint8, device=device, pin_memory=pinned)

    def _launch(self, name: str, threads: tuple[int, int], source: Tensor, target: Tensor, *rest: object) -> None:
        """Enqueue a kernel with a thread for each (y, x). It gets bare addresses: strides are among the parameters."""
        grid = tuple(-(-count // block) for count, block in zip(reversed(threads), BLOCK, strict=True))
        with shared_stream(self.stream):
            self.kernels[name](grid, BLOCK, (as_cupy(source), as_cupy(target), *rest))


def _strides(rgb: Tensor) -> tuple[int, int, int]:
    return cast(tuple[int, int, int], rgb.stride())


def as_cupy(tensor: Tensor) -> Any:  # noqa: ANN401  (a cupy.ndarray)
    """The same memory as a CuPy array."""
    import cupy

    return cupy.from_dlpack(tensor)


@dataclass(frozen=True)
class _CudaStream:
    """PyTorch's stream under the protocol that CuPy asks for, which not every PyTorch implements."""

    stream: torch.cuda.Stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.stream.cuda_stream


def shared_stream(stream: torch.cuda.Stream) -> Any:  # noqa: ANN401  (a cupy.cuda.Stream)
    """A context in which CuPy enqueues on PyTorch's stream, in this thread."""
    import cupy

    return cupy.cuda.Stream.from_external(_CudaStream(stream))


@cache
def _kernels(defines: tuple[tuple[str, str], ...], device: torch.device) -> dict[str, Any]:
    """The functions of kernels.cu for one row of formats.py; CuPy keeps what it has compiled on disk."""
    import cupy

    options = [f"-D{name}={value}" for name, value in (*defines, ("ELEMENT", "float"))]
    text = Path(__file__).with_name("kernels.cu").read_text(encoding="utf-8")
    with cupy.cuda.Device(device.index):
        module = cupy.RawModule(code=text, options=("-std=c++17", *options))
        return {name: module.get_function(name) for name in ("planes_to_rgb", "rgb_to_planes")}


@cache
def trouble(stream: torch.cuda.Stream) -> str | None:
    """Why CuPy cannot serve this stream's device, and what to install; None where it can.

    CuPy may be missing, built for another CUDA, or without a compiler: trying it on one pixel tells all of these.
    """
    try:
        with torch.cuda.device(stream.device), torch.cuda.stream(stream):
            exchange = Exchange(FORMATS["Gray8"], stream)
            white = HostFrame(planes=[np.full((1, 1), 255, np.uint8)], colour=Colour(matrix=1, full=True))
            value = exchange.upload([white], (1, 1)).max().item()
    except Exception as error:  # whatever a foreign library throws, there is another way for the pixels
        return f"CuPy cannot be used ({type(error).__name__}: {error}); {_advice()}"
    return None if value == 1 else f"CuPy computes wrongly (1 became {value}); {_advice()}"


def _advice() -> str:
    major = str(torch.version.cuda).partition(".")[0]
    return f"pip install 'vapoursynth-rafrvsr[cuda{major}]' brings the one that fits this PyTorch"
