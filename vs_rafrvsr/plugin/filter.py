"""What the C door calls: the functions of core.rafrvsr, getFrame and free. Every error becomes VapourSynth's here."""

from __future__ import annotations

import atexit
import time
import traceback
from collections.abc import Callable
from typing import Any

from vs_rafrvsr import __version__
from vs_rafrvsr.errors import RafrvsrError
from vs_rafrvsr.faults import device_lost, explained, keep_tensors
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.plugin.host import Frame, Host, Map, ffi, forget, lib
from vs_rafrvsr.plugin.nodes import Filter, upscale


def _message(error: BaseException) -> bytes:
    """The message for users as C's characters: names that were given may hold bytes that are no text.

    While the error's traceback holds the tensors of a GPU that is lost, they are kept.
    """
    if device_lost(error):
        keep_tensors()
    return _describe(error).encode(errors="backslashreplace").replace(b"\0", b"\\0")


def _describe(error: BaseException) -> str:
    """For an error that is not ours, with the place where it happened."""
    if isinstance(error, KeyboardInterrupt):
        return "Upscale: interrupted"
    known = error if isinstance(error, RafrvsrError) else explained(error)
    if known is not None:
        return f"Upscale: {known}"
    where = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"Upscale: unexpected {type(error).__name__}: {error} ({where.filename}:{where.lineno}); "
        "please report it with your script and the output of `python -m vs_rafrvsr doctor`"
    )


def _call_upscale(arguments: Map, out: Map, host: Host) -> None:
    node = upscale(arguments, host)
    host.api.mapConsumeNode(out, b"clip", node, lib.maReplace)


def _call_version(arguments: Map, out: Map, host: Host) -> None:
    del arguments
    _set_text(out, b"version", __version__, host)


def _call_models(arguments: Map, out: Map, host: Host) -> None:
    del arguments
    for name in MODELS:
        _set_text(out, b"name", name, host)


def _set_text(out: Map, key: bytes, text: str, host: Host) -> None:
    host.api.mapSetData(out, key, text.encode(), -1, lib.dtUtf8, lib.maAppend)


_CALLS: dict[int, Callable[[Map, Map, Host], None]] = {
    lib.UPSCALE: _call_upscale,
    lib.VERSION: _call_version,
    lib.MODELS: _call_models,
}


@ffi.def_extern()
def rafrvsr_call(function: int, arguments: Map, out: Map, core: object, vsapi: object) -> None:
    """A call of core.rafrvsr.<function>."""
    host = Host(core, vsapi)
    try:
        _CALLS[function](arguments, out, host)
    except BaseException as error:  # the border: nothing may pass into C, and Ctrl-C ends the script
        host.api.mapSetError(out, _message(error))


@ffi.def_extern()
def rafrvsr_get_frame(
    n: int,
    reason: int,
    data: object,
    frame_data: Any,  # noqa: ANN401  (a cffi pointer)
    context: object,
    core: object,
    vsapi: object,
) -> Frame:
    """VapourSynth's getFrame for both kinds of node."""
    host = Host(core, vsapi)
    instance: Filter = ffi.from_handle(data)
    try:
        return instance.get_frame(n, reason, frame_data, context, host)
    except Exception as error:  # the border: nothing may pass into C
        host.api.setFilterError(_message(error), context)
        return ffi.NULL


@ffi.def_extern()
def rafrvsr_free(data: object, core: object, vsapi: object) -> None:
    """VapourSynth is done with a node."""
    instance: Filter = ffi.from_handle(data)
    try:
        instance.free(Host(core, vsapi))
    except Exception:  # the border: nothing may pass into C
        traceback.print_exc()
    finally:
        forget(instance)


@atexit.register
def _close() -> None:
    """Let no frame begin any more, and wait for those that are being made."""
    while lib.rafrvsr_close():
        time.sleep(0.01)


lib.rafrvsr_ready = 1
