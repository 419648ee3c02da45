"""How frames get from host memory to the network's device and back: what the engine asks of a route for pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.formats import Format


@dataclass(frozen=True, kw_only=True)
class HostFrame:
    """One source frame in host memory."""

    format: Format
    planes: Sequence[NDArray[Any]]
    """Rows may be padded."""
    colour: Colour


class Exchange(Protocol):
    """One route for the frames of a clip; nothing is kept between calls."""

    format: Format
    """Of the frames that it takes and gives."""

    def upload(self, frames: Sequence[HostFrame | None], size: tuple[int, int]) -> Tensor:
        """Frames of size (h, w) -> (B, 3, h, w) fp32, nominally in [0, 1], finite; a missing frame is black."""

    def download(self, rgb: Tensor, colour: Colour) -> Tensor:
        """RGB (3, H, W) fp32 -> the bytes of a packed frame in host memory; on CUDA the copy is only enqueued."""
