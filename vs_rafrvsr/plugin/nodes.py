"""The nodes that Upscale is made of: VapourSynth's resizer on both sides of the recurrence, and the properties' return.

Matrix, range and chroma location are taken per frame: on the way in by the resizer itself, on the way back from source
frame n, because the network's RGB frames no longer carry them.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from vs_rafrvsr.engine.chunk import SourceFrame
from vs_rafrvsr.engine.engine import Engine, Output, Ticket
from vs_rafrvsr.engine.network import prepare
from vs_rafrvsr.errors import ClipError
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.options import Options
from vs_rafrvsr.plugin.host import Context, Frame, Host, Map, Node, ffi, lib

RESET = b"_RafrvsrReset"
"""Property of an output frame with which the recurrence began anew."""

UNSPECIFIED = 2
"""ITU-T H.273: `_Matrix`, `_Transfer` or `_Primaries` that says nothing."""

BT709, BT601 = 1, 6

type Register = Callable[[Filter], Any]


class Filter(Protocol):
    """What a node's callbacks reach."""

    def get_frame(self, n: int, reason: int, frame_data: Any, context: Context, host: Host) -> Frame:  # noqa: ANN401
        """Frame n, or NULL after frames have been requested."""

    def free(self, host: Host) -> None:
        """Give the nodes back."""


def upscale(arguments: Map, host: Host, register: Register) -> Node:
    """The node that core.rafrvsr.Upscale(**arguments) returns.

    Raises:
        RafrvsrError: an argument, the clip, the weights or the device is not fit.
    """
    options = _read_options(arguments, host)
    clip = host.api.mapGetNode(arguments, b"clip", 0, ffi.NULL)
    try:
        video = host.api.getVideoInfo(clip)
        _check_clip(video, host)
        engine = Engine(prepare(options, video.numFrames, (video.height, video.width)))
    except Exception:
        host.api.freeNode(clip)
        raise
    recurrence = _recurrence_node(clip, video, engine, host, register)
    return _finish_node(clip, video, recurrence, engine, host, register)


def _read_options(arguments: Map, host: Host) -> Options:
    """Only what was given: defaults live in Options."""
    names = [f.name for f in fields(Options) if host.api.mapNumElements(arguments, f.name.encode()) >= 0]
    return Options(**{name: _read_option(arguments, name, host) for name in names})


def _read_option(arguments: Map, name: str, host: Host) -> Any:  # noqa: ANN401  (as the field of Options)
    api, key = host.api, name.encode()
    match api.mapGetType(arguments, key):
        case lib.ptData:
            return host.text(api.mapGetData(arguments, key, 0, ffi.NULL))
        case lib.ptFloat:
            return float(api.mapGetFloat(arguments, key, 0, ffi.NULL))
        case _:
            values = tuple(
                int(api.mapGetInt(arguments, key, i, ffi.NULL)) for i in range(api.mapNumElements(arguments, key))
            )
            return values if name == "tile" else values[0]


def _check_clip(video: Any, host: Host) -> None:  # noqa: ANN401  (a cffi struct)
    fmt = video.format
    if fmt.colorFamily == 0:
        raise ClipError(
            "the clip's format varies; convert it to one format first, e.g. resize.Bicubic(format=YUV420P8)"
        )
    if video.width == 0 or video.height == 0:
        raise ClipError("the clip's size varies; bring it to one size first, e.g. resize.Bicubic(width=…, height=…)")
    if fmt.sampleType == lib.stInteger and fmt.bitsPerSample > 16:
        raise ClipError(
            f"the clip's format is {host.format_name(fmt)}; 8 to 16-bit integer, half and single precision are "
            "supported: convert it with resize.Bicubic(format=…)"
        )


def _recurrence_node(clip: Node, video: Any, engine: Engine, host: Host, register: Register) -> Node:  # noqa: ANN401
    """RGBS frames x4 of the clip."""
    hint = {} if video.format.colorFamily == lib.cfRGB else {"matrix_in": _guess_matrix(video)}
    rgb = host.resize(clip, format=lib.pfRGBS, **hint)
    output = ffi.new("VSVideoInfo *", host.api.getVideoInfo(rgb)[0])
    output.width *= SCALE
    output.height *= SCALE
    return _create(b"Upscale", output, [(rgb, lib.rpGeneral)], Recurrence(rgb, output, engine), host, register)


def _finish_node(
    clip: Node,
    video: Any,  # noqa: ANN401  (a cffi struct)
    recurrence: Node,
    engine: Engine,
    host: Host,
    register: Register,
) -> Node:
    """The recurrence's frames in the clip's format, with its properties."""
    output = ffi.new("VSVideoInfo *", video[0])
    output.width *= SCALE
    output.height *= SCALE
    instance = Finish(clip, recurrence, output, _guess_matrix(video), engine, host)
    dependencies = [(clip, lib.rpStrictSpatial), (recurrence, lib.rpGeneral)]
    return _create(b"Upscale", output, dependencies, instance, host, register)


def _create(
    name: bytes,
    output: Any,  # noqa: ANN401  (a cffi struct)
    dependencies: list[tuple[Node, int]],
    instance: Filter,
    host: Host,
    register: Register,
) -> Node:
    needs = ffi.new("VSFilterDependency[]", [{"source": node, "requestPattern": how} for node, how in dependencies])
    return host.api.createVideoFilter2(
        name,
        output,
        lib.rafrvsr_enter_get_frame,
        lib.rafrvsr_enter_free,
        lib.fmParallel,
        needs,
        len(dependencies),
        register(instance),
        host.core,
    )


def _guess_matrix(video: Any) -> int:  # noqa: ANN401  (a cffi struct)
    """Where nothing says it: BT.601 for standard definition, else BT.709, as players do."""
    return BT601 if video.height <= 576 and video.width <= 1024 else BT709


def _refuse_interlaced(frame: Frame, n: int, host: Host) -> None:
    field = host.prop(frame, b"_FieldBased")
    if field in (1, 2):
        raise ClipError(
            f"frame {n} is interlaced (_FieldBased={field}); deinterlace first, e.g. with bwdif.Bwdif, or, if it is "
            "progressive in truth, say so with std.SetFieldBased(0)"
        )


@dataclass(eq=False, slots=True)
class _Request:
    ticket: Ticket
    look: range
    asked: list[int]


class Recurrence:
    """RGBS in, RGBS x4 out, through the engine: one look requests at most one flow group."""

    def __init__(self, rgb: Node, output: Any, engine: Engine) -> None:  # noqa: ANN401  (a cffi struct)
        self.rgb, self.output, self.engine = rgb, output, engine
        self.requests: dict[int, _Request] = {}
        self.numbers = itertools.count(1)

    def free(self, host: Host) -> None:
        """Give the source node back."""
        host.api.freeNode(self.rgb)

    def get_frame(self, n: int, reason: int, frame_data: Any, context: Context, host: Host) -> Frame:  # noqa: ANN401
        """See Filter."""
        if reason == lib.arInitial:
            number = next(self.numbers)
            self.requests[number] = _Request(self.engine.open(n), range(0), [])
            frame_data[0] = ffi.cast("void *", number)
        else:
            number = int(ffi.cast("intptr_t", frame_data[0]))
        request = self.requests[number]
        try:
            if reason == lib.arError:
                self._note_failures(request, context, host)
            elif (output := self._go_on(request, context, host)) is None:
                return ffi.NULL
            else:
                self._end(number)
                return self._to_frame(output, host)
        except Exception:
            self._end(number)
            raise
        self._end(number)
        return ffi.NULL

    def _end(self, number: int) -> None:
        request = self.requests.pop(number, None)
        if request is not None:
            self.engine.close(request.ticket)

    def _go_on(self, request: _Request, context: Context, host: Host) -> Output | None:
        """Bring what was requested and look again; None after a further request."""
        if request.asked:
            self._bring(request, context, host)
        while isinstance(found := self.engine.look(request.ticket), range):
            request.look = found
            request.asked = [m for m in found if m == request.ticket.n or not self.engine.is_hole(m)]
            for m in request.asked:
                host.api.requestFrameFilter(m, self.rgb, context)
            if request.asked:
                return None
            self.engine.feed(request.ticket, found, {})
        return found

    def _bring(self, request: _Request, context: Context, host: Host) -> None:
        frames: dict[int, Frame] = {m: host.api.getFrameFilter(m, self.rgb, context) for m in request.asked}
        try:
            fit = {}
            for m, frame in frames.items():
                if host.prop(frame, b"_FieldBased") in (1, 2):
                    self.engine.fail(m)
                else:
                    fit[m] = _source_frame(frame, host)
            if request.ticket.n in frames and request.ticket.n not in fit:
                _refuse_interlaced(frames[request.ticket.n], request.ticket.n, host)
            self.engine.feed(request.ticket, request.look, fit)
        finally:
            for m, frame in frames.items():
                host.api.freeFrame(frame)
                host.api.releaseFrameEarly(self.rgb, m, context)

    def _note_failures(self, request: _Request, context: Context, host: Host) -> None:
        """A source frame failed: VapourSynth passes its message on; here the frame is marked, so that others go on."""
        for m in request.asked:
            frame = host.api.getFrameFilter(m, self.rgb, context)
            if frame == ffi.NULL:
                self.engine.fail(m)
            else:
                host.api.freeFrame(frame)

    def _to_frame(self, output: Output, host: Host) -> Frame:
        pixels = output.wait().numpy()
        video = self.output
        frame = host.api.newVideoFrame(ffi.addressof(video, "format"), video.width, video.height, ffi.NULL, host.core)
        for plane, channel in zip(host.planes(frame, writable=True), pixels, strict=True):
            np.copyto(plane, channel)
        if output.reset:
            host.api.mapSetInt(host.api.getFramePropertiesRW(frame), RESET, 1, lib.maReplace)
        return frame


def _source_frame(frame: Frame, host: Host) -> SourceFrame:
    return SourceFrame(
        planes=host.planes(frame),
        scene_change_prev=host.prop(frame, b"_SceneChangePrev"),
        scene_change_next=host.prop(frame, b"_SceneChangeNext"),
    )


@dataclass(frozen=True, slots=True)
class Colour:
    """What the way back needs to know of a source frame; None where its properties say nothing."""

    matrix: int | None
    range: int | None
    chromaloc: int | None
    transfer: int | None
    primaries: int | None


class Finish:
    """Turns RGBS frame n back into the clip's format with source frame n's colour, and puts its properties back."""

    def __init__(
        self,
        clip: Node,
        recurrence: Node,
        output: Any,  # noqa: ANN401  (a cffi struct)
        matrix: int,
        engine: Engine,
        host: Host,
    ) -> None:
        self.clip, self.recurrence, self.guessed, self.engine = clip, recurrence, matrix, engine
        self.format_id = host.format_id(output.format)
        self.family = output.format.colorFamily
        self.subsampled = bool(output.format.subSamplingW or output.format.subSamplingH)
        self.nodes: dict[Colour, Node] = {}
        self.lock = threading.Lock()
        self.said = False

    def free(self, host: Host) -> None:
        """Give all nodes back."""
        for node in (*self.nodes.values(), self.recurrence, self.clip):
            host.api.freeNode(node)

    def get_frame(self, n: int, reason: int, frame_data: Any, context: Context, host: Host) -> Frame:  # noqa: ANN401
        """See Filter. First the source frame, whose colour chooses the node; then that node's frame."""
        if reason == lib.arInitial:
            host.api.requestFrameFilter(n, self.clip, context)
        elif reason == lib.arError and frame_data[0] == ffi.NULL:
            self.engine.fail(n)  # VapourSynth passes the source's message on
        elif reason == lib.arAllFramesReady:
            source = host.api.getFrameFilter(n, self.clip, context)
            try:
                node = self._node(self._colour(source, host), host)
                if frame_data[0] != ffi.NULL:
                    return self._finished(source, host.api.getFrameFilter(n, node, context), host)
                _refuse_interlaced(source, n, host)
                frame_data[0] = node
                host.api.requestFrameFilter(n, node, context)
            finally:
                host.api.freeFrame(source)
        return ffi.NULL

    def _colour(self, source: Frame, host: Host) -> Colour:
        matrix = _said(host.prop(source, b"_Matrix"))
        if self.family != lib.cfRGB and matrix is None:
            matrix = self.guessed
            self._say_guess(host)
        return Colour(
            matrix=matrix if self.family != lib.cfRGB else None,
            range=_range(source, host),
            chromaloc=host.prop(source, b"_ChromaLocation") if self.subsampled else None,
            transfer=_said(host.prop(source, b"_Transfer")),
            primaries=_said(host.prop(source, b"_Primaries")),
        )

    def _say_guess(self, host: Host) -> None:
        with self.lock:
            said, self.said = self.said, True
        if not said and self.family == lib.cfYUV:
            host.log(f"the clip has no _Matrix; {self.guessed} is assumed from its size and set on the output")

    def _node(self, colour: Colour, host: Host) -> Node:
        """The way back for frames of this colour, made when first met."""
        if self.format_id == lib.pfRGBS:
            return self.recurrence
        with self.lock:
            if colour not in self.nodes:
                arguments = {
                    "matrix": colour.matrix,
                    "range": colour.range,
                    "chromaloc": colour.chromaloc,
                    "transfer_in": colour.transfer,
                    "primaries_in": colour.primaries,
                }
                given = {name: value for name, value in arguments.items() if value is not None}
                self.nodes[colour] = host.resize(self.recurrence, format=self.format_id, **given)
            return self.nodes[colour]

    def _finished(self, source: Frame, result: Frame, host: Host) -> Frame:
        frame = host.api.copyFrame(result, host.core)
        reset = host.prop(result, RESET)
        host.api.freeFrame(result)
        props = host.api.getFramePropertiesRW(frame)
        host.api.clearMap(props)
        host.api.copyMap(host.api.getFramePropertiesRO(source), props)
        if self.family == lib.cfYUV and _said(host.get_int(props, b"_Matrix")) is None:
            host.api.mapSetInt(props, b"_Matrix", self.guessed, lib.maReplace)
        if reset is not None:
            host.api.mapSetInt(props, RESET, reset, lib.maReplace)
        return frame


def _said(value: int | None) -> int | None:
    return None if value == UNSPECIFIED else value


def _range(source: Frame, host: Host) -> int | None:
    """`_Range` (1 is full), or the deprecated `_ColorRange`, which is the other way round."""
    value = host.prop(source, b"_Range")
    if value is None and (old := host.prop(source, b"_ColorRange")) is not None:
        value = 1 - old
    return value
