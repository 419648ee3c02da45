"""Planes <-> RGB tensors on a CUDA device: kernels.cu through CuPy, memory and streams through PyTorch.

Both sides run on the current stream, and tensors reach the kernels as CuPy arrays through DLPack, without a copy. The
only module that knows CuPy; importing it does not load CuPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vs_rafrvsr.faults import device_lost, out_of_memory
from vs_rafrvsr.pixels.colour import Colour, parameters_in, parameters_out
from vs_rafrvsr.pixels.exchange import Downloaded, Pack, Staged, fetch, stage
from vs_rafrvsr.pixels.formats import Format

BLOCK = (32, 8)
"""Threads of a block: a warp takes neighbours of one row."""

STRIP = 4
"""Rows of chroma that a thread of `rgb_to_planes` makes, as in kernels.cu."""


class CudaExchange:
    """See Exchange: the clip's own planes, converted on the device."""

    def __init__(self, fmt: Format, device: torch.device) -> None:
        self.format, self.device = fmt, device

    def stage(self, colours: Sequence[Colour | None], pack: Pack, size: tuple[int, int]) -> Staged:
        """See Exchange."""
        return stage(colours, pack, self.format, size, self.device)

    def upload(self, staged: Staged, size: tuple[int, int]) -> Tensor:
        """See `upload`."""
        return upload(staged, size, self.device)

    def download(self, rgb: Tensor, colour: Colour) -> Downloaded:
        """See `download`."""
        return download(rgb, self.format, colour)


def upload(staged: Staged, size: tuple[int, int], device: torch.device) -> Tensor:
    """Frames of size (h, w) -> (B, 3, h, w) fp32, nominally in [0, 1]; a missing frame is black.

    Copies and kernels are only enqueued, on the current stream, a kernel for all neighbours of one colour. A frame's
    numbers do not depend on the others. NaN becomes 0, infinities the end of the nominal range, so that one bad sample
    cannot poison the recurrence.
    """
    planes = staged.packed.to(device, non_blocking=True)
    rgb = torch.empty((len(planes), 3, *size), dtype=torch.float32, device=device)
    kernel, at = _kernels(staged.format, device)["planes_to_rgb"], 0
    for colour, same in itertools.groupby(staged.colours):
        first, at = at, at + len(list(same))
        if colour is None:
            rgb[first:at].zero_()
        else:
            parameters = parameters_in(staged.format, colour, size, _strides(rgb[first]))
            _launch(kernel, size, planes[first:at], rgb[first:at], parameters, frames=at - first)
    return rgb


def download(rgb: Tensor, fmt: Format, colour: Colour) -> Downloaded:
    """RGB (3, H, W) fp32 of any strides -> a packed frame in pinned memory.

    As in `upload`, everything is only enqueued; the copy on a stream of its own.
    """
    size = (rgb.shape[1], rgb.shape[2])
    planes = torch.empty(fmt.bytes(size), dtype=torch.uint8, device=rgb.device)
    height, width = fmt.shapes(size)[-1]
    kernel = _kernels(fmt, rgb.device)["rgb_to_planes"]
    _launch(kernel, (-(-height // STRIP), width), rgb, planes, parameters_out(fmt, colour, size, _strides(rgb)))
    return fetch(planes)


def _strides(rgb: Tensor) -> tuple[int, int, int]:
    return cast(tuple[int, int, int], rgb.stride())


def _launch(
    kernel: Any,  # noqa: ANN401  (a cupy.RawKernel)
    threads: tuple[int, int],
    source: Tensor,
    target: Tensor,
    parameters: NDArray[np.void],
    frames: int = 1,
) -> None:
    """Enqueue a kernel with a thread for each (y, x) of each frame, on the current stream.

    It gets bare addresses: strides are among the parameters.
    """
    grid = tuple(-(-count // block) for count, block in zip(reversed(threads), BLOCK, strict=True))
    with shared_stream(torch.cuda.current_stream(source.device)):
        kernel((*grid, frames), BLOCK, (as_cupy(source), as_cupy(target), parameters))


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
def _kernels(fmt: Format, device: torch.device) -> dict[str, Any]:
    """The functions of kernels.cu for a format; CuPy keeps what it has compiled on disk."""
    import cupy

    text = Path(__file__).with_name("kernels.cu").read_text(encoding="utf-8")
    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in fmt.defines.items()))
    with cupy.cuda.Device(device.index):
        module = cupy.RawModule(code=text, options=options)
        return {name: module.get_function(name) for name in ("planes_to_rgb", "rgb_to_planes")}


def trouble(fmt: Format, device: torch.device) -> str | None:
    """Why CuPy cannot serve a format on a device, and what to install; None where it can.

    CuPy may be missing, built for another CUDA, or without a compiler: trying it tells all of these, and what has been
    compiled for the trial is needed anyway.

    Raises:
        RuntimeError, MemoryError: memory ran out or the GPU is lost, which another CuPy would not change.
    """
    size = (2, 2)
    ones = [np.ones(shape, fmt.dtype) for shape in fmt.shapes(size)]
    colour = Colour(matrix=1, full=True)
    try:
        staged = stage([colour], lambda memory: fmt.pack(ones, memory[0]), fmt, size, device)
        packed = download(upload(staged, size, device)[0], fmt, colour).wait()
    except Exception as error:  # whatever a foreign library throws, there is another way for the pixels
        if out_of_memory(error) or device_lost(error):
            raise
        return f"CuPy cannot be used ({type(error).__name__}: {error}); {_advice()}"
    back = fmt.planes(packed, size)
    right = all(np.allclose(plane, one, atol=1e-2) for plane, one in zip(back, ones, strict=True))
    return None if right else f"CuPy computes wrongly; {_advice()}"


def _advice() -> str:
    major = str(torch.version.cuda).partition(".")[0]
    return f"in the checkout, pip install '.[cuda{major}]' brings the one that fits this PyTorch"
