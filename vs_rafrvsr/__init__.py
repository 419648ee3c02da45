"""RAFRVSR for VapourSynth: x4 video super-resolution by a recurrent network with RAFT optical flow.

`upscale` is the typed face of `core.rafrvsr.Upscale`. Importing this package loads neither PyTorch nor CuPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from vs_rafrvsr.errors import ClipError, DeviceError, EncodeError, OptionError, RafrvsrError, WeightsError
from vs_rafrvsr.options import Arguments, Options

if TYPE_CHECKING:
    import vapoursynth

__all__ = [
    "ClipError",
    "DeviceError",
    "EncodeError",
    "OptionError",
    "Options",
    "RafrvsrError",
    "WeightsError",
    "upscale",
]

__version__ = "0.1.0"


def upscale(clip: vapoursynth.VideoNode, **arguments: Unpack[Arguments]) -> vapoursynth.VideoNode:
    """The clip at four times its width and height, in the same format: `core.rafrvsr.Upscale`.

    Args:
        clip: constant format and size, progressive, at least 16x16.
        arguments: see `Options`; None stands for the default.

    Raises:
        OptionError: an argument is out of range, or of another type.
        TypeError: there is no such argument.
        vapoursynth.Error: there is no such model, or the clip, the weights or the device is not fit.
    """
    import vapoursynth

    given: dict[str, Any] = {key: value for key, value in arguments.items() if value is not None}
    try:
        Options(**given)
    except OptionError as error:
        raise OptionError(f"Upscale: {error}") from None
    return vapoursynth.core.rafrvsr.Upscale(clip, **given)
