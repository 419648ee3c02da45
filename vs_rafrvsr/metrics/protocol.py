"""Protocols: which frames and pixels a published figure counts. Figures of two protocols are never comparable."""

from __future__ import annotations

from dataclasses import dataclass

from vs_rafrvsr.errors import RafrvsrError
from vs_rafrvsr.metrics.fidelity import Frames


class EvaluationError(RafrvsrError):
    """Figures that cannot be had, or would not be comparable."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a figure is made; the same for every clip and model of a table."""

    name: str
    degradation: str
    """How LR frames are made from the truth, a key of `training.degrade.KINDS`."""
    border: int = 0
    """Pixels left out along each side."""
    multiple_32: bool = False
    """TecoGAN's crop to the middle, see `inner_32`."""
    drop: tuple[int, int] = (0, 0)
    """Frames not counted at the beginning and at the end."""
    only: int | None = None
    """The one frame that counts."""
    source: str

    @property
    def shortest(self) -> int:
        """Frames of a clip of which one counts."""
        return sum(self.drop) + 1 if self.only is None else self.only + 1

    def whole(self, frames: Frames) -> Frames:
        """The frames of a clip (N, H, W, 3) that count, uncropped.

        Raises:
            EvaluationError: the clip is too short.
        """
        if len(frames) < self.shortest:
            raise EvaluationError(f"protocol {self.name}: a clip of {len(frames)} frames has none that counts")
        first, last = self.drop
        return frames[first : len(frames) - last] if self.only is None else frames[self.only : self.only + 1]

    def count(self, frames: Frames) -> Frames:
        """The part of a clip (N, H, W, 3) that counts.

        Raises:
            EvaluationError: the clip is too short, or too small for TecoGAN's crop.
        """
        kept = self.whole(frames)
        height, width = frames.shape[1:3]
        if self.multiple_32:
            rows, columns = inner_32(height, width)
            return kept[:, rows, columns]
        return kept[:, self.border : height - self.border, self.border : width - self.border]


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(name="bi", degradation="bi", source="BasicSR, BasicVSR: no crop, all frames"),
        Protocol(name="bd", degradation="bd", border=8, source="RRN, RSDN: sigma 1.6, 8 px crop, all frames"),
        Protocol(name="bd-whole", degradation="bd", source="BasicSR, TMP: sigma 1.6, no crop, all frames"),
        Protocol(
            name="duf", degradation="bd", border=8, drop=(2, 2), source="DUF: sigma 1.6, 8 px crop, 2 + 2 dropped"
        ),
        Protocol(
            name="tecogan",
            degradation="bd-1.5",
            multiple_32=True,
            drop=(2, 2),
            source="TecoGAN: sigma 1.5, cropped to multiples of 32, 2 + 2 frames dropped",
        ),
        Protocol(name="vimeo-bi", degradation="bi", only=3, source="Vimeo-90K-T: frame 4 of 7, no crop"),
        Protocol(name="vimeo-bd", degradation="bd", only=3, source="Vimeo-90K-T: sigma 1.6, frame 4 of 7, no crop"),
    )
}


def inner_32(height: int, width: int) -> tuple[slice, slice]:
    """TecoGAN's crop: the largest multiples of 32 that leave out at least 16 pixels a direction, in the middle.

    Raises:
        EvaluationError: a side has fewer than 48 pixels.
    """
    spans = []
    for side in (height, width):
        inner = (side - 16) // 32 * 32
        if inner <= 0:
            raise EvaluationError(f"frames of {width}x{height} are too small: TecoGAN's crop needs 48 pixels a side")
        start = (side - inner) // 2
        spans.append(slice(start, start + inner))
    return spans[0], spans[1]
