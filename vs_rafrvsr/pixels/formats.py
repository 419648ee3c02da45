"""The formats whose planes the CUDA kernels read and write: one row each, under VapourSynth's name for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

type Family = Literal["GRAY", "RGB", "YUV"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format. A frame of it, packed, is one flat array: its planes one after the other, rows without padding."""

    name: str
    family: Family
    bits: int
    """Of a sample: 8 to 16 of an integer, 16 or 32 of a float."""
    real: bool
    """Whether samples are floating point."""
    sub_w: int = 0
    """log2 of how many luma samples share a chroma sample, horizontally."""
    sub_h: int = 0

    @property
    def sample(self) -> str:
        """A sample's type in kernels.cu."""
        if self.real:
            return "Half" if self.bits == 16 else "float"
        return "U8" if self.bits == 8 else "U16"

    @property
    def dtype(self) -> np.dtype[Any]:
        """A sample in memory."""
        return np.dtype({"U8": np.uint8, "U16": np.uint16, "Half": np.float16, "float": np.float32}[self.sample])

    @property
    def defines(self) -> dict[str, str]:
        """What kernels.cu is compiled with. Integers of 9 to 16 bits share a compilation."""
        return {"FAMILY": self.family, "SAMPLE": self.sample, "SUB_W": str(self.sub_w), "SUB_H": str(self.sub_h)}

    def shapes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(h, w) of each plane of a frame of size (h, w)."""
        height, width = size
        chroma = (height >> self.sub_h, width >> self.sub_w)
        return [size] if self.family == "GRAY" else [size, chroma, chroma]

    def bytes(self, size: tuple[int, int]) -> int:
        """Of a packed frame of size (h, w)."""
        return sum(height * width for height, width in self.shapes(size)) * self.dtype.itemsize

    def planes(self, packed: NDArray[np.uint8], size: tuple[int, int]) -> list[NDArray[Any]]:
        """The planes of a packed frame of size (h, w), given as bytes, as views."""
        shapes = self.shapes(size)
        ends = np.cumsum([height * width for height, width in shapes])[:-1]
        parts = np.split(packed.view(self.dtype), ends)
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def pack(self, planes: Sequence[NDArray[Any]], packed: NDArray[np.uint8]) -> None:
        """Copy planes, whose rows may be padded, into a packed frame."""
        for target, plane in zip(self.planes(packed, planes[0].shape), planes, strict=True):
            np.copyto(target, plane, casting="no")


def _rows() -> Iterator[Format]:
    for bits, real, suffix in [*((n, False, str(n)) for n in range(8, 17)), (16, True, "H"), (32, True, "S")]:
        yield Format(name=f"Gray{suffix}", family="GRAY", bits=bits, real=real)
        yield Format(name=f"RGB{suffix if real else 3 * bits}", family="RGB", bits=bits, real=real)
        for sub_w, sub_h, kind in ((0, 0, "444"), (1, 0, "422"), (1, 1, "420")):
            name = f"YUV{kind}P{suffix}"
            yield Format(name=name, family="YUV", bits=bits, real=real, sub_w=sub_w, sub_h=sub_h)


FORMATS = {row.name: row for row in _rows()}
