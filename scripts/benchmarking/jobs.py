"""One row of the benchmark as its child processes get it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

WARM_UP = 60
"""Frames played before the clock starts: graphs are captured and buffers are there."""

BURST = 15
"""Windows are multiples of it: vs-basicvsrpp makes so many frames at once."""

LARGEST = 960 * 540
"""Pixels of an input that is played for all frames that are asked for."""

LIMIT = 600
"""Seconds after which a child is given up."""


class RowError(Exception):
    """A row could not be measured; the message is what the child said last."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure, and how long."""

    filter: str
    """A name in filters.FILTERS."""
    input: str
    """WIDTHxHEIGHT."""
    format: str
    """VapourSynth's name."""
    device: str
    """As Upscale's argument."""
    seconds: float
    """Of every timed window, if it has `least` frames by then."""
    least: int
    """Frames of a window; inputs larger than LARGEST may have fewer."""
    video: str | None
    """Where the frames come from; None for the project's own test clip."""
    frames: int = 200
    """Distinct frames held in memory; 0 for a blank clip."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        width, height = map(int, self.input.split("x"))
        return width, height

    @property
    def count(self) -> int:
        """Frames of a window at least."""
        width, height = self.size
        return self.least if width * height <= LARGEST else 1

    @property
    def text(self) -> str:
        """What `read` takes."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Job:
        """A job from its text."""
        return cls(**json.loads(text))

    def blank(self) -> Job:
        """The same on a blank clip, which is there at once."""
        return replace(self, frames=0)


def environment() -> dict[str, str]:
    """For children: they find this package."""
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
