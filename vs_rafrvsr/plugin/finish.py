"""The last node, see nodes.py: frames in the clip's format, with the source frames' properties."""

from __future__ import annotations

import threading
from typing import Any

from vs_rafrvsr.engine.engine import Engine
from vs_rafrvsr.plugin.colour import PROPERTIES, ColourReader, Said
from vs_rafrvsr.plugin.host import Context, Frame, Host, Keys, Map, Node, ffi, lib
from vs_rafrvsr.plugin.recurrence import refuse_interlaced
from vs_rafrvsr.properties import CHUNK, DEVICE, FALLBACK, HALVINGS, NUMERICS, RESET

_PROPERTIES, _HALVINGS, _OURS = Keys("_FieldBased", *PROPERTIES), Keys(HALVINGS), Keys(RESET, FALLBACK)


class Finish:
    """Puts source frame n's properties on frame n x4, which the resizer brings to the clip's format if need be."""

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
        self.guess = colours.guess if output.format.colorFamily == lib.cfYUV else -1
        self.origins: dict[int, Map] = {}
        self.nodes: dict[Said, Node] = {}
        self.lock = threading.Lock()
        self.told = False

    def free(self, host: Host) -> None:
        """Give all nodes and maps back."""
        for node in (*self.nodes.values(), self.recurrence, self.clip):
            host.api.freeNode(node)
        for origin in self.origins.values():
            host.api.freeMap(origin)

    def get_frame(self, n: int, reason: int, frame_data: Any, context: Context, host: Host) -> Frame:  # noqa: ANN401
        """See Filter. First the source frame, whose colour chooses the node; then that node's frame.

        Where the recurrence's frames need no way back, both at once.
        """
        if reason == lib.arInitial:
            host.api.requestFrameFilter(n, self.clip, context)
            if self.direct:
                frame_data[0] = self.recurrence
                host.api.requestFrameFilter(n, self.recurrence, context)
        elif reason == lib.arError and frame_data[0] == ffi.NULL:
            self.engine.fail(n)  # VapourSynth passes the source's message on
        elif reason == lib.arAllFramesReady:
            if frame_data[0] != ffi.NULL:
                return self._finished(n, frame_data[0], context, host)
            frame_data[0] = self._way_back(n, context, host)
            host.api.requestFrameFilter(n, frame_data[0], context)
        return ffi.NULL

    def _way_back(self, n: int, context: Context, host: Host) -> Node:
        """The node for frames of source frame n's colour, made when first met."""
        source = host.api.getFrameFilter(n, self.clip, context)
        try:
            ((field, *values),) = host.integers([source], _PROPERTIES)
        finally:
            host.api.freeFrame(source)
        refuse_interlaced(field, n)
        said = self.colours.convertible(values, n)
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

    def _finished(self, n: int, node: Node, context: Context, host: Host) -> Frame:
        origin = self._origin(self._halvings(n, node, context, host), host)
        alone = RESET.encode()  # a fallback before this filter matters still, a reset not
        frame, guessed = host.dressed(n, node, self.clip, _OURS, alone, origin, self.guess, context)
        if guessed and not self.told:
            self._tell_guess(host)
        return frame

    def _tell_guess(self, host: Host) -> None:
        with self.lock:
            told, self.told = self.told, True
        if not told:
            host.log(f"the clip has no _Matrix; {self.guess} is assumed from its size and set on the output")

    def _halvings(self, n: int, node: Node, context: Context, host: Host) -> int:
        """How many times tiles had been halved when frame n was made, which may be long ago."""
        if len(self.engine.numerics) == 1:
            return 0
        frame = host.api.getFrameFilter(n, node, context)
        try:
            ((value,),) = host.integers([frame], _HALVINGS)
        finally:
            host.api.freeFrame(frame)
        return value or 0

    def _origin(self, halvings: int, host: Host) -> Map:
        """Where a frame comes from, as properties: another map for each time that the network has changed."""
        with self.lock:
            if halvings not in self.origins:
                origin = self.origins[halvings] = host.api.createMap()
                host.api.mapSetInt(origin, CHUNK.encode(), self.engine.network.grid.chunk, lib.maReplace)
                for key, text in ((NUMERICS, self.engine.numerics[halvings]), (DEVICE, self.device)):
                    host.api.mapSetData(origin, key.encode(), text.encode(), -1, lib.dtUtf8, lib.maReplace)
            return self.origins[halvings]
