"""VapourSynth's C API as few small functions: maps, properties, invoking other plugins, frames as numpy views."""

from __future__ import annotations

import importlib.machinery
import importlib.util
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

RESIZE = b"com.vapoursynth.resize"


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
        args = self.api.createMap()
        self.api.mapSetNode(args, b"clip", clip, lib.maReplace)
        for name, value in arguments.items():
            self.api.mapSetInt(args, name.encode(), value, lib.maReplace)
        result = self.api.invoke(self.api.getPluginByID(RESIZE, self.core), b"Bicubic", args)
        self.api.freeMap(args)
        try:
            error = self.api.mapGetError(result)
            if error:
                raise ClipError(self.text(error))
            return self.api.mapGetNode(result, b"clip", 0, ffi.NULL)
        finally:
            self.api.freeMap(result)

    def prop(self, frame: Frame, name: bytes) -> int | None:
        """An integer frame property, None where the frame has none."""
        return self.get_int(self.api.getFramePropertiesRO(frame), name)

    def get_int(self, values: Map, name: bytes) -> int | None:
        """An integer of a map, None where it has none."""
        error = ffi.new("int *")
        value = self.api.mapGetInt(values, name, 0, error)
        return None if error[0] else int(value)

    def get_text(self, values: Map, key: bytes) -> str:
        """A string of a map. Bytes that are no UTF-8 become what Python's file functions turn back into them."""
        size = self.api.mapGetDataSize(values, key, 0, ffi.NULL)
        data = bytes(ffi.buffer(self.api.mapGetData(values, key, 0, ffi.NULL), size))
        return data.decode(errors="surrogateescape")

    def planes(self, frame: Frame, dtype: np.dtype[Any], writable: bool = False) -> list[NDArray[Any]]:
        """The planes of a frame, whose samples are of `dtype`, as views of its memory (rows are padded)."""
        count = self.api.getVideoFrameFormat(frame).numPlanes
        return [self._plane(frame, p, dtype, writable) for p in range(count)]

    def _plane(self, frame: Frame, p: int, dtype: np.dtype[Any], writable: bool) -> NDArray[Any]:
        pointer = self.api.getWritePtr(frame, p) if writable else self.api.getReadPtr(frame, p)
        stride, height, width = (
            self.api.getStride(frame, p),
            self.api.getFrameHeight(frame, p),
            self.api.getFrameWidth(frame, p),
        )
        rows = np.frombuffer(ffi.buffer(pointer, stride * height), dtype).reshape(height, stride // dtype.itemsize)
        return rows[:, :width]
