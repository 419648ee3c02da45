"""A model made ready for one clip: its device, precision, schedule and tiles, none of which change afterwards."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from vs_rafrvsr import weights
from vs_rafrvsr.engine import tiles
from vs_rafrvsr.engine.cuda.fast import Fast, accelerate
from vs_rafrvsr.engine.cuda.graphs import Held
from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.errors import ClipError, DeviceError
from vs_rafrvsr.models import registry
from vs_rafrvsr.models.registry import Features, RecurrentModel, State
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.options import Options
from vs_rafrvsr.pixels.exchange import Exchange
from vs_rafrvsr.pixels.rgb import RgbExchange
from vs_rafrvsr.schedule import GROUP, Grid

log = logging.getLogger(__name__)

HR_BYTES = 3 * 4 * SCALE**2
"""Of an HR frame, fp32, for every LR pixel."""

COPIES = 4
"""HR frames that live at once for one output: the state before and after, the network's residual, the output."""

MOST_SNAPSHOTS = 8
"""Copies of the recurrent state that a filter keeps at most for going backwards: every 32 frames of the usual chunk."""

SNAPSHOTS_SHARE = 8
"""Nor may they take more than one part in this of the device's memory."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """Everything that makes a clip's frames and stays the same."""

    model: RecurrentModel
    runtime: Runtime
    grid: Grid
    size: tuple[int, int]
    """(h, w) of the source."""
    exchange: Exchange
    """How frames come and go."""
    stack: tiles.TiledStack | None
    """The convolution stack in tiles, None for whole frames."""
    options: Options
    numerics: str
    """What a frame's bits depend on besides the arguments and the kind of device: weights, precision, tiles."""
    fast: Fast | None = None
    """Our kernels and CUDA graphs, where they can run; in tiles for the flow alone. Else the model's own code."""

    def encode(self, frames: Tensor) -> Features:
        """Features of frames (B, 3, h, w) in [0, 1], for `flow`."""
        if self.fast is not None:
            return self.fast.encode(frames)
        with self.runtime.half_flow():
            return self.model.encode(frames)

    def flow(self, current: Features, previous: Features) -> Tensor:
        """Flow (B, 2, h, w) from each current frame to its previous one, in LR pixels."""
        if self.fast is not None:
            return self.fast.flow(current, previous, self.size)
        with self.runtime.half_flow():
            return self.model.flow(current, previous, self.size)

    def step(self, lr: Tensor, state: State | None, flow: Tensor | None) -> State:
        """The state after `state`, which is used up unless it is a copy; None stands for the empty one."""
        if self.fast is not None and self.stack is None:
            return self.fast.step(lr, cast(Held, state) or self.fast.empty_state(lr), flow)
        return self.model.step(lr.clamp(0, 1), state or self.model.empty_state(lr), flow, self.stack)

    def frame(self, lr: Tensor, state: State) -> Tensor:
        """The output (3, 4h, 4w) that goes with the state which the last step made.

        What lies outside the nominal range goes past the network, through the bicubic base alone.
        """
        if isinstance(state, Held):
            frame = state.frame
            assert frame is not None
            return frame[0]
        excess: Tensor = self.model.base(lr - lr.clamp(0, 1))
        return (state.hr + excess)[0]

    def copy(self, state: State) -> State:
        """The same state, which steps leave alone: those of a CUDA graph overwrite their own, the model's do not."""
        if not isinstance(state, Held):
            return state
        return cast(State, Held(state.hr.clone(), state.hidden.clone()))

    def snapshots(self) -> int:
        """How many copies of the state may be kept: a function of the device's *total* memory, as tiles are."""
        height, width = self.size
        state = 2 * HR_BYTES * height * width  # hidden features take about as much as the HR frame
        return min(MOST_SNAPSHOTS, self.runtime.total_memory() // SNAPSHOTS_SHARE // state)

    def release(self) -> None:
        """Give back the device memory that is held between calls, but for the weights; the next calls take it again."""
        if self.fast is not None:
            self.fast.reset_graphs()

    def halved(self, reason: str) -> Network:
        """The same in tiles of half the size, because memory ran out.

        Raises:
            DeviceError: they are as small as can be.
        """
        height, width = self.size
        most = self.stack.tile if self.stack is not None else (width, height)
        tile = tiles.halved((min(width, most[0]), min(height, most[1])))
        if tile is None:
            raise DeviceError(
                f"{self.runtime.device} is out of memory ({reason}); close other programs that use it, or crop or "
                "downscale the clip first"
            )
        log.warning(
            "%s is out of memory (%s): tiles of %dx%d from here on. Their frames have _RafrvsrTileFallback=1 and equal "
            "those of other runs to rounding only; pass tile=[%d, %d] to have the same every time",
            *(self.runtime.device, reason, *tile, *tile),
        )
        stack = tiles.TiledStack(self.model.sr, self.model.halo, tile)
        runtime = self.runtime
        fast = accelerate(cast(nn.Module, self.model), self.size, runtime.device, runtime.dtype, most=1)
        numerics = _numerics(self.options, runtime, self.exchange, stack, fast)
        return replace(self, stack=stack, fast=fast, numerics=numerics)


def prepare(options: Options, frames: int, size: tuple[int, int], exchange: Exchange, runtime: Runtime) -> Network:
    """Load the model for a clip of `frames` frames of size (h, w). For the device's thread: `Runtime.run`.

    Raises:
        OptionError, WeightsError, DeviceError, ClipError: see each.
    """
    model = _shared_model(options, runtime)
    _check_size(model, size, runtime)
    stack = _stack(model, options, size, runtime)
    most = GROUP if stack is None else 1  # tiles are there to save memory
    fast = accelerate(cast(nn.Module, model), size, runtime.device, runtime.dtype, most)
    if stack is not None and runtime.device.type == "cuda":
        log.warning("in tiles of %dx%d the residual network runs on PyTorch's own kernels, more slowly", *stack.tile)
    return Network(
        model=model,
        runtime=runtime,
        grid=Grid(frames=frames, chunk=options.chunk, warmup=options.warmup, leadin=options.leadin),
        size=size,
        exchange=exchange,
        stack=stack,
        options=options,
        numerics=_numerics(options, runtime, exchange, stack, fast),
        fast=fast,
    )


def _numerics(
    options: Options, runtime: Runtime, exchange: Exchange, stack: tiles.TiledStack | None, fast: Fast | None
) -> str:
    digest = weights.read_digest(registry.weights_file(options.model, options.weights))
    precision = "fp16" if runtime.dtype == torch.float16 else "fp32"
    kernels = "PyTorch's kernels" if fast is None else "own kernels" if stack is None else "own kernels for flow"
    pixels = "pixels by the resizer" if isinstance(exchange, RgbExchange) else "pixels on the device"
    tiling = "whole frames" if stack is None else "tiles of {}x{}".format(*stack.tile)
    model = registry.title(options.model, options.weights)
    return f"{model} {digest[:12]}, PyTorch {torch.__version__}, {precision}, {kernels}, {pixels}, {tiling}"


def _stack(model: RecurrentModel, options: Options, size: tuple[int, int], runtime: Runtime) -> tiles.TiledStack | None:
    """The convolution stack in the user's tiles, or in those that memory asks for; None when one covers the frame."""
    chosen = tiles.choose(size, model.footprint * runtime.dtype.itemsize, runtime.total_memory())
    width, height = (side or default for side, default in zip(options.tile, chosen, strict=True))
    whole = width >= size[1] and height >= size[0]
    return None if whole else tiles.TiledStack(model.sr, model.halo, (width, height))


_models: WeakValueDictionary[tuple[object, ...], nn.Module] = WeakValueDictionary()


def _shared_model(options: Options, runtime: Runtime) -> RecurrentModel:
    """The model on its device; filters with the same weights, device and precision share one copy."""
    file = registry.weights_file(options.model, options.weights)
    content = weights.read_digest(file), file.stat().st_mtime_ns  # a user's file may have changed
    key = (options.model, str(file), content, options.flow_updates, str(runtime.device), runtime.dtype)
    model = _models.get(key)
    if model is None:
        model = registry.load(options.model, options.weights, options.flow_updates).to(runtime.device)
        cast(RecurrentModel, model).sr.to(dtype=runtime.dtype).to(memory_format=torch.channels_last)
        _models[key] = model
    return cast(RecurrentModel, model)


def _check_size(model: RecurrentModel, size: tuple[int, int], runtime: Runtime) -> None:
    height, width = size
    if min(size) < model.min_size:
        raise ClipError(
            f"the clip is {width}x{height}, and the model needs at least {model.min_size} pixels a side; "
            "add borders with std.AddBorders and crop them off afterwards"
        )
    needed = COPIES * HR_BYTES * width * height
    if needed > runtime.total_memory():
        raise DeviceError(
            f"the output of {SCALE * width}x{SCALE * height} needs about {needed >> 30} GiB on {runtime.device}, "
            f"which has {runtime.total_memory() >> 30} GiB; crop or downscale the clip first"
        )
