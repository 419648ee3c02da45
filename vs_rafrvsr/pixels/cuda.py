"""Planes <-> RGB tensors on a CUDA device: kernels.cu through CuPy, memory and streams through PyTorch.

Both sides run on one stream, and tensors reach the kernels as CuPy arrays through DLPack, without a copy. The only
module that knows CuPy; importing it does not load CuPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
class Packed:
    """One source frame for the kernels."""

    planes: Sequence[NDArray[Any]]
    """As they are in host memory; rows may be padded."""
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Frames of one format and size <-> RGB on one device and stream, both of which the caller has made current.

    Copies and kernels are only enqueued. Results do not depend on what else is in a batch.
    """

    format: Format
    stream: torch.cuda.Stream
    kernels: Any = field(init=False)
    """A CuPy module."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernels", _kernels(tuple(self.format.defines.items()), self.stream.device))

    def upload(self, frames: Sequence[Packed | None], size: tuple[int, int]) -> Tensor:
        """Frames of size (h, w) -> (B, 3, h, w) fp32, nominally in [0, 1]; a missing frame is black.

        NaN becomes 0, infinities the end of the nominal range, so that one bad sample cannot poison the recurrence.
        """
        fmt, device = self.format, self.stream.device
        rgb = torch.zeros((len(frames), 3, *size), dtype=torch.float32, device=device)
        length = fmt.samples(size) * np.dtype(fmt.dtype).itemsize
        host = torch.empty((len(frames), length), dtype=torch.uint8, device="cpu", pin_memory=True)
        planes = torch.empty((len(frames), length), dtype=torch.uint8, device=device)
        for i, frame in enumerate(frames):
            if frame is None:
                continue
            fmt.pack(frame.planes, host[i].numpy().view(fmt.dtype))
            planes[i].copy_(host[i], non_blocking=True)  # while the next frame is packed
            parameters = parameters_in(fmt, frame.colour, size, _strides(rgb[i]))
            self._launch("planes_to_rgb", size, planes[i], rgb[i], parameters)
        return rgb

    def download(self, rgb: Tensor, colour: Colour) -> Tensor:
        """RGB (3, H, W) fp32 of any strides -> the packed frame's bytes in pinned memory, once the stream is there."""
        fmt, size = self.format, (rgb.shape[1], rgb.shape[2])
        length = fmt.samples(size) * np.dtype(fmt.dtype).itemsize
        planes = torch.empty(length, dtype=torch.uint8, device=rgb.device)
        height, width = fmt.shapes(size)[-1]
        parameters = parameters_out(fmt, colour, size, _strides(rgb))
        self._launch("rgb_to_planes", (-(-height // STRIP), width), rgb, planes, parameters)
        return torch.empty(length, dtype=torch.uint8, device="cpu", pin_memory=True).copy_(planes, non_blocking=True)

    def planes(self, packed: Tensor, size: tuple[int, int]) -> list[NDArray[Any]]:
        """The planes of size (h, w) of what `download` gave, as views of its memory."""
        return self.format.planes(packed.numpy().view(self.format.dtype), size)

    def _launch(self, name: str, threads: tuple[int, int], source: Tensor, target: Tensor, *rest: object) -> None:
        """Enqueue a kernel with a thread for each place (y, x). It gets addresses; strides go by the parameters."""
        grid = tuple(-(-count // block) for count, block in zip(reversed(threads), BLOCK, strict=True))
        with shared_stream(self.stream):
            self.kernels.get_function(name)(grid, BLOCK, (as_cupy(source), as_cupy(target), *rest))


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
def _kernels(defines: tuple[tuple[str, str], ...], device: torch.device) -> Any:  # noqa: ANN401  (a cupy.RawModule)
    """kernels.cu for one row of formats.py; CuPy keeps what it has compiled on disk."""
    import cupy

    options = [f"-D{name}={value}" for name, value in (*defines, ("ELEMENT", "float"))]
    text = Path(__file__).with_name("kernels.cu").read_text(encoding="utf-8")
    with cupy.cuda.Device(device.index):
        module = cupy.RawModule(code=text, options=("-std=c++17", *options))
        module.compile()
    return module


@cache
def trouble(stream: torch.cuda.Stream) -> str | None:
    """Why CuPy cannot serve this stream's device, and what to install; None where it can.

    CuPy may be missing, built for another CUDA, or without a compiler: trying it on one pixel tells all of these.
    """
    try:
        with torch.cuda.device(stream.device), torch.cuda.stream(stream):
            exchange = Exchange(format=FORMATS["Gray8"], stream=stream)
            white = Packed(planes=[np.full((1, 1), 255, np.uint8)], colour=Colour(matrix=1, full=True))
            value = exchange.upload([white], (1, 1)).max().item()
    except Exception as error:  # whatever a foreign library throws, there is another way for the pixels
        return f"CuPy cannot be used ({type(error).__name__}: {error}); {_advice()}"
    return None if value == 1 else f"CuPy computes wrongly (1 became {value}); {_advice()}"


def _advice() -> str:
    major = str(torch.version.cuda).partition(".")[0]
    return f"pip install 'vapoursynth-rafrvsr[cuda{major}]' brings the one that fits this PyTorch"
