"""The engine of one filter: shares chunks between requests, keeps what somebody waits for, bounds everything else."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from vs_rafrvsr.engine import tiles
from vs_rafrvsr.engine.chunk import Chunk, Network, SourceFrame
from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.errors import ClipError, DeviceError
from vs_rafrvsr.models import registry
from vs_rafrvsr.models.registry import RecurrentModel
from vs_rafrvsr.options import Options
from vs_rafrvsr.pixels.planes import download
from vs_rafrvsr.schedule import Grid

KEPT_CHUNKS = 3
"""Chunks whose state is kept although nobody waits for them: with one, readers that cross a grid line thrash."""

RUN_AHEAD = 16
"""Outputs kept although nobody has asked for them yet: requests arrive slightly out of order."""

JUST_PASSED = 2
"""Of the outputs that a seek passes on its way, only as many are kept: an HR frame is as large as 16 of the source."""

COPIES = 4
"""HR frames that live at once for one output: the state before and after, the network's residual, the output."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One HR frame in host memory; on CUDA its copy may still be under way."""

    pixels: Tensor
    """(3, 4h, 4w) fp32 on the CPU."""
    reset: bool
    """Whether a shot begins with it."""
    event: torch.cuda.Event | None

    def wait(self) -> Tensor:
        """The pixels, complete."""
        if self.event is not None:
            self.event.synchronize()
        return self.pixels


@dataclass(eq=False)
class _Course:
    """A chunk, its outputs that are still of use, and who waits for which."""

    chunk: Chunk
    outputs: dict[int, Output] = field(default_factory=dict)
    waiting: Counter[int] = field(default_factory=Counter)


@dataclass(eq=False)
class Ticket:
    """One request for output n, from `Engine.open` to `Engine.close`."""

    n: int
    course: _Course
    far: bool
    """Whether it is a seek: its chunk was further than RUN_AHEAD from n."""


class Engine:
    """Makes output n of a clip, for any order of requests, from many threads.

    A request opens a ticket and looks: a look returns the output, or the source frames to bring with `feed` before the
    next look. A ticket holds its chunk, which only moves forward, so every look comes closer.

    Raises:
        OptionError, WeightsError, DeviceError, ClipError: see each.
    """

    def __init__(self, options: Options, frames: int, size: tuple[int, int]) -> None:
        self.runtime = Runtime.choose(options)
        grid = Grid(frames=frames, chunk=options.chunk, warmup=options.warmup, leadin=options.leadin)
        with self.runtime.entered():
            model = _shared_model(options, self.runtime)
        _check_size(model, size, self.runtime)
        tile = tuple(
            side or chosen for side, chosen in zip(options.tile, _default_tile(model, size, self.runtime), strict=True)
        )
        whole = tile[0] >= size[1] and tile[1] >= size[0]
        self.network = Network(
            model=model,
            runtime=self.runtime,
            grid=grid,
            size=size,
            stack=None if whole else tiles.TiledStack(model.sr, model.halo, (tile[0], tile[1])),
            options=options,
        )
        self._compute = threading.Lock()  # held while a chunk moves
        self._book = threading.Lock()  # held for moments, also inside _compute; guards what follows
        self._courses: list[_Course] = []  # least recently used first
        self._unasked: deque[tuple[_Course, int]] = deque()
        self._holes: set[int] = set()

    def open(self, n: int) -> Ticket:
        """Begin a request for output n."""
        with self._book:
            course = self._course_for(n)
            course.waiting[n] += 1
            return Ticket(n, course, far=n - course.chunk.position > RUN_AHEAD)

    def close(self, ticket: Ticket) -> None:
        """End a request, whether it got its output or not."""
        with self._book:
            _leave(ticket)
            self._forget()

    def look(self, ticket: Ticket) -> Output | range:
        """The output, or the source frames to bring first."""
        n = ticket.n
        with self._compute, self.runtime.entered():
            if n in self._holes:
                return range(n, n + 1)
            if n not in ticket.course.outputs and ticket.course.chunk.position > n:
                self._rebind(ticket)  # it was passed before this ticket was opened, or was a hole then
            chunk = ticket.course.chunk
            while n not in ticket.course.outputs:
                made = chunk.advance()
                if made is None:
                    return chunk.wanted()
                self._keep(ticket, *made)
            return ticket.course.outputs[n]

    def feed(self, ticket: Ticket, look: range, frames: Mapping[int, SourceFrame]) -> None:
        """Bring the frames of a look; those that another request has brought meanwhile are ignored."""
        with self._compute, self.runtime.entered():
            if ticket.n in self._holes and ticket.n in frames:
                # A frame that failed before has come after all: what was made without it is forgotten.
                self._holes.discard(ticket.n)
                with self._book:
                    self._courses.clear()
                self._rebind(ticket)
            elif look == ticket.course.chunk.wanted():
                ticket.course.chunk.read(frames)

    def is_hole(self, n: int) -> bool:
        """Whether source frame n has failed before: it need not be brought."""
        return n in self._holes

    def fail(self, n: int) -> None:
        """Source frame n cannot be had. Its output fails too; its neighbours' do not."""
        with self._compute:
            self._holes.add(n)

    def _rebind(self, ticket: Ticket) -> None:
        with self._book:
            _leave(ticket)
            ticket.course = self._course_for(ticket.n)
            ticket.course.waiting[ticket.n] += 1

    def _course_for(self, n: int) -> _Course:
        """The course that is nearest to n without having passed it, or a new one."""
        index = self.network.grid.chunk_of(n)
        fit = [c for c in self._courses if c.chunk.index == index and (n in c.outputs or c.chunk.position <= n)]
        course = max(fit, key=lambda c: (n in c.outputs, c.chunk.position), default=None)
        if course is None:
            course = _Course(Chunk(index, self.network, self._holes))
        else:
            self._courses.remove(course)
        self._courses.append(course)
        return course

    def _keep(self, ticket: Ticket, n: int, pixels: Tensor, reset: bool) -> None:
        """Store an output that is waited for or may be next; not warm-up frames, nor all that a seek passes."""
        course = ticket.course
        if self.network.grid.chunk_of(n) != course.chunk.index:
            return
        if not course.waiting[n] and ticket.far and n < ticket.n - JUST_PASSED:
            return
        host = download(pixels)
        event = self.runtime.stream.record_event() if self.runtime.stream is not None else None
        with self._book:
            course.outputs[n] = Output(pixels=host, reset=reset, event=event)
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


_models: WeakValueDictionary[tuple[object, ...], nn.Module] = WeakValueDictionary()
_models_lock = threading.Lock()


def _shared_model(options: Options, runtime: Runtime) -> RecurrentModel:
    """The model on its device; filters with the same weights, device and precision share one copy."""
    row = registry.MODELS.get(options.model)
    path = options.weights or (str(row.path) if row else "")
    key = (options.model, path, options.flow_updates, str(runtime.device), runtime.dtype)
    with _models_lock:
        model = _models.get(key)
        if model is None or options.weights is not None:  # a user's file may have changed
            model = registry.load(options.model, options.weights, options.flow_updates).to(runtime.device)
            cast(RecurrentModel, model).sr.to(dtype=runtime.dtype).to(memory_format=torch.channels_last)
            _models[key] = model
    return cast(RecurrentModel, model)


def _bytes_per_pixel(model: RecurrentModel, runtime: Runtime) -> int:
    """Memory of the convolution stack per LR pixel: its input, and three layers' outputs at once."""
    layers = [m for m in model.sr.modules() if isinstance(m, nn.Conv2d)]
    channels = layers[0].in_channels + 3 * max(layer.out_channels for layer in layers)
    return channels * runtime.dtype.itemsize


def _default_tile(model: RecurrentModel, size: tuple[int, int], runtime: Runtime) -> tuple[int, int]:
    return tiles.choose(size, _bytes_per_pixel(model, runtime), runtime.total_memory())


def _check_size(model: RecurrentModel, size: tuple[int, int], runtime: Runtime) -> None:
    height, width = size
    if min(size) < model.min_size:
        raise ClipError(
            f"the clip is {width}x{height}, and the model needs at least {model.min_size} pixels a side; "
            "add borders with std.AddBorders and crop them off afterwards"
        )
    needed = COPIES * 3 * 4 * 16 * width * height
    if needed > runtime.total_memory():
        raise DeviceError(
            f"the output of {4 * width}x{4 * height} needs about {needed >> 30} GiB on {runtime.device}, which has "
            f"{runtime.total_memory() >> 30} GiB; crop or downscale the clip first"
        )
