"""The arguments of Upscale: their defaults, ranges and messages, each in one place."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, TypedDict, get_args

from vs_rafrvsr.errors import OptionError
from vs_rafrvsr.schedule import GROUP

type Precision = Literal["auto", "fp16", "fp32"]
type SceneCut = Literal["auto", "props", "detect", "off"]

MAX_CHUNK = 10_000
MIN_TILE, MAX_TILE = 32, 8192

_TYPES: tuple[tuple[str, type, tuple[str, ...]], ...] = (
    ("text", str, ("model", "weights", "device", "precision", "scenecut")),
    ("a whole number", Integral, ("leadin", "chunk", "warmup", "flow_updates")),
    ("a number", Real, ("scenecut_threshold",)),
)
"""What a type is called, and whose it is; `tile` has a check of its own."""
_MAY_BE_NONE = ("weights", "scenecut_threshold", "flow_updates")


class Arguments(TypedDict, total=False):
    """The fields of `Options`, for `upscale(clip, **arguments)`; None stands for the default."""

    model: str | None
    weights: str | None
    device: str | None
    precision: Precision | None
    tile: Sequence[int] | None
    scenecut: SceneCut | None
    scenecut_threshold: float | None
    leadin: int | None
    chunk: int | None
    warmup: int | None
    flow_updates: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a user may choose. Sizes are in pixels of the input, counts in frames.

    Args:
        model: a name of `registry.MODELS`.
        weights: path of a weights file, which brings its own architecture and configuration and takes the place of
            the model's; None for the shipped one.
        device: "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:N".
        precision: "fp16" (CUDA only), "fp32", or "auto" (fp16 on CUDA, fp32 on the CPU).
        tile: (width, height) of the network's tiles; (0, 0) chooses from the device's total memory.
        scenecut: "auto" (frame properties, else the detector), "props", "detect" or "off".
        scenecut_threshold: the detector's score in [0, 1] from which a frame starts a new shot; None for the default.
        leadin: frames that the recurrence runs backwards over at the start of a shot, 0 to 16.
        chunk: frames between two restarts of the recurrence, 1 to 10000.
        warmup: frames that a chunk runs before its first output, 0 to chunk - 1.
        flow_updates: RAFT's iterations, 1 to 32; None for the model's own.

    Raises:
        OptionError: a value is not allowed, or of another type.
    """

    model: str = "rafrvsr"
    weights: str | None = None
    device: str = "auto"
    precision: Precision = "auto"
    tile: Sequence[int] = (0, 0)
    scenecut: SceneCut = "auto"
    scenecut_threshold: float | None = None
    leadin: int = 8
    chunk: int = 240
    warmup: int = 12
    flow_updates: int | None = None

    def __post_init__(self) -> None:
        self._check_types()
        if self.weights == "":
            raise OptionError("weights='' names no file; use the path of a weights file, or leave it out")
        _require_one_of("precision", self.precision, get_args(Precision.__value__))
        _require_one_of("scenecut", self.scenecut, get_args(SceneCut.__value__))
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise OptionError(f"device={self.device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:N'")
        for name, side in zip(("width", "height"), self.tile, strict=True):
            if side != 0:
                _require_range(f"tile {name}", side, MIN_TILE, MAX_TILE, "0 chooses it")
        threshold = self.scenecut_threshold
        if threshold is not None and not (math.isfinite(threshold) and 0 <= threshold <= 1):
            raise OptionError(f"scenecut_threshold={threshold} is out of range; use 0 to 1, or leave it out")
        _require_range("leadin", self.leadin, 0, GROUP, "0 is strictly causal")
        _require_range("chunk", self.chunk, 1, MAX_CHUNK, "240 is the default")
        _require_range(
            "warmup",
            self.warmup,
            0,
            self.chunk - 1,
            f"12 is the default; it must be smaller than chunk, which is {self.chunk}",
        )
        if self.flow_updates is not None:
            _require_range("flow_updates", self.flow_updates, 1, 32, "leave it out for the model's own")

    def _check_types(self) -> None:
        for called, kind, names in _TYPES:
            for name in names:
                value = getattr(self, name)
                if not (isinstance(value, kind) or (value is None and name in _MAY_BE_NONE)):
                    raise OptionError(f"{name}={value!r} is of the wrong type; use {called}, or leave it out")
        tile = self.tile
        if not (isinstance(tile, Sequence) and len(tile) == 2 and all(isinstance(side, Integral) for side in tile)):
            raise OptionError(f"tile needs two numbers, width and height in whole pixels, not {tile!r}; use [0, 0]")


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"{name}={value!r} is unknown; use one of {', '.join(map(repr, allowed))}")


def _require_range(name: str, value: int, low: int, high: int, hint: str) -> None:
    if not low <= value <= high:
        raise OptionError(f"{name}={value} is out of range; use {low} to {high} ({hint})")
