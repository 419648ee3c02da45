"""Which steps make output frame n: pure arithmetic on frame numbers, no pixels and no tensors.

The recurrence cannot run from frame 0 for every seek, so the clip is cut into a fixed grid of chunks. A chunk starts
from an empty state `warmup` frames early and drops those outputs; at a scene cut (and at frame 0) the state is emptied
and first carried *backwards* over the shot's own next `leadin` frames, so that a shot's first frames are not soft.
Everything here depends on the clip's length, the scene cuts and the three parameters alone, hence so does frame n.

Words used: a *step* feeds one frame to the recurrent network, with the state that its `previous` frame left.
A *read* is a run of at most GROUP source frames that is requested, and whose flow is estimated, together.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass

GROUP = 16
"""Most source frames that one look at a request may ask for."""


@dataclass(frozen=True, slots=True)
class Step:
    """Feed `frame` to the network, with the state that `previous` left (None: the empty state)."""

    frame: int
    previous: int | None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The fixed grid of a clip of `frames` frames.

    Requires frames >= 1, chunk >= 1, 0 <= warmup < chunk, 0 <= leadin <= GROUP (options.py checks what users pass).
    """

    frames: int
    chunk: int
    warmup: int
    leadin: int

    def chunk_of(self, n: int) -> int:
        """The chunk that makes frame n."""
        return n // self.chunk

    def start(self, chunk: int) -> int:
        """The first frame that the chunk steps through, warm-up included."""
        return max(0, chunk * self.chunk - self.warmup)

    def stop(self, chunk: int) -> int:
        """One past the last frame that the chunk makes."""
        return min((chunk + 1) * self.chunk, self.frames)

    def first_read(self, chunk: int) -> int:
        """The first source frame that the chunk reads: one before its start, to know whether the start is a cut."""
        return max(0, self.start(chunk) - 1)

    def next_read(self, chunk: int, read_to: int) -> range:
        """The source frames to read after [first_read, read_to); empty when there is nothing more to read.

        Reads past `stop` serve only the lead-in of a shot that begins in the chunk's last frames.
        """
        stop = self.stop(chunk)
        limit = stop if read_to < stop else min(stop + self.leadin, self.frames)
        return range(read_to, min(read_to + GROUP, limit))

    def is_milestone(self, chunk: int, read_to: int, most: int) -> bool:
        """Whether `read_to` is one of the at most `most` places, spread evenly, where a chunk's state is worth keeping.

        They lie between two reads, so that who goes on from there reads and batches as everybody does.
        """
        start, stop = self.first_read(chunk), self.stop(chunk)
        if most < 1 or not start < read_to < stop:
            return False
        every = math.ceil((stop - start) / GROUP / most)
        return (read_to - start) % (every * GROUP) == 0

    def is_reset(self, frame: int, cuts: Set[int]) -> bool:
        """Whether a shot begins at `frame`. A chunk's start inside a shot is no reset: warm-up takes care of it."""
        return frame == 0 or frame in cuts

    def steps(self, chunk: int, frame: int, cuts: Set[int], read_to: int) -> tuple[Step, ...] | None:
        """The steps that bring the chunk's state from `frame - 1` to `frame`; the last one makes output `frame`.

        `cuts` holds every cut below `read_to` that lies after first_read. None: more frames must be read first.
        """
        if frame >= read_to:
            return None
        if not self.is_reset(frame, cuts):
            return (Step(frame, frame - 1 if frame > self.start(chunk) else None),)
        last = min(frame + self.leadin, self.frames - 1)
        cut = next((t for t in range(frame + 1, min(last + 1, read_to)) if t in cuts), None)
        if cut is not None:
            last = cut - 1
        elif last >= read_to:
            return None
        backwards = tuple(Step(t, t + 1 if t < last else None) for t in range(last, frame, -1))
        return (*backwards, Step(frame, frame + 1 if last > frame else None))
