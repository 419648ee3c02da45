"""RAFRVSR's recurrent step on our own Triton kernels: packed weights, launches, and the choice of tiles.

cuDNN runs a convolution, its bias, its ReLU and the addition of a residual block as kernels of their own; here each is
one kernel, and so are everything in front of the head (two warps, space-to-depth, concatenation) and everything behind
the tail (depth-to-space, bicubic base). A step is 3 + 2 * blocks launches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from vs_rafrvsr.faults import device_lost, first_line, out_of_memory
from vs_rafrvsr.models.rafrvsr import RAFRVSR, State
from vs_rafrvsr.models.residual_block import ResidualBlock
from vs_rafrvsr.models.warp import SCALE

WIDTHS = (16, 32, 64, 128)
"""Channels that the kernels can have: a block's sides are powers of two, and a matrix product's at least 16."""

EXTRA = 64
"""Input channels of the head besides the hidden features: 48 of the HR frame, 3 of the LR frame, 13 zeros."""

MAX_OFFSET = 2**31
"""Offsets inside a tensor are 32-bit."""


@dataclass(frozen=True)
class Tile:
    """How one kernel is cut up: pixels of a program, its warps, and how many loads deep it is pipelined."""

    rows: int
    columns: int
    warps: int
    stages: int


MODEST = {
    "head": Tile(8, 16, 4, 3),
    "body": Tile(8, 16, 4, 3),
    "tail": Tile(8, 16, 8, 3),
    "align": Tile(4, 16, 4, 1),
}
"""At most 96 KiB of shared memory at 128 channels, 72 at 64: what every GPU from Ampere on has."""

HOPPER = MODEST | {"tail": Tile(8, 8, 4, 3), "align": Tile(2, 16, 4, 1)}
"""The best ones on an H100, over 480x270 and 960x540 together."""


def chosen(device: torch.device) -> dict[str, Tile]:
    """The tiles of every kernel on this device.

    scripts/bench_network.py measures, and its choice is written down, never made while a filter runs: the same device
    must run the same kernel for the same frame, or its last bits would differ from run to run.
    """
    hopper = device.type == "cuda" and torch.cuda.get_device_capability(device) == (9, 0)
    return HOPPER if hopper else MODEST


def obstacle(model: nn.Module, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernels cannot run this model there, for frames of size (h, w); None where they can."""
    if device.type != "cuda":
        return "there is no CUDA device"
    if dtype != torch.float16:
        return "the precision is not fp16"
    if not isinstance(model, RAFRVSR) or model.channels not in WIDTHS:
        return "the model has another shape"
    if size[0] * size[1] * max(model.channels + EXTRA, 3 * SCALE**2) >= MAX_OFFSET:
        return "the frame is too large"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "the GPU is older than Ampere"
    return _trouble(device)


@cache
def _trouble(device: torch.device) -> str | None:
    """Why Triton cannot be used: it may be missing, or have no compiler or no folder to write to. Trying it tells."""
    try:
        found = torch.zeros(1, dtype=torch.int32, device=device)
        _kernels().probe[(1,)](found)
        return None if int(found) == 1 else "Triton computes wrongly"
    except Exception as error:  # whatever a foreign library throws, there is another way
        if out_of_memory(error) or device_lost(error):
            raise
        return f"Triton cannot be used ({type(error).__name__}: {first_line(error)})"


class FastStep:
    """`RAFRVSR.step` for one frame at a time, equal to it to fp16's rounding; the state's layout is channels_last."""

    def __init__(self, model: RAFRVSR, tiles: dict[str, Tile] | None = None) -> None:
        self.tiles = chosen(model.base.kernel.device) | (tiles or {})
        self.channels = model.channels
        self.head = _pack(_ordered(model.sr.head, self.channels), model.sr.head.bias, self.channels)
        blocks = cast(Iterable[ResidualBlock], model.sr.body)
        convolutions = [layer for block in blocks for layer in (block.a, block.b)]
        self.body = [_pack(layer.weight, layer.bias, self.channels) for layer in convolutions]
        self.tail = _pack(model.sr.tail.weight, model.sr.tail.bias, 64)
        self.base = model.base.kernel.reshape(SCALE**2, 25).float().contiguous()

    def run(self, lr: Tensor, state: State, flow: Tensor, out: State) -> Tensor:
        """The step into `out`, which may be `state`: the state is read before anything of it is overwritten.

        Returns the output frame (1, 3, 4h, 4w): `out.hr`, and bicubically what lr has outside [0, 1].
        """
        aligned = self.align(lr, state, flow)
        hidden = out.hidden[0].permute(1, 2, 0)
        self.convolve(aligned, self.head, hidden, relu=True)
        self.residual_blocks(hidden)
        return self.finish(hidden, lr, out.hr)

    def align(self, lr: Tensor, state: State, flow: Tensor) -> Tensor:
        """The head's input (h, w, channels + EXTRA)."""
        kernels, tile = _kernels(), self.tiles["align"]
        height, width = lr.shape[-2:]
        out = lr.new_empty(height, width, self.channels + EXTRA, dtype=torch.float16)
        hidden = state.hidden.contiguous(memory_format=torch.channels_last)
        kernels.align[_programs(tile, height, width)](
            lr.contiguous(),
            state.hr.contiguous(),
            hidden,
            flow.contiguous(),
            out,
            height,
            width,
            self.channels,
            tile.rows,
            tile.columns,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
        return out

    def residual_blocks(self, x: Tensor) -> None:
        """All blocks, in place: x (h, w, channels)."""
        between = torch.empty_like(x)
        for first, second in zip(self.body[::2], self.body[1::2], strict=True):
            self.convolve(x, first, between, relu=True)
            self.convolve(between, second, x, residual=x)

    def convolve(
        self,
        x: Tensor,
        packed: tuple[Tensor, Tensor],
        out: Tensor,
        *,
        residual: Tensor | None = None,
        relu: bool = False,
    ) -> None:
        """A 3x3 convolution with its bias, then ReLU or `+ residual`: x (h, w, C) -> out (h, w, channels)."""
        weight, bias = packed
        height, width, inputs = x.shape
        outputs = out.shape[-1]
        depth = min(64, outputs)
        tile = self.tiles["body" if inputs == outputs else "head"]
        _kernels().convolve[_programs(tile, height, width)](
            x,
            weight,
            bias,
            x if residual is None else residual,
            out,
            height,
            width,
            inputs,
            outputs,
            depth,
            relu,
            residual is not None,
            tile.rows,
            tile.columns,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )

    def finish(self, hidden: Tensor, lr: Tensor, hr: Tensor) -> Tensor:
        """The tail and the bicubic base: hidden (h, w, channels), lr (1, 3, h, w) -> hr, and the frame (see `run`)."""
        tile = self.tiles["tail"]
        height, width = lr.shape[-2:]
        weight, bias = self.tail
        frame = torch.empty_like(hr)
        _kernels().finish[_programs(tile, height, width)](
            hidden,
            weight,
            bias,
            lr.contiguous(),
            self.base,
            hr,
            frame,
            height,
            width,
            self.channels,
            min(64, self.channels),
            tile.rows,
            tile.columns,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
        return frame


def _kernels() -> Any:  # noqa: ANN401  (a module that needs Triton, loaded only where it is there)
    from vs_rafrvsr.engine.cuda import step_kernels

    return step_kernels


def _programs(tile: Tile, height: int, width: int) -> tuple[int]:
    return (-(-height // tile.rows) * -(-width // tile.columns),)


def _ordered(head: nn.Conv2d, channels: int) -> Tensor:
    """The head's weight, inputs (LR, HR, hidden), for the order in which `align` writes them: (hidden, HR, LR, zeros).

    Hidden features come first, so that they begin where 16-byte accesses can.
    """
    frame, hr, hidden = head.weight.split([3, 3 * SCALE**2, channels], 1)
    zeros = frame.new_zeros(frame.shape[0], EXTRA - 3 - 3 * SCALE**2, 3, 3)
    return torch.cat([hidden, hr, frame, zeros], 1)


def _pack(weight: Tensor, bias: Tensor | None, outputs: int) -> tuple[Tensor, Tensor]:
    """(N, C, 3, 3) and (N) -> (9 * C, outputs) and (outputs) fp16, zeros where there is no such output."""
    assert bias is not None
    missing = outputs - weight.shape[0]
    rows = weight.detach().permute(2, 3, 1, 0).reshape(-1, weight.shape[0])
    packed = nn.functional.pad(rows, (0, missing)).half().contiguous()
    return packed, nn.functional.pad(bias.detach(), (0, missing)).half().contiguous()
