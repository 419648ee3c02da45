"""How an encode is split: integers in, ranges of frames out.

Any cut gives the same frames, because frame n never depends on who asked for it. Cuts at multiples of Upscale's chunk
are merely the cheapest: a piece that began inside a chunk would run through the chunk's beginning for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

CHUNK = "_RafrvsrChunk"
"""The frame property that holds the chunk of every Upscale that a frame went through."""

PIECES_PER_WORKER = 2
"""At least, so that fast workers can help slow ones. Each piece costs a start, see README."""

LONGEST = 4800
"""Frames of a piece at most, or one chunk: what is lost when a worker dies. README has the cost of shorter ones."""


def chunk_of(props: Mapping[str, Any]) -> int:
    """The grid, in frames, of a clip whose frame 0 has these properties; 1 where no Upscale is in the script."""
    found = props.get(CHUNK, 1)
    return math.lcm(*found) if isinstance(found, list) else int(found)


def plan(frames: int, chunk: int, workers: int) -> list[range]:
    """Pieces of equal length, but for the last, that make up the clip and begin at multiples of chunk.

    Requires frames, chunk and workers >= 1.
    """
    rounds = max(PIECES_PER_WORKER, math.ceil(frames / (workers * LONGEST)))
    length = math.ceil(frames / (workers * rounds) / chunk) * chunk
    return [range(start, min(start + length, frames)) for start in range(0, frames, length)]
