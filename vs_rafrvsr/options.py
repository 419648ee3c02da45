"""The arguments of Upscale: their defaults, ranges and messages, each in one place."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from vs_rafrvsr.errors import OptionError
from vs_rafrvsr.schedule import GROUP

type Precision = Literal["auto", "fp16", "fp32"]
type SceneCut = Literal["auto", "props", "detect", "off"]

MAX_CHUNK = 10_000
MIN_TILE, MAX_TILE = 32, 8192


class Arguments(TypedDict, total=False):
    """The fields of `Options`, for `upscale(clip, **arguments)`."""

    model: str
    weights: str | None
    device: str
    precision: Precision
    tile: tuple[int, int]
    scenecut: SceneCut
    scenecut_threshold: float | None
    leadin: int
    chunk: int
    warmup: int
    flow_updates: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a user may choose. Sizes are in pixels of the input, counts in frames.

    Args:
        model: a name of `registry.MODELS`.
        weights: path of a weights file of that model's architecture; None for the shipped one.
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
        OptionError: a value is not allowed.
    """

    model: str = "rafrvsr"
    weights: str | None = None
    device: str = "auto"
    precision: Precision = "auto"
    tile: tuple[int, int] = (0, 0)
    scenecut: SceneCut = "auto"
    scenecut_threshold: float | None = None
    leadin: int = 8
    chunk: int = 240
    warmup: int = 12
    flow_updates: int | None = None

    def __post_init__(self) -> None:
        _require_one_of("precision", self.precision, get_args(Precision.__value__))
        _require_one_of("scenecut", self.scenecut, get_args(SceneCut.__value__))
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise OptionError(f"device={self.device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:N'")
        if len(self.tile) != 2:
            raise OptionError(f"tile needs two numbers, width and height, not {len(self.tile)}; use tile=[0, 0]")
        for name, side in zip(("width", "height"), self.tile, strict=True):
            if side != 0:
                _require_range(f"tile {name}", side, MIN_TILE, MAX_TILE, "0 chooses it")
        threshold = self.scenecut_threshold
        if threshold is not None and not (math.isfinite(threshold) and 0 <= threshold <= 1):
            raise OptionError(f"scenecut_threshold={threshold} is out of range; use 0 to 1, or leave it out")
        _require_range("leadin", self.leadin, 0, GROUP, "0 is strictly causal")
        _require_range("chunk", self.chunk, 1, MAX_CHUNK, "240 is the default")
        _require_range(
            "warmup", self.warmup, 0, self.chunk - 1, f"it must be smaller than chunk, which is {self.chunk}"
        )
        if self.flow_updates is not None:
            _require_range("flow_updates", self.flow_updates, 1, 32, "leave it out for the model's own")


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"{name}={value!r} is unknown; use one of {', '.join(map(repr, allowed))}")


def _require_range(name: str, value: int, low: int, high: int, hint: str) -> None:
    if not low <= value <= high:
        raise OptionError(f"{name}={value} is out of range; use {low} to {high} ({hint})")
