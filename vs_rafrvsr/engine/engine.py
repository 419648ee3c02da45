"""The engine of one filter: shares chunks between requests, keeps what somebody waits for, bounds everything else."""

from __future__ import annotations

import gc
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vs_rafrvsr.engine.chunk import Chunk, Made, SourceFrame
from vs_rafrvsr.engine.network import Network

KEPT_CHUNKS = 3
"""Chunks whose state is kept although nobody waits for them: with one, readers that cross a grid line thrash."""

RUN_AHEAD = 16
"""Outputs kept although nobody has asked for them yet: requests come slightly out of order, or one by one backwards."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One HR frame in host memory; on CUDA its copy may still be under way."""

    packed: Tensor
    """Its bytes, in the exchange's format."""
    reset: bool
    """Whether a shot begins with it."""
    fallback: bool
    """Whether smaller tiles made it than those chosen at creation, for lack of memory."""
    event: torch.cuda.Event | None

    def wait(self) -> NDArray[np.uint8]:
        """The bytes, complete: Format.planes finds the planes in them."""
        if self.event is not None:
            self.event.synchronize()
        packed: NDArray[np.uint8] = self.packed.numpy()
        return packed


@dataclass(eq=False)
class _Course:
    """A chunk, its outputs that are still of use, and who waits for which."""

    chunk: Chunk
    outputs: dict[int, Output] = field(default_factory=dict)
    waiting: Counter[int] = field(default_factory=Counter)

    def restart(self, network: Network) -> None:
        """Go back to the chunk's first frame, and give back what the cursor held on the device."""
        self.chunk = Chunk(self.chunk.index, network)


@dataclass(eq=False)
class Ticket:
    """One request for output n, from `Engine.open` to `Engine.close`."""

    n: int
    course: _Course
    far: bool
    """Whether it is a seek: its chunk was further than RUN_AHEAD from n. A seek leaves snapshots for the next one."""
    first: int
    """Outputs that are worth keeping begin here."""


class Engine:
    """Makes output n of a clip, for any order of requests, from many threads.

    A request opens a ticket and looks: a look returns the output, or the source frames to bring with `feed` before the
    next look. A ticket holds its chunk, which only moves forward, so every look comes closer.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.runtime = network, network.runtime
        self._book = threading.Lock()  # guards what follows; chunks move on the device's thread alone
        self._courses: list[_Course] = []  # least recently used first
        self._unasked: deque[tuple[_Course, int]] = deque()
        self._holes: set[int] = set()
        self._last_look: torch.cuda.Event | None = None
        self._snapshots: deque[Chunk] = deque(maxlen=network.snapshots())
        self._latest = 0
        self._tight = False
        """Whether memory ran out, was given back, and no output has been delivered since."""
        self._fallback = False

    def open(self, n: int) -> Ticket:
        """Begin a request for output n."""
        with self._book:
            course = self._course_for(n)
            course.waiting[n] += 1
            far = n - course.chunk.position > RUN_AHEAD
            backwards = 0 < self._latest - n <= RUN_AHEAD
            self._latest = n
            return Ticket(n, course, far=far, first=n if far and not backwards else n - RUN_AHEAD)

    def close(self, ticket: Ticket) -> None:
        """End a request, whether it got its output or not."""
        with self._book:
            _leave(ticket)
            self._forget()

    def look(self, ticket: Ticket) -> Output | range:
        """The output, or the source frames to bring first."""
        found: Output | range = self.runtime.run(self._surviving, self._look, ticket)
        return found

    def _look(self, ticket: Ticket) -> Output | range:
        n = ticket.n
        if n in self._holes:
            return range(n, n + 1)
        if n not in ticket.course.outputs and ticket.course.chunk.position > n:
            self._rebind(ticket)  # passed before this ticket was opened, or a hole then
        course = ticket.course
        with self._breaking(course):
            while n not in course.outputs:
                made = course.chunk.advance()
                if made is None:
                    self._remember(ticket)
                    return course.chunk.wanted()
                self._keep(ticket, made)
        self._tight = False
        return course.outputs[n]

    def feed(self, ticket: Ticket, look: range, frames: Mapping[int, SourceFrame]) -> None:
        """Bring the frames of a look; those that another request has brought meanwhile are ignored."""
        self.runtime.run(self._surviving, self._feed, ticket, look, frames)

    def _feed(self, ticket: Ticket, look: range, frames: Mapping[int, SourceFrame]) -> None:
        if ticket.n in self._holes and ticket.n in frames:
            # A frame that failed before has come after all: what was made without it is forgotten.
            self._holes.discard(ticket.n)
            with self._book:
                self._courses.clear()
                self._snapshots.clear()
            self._rebind(ticket)
        elif look == ticket.course.chunk.wanted():
            with self._breaking(ticket.course):
                self._pace()
                ticket.course.chunk.read(frames)

    def _pace(self) -> None:
        """Wait until the device has come to the look before this one.

        That look's steps keep it busy meanwhile. The host is faster: without a bound, a seek would fill pinned memory
        with frames that the device has not come to.
        """
        if self._last_look is not None:
            self._last_look.synchronize()
        if self.runtime.stream is not None:
            self._last_look = self.runtime.stream.record_event()

    def is_hole(self, n: int) -> bool:
        """Whether source frame n has failed before: it need not be brought."""
        return n in self._holes

    def fail(self, n: int) -> None:
        """Source frame n cannot be had. Its output fails too; its neighbours' do not."""
        self._holes.add(n)

    @contextmanager
    def _breaking(self, course: _Course) -> Iterator[None]:
        """Begin the course again if what runs inside fails: its state may be half-way."""
        try:
            yield
        except BaseException:
            with self._book:
                course.restart(self.network)
                self._snapshots.clear()
            raise

    def _surviving[R](self, work: Callable[..., R], *arguments: object) -> R:
        """Run `work`; where the device has no memory left for it, make room and run it again, from the chunks' start.

        Raises:
            DeviceError: there is no room to be made.
        """
        while True:
            try:
                return work(*arguments)
            except torch.OutOfMemoryError as error:
                reason = str(error).partition("\n")[0]
            self._make_room(reason)  # not above: the error holds on to the tensors of what failed

    def _make_room(self, reason: str) -> None:
        """Give back all that can be made again; where that has been done to no avail, halve the network's tiles too."""
        self._restart_all()
        if self._tight:
            self.network, self._fallback = self.network.halved(reason), True
            self._restart_all()
        self._tight = True

    def _restart_all(self) -> None:
        self.network.release()
        with self._book:
            self._snapshots.clear()
            for course in self._courses:
                course.restart(self.network)
        gc.collect()
        torch.cuda.empty_cache()

    def _rebind(self, ticket: Ticket) -> None:
        with self._book:
            _leave(ticket)
            ticket.course = self._course_for(ticket.n)
            ticket.course.waiting[ticket.n] += 1

    def _course_for(self, n: int) -> _Course:
        """The course nearest to n that has not passed it, or a new one, from a snapshot where there is one."""
        index = self.network.grid.chunk_of(n)
        fit = [c for c in self._courses if c.chunk.index == index and (n in c.outputs or c.chunk.position <= n)]
        course = max(fit, key=lambda c: (n in c.outputs, c.chunk.position), default=None)
        kept = [s for s in self._snapshots if s.index == index and s.position <= n]
        start = max(kept, key=lambda s: s.position, default=Chunk(index, self.network))
        if course is not None and (n in course.outputs or course.chunk.position >= start.position):
            self._courses.remove(course)
        else:
            course = _Course(start.twin())
        self._courses.append(course)
        return course

    def _remember(self, ticket: Ticket) -> None:
        """Take a snapshot where a seek passes a milestone: the next step backwards starts there, not at the chunk."""
        chunk, most = ticket.course.chunk, self._snapshots.maxlen or 0
        if not ticket.far or not chunk.network.grid.is_milestone(chunk.index, chunk.read_to, most):
            return
        if all((s.index, s.read_to) != (chunk.index, chunk.read_to) for s in self._snapshots):
            with self._book:
                self._snapshots.append(chunk.snapshot())

    def _keep(self, ticket: Ticket, made: Made) -> None:
        """Store an output that is waited for, or soon will be; not warm-up frames, nor what a seek passes."""
        course, n = ticket.course, made.n
        if self.network.grid.chunk_of(n) != course.chunk.index:
            return
        if n < ticket.first and not course.waiting[n]:
            return
        packed = self.network.exchange.download(made.rgb, made.colour)
        event = self.runtime.stream.record_event() if self.runtime.stream is not None else None
        with self._book:
            course.outputs[n] = Output(packed=packed, reset=made.reset, fallback=self._fallback, event=event)
            if not course.waiting[n]:
                self._unasked.append((course, n))
            while len(self._unasked) > RUN_AHEAD:
                old, number = self._unasked.popleft()
                if not old.waiting[number]:
                    old.outputs.pop(number, None)

    def _forget(self) -> None:
        """Drop finished chunks without outputs, and all but the last KEPT_CHUNKS of those that nobody waits for."""
        idle = [c for c in self._courses if not c.waiting.total()]
        done = [c for c in idle if c.chunk.finished and not c.outputs]
        surplus = [c for c in idle if c not in done]
        for course in done + surplus[: max(0, len(surplus) - KEPT_CHUNKS)]:
            self._courses.remove(course)


def _leave(ticket: Ticket) -> None:
    course, n = ticket.course, ticket.n
    course.waiting[n] -= 1
    if course.waiting[n] <= 0:
        del course.waiting[n]
        course.outputs.pop(n, None)
