"""RAFT's own kernels as functions of tensors, NHWC: blocks and grids for flow_kernels.py."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ELEMENTS = 4096
"""Elements of one program that works element by element."""

CONVOLVE_PIXELS = 128
"""Pixels of one program of `convolve`."""

CONVOLVE_STAGES = 3
"""How many loads deep it is pipelined: at most 96 KiB of shared memory, which every GPU from Ampere on has."""

SIDE = 8
"""A program of `correlate` takes SIDE x SIDE pixels."""

CORRELATE = {"num_warps": 8, "num_stages": 2, "maxnreg": 128}
"""At most 128 registers, so that two programs of `correlate` run on a multiprocessor."""

LOOK_UP_PIXELS = 64
"""Pixels of one program of `look_up`."""

LOOK_UP = {"num_warps": 8, "num_stages": 2}
"""At most 96 KiB of shared memory."""


def _kernels() -> Any:  # noqa: ANN401  (a module that needs Triton, loaded only where it is there)
    from vs_rafrvsr.engine.cuda import flow_kernels

    return flow_kernels


def _power(channels: int) -> int:
    """The power of two from `channels` on: a block's sides must be some."""
    return 1 << (channels - 1).bit_length()


def pack(frames: Tensor, multiple: int) -> Tensor:
    """Frames (B, 3, h, w) fp32 in [0, 1] -> [-1, 1], (B, H, W, 8) fp16, padded to multiples of `multiple`."""
    batch, _, height, width = frames.shape
    rows, columns = (-(-side // multiple) * multiple for side in (height, width))
    out = frames.new_empty(batch, rows, columns, 8, dtype=torch.float16)
    pixels = ELEMENTS // 8
    grid = (-(-rows * columns // pixels), batch)
    _kernels().pack[grid](frames.contiguous(), out, height, width, rows, columns, pixels)
    return out


class Convolution:
    """A convolution, inputs and outputs padded to multiples of 8, and what follows it: bias and ReLU, or instance norm.

    Faster than cuDNN's where channels are few, because nothing that follows takes a pass over memory.
    """

    def __init__(self, layer: nn.Conv2d, *, relu: bool = True) -> None:
        weight, self.relu = layer.weight.detach(), relu
        self.outputs, self.inputs = (-(-side // 8) * 8 for side in weight.shape[:2])
        self.side, self.step = layer.kernel_size[0], layer.stride[0]
        self.block = max(16, _power(self.outputs))
        row = self.side * self.inputs
        self.depth = min(max(16, _power(row)), 64 if row % 64 == 0 else 32)
        missing, outputs = self.inputs - weight.shape[1], weight.shape[0]
        rows = F.pad(weight, (0, 0, 0, 0, 0, missing)).permute(2, 3, 1, 0).reshape(self.side, row, outputs)
        self.weight = F.pad(rows, (0, self.block - outputs, 0, -row % self.depth)).half().contiguous()
        assert layer.bias is not None
        self.bias = F.pad(layer.bias.detach().float(), (0, self.outputs - outputs))

    def __call__(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """(B, h, w, C) -> (B, h', w', D) fp16, with bias and ReLU; `out` may be channels of a larger tensor."""
        out = self._empty(x) if out is None else out
        self._launch(x, None, out, None)
        return out

    def normed(self, x: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The convolution of x, or of relu(x scaled), without bias; and the scale that normalises it (see activate)."""
        out = self._empty(x)
        batch, height, width, channels = out.shape
        block, parts = _power(channels), self._parts(out)
        partial = x.new_empty(batch, parts, 2, channels, dtype=torch.float32)
        self._launch(x, scale, out, partial)
        norm = x.new_empty(batch, 2, channels, dtype=torch.float32)
        at_once = min(2 * ELEMENTS // block, _power(parts))
        _kernels().settle[(batch,)](partial, norm, height * width, parts, channels, block, at_once)
        return out, norm

    def _empty(self, x: Tensor) -> Tensor:
        height, width = (-(-side // self.step) for side in x.shape[1:3])
        return x.new_empty(len(x), height, width, self.outputs)

    def _parts(self, out: Tensor) -> int:
        return -(-out.shape[1] * out.shape[2] // CONVOLVE_PIXELS)

    def _launch(self, x: Tensor, scale: Tensor | None, out: Tensor, partial: Tensor | None) -> None:
        _kernels().convolve[self._parts(out), len(x)](
            x,
            self.bias if scale is None else scale,
            self.weight,
            self.bias,
            out,
            self.bias if partial is None else partial,
            *x.shape[1:3],
            *out.shape[1:3],
            self.inputs,
            self.depth,
            self.outputs,
            self.block,
            self.side,
            self.step,
            out.stride(-2),
            scale is not None,
            partial is not None,
            self.relu and partial is None,
            CONVOLVE_PIXELS,
            num_warps=8 if self.block > 64 else 4,
            num_stages=CONVOLVE_STAGES,
        )


def activate(
    x: Tensor, scale: Tensor | None, shortcut: Tensor | None = None, shortcut_scale: Tensor | None = None
) -> Tensor:
    """relu(x), and then relu(shortcut + that); both are scaled first if they have a scale.

    Args:
        x: (B, h, w, C) fp16, as shortcut; scaled is x * scale[:, 0] + scale[:, 1].
        scale: (B, 2, C) fp32, as shortcut_scale.
    """
    batch, height, width, channels = x.shape
    area, block = height * width, _power(channels)
    out = torch.empty_like(x)
    pixels = ELEMENTS // block
    _kernels().activate[-(-area // pixels), batch](
        x,
        x if scale is None else scale,
        x if shortcut is None else shortcut,
        x if shortcut_scale is None else shortcut_scale,
        out,
        area,
        channels,
        block,
        scale is not None,
        shortcut is not None,
        shortcut_scale is not None,
        pixels,
    )
    return out


class LookUp:
    """The look-up in the correlation volume (RAFT, section 3.2), with the motion encoder's first layer."""

    def __init__(self, layer: nn.Conv2d, levels: int) -> None:
        self.outputs, samples = layer.weight.shape[:2]
        self.levels, self.side = levels, math.isqrt(samples // levels)
        self.block = _power(self.outputs)
        weight = layer.weight.detach().reshape(self.outputs, levels, self.side, self.side).permute(1, 2, 3, 0)
        # Samples lie between products: a sample's weight goes to the product above it and to the one below.
        missing, end = self.block - self.outputs, 8 - self.side
        above, below = F.pad(weight, (0, missing, 0, end, 0, end)), F.pad(weight, (0, missing, 1, end - 1, 0, end))
        self.weight = torch.stack([above, below], 1).reshape(levels, 2, 64, self.block).half().contiguous()
        assert layer.bias is not None
        self.bias = layer.bias.detach().float()

    def __call__(self, current: Tensor, pyramid: Tensor, estimate: Tensor, *, out: Tensor) -> None:
        """What a window around every pixel's place in the previous frame looks like.

        Args:
            current: (B, rows, columns, C) fp16.
            pyramid: (B, positions, C) fp16, the previous frame's features at all levels.
            estimate: (B, rows, columns, 8) fp32, the flow's x and y first.
            out: (B, rows, columns, outputs) fp16, may be channels of a larger tensor.
        """
        self.blend(self.correlate(current, pyramid, estimate), estimate, out)

    def correlate(self, current: Tensor, pyramid: Tensor, estimate: Tensor) -> Tensor:
        """Products (B, rows, columns, levels, 64) fp16 around the windows' samples."""
        batch, rows, columns, channels = current.shape
        products = current.new_empty(batch, rows, columns, self.levels, 64)
        _kernels().correlate[-(-rows // SIDE) * -(-columns // SIDE), self.levels, batch](
            current,
            pyramid,
            estimate,
            products,
            rows,
            columns,
            pyramid.shape[1],
            1 / math.sqrt(channels),
            channels,
            self.side // 2,
            self.levels,
            SIDE,
            **CORRELATE,
        )
        return products

    def blend(self, products: Tensor, estimate: Tensor, out: Tensor) -> None:
        """`out` of the products."""
        batch, rows, columns = estimate.shape[:3]
        pixels = batch * rows * columns
        _kernels().look_up[(-(-pixels // LOOK_UP_PIXELS),)](
            products,
            estimate,
            self.weight,
            self.bias,
            out,
            pixels,
            rows,
            columns,
            self.outputs,
            self.block,
            out.stride(-2),
            self.levels,
            LOOK_UP_PIXELS,
            **LOOK_UP,
        )


def reset(gates: Tensor, bias: Tensor, hidden: Tensor, joined: Tensor) -> Tensor:
    """The GRU's update gate, like hidden (B, h, w, C) fp16; joined begins with what its reset gate leaves of hidden."""
    update = torch.empty_like(hidden)
    _gru(_kernels().reset, gates, bias, hidden, update, joined)
    return update


def advance(candidate: Tensor, bias: Tensor, update: Tensor, hidden: Tensor, joined: Tensor) -> None:
    """The GRU's next hidden state in `hidden` and in the first channels of `joined`."""
    _gru(_kernels().advance, candidate, bias, hidden, update, joined)


def _gru(kernel: Any, x: Tensor, bias: Tensor, hidden: Tensor, update: Tensor, joined: Tensor) -> None:  # noqa: ANN401
    channels = hidden.shape[-1]
    pixels, block = hidden.numel() // channels, _power(channels)
    part = ELEMENTS // block
    kernel[(-(-pixels // part),)](x, bias, hidden, update, joined, pixels, channels, block, joined.stride(-2), part)


def move(delta: Tensor, estimate: Tensor, flow: Tensor, out: Tensor) -> None:
    """estimate += delta, fp32, and its fp16 copies in `flow` and `out`; all (B, h, w, 8)."""
    pixels, part = estimate.numel() // 8, ELEMENTS // 8
    _kernels().move[(-(-pixels // part),)](delta, estimate, flow, out, pixels, out.stride(-2), part)
