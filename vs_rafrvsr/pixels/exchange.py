"""How frames get from host memory to the network's device and back: what the engine asks of a route for pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.formats import Format

type Pack = Callable[[NDArray[np.uint8]], None]
"""Writes packed frames (see Format) into memory (B, bytes of one); zeros for a missing one."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Frames on their way to the device: copied, so that their own memory is free."""

    colours: Sequence[Colour | None]
    """Of each frame, None for a missing one."""
    packed: Tensor
    """(B, bytes of a packed frame) uint8 in host memory, pinned where there is a GPU."""


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """One frame on its way to host memory."""

    packed: Tensor
    """Its bytes: Format.planes finds the planes in them."""
    event: torch.cuda.Event | None
    """When they are all there; None if they are."""

    def wait(self) -> NDArray[np.uint8]:
        """The bytes, complete."""
        if self.event is not None:
            with torch.cuda.device(self.event.device):  # else a context would be made on another GPU
                self.event.synchronize()
        packed: NDArray[np.uint8] = self.packed.numpy()
        return packed


class Exchange(ABC):
    """One route for the frames of a clip, which it takes and gives in `format`; nothing is kept between calls."""

    def __init__(self, fmt: Format, device: torch.device) -> None:
        self.format, self.device = fmt, device

    def stage(self, colours: Sequence[Colour | None], pack: Pack, size: tuple[int, int]) -> Staged:
        """Copy frames of size (h, w) and these colours. For any thread; the other two are for the device's."""
        packed = host_memory((len(colours), self.format.bytes(size)), self.device)
        pack(packed.numpy())
        return Staged(colours=colours, packed=packed)

    @abstractmethod
    def upload(self, staged: Staged, size: tuple[int, int]) -> Tensor:
        """-> (B, 3, h, w) fp32, nominally in [0, 1], finite; a missing frame is black. On CUDA only enqueued.

        NaN becomes 0, infinities the end of the nominal range: one bad sample must not poison the recurrence.
        """

    @abstractmethod
    def download(self, rgb: Tensor, colour: Colour) -> Downloaded:
        """RGB (3, H, W) fp32, of any strides -> a packed frame. On CUDA only enqueued, the copy on its own stream."""


def fetch(packed: Tensor) -> Downloaded:
    """Copy bytes from a GPU on a stream of its own: what the current one does next need not wait for that."""
    stream = _copy_stream(packed.device)
    stream.wait_stream(torch.cuda.current_stream(packed.device))
    packed.record_stream(stream)
    with torch.cuda.stream(stream):
        host = host_memory(packed.shape, packed.device).copy_(packed, non_blocking=True)
        event = torch.cuda.Event(blocking=True)  # who waits sleeps: the cores are for others
        event.record(stream)
    return Downloaded(packed=host, event=event)


def host_memory(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Bytes that a device's copies can reach.

    PyTorch keeps pinned memory for the next frame, and does not give it out before the copies from it are done.
    """
    if device.type == "cpu":
        return torch.empty(shape, dtype=torch.uint8, device="cpu")
    with torch.cuda.device(device):  # else a context would be made on another GPU
        return torch.empty(shape, dtype=torch.uint8, device="cpu", pin_memory=True)


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
