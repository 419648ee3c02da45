"""The engine of one filter: shares chunks between requests, keeps what somebody waits for, bounds everything else."""

from __future__ import annotations

import gc
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from vs_rafrvsr.engine.chunk import Chunk, Made, SourceFrame
from vs_rafrvsr.engine.network import Network
from vs_rafrvsr.faults import device_lost, first_line, keep_tensors, out_of_memory
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.pixels.exchange import Downloaded, Pack, Staged
from vs_rafrvsr.schedule import GROUP

KEPT_CHUNKS = 3
"""Chunks whose state is kept although nobody waits for them: with one, readers that cross a grid line thrash."""

NEAR = 16
"""Requests that lie closer together than this are one play, forwards or backwards, slightly out of order."""

RUN_AHEAD = 2 * GROUP + NEAR
"""Outputs kept at most although nobody has asked for them: a GPU makes those of whole looks as soon as it can."""

READ_AHEAD_BYTES = 128 << 20
"""A look whose outputs take no more than this is brought early, see `Engine.ahead`: larger ones keep a GPU busy."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One HR frame."""

    frame: Downloaded
    """In the exchange's format."""
    reset: bool
    """Whether a shot begins with it."""
    halvings: int
    """How many times tiles had been halved for lack of memory when it was made."""


@dataclass(eq=False)
class _Course:
    """A chunk, its outputs that are still of use, and who waits for which."""

    chunk: Chunk
    position: int
    """The first output that is still to be had if it is not among `outputs`. The chunk may be one ahead."""
    outputs: dict[int, Output] = field(default_factory=dict)
    waiting: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, chunk: Chunk) -> _Course:
        """One that goes on from where a chunk stands."""
        return cls(chunk, chunk.position)

    def restart(self, network: Network) -> None:
        """Go back to the chunk's first frame, and give back what the cursor held on the device."""
        self.chunk = Chunk(self.chunk.index, network)
        self.position = self.chunk.position


@dataclass(eq=False)
class Ticket:
    """One request for output n, from `Engine.open` to `Engine.close`."""

    n: int
    course: _Course
    far: bool
    """Whether it is a seek, to where its chunk was not NEAR. A seek leaves snapshots for the next one."""
    forwards: bool
    """Whether it goes on where the last request was, or one under way: then the frames after it will be asked for."""
    first: int
    """Outputs that are worth keeping begin here."""
    awaited: bool = True
    """Whether somebody waits for output n; not so if it is only prepared."""


class Engine:
    """Makes output n of a clip, for any order of requests, from many threads.

    A request opens a ticket and looks: a look returns the output, or the source frames to bring with `feed` before the
    next look. A ticket holds its chunk, which only moves forward, so every look comes closer. In linear play many
    requests look for the same frames; `bringing` lets one of them bring them for all, and `ahead` lets one bring the
    next look before anybody needs it.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.runtime = network, network.runtime
        self.runs_ahead = network.runtime.stream is not None
        """Whether outputs are made before they are asked for: where making them only means to enqueue them."""
        height, width = (SCALE * side for side in network.size)
        small = GROUP * network.exchange.format.bytes((height, width)) <= READ_AHEAD_BYTES
        self.reads_ahead = self.runs_ahead and small
        """Whether the look after the one that is played is brought early."""
        self._book = threading.Lock()  # guards what follows; chunks move on the device's thread alone
        self._courses: list[_Course] = []  # least recently used first
        self._unasked: deque[tuple[_Course, int]] = deque()
        self._holes: set[int] = set()
        self._brought: dict[tuple[_Course, range], threading.Event] = {}
        self._ahead: set[_Course] = set()  # whose next look somebody brings early
        self._last_look: torch.cuda.Event | None = None
        self._snapshots: deque[Chunk] = deque(maxlen=network.snapshots())
        self._latest = 0
        self._tight = False
        """Whether memory ran out, was given back, and no output has been delivered since."""
        self.numerics = [network.numerics]
        """Of the network, and of each that took its place for lack of memory."""

    def open(self, n: int) -> Ticket:
        """Begin a request for output n."""
        with self._book:
            course, latest = self._course_for(n), self._latest
            forwards = any(0 < n - m <= NEAR for m in (latest, *course.waiting))
            backwards = 0 < latest - n <= NEAR
            far = n - course.position > NEAR and not forwards
            course.waiting[n] += 1
            self._latest = n
            return Ticket(n, course, far=far, forwards=forwards, first=n if far and not backwards else n - NEAR)

    def close(self, ticket: Ticket) -> None:
        """End a request, whether it got its output or not."""
        with self._book:
            if ticket.awaited:
                _leave(ticket)
            else:
                self._ahead.discard(ticket.course)
            self._forget()

    def ahead(self, ticket: Ticket) -> tuple[Ticket, range] | None:
        """In forward play, when output n has been found: the look to bring for the frame GROUP later, if nobody does.

        Players ask for the next frame when they get one, and the outputs of a look come when most of its work is done:
        without this, a GPU has nothing to do while the next look's frames are brought.
        """
        n = ticket.n + GROUP
        if not (self.reads_ahead and ticket.forwards and n < self.network.grid.frames):
            return None
        with self._book:
            course = self._course_ahead(ticket.course, n)
            look = course.chunk.wanted()
            if course.position > n or course in self._ahead or not look:
                return None
            self._ahead.add(course)
            return Ticket(n, course, far=False, forwards=True, first=ticket.n, awaited=False), look

    def _course_ahead(self, course: _Course, n: int) -> _Course:
        """The one that is being played, or one of the chunk that follows."""
        index = self.network.grid.chunk_of(n)
        for known in (course, *self._courses):
            if known.chunk.index == index:
                return known
        self._courses.append(_Course.of(Chunk(index, self.network)))
        return self._courses[-1]

    def look(self, ticket: Ticket) -> Output | range:
        """The output, or the source frames to bring first."""
        made = self._made(ticket)
        if made is None and self._await_brought(ticket):
            made = self._made(ticket)
        found: Output | range = made or self._lacking(ticket) or self.runtime.run(self._surviving, self._look, ticket)
        if isinstance(found, Output):
            self._tight = False
        return found

    def _made(self, ticket: Ticket) -> Output | None:
        return None if ticket.n in self._holes else ticket.course.outputs.get(ticket.n)

    def _lacking(self, ticket: Ticket) -> range:
        """The frames to bring first, where that is known without the device's thread; else nothing."""
        chunk = ticket.course.chunk
        known = chunk.stalled and chunk.position <= ticket.n and ticket.n not in self._holes and not ticket.far
        return chunk.wanted() if known else range(0)

    def _await_brought(self, ticket: Ticket) -> bool:
        """Wait for the look that its course wants, if that is being fed; whether it was."""
        with self._book:
            done = self._brought.get((ticket.course, ticket.course.chunk.wanted()))
        return done is not None and done.wait()

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
        return course.outputs[n]

    @contextmanager
    def bringing(self, ticket: Ticket, look: range) -> Iterator[bool]:
        """Around bringing the frames of a look, which the caller has: whether to `feed` them at all.

        No if they have been fed, or another request is about to, for which this waits: that one needs no other thread.
        """
        key = (ticket.course, look)
        with self._book:
            done = self._brought.get(key)
            mine = done is None and (ticket.n in self._holes or look == ticket.course.chunk.wanted())
            if mine:
                self._brought[key] = threading.Event()
        if not mine:
            if done is not None:
                done.wait()
            yield False
            return
        try:
            yield True
        finally:
            with self._book:
                self._brought.pop(key).set()

    def feed(self, ticket: Ticket, look: range, frames: Mapping[int, SourceFrame], pack: Pack) -> None:
        """Bring the frames of a look; those that another request has brought meanwhile are ignored."""
        colours = [frames[n].colour if n in frames else None for n in look]
        stage = partial(self.network.exchange.stage, colours, pack, self.network.size)
        try:
            staged = stage()
        except RuntimeError:  # pinned memory may have run out; only the device's thread can make room
            staged = self.runtime.run(self._surviving, stage)
        self.runtime.run(self._surviving, self._feed, ticket, look, frames, staged)

    def _feed(self, ticket: Ticket, look: range, frames: Mapping[int, SourceFrame], staged: Staged) -> None:
        if ticket.awaited and ticket.n in self._holes and ticket.n in frames:
            # A frame that failed before has come after all: what was made without it is forgotten.
            self._holes.discard(ticket.n)
            with self._book:
                self._courses.clear()
                self._unasked.clear()
                self._snapshots.clear()
            self._rebind(ticket)
        elif look == ticket.course.chunk.wanted():
            with self._breaking(ticket.course):
                self._pace()
                ticket.course.chunk.read(frames, staged)
                self.runtime.trim()
                if self.runs_ahead:
                    self._run_ahead(ticket)

    def _run_ahead(self, ticket: Ticket) -> None:
        """Enqueue what others wait for or will ask for: the device stays busy, and they find it there at once."""
        course = ticket.course
        while ticket.forwards or course.chunk.position <= self._last_awaited(course):
            made = course.chunk.advance()
            if made is None:
                return
            self._keep(ticket, made)

    def _last_awaited(self, course: _Course) -> int:
        with self._book:
            return max(course.waiting, default=-1)

    def _pace(self) -> None:
        """Wait until the device has come to the look before this one.

        That look's steps keep it busy meanwhile. The host is faster: without a bound, a seek would fill pinned memory
        with frames that the device has not come to.
        """
        if self._last_look is not None:
            self._last_look.synchronize()
        self._last_look = self.runtime.mark()

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
        except BaseException as error:
            if device_lost(error):
                keep_tensors()
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
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                reason = first_line(error)
            self._make_room(reason)  # not above: the error holds on to the tensors of what failed

    def _make_room(self, reason: str) -> None:
        """Give back all that can be made again; where that has been done to no avail, halve the network's tiles too."""
        self._restart_all()
        if self._tight:
            self.network = self.network.halved(reason)
            self.numerics.append(self.network.numerics)
            self._restart_all()
        self._tight = True

    def _restart_all(self) -> None:
        self.network.release()
        with self._book:
            self._snapshots.clear()
            self._unasked.clear()
            for course in self._courses:
                course.restart(self.network)
                course.outputs = {n: made for n, made in course.outputs.items() if course.waiting[n]}
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
        fit = [c for c in self._courses if c.chunk.index == index and (n in c.outputs or c.position <= n)]
        course = max(fit, key=lambda c: (n in c.outputs, c.position), default=None)
        kept = [s for s in self._snapshots if s.index == index and s.position <= n]
        start = max(kept, key=lambda s: s.position, default=Chunk(index, self.network))
        if course is not None and (n in course.outputs or course.position >= start.position):
            self._courses.remove(course)
        else:
            course = _Course.of(start.twin())
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
        with self._book:
            if not self._is_of_use(ticket, n):
                course.position = n + 1
                return
        frame = self.network.exchange.download(made.rgb, made.colour)
        with self._book:
            course.position = n + 1
            course.outputs[n] = Output(frame=frame, reset=made.reset, halvings=len(self.numerics) - 1)
            if not course.waiting[n]:
                self._unasked.append((course, n))
            while len(self._unasked) > RUN_AHEAD:
                old, number = self._unasked.popleft()
                if not old.waiting[number]:
                    old.outputs.pop(number, None)

    def _is_of_use(self, ticket: Ticket, n: int) -> bool:
        course = ticket.course
        return self.network.grid.chunk_of(n) == course.chunk.index and (n >= ticket.first or course.waiting[n] > 0)

    def _forget(self) -> None:
        """Drop finished chunks without outputs, and all but the last KEPT_CHUNKS of those that nobody waits for."""
        idle = [c for c in self._courses if not c.waiting.total()]
        done = [c for c in idle if c.chunk.finished and not c.outputs]
        surplus = [c for c in idle if c not in done]
        dropped = done + surplus[: max(0, len(surplus) - KEPT_CHUNKS)]
        for course in dropped:
            self._courses.remove(course)
        if dropped:
            self._unasked = deque(output for output in self._unasked if output[0] in self._courses)


def _leave(ticket: Ticket) -> None:
    course, n = ticket.course, ticket.n
    course.waiting[n] -= 1
    if course.waiting[n] <= 0:
        del course.waiting[n]
        course.outputs.pop(n, None)
