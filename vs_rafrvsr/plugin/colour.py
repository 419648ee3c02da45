"""What a source frame's properties say of its colour, and what is assumed where they say nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vs_rafrvsr.errors import ClipError
from vs_rafrvsr.pixels.colour import CHROMA_OFFSETS, MATRICES, Colour
from vs_rafrvsr.plugin.host import lib

RGB, BT709, BT601 = 0, 1, 6

PROPERTIES = ("_Matrix", "_Range", "_ColorRange", "_ChromaLocation", "_Transfer", "_Primaries")
"""What `ColourReader.said` reads. `_ColorRange` is deprecated, and the other way round: 1 is limited."""

RESIZERS: Mapping[str, Collection[int]] = {
    "_Matrix": (1, *range(4, 11), 12, 13, 14),
    "_Range": (0, 1),
    "_ChromaLocation": range(6),
    "_Transfer": (1, 2, *range(4, 19)),
    "_Primaries": (1, 2, *range(4, 13), 22),
}
"""The codes of ITU-T H.273 that VapourSynth's resizer knows; it refuses others in words that name no frame."""

NEEDED = {10: ("_Transfer",), 12: ("_Primaries",), 13: ("_Transfer", "_Primaries"), 14: ("_Transfer", "_Primaries")}
"""What makes these values of `_Matrix` a matrix, to the resizer."""


@dataclass(frozen=True, slots=True)
class Said:
    """The colour properties of one frame; None where they say nothing or mean nothing for the format."""

    matrix: int | None
    range: int | None
    """1 is full."""
    chromaloc: int | None
    transfer: int | None
    primaries: int | None


class ColourReader:
    """Reads the frames of one clip.

    The network makes RGB of grey, and not exactly grey: its luma is always BT.709's. `_Matrix` means nothing there, and
    may be anything, such as the 0 of a plane that was taken out of RGB.
    """

    def __init__(self, video: Any) -> None:  # noqa: ANN401  (a cffi struct)
        self.family = video.format.colorFamily
        self.subsampled = bool(video.format.subSamplingW or video.format.subSamplingH)
        self.grey = self.family not in (lib.cfRGB, lib.cfYUV)
        small = video.height <= 576 and video.width <= 1024
        self.guess = BT601 if small and not self.grey else BT709
        """Where nothing says it: BT.601 for standard definition, else BT.709, as players do."""

    def said(self, values: Sequence[int | None]) -> Said:
        """What a frame says whose PROPERTIES have these values."""
        matrix, full, limited, chromaloc, transfer, primaries = values
        if full is None and limited is not None:
            full = 1 - limited
        return Said(
            matrix=_specified(matrix) if self.family == lib.cfYUV else None,
            range=full,
            chromaloc=chromaloc if self.subsampled else None,
            transfer=_specified(transfer),
            primaries=_specified(primaries),
        )

    def matrix(self, said: Said) -> int | None:
        """The matrix, guessed where nothing says it; BT.709 for grey, None for RGB."""
        return self.guess if said.matrix is None and self.family != lib.cfRGB else said.matrix

    def convertible(self, values: Sequence[int | None], n: int) -> Said:
        """What frame n says, for the resizer.

        Raises:
            ClipError: it does not know that.
        """
        said = self.said(values)
        codes = dict(
            zip(RESIZERS, (said.matrix, said.range, said.chromaloc, said.transfer, said.primaries), strict=True)
        )
        for name, code in codes.items():
            if code is not None and code not in RESIZERS[name]:
                raise ClipError(
                    f"frame {n} has {name}={code}, which VapourSynth's resizer does not know; say what it is by "
                    f"std.SetFrameProps({name}=…), with one of {', '.join(map(str, RESIZERS[name]))}"
                )
        for name in NEEDED.get(said.matrix or 0, ()):
            if codes[name] is None:
                raise ClipError(
                    f"frame {n} has _Matrix={said.matrix} without {name}: set it by std.SetFrameProps({name}=…)"
                )
        return said

    def known(self, values: Sequence[int | None], n: int) -> Colour:
        """What frame n says, for the kernels, with what the resizer assumes filled in.

        Raises:
            ClipError: they do not know it.
        """
        said = self.said(values)
        matrix = BT709 if self.family == lib.cfRGB else self.matrix(said)  # RGB needs none, and any does
        if matrix not in MATRICES or (said.chromaloc or 0) not in CHROMA_OFFSETS:
            raise ClipError(
                f"frame {n} has _Matrix={matrix} and _ChromaLocation={said.chromaloc}; matrices "
                f"{', '.join(map(str, sorted(MATRICES)))} and locations 0 to 5 are supported on the GPU: convert "
                "first with resize.Bicubic(matrix=…), or pass RGB"
            )
        full = self.family == lib.cfRGB if said.range is None else said.range == 1
        return Colour(matrix=matrix, full=full, location=said.chromaloc or 0)


def _specified(value: int | None) -> int | None:
    """`_Matrix`, `_Transfer` or `_Primaries`, None if it says nothing."""
    return None if value == lib.UNSPECIFIED else value
