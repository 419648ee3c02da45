"""How an encode is split: integers in, ranges of frames out.

Any cut gives the same frames, because frame n never depends on who asked for it. Cuts at multiples of Upscale's chunk
are merely the cheapest: a piece that began inside a chunk would run through the chunk's beginning for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vs_rafrvsr.properties import CHUNK, DEVICE

PIECES_PER_WORKER = 2
"""So that fast workers can help slow ones, where that makes no piece too short."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Frames of a piece. Each costs a start of some seconds, and is lost when its worker dies."""

    shortest: int
    """Shorter ones are made only to give every worker something to do."""
    longest: int
    """Or one chunk."""


ON_CPU, ON_GPU = Lengths(shortest=1, longest=4800), Lengths(shortest=4800, longest=19_200)
"""README has what they cost. A CPU takes minutes for what a GPU does in a second."""


def lengths_for(props: Mapping[str, Any]) -> Lengths:
    """Those for a clip whose frame 0 has these properties."""
    found = props.get(DEVICE, "CPU")
    names = found if isinstance(found, list) else [found]
    return ON_CPU if all(str(name).startswith("CPU") for name in names) else ON_GPU


def chunk_of(props: Mapping[str, Any]) -> int:
    """The grid, in frames, of a clip whose frame 0 has these properties; 1 where no Upscale is in the script."""
    found = props.get(CHUNK, 1)
    return math.lcm(*found) if isinstance(found, list) else int(found)


def plan(frames: int, chunk: int, workers: int, lengths: Lengths) -> list[range]:
    """Pieces of equal length, but for the last, that make up the clip and begin at multiples of chunk.

    Requires frames, chunk and workers >= 1.
    """
    several = min(PIECES_PER_WORKER, frames // (workers * lengths.shortest))
    rounds = max(1, several, math.ceil(frames / (workers * lengths.longest)))
    length = math.ceil(frames / (workers * rounds) / chunk) * chunk
    return [range(start, min(start + length, frames)) for start in range(0, frames, length)]
