"""Planes <-> RGB tensors on a CUDA device: kernels.cu through CuPy, memory and streams through PyTorch.

Both sides run on the current stream, and tensors reach the kernels as CuPy arrays through DLPack, without a copy. But
for the doctor, no other module knows CuPy; importing this one does not load it.
"""

from __future__ import annotations

import itertools
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
from vs_rafrvsr.pixels.exchange import Downloaded, Exchange, Staged, fetch
from vs_rafrvsr.pixels.formats import Format

BLOCK = (32, 8)
"""Threads of a block: a warp takes neighbours of one row."""

STRIP = 4
"""Rows of chroma that a thread of `rgb_to_planes` makes, as in kernels.cu."""


class CudaExchange(Exchange):
    """The clip's own planes, converted on the device."""

    def upload(self, staged: Staged, size: tuple[int, int]) -> Tensor:
        """See Exchange.

        A kernel for all neighbours of one colour; a frame's numbers do not depend on the others.
        """
        planes = staged.packed.to(self.device, non_blocking=True)
        rgb = torch.empty((len(planes), 3, *size), dtype=torch.float32, device=self.device)
        kernel, at = _kernels(self.format, self.device)["planes_to_rgb"], 0
        for colour, same in itertools.groupby(staged.colours):
            first, at = at, at + len(list(same))
            if colour is None:
                rgb[first:at].zero_()
            else:
                parameters = parameters_in(self.format, colour, size, _strides(rgb[first]))
                _launch(kernel, size, planes[first:at], rgb[first:at], parameters, frames=at - first)
        return rgb

    def download(self, rgb: Tensor, colour: Colour) -> Downloaded:
        """See Exchange."""
        return fetch(self.planes(rgb, colour))

    def planes(self, rgb: Tensor, colour: Colour) -> Tensor:
        """RGB (3, H, W) fp32 of any strides -> a packed frame on the device."""
        size = (rgb.shape[1], rgb.shape[2])
        planes = torch.empty(self.format.bytes(size), dtype=torch.uint8, device=self.device)
        height, width = self.format.shapes(size)[-1]
        kernel = _kernels(self.format, self.device)["rgb_to_planes"]
        parameters = parameters_out(self.format, colour, size, _strides(rgb))
        _launch(kernel, (-(-height // STRIP), width), rgb, planes, parameters)
        return planes


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
    exchange, size = CudaExchange(fmt, device), (2, 2)
    ones = [np.ones(shape, fmt.dtype) for shape in fmt.shapes(size)]
    colour = Colour(matrix=1, full=True)
    try:
        staged = exchange.stage([colour], lambda memory: fmt.pack(ones, memory[0]), size)
        packed = exchange.download(exchange.upload(staged, size)[0], colour).wait()
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
