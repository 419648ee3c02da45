"""Everything this package raises on purpose.

    RafrvsrError
    ├── OptionError       an argument is unknown or out of range
    ├── ClipError         the clip, or one of its frames, cannot be upscaled
    ├── WeightsError      a weights file is missing, damaged or of another program
    ├── DeviceError       the device does not exist, has too little memory, or has failed
    ├── EncodeError       vspipe, ffmpeg or a file they need failed
    ├── RecipeError       training.recipe: a recipe or an override cannot be read
    ├── DataError         training.data: a data set cannot be used
    │   └── SkipError     one of its clips cannot be used; readers catch it
    ├── CheckpointError   training.checkpoint: a checkpoint is incomplete or does not fit, a file holds no tensors
    ├── DivergedError     training.loop: too many steps had no finite gradient
    └── EvaluationError   metrics.protocol: figures cannot be had, or would not be comparable

A message says what was given, what is allowed, and what to try. At VapourSynth's border it becomes a VapourSynth error
that starts with `Upscale: `.
"""

from __future__ import annotations


class RafrvsrError(Exception):
    """Base of all errors of this package."""


class OptionError(RafrvsrError, ValueError):
    """An argument is unknown or out of range."""


class ClipError(RafrvsrError, ValueError):
    """The clip, or one of its frames, cannot be upscaled."""


class WeightsError(RafrvsrError):
    """A weights file is missing, damaged or of another program."""


class DeviceError(RafrvsrError):
    """The device does not exist, has too little memory, or has failed."""


class EncodeError(RafrvsrError):
    """vspipe, ffmpeg or a file they need failed."""
