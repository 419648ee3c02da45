"""VapourSynth's C API as few small functions: maps, properties, frames, pointers to nodes, invoking other plugins."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import vapoursynth
from numpy.typing import NDArray

from vs_rafrvsr.errors import ClipError


def _import_library() -> ModuleType:
    """The plugin library as a Python module, from the file that VapourSynth loads: a copy would have no callbacks."""
    folder = Path(vapoursynth.get_plugin_dir())
    path = next(p for p in folder.iterdir() if p.stem == "rafrvsr" and p.suffix in (".so", ".dll", ".dylib"))
    loader = importlib.machinery.ExtensionFileLoader("rafrvsr", str(path))
    spec = importlib.util.spec_from_loader("rafrvsr", loader, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


_library = _import_library()
ffi, lib = _library.ffi, _library.lib

# cffi's pointers, named for the reader; they all have the same Python type.
type Node = Any
type Frame = Any
type Map = Any
type Context = Any

RESIZE, STD = b"com.vapoursynth.resize", b"com.vapoursynth.std"


_handles: dict[int, Any] = {}
"""By the instances' ids; they must be kept as long as VapourSynth holds their pointers, and keep their instances."""


def keep(instance: object) -> Any:  # noqa: ANN401  (a cffi pointer)
    """A pointer to a node's instance, for VapourSynth; good until `forget`."""
    handle = _handles[id(instance)] = ffi.new_handle(instance)
    return handle


def forget(instance: object) -> None:
    """VapourSynth has no pointer to the instance any more."""
    del _handles[id(instance)]


class Keys:
    """Names of integer properties that are read together."""

    def __init__(self, *names: str) -> None:
        self.names = [ffi.new("char[]", name.encode()) for name in names]
        self.array = ffi.new("char *[]", self.names)


class Host:
    """One core and its API table, valid for the duration of a callback."""

    def __init__(self, core: object, vsapi: Any) -> None:  # noqa: ANN401  (a cffi struct)
        self.core, self.api = core, vsapi

    def log(self, message: str, *, warning: bool = False) -> None:
        """A line in VapourSynth's log."""
        self.api.logMessage(lib.mtWarning if warning else lib.mtInformation, f"Upscale: {message}".encode(), self.core)

    def format_id(self, fmt: Any) -> int:  # noqa: ANN401  (a cffi struct)
        """The number by which the resizer knows a format."""
        return int(
            self.api.queryVideoFormatID(
                fmt.colorFamily, fmt.sampleType, fmt.bitsPerSample, fmt.subSamplingW, fmt.subSamplingH, self.core
            )
        )

    def format_name(self, fmt: Any) -> str:  # noqa: ANN401  (a cffi struct)
        """For example YUV420P8."""
        buffer = ffi.new("char[32]")
        self.api.getVideoFormatName(ffi.addressof(fmt), buffer)
        return self.text(buffer)

    def text(self, characters: Any) -> str:  # noqa: ANN401  (a cffi char pointer)
        """A C string."""
        return str(ffi.string(characters).decode())

    def resize(self, clip: Node, **arguments: int) -> Node:
        """A new node of `resize.Bicubic`.

        Raises:
            ClipError: with the resizer's own message.
        """
        return self._invoke(RESIZE, b"Bicubic", clip, arguments)

    def with_properties(self, clip: Node, **values: int) -> Node:
        """A new node of `std.SetFrameProps`."""
        return self._invoke(STD, b"SetFrameProps", clip, values)

    def _invoke(self, plugin: bytes, function: bytes, clip: Node, arguments: Mapping[str, int]) -> Node:
        args = self.api.createMap()
        self.api.mapSetNode(args, b"clip", clip, lib.maReplace)
        for name, value in arguments.items():
            self.api.mapSetInt(args, name.encode(), value, lib.maReplace)
        result = self.api.invoke(self.api.getPluginByID(plugin, self.core), function, args)
        self.api.freeMap(args)
        try:
            error = self.api.mapGetError(result)
            if error:
                raise ClipError(self.text(error))
            return self.api.mapGetNode(result, b"clip", 0, ffi.NULL)
        finally:
            self.api.freeMap(result)

    def integers(self, frames: Sequence[Frame], keys: Keys) -> list[list[int | None]]:
        """Integer properties of frames, None where one has none."""
        count = len(keys.names)
        values, missing = ffi.new("int64_t[]", len(frames) * count), ffi.new("int[]", len(frames) * count)
        lib.rafrvsr_integers(frames, len(frames), keys.array, count, values, missing, self.api)
        found = [None if gone else value for value, gone in zip(values, missing, strict=True)]
        return [found[start : start + count] for start in range(0, len(found), count)]

    def request(self, numbers: Sequence[int], node: Node, context: Context) -> None:
        """Ask for frames of a node: the callback is entered again when all are there."""
        lib.rafrvsr_request(numbers, len(numbers), node, context, self.api)

    @contextmanager
    def taken(self, numbers: Sequence[int], node: Node, context: Context) -> Iterator[dict[int, Frame]]:
        """Frames that have been requested, by their numbers; afterwards they are given back, for good."""
        frames = ffi.new("VSFrame *[]", len(numbers))
        lib.rafrvsr_take(numbers, len(numbers), frames, node, context, self.api)
        try:
            yield dict(zip(numbers, frames, strict=True))
        finally:
            lib.rafrvsr_release(numbers, len(numbers), frames, node, context, self.api)

    def get_text(self, values: Map, key: bytes) -> str:
        """A string of a map. Bytes that are no UTF-8 become what Python's file functions turn back into them."""
        size = self.api.mapGetDataSize(values, key, 0, ffi.NULL)
        data = bytes(ffi.buffer(self.api.mapGetData(values, key, 0, ffi.NULL), size))
        return data.decode(errors="surrogateescape")

    def pack(self, frames: Sequence[Frame], packed: NDArray[np.uint8]) -> None:
        """Copy the planes of frames of one format into the rows of `packed`; zeros for NULL."""
        lib.rafrvsr_pack(frames, len(frames), ffi.from_buffer("uint8_t *", packed), packed.shape[1], self.api)

    def unpacked(self, packed: NDArray[np.uint8], video: Any) -> Frame:  # noqa: ANN401  (a cffi struct)
        """A new frame of a clip's format and size, from a packed one."""
        data, fmt = ffi.from_buffer("uint8_t *", packed), ffi.addressof(video, "format")
        return lib.rafrvsr_unpack(data, fmt, video.width, video.height, self.core, self.api)

    def dressed(
        self, n: int, node: Node, clip: Node, kept: Keys, lone: bytes, more: Map, guess: int, context: Context
    ) -> tuple[Frame, bool]:
        """Frame n of a node with the properties of frame n of a clip; whether its matrix had to be guessed.

        Its own integers of the names in `kept` come before the clip's, the one named `lone` it has from itself alone,
        and the properties in `more` are appended. A `guess` of -1 leaves an unspecified matrix as it is. Both frames
        have been requested.
        """
        guessed = ffi.new("int *")
        names = kept.array, len(kept.names), lone
        frame = lib.rafrvsr_dress(n, node, clip, *names, more, guess, guessed, context, self.core, self.api)
        return frame, bool(guessed[0])
