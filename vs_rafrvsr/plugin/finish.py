"""The way back: RGBS frame n in the clip's format, with source frame n's colour and properties."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from vs_rafrvsr.engine.engine import Engine
from vs_rafrvsr.plugin.host import Context, Frame, Host, Map, Node, ffi, lib
from vs_rafrvsr.plugin.recurrence import RESET, refuse_interlaced

CHUNK, NUMERICS, DEVICE = b"_RafrvsrChunk", b"_RafrvsrNumerics", b"_RafrvsrDevice"
"""Properties of every output frame, for who joins frames made apart: see README. A further Upscale adds its own."""

UNSPECIFIED = 2
"""ITU-T H.273: `_Matrix`, `_Transfer` or `_Primaries` that says nothing."""


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
        self.device = engine.runtime.name()
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
                refuse_interlaced(source, n, host)
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
        self._say_origin(props, host)
        return frame

    def _say_origin(self, props: Map, host: Host) -> None:
        network = self.engine.network
        host.api.mapSetInt(props, CHUNK, network.grid.chunk, lib.maAppend)
        for key, text in ((NUMERICS, network.numerics), (DEVICE, self.device)):
            host.api.mapSetData(props, key, text.encode(), -1, lib.dtUtf8, lib.maAppend)


def _said(value: int | None) -> int | None:
    return None if value == UNSPECIFIED else value


def _range(source: Frame, host: Host) -> int | None:
    """`_Range` (1 is full), or the deprecated `_ColorRange`, which is the other way round."""
    value = host.prop(source, b"_Range")
    if value is None and (old := host.prop(source, b"_ColorRange")) is not None:
        value = 1 - old
    return value
