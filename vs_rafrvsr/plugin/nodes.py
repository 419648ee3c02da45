"""The nodes that Upscale is made of, on either of two routes.

    pixel kernels (CUDA)     clip -----------> Recurrence -----------> Finish
    VapourSynth's resizer    clip -> resize -> Recurrence -> resize -> Finish

Recurrence makes frames x4, of the clip's format with kernels, else RGBS. Matrix, range and chroma location are taken
per frame; on the way back they are source frame n's, because RGB frames carry none. Finish puts all properties back.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Protocol

from vs_rafrvsr.engine.engine import Engine
from vs_rafrvsr.engine.network import Network, prepare
from vs_rafrvsr.engine.once import is_news
from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.errors import ClipError
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.options import Options
from vs_rafrvsr.pixels import route
from vs_rafrvsr.plugin.colour import RGB, ColourReader
from vs_rafrvsr.plugin.finish import Finish
from vs_rafrvsr.plugin.host import Context, Frame, Host, Map, Node, ffi, keep, lib
from vs_rafrvsr.plugin.recurrence import Recurrence


class Filter(Protocol):
    """What a node's callbacks reach."""

    def get_frame(self, n: int, reason: int, frame_data: Any, context: Context, host: Host) -> Frame:  # noqa: ANN401
        """Frame n, or NULL after frames have been requested."""

    def free(self, host: Host) -> None:
        """Give the nodes back."""


def upscale(arguments: Map, host: Host) -> Node:
    """The node that core.rafrvsr.Upscale(**arguments) returns.

    Raises:
        RafrvsrError: an argument, the clip, the weights or the device is not fit.
    """
    options = _read_options(arguments, host)
    clip = host.api.mapGetNode(arguments, b"clip", 0, ffi.NULL)
    try:
        video = host.api.getVideoInfo(clip)
        _check_clip(video, host)
        engine = Engine(_network(options, video, host))
        source = _source_node(clip, video, engine, host)
    except BaseException:
        host.api.freeNode(clip)
        raise
    recurrence = _recurrence_node(source, engine, host)
    return _finish_node(clip, video, recurrence, engine, host)


def _network(options: Options, video: Any, host: Host) -> Network:  # noqa: ANN401  (a cffi struct)
    runtime = Runtime.choose(options)
    exchange, remark = runtime.run(route.choose, host.format_name(video.format), runtime.device)
    if remark is not None and is_news(remark):
        host.log(f"{remark}. Frames are converted on the CPU, which is slower", warning=True)
    return runtime.run(prepare, options, video.numFrames, (video.height, video.width), exchange, runtime)


def _read_options(arguments: Map, host: Host) -> Options:
    """Only what was given: defaults live in Options."""
    names = [f.name for f in fields(Options) if host.api.mapNumElements(arguments, f.name.encode()) >= 0]
    return Options(**{name: _read_option(arguments, name, host) for name in names})


def _read_option(arguments: Map, name: str, host: Host) -> Any:  # noqa: ANN401  (as the field of Options)
    api, key = host.api, name.encode()
    match api.mapGetType(arguments, key):
        case lib.ptData:
            return host.get_text(arguments, key)
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
    if max(fmt.subSamplingW, fmt.subSamplingH) > 2:
        raise ClipError(
            f"the clip's format is {host.format_name(fmt)}; a chroma sample may cover at most 4 luma samples a side: "
            "take the planes apart with std.ShufflePlanes, and put them together with less subsampling"
        )


def _source_node(clip: Node, video: Any, engine: Engine, host: Host) -> Node:  # noqa: ANN401  (a cffi struct)
    """The clip in the exchange's format: itself, or RGBS."""
    if engine.network.exchange.format.name == host.format_name(video.format):
        return host.api.addNodeRef(clip)
    colours = ColourReader(video)
    if video.format.colorFamily == lib.cfYUV:
        return host.resize(clip, format=lib.pfRGBS, matrix_in=colours.guess)
    # A matrix that such a clip names means nothing: its plane or planes were taken out of others. The resizer minds it.
    plain = host.with_properties(clip, _Matrix=colours.guess if colours.grey else RGB)
    try:
        return host.resize(plain, format=lib.pfRGBS)
    finally:
        host.api.freeNode(plain)


def _recurrence_node(source: Node, engine: Engine, host: Host) -> Node:
    """The source's frames x4."""
    video = host.api.getVideoInfo(source)
    output = _times_four(video)
    instance = Recurrence(source, output, ColourReader(video), engine)
    return _create(output, [(source, lib.rpGeneral)], instance, host)


def _finish_node(
    clip: Node,
    video: Any,  # noqa: ANN401  (a cffi struct)
    recurrence: Node,
    engine: Engine,
    host: Host,
) -> Node:
    """The recurrence's frames in the clip's format, with its properties."""
    output = _times_four(video)
    instance = Finish(clip, recurrence, output, ColourReader(video), engine, host)
    dependencies = [(clip, lib.rpStrictSpatial)]
    if instance.direct:  # else nodes of the way back ask for its frames, and VapourSynth would cache them twice
        dependencies.append((recurrence, lib.rpGeneral))
    return _create(output, dependencies, instance, host)


def _times_four(video: Any) -> Any:  # noqa: ANN401  (a cffi struct)
    output = ffi.new("VSVideoInfo *", video[0])
    output.width *= SCALE
    output.height *= SCALE
    return output


def _create(
    output: Any,  # noqa: ANN401  (a cffi struct)
    dependencies: list[tuple[Node, int]],
    instance: Filter,
    host: Host,
) -> Node:
    needs = ffi.new("VSFilterDependency[]", [{"source": node, "requestPattern": how} for node, how in dependencies])
    return host.api.createVideoFilter2(
        b"Upscale",
        output,
        lib.rafrvsr_enter_get_frame,
        lib.rafrvsr_enter_free,
        lib.fmParallel,
        needs,
        len(dependencies),
        keep(instance),
        host.core,
    )
