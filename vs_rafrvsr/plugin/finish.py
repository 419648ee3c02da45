"""The way back: RGBS frame n in the clip's format, with source frame n's colour and properties."""

from __future__ import annotations

import threading
from typing import Any

from vs_rafrvsr.engine.engine import Engine
from vs_rafrvsr.plugin.colour import ColourReader, Said
from vs_rafrvsr.plugin.host import Context, Frame, Host, Keys, Map, Node, ffi, lib
from vs_rafrvsr.plugin.recurrence import FALLBACK, RESET, refuse_interlaced

CHUNK, NUMERICS, DEVICE = b"_RafrvsrChunk", b"_RafrvsrNumerics", b"_RafrvsrDevice"
"""Properties of every output frame, for who joins frames made apart: see README. A further Upscale adds its own."""

_FIELD, _OURS = Keys(b"_FieldBased"), Keys(RESET, FALLBACK)


class Finish:
    """Turns RGBS frame n back into the clip's format with source frame n's colour, and puts its properties back."""

    def __init__(
        self,
        clip: Node,
        recurrence: Node,
        output: Any,  # noqa: ANN401  (a cffi struct)
        colours: ColourReader,
        engine: Engine,
        host: Host,
    ) -> None:
        self.clip, self.recurrence, self.colours, self.engine = clip, recurrence, colours, engine
        self.device = engine.runtime.name()
        self.format_id = host.format_id(output.format)
        self.direct = self.format_id == host.format_id(host.api.getVideoInfo(recurrence).format)
        self.guessed_matrix = output.format.colorFamily == lib.cfYUV
        self.nodes: dict[Said, Node] = {}
        self.lock = threading.Lock()
        self.told = False

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
                node = self._node(self.colours.said(source, host), host)
                if frame_data[0] != ffi.NULL:
                    return self._finished(source, host.api.getFrameFilter(n, node, context), host)
                (field,) = host.integers(source, _FIELD)
                refuse_interlaced(field, n)
                frame_data[0] = node
                host.api.requestFrameFilter(n, node, context)
            finally:
                host.api.freeFrame(source)
        return ffi.NULL

    def _node(self, said: Said, host: Host) -> Node:
        """The way back for frames of this colour, made when first met."""
        if self.direct:
            return self.recurrence
        with self.lock:
            if said not in self.nodes:
                arguments = {
                    "matrix": self.colours.matrix(said),
                    "range": said.range,
                    "chromaloc": said.chromaloc,
                    "transfer_in": said.transfer,
                    "primaries_in": said.primaries,
                }
                given = {name: value for name, value in arguments.items() if value is not None}
                self.nodes[said] = host.resize(self.recurrence, format=self.format_id, **given)
            return self.nodes[said]

    def _finished(self, source: Frame, result: Frame, host: Host) -> Frame:
        frame = host.api.copyFrame(result, host.core)
        ours = dict(zip((RESET, FALLBACK), host.integers(result, _OURS), strict=True))
        host.api.freeFrame(result)
        props = host.api.getFramePropertiesRW(frame)
        host.api.clearMap(props)
        host.api.copyMap(host.api.getFramePropertiesRO(source), props)
        if self.guessed_matrix and self.colours.said(source, host).matrix is None:
            host.api.mapSetInt(props, b"_Matrix", self.colours.guess, lib.maReplace)
            self._tell_guess(host)
        for name, value in ours.items():
            if value is not None:
                host.api.mapSetInt(props, name, value, lib.maReplace)
        self._say_origin(props, host)
        return frame

    def _tell_guess(self, host: Host) -> None:
        with self.lock:
            told, self.told = self.told, True
        if not told:
            host.log(f"the clip has no _Matrix; {self.colours.guess} is assumed from its size and set on the output")

    def _say_origin(self, props: Map, host: Host) -> None:
        network = self.engine.network
        host.api.mapSetInt(props, CHUNK, network.grid.chunk, lib.maAppend)
        for key, text in ((NUMERICS, network.numerics), (DEVICE, self.device)):
            host.api.mapSetData(props, key, text.encode(), -1, lib.dtUtf8, lib.maAppend)
