"""Frames x4: the node that brings source frames to the engine and gives its outputs to VapourSynth."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from vs_rafrvsr.engine.chunk import SourceFrame
from vs_rafrvsr.engine.engine import Engine, Output, Ticket
from vs_rafrvsr.errors import ClipError
from vs_rafrvsr.plugin.colour import PROPERTIES, ColourReader
from vs_rafrvsr.plugin.host import Context, Frame, Host, Keys, Node, ffi, lib
from vs_rafrvsr.properties import FALLBACK, HALVINGS, RESET

_PROPERTIES = Keys("_FieldBased", "_SceneChangePrev", "_SceneChangeNext", *PROPERTIES)


def refuse_interlaced(field: int | None, n: int) -> None:
    """Raise ClipError for a frame whose `_FieldBased` says that it is interlaced."""
    if field:
        raise ClipError(
            f"frame {n} is interlaced (_FieldBased={field}); deinterlace first, e.g. with bwdif.Bwdif, or, if it is "
            "progressive in truth, say so with std.SetFieldBased(0)"
        )


@dataclass(eq=False, slots=True)
class _Request:
    ticket: Ticket
    look: range = range(0)
    """What it brings, for `ahead` if there is one."""
    asked: list[int] = field(default_factory=list)
    """The frames of it that VapourSynth was asked for."""
    output: Output | None = None
    """Found, and held back while `ahead` is served."""
    ahead: Ticket | None = None
    """Of a later frame, whose look is brought early."""


class Recurrence:
    """The exchange's format in and out, x4, through the engine: one look requests at most one flow group."""

    def __init__(self, source: Node, output: Any, colours: ColourReader, engine: Engine) -> None:  # noqa: ANN401
        self.source, self.output, self.colours, self.engine = source, output, colours, engine
        self.requests: dict[int, _Request] = {}
        self.numbers = itertools.count(1)

    def free(self, host: Host) -> None:
        """Give the source node back."""
        host.api.freeNode(self.source)

    def get_frame(self, n: int, reason: int, frame_data: Any, context: Context, host: Host) -> Frame:  # noqa: ANN401
        """See Filter."""
        if reason == lib.arInitial:
            frame_data[0] = ffi.cast("void *", self._open(n))
        number = int(ffi.cast("intptr_t", frame_data[0]))
        request = self.requests[number]
        if reason == lib.arError:
            self._note_failures(request, context, host)
            self._end(number)
            return ffi.NULL
        try:
            output = self._go_on(request, context, host)
        except Exception:
            self._end(number)
            raise
        if output is None:
            return ffi.NULL
        self._end(number)
        return self._to_frame(output, host)

    def _open(self, n: int) -> int:
        number = next(self.numbers)
        self.requests[number] = _Request(self.engine.open(n))
        return number

    def _end(self, number: int) -> None:
        request = self.requests.pop(number)
        for ticket in filter(None, (request.ticket, request.ahead)):
            self.engine.close(ticket)

    def _go_on(self, request: _Request, context: Context, host: Host) -> Output | None:
        """Bring what was requested and look again; None after a further request."""
        if request.asked:
            self._bring(request, context, host)
        if request.output is not None:
            return request.output
        while isinstance(found := self.engine.look(request.ticket), range):
            if self._ask(request, found, context, host):
                return None
            self.engine.feed(request.ticket, found, {}, partial(host.pack, [ffi.NULL] * len(found)))
        ahead = self.engine.ahead(request.ticket)
        if ahead is not None:
            request.ahead, look = ahead
            if self._ask(request, look, context, host):
                request.output = found
                return None
        return found

    def _ask(self, request: _Request, look: range, context: Context, host: Host) -> bool:
        """Ask for the frames of a look, but those that have failed before; whether there are any to wait for."""
        request.look = look
        request.asked = [m for m in look if m == request.ticket.n or not self.engine.is_hole(m)]
        if request.asked:
            host.request(request.asked, self.source, context)
        return bool(request.asked)

    def _bring(self, request: _Request, context: Context, host: Host) -> None:
        """Feed the look that was asked for, unless it has been fed, or is being fed by another request that has it."""
        ticket = request.ahead or request.ticket
        with (
            host.taken(request.asked, self.source, context) as frames,
            self.engine.bringing(ticket, request.look) as mine,
        ):
            if not mine:
                return
            fit = {}
            for m, values in zip(frames, host.integers(list(frames.values()), _PROPERTIES), strict=True):
                try:
                    fit[m] = self._source_frame(m, values)
                except ClipError:
                    self.engine.fail(m)
                    if m == request.ticket.n:
                        raise
            pack = partial(host.pack, [frames[m] if m in fit else ffi.NULL for m in request.look])
            self.engine.feed(ticket, request.look, fit, pack)

    def _note_failures(self, request: _Request, context: Context, host: Host) -> None:
        """A source frame failed: VapourSynth passes its message on; here the frame is marked, so that others go on."""
        with host.taken(request.asked, self.source, context) as frames:
            for m, frame in frames.items():
                if frame == ffi.NULL:
                    self.engine.fail(m)

    def _to_frame(self, output: Output, host: Host) -> Frame:
        frame = host.unpacked(output.frame.wait(), self.output)
        for name, value in ((RESET, output.reset), (FALLBACK, output.halvings > 0), (HALVINGS, output.halvings)):
            if value:
                host.api.mapSetInt(host.api.getFramePropertiesRW(frame), name.encode(), value, lib.maReplace)
        return frame

    def _source_frame(self, n: int, values: list[int | None]) -> SourceFrame:
        """What the values of _PROPERTIES say of frame n."""
        field, scene_change_prev, scene_change_next, *colour = values
        refuse_interlaced(field, n)
        return SourceFrame(
            colour=self.colours.known(colour, n),
            scene_change_prev=scene_change_prev,
            scene_change_next=scene_change_next,
        )
