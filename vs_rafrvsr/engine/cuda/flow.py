"""RAFT in half precision on CUDA: the recurrence's wide convolutions by cuDNN, all else by kernels of our own.

Equal to raft.encode and raft.flow but for rounding. The flow itself and its coordinates stay fp32; features are fp16.
- RAFT-small's layers are so narrow that passes over memory cost more than arithmetic. Our convolutions normalise what
  they read, add the bias, apply the ReLU, and write where the next one reads: nothing is concatenated or copied.
- Tensor cores want channels in multiples of 8: inputs and outputs are padded with zeros, the flow has 8 channels, z and
  r are one convolution.
- The all-pairs volume is not made: at the bounded working size it would take 266 MB a pair in fp32. Its average-pooled
  levels are the correlation with average-pooled features, so the products are computed where they are looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_rafrvsr.engine.cuda import flow_launches as launches
from vs_rafrvsr.models import raft
from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.models.raft import Features

BATCH_AREA = 4 * raft.MAX_AREA
"""Pixels of RAFT's input that are encoded or matched at once: bounds its memory, and is enough to fill a GPU."""


def batch_size(size: tuple[int, int], scale: float, most: int) -> int:
    """Frames or pairs at once for frames of size (h, w): a function of the size alone, so that numbers are too."""
    height, width = raft.working_size(*size, scale)
    return max(1, min(most, round(BATCH_AREA / (height * width))))


class FastFlow:
    """`RAFRVSR.encode` and `RAFRVSR.flow` in fp16; inside, tensors are NHWC."""

    def __init__(self, model: RAFRVSR) -> None:
        net = model.raft
        self.features = _Encoder(net.feature_encoder, normed=True)
        self.context = _Encoder(net.context_encoder, normed=False)
        self.levels = net.corr_block.num_levels
        self.update = _Update(net.update_block, self.levels)
        self.scale, self.updates = model.flow_input_scale, model.flow_updates
        self._enlarging = cache(_enlarging)

    def encode(self, frames: Tensor) -> Features:
        """As raft.encode; features fp16."""
        x = self._prepare(frames)
        return Features(_nchw(self.features(x)), _nchw(self.context(x)))

    def _prepare(self, frames: Tensor) -> Tensor:
        """As raft.prepare, (B, H, W, 8) fp16."""
        size = raft.working_size(frames.shape[-2], frames.shape[-1], self.scale)
        if size != frames.shape[-2:]:
            antialias = size[0] < frames.shape[-2]
            frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=antialias)
        return launches.pack(frames, raft.STRIDE)

    def flow(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """As raft.flow, (B, 2, h, w) fp32, of features (current context, current matching, previous matching)."""
        estimate = _nchw(self._match(*features))[:, :2]
        down, across = self._enlarging(estimate.shape[-2:], size, raft.working_size(*size, self.scale), estimate.device)
        return down @ (estimate.contiguous() @ across)

    def _match(self, context: Tensor, current: Tensor, previous: Tensor) -> Tensor:
        """As raft._match; the flow is (B, H/8, W/8, 8), zeros behind its two channels."""
        current, pyramid = _nhwc(current), _pyramid(previous, self.levels)
        state = self.update.begin(_nhwc(context))
        for _ in range(self.updates):
            self.update(state, current, pyramid)
        return state.estimate


@dataclass(kw_only=True)
class _State:
    """What an update works on, (B, rows, columns, C); the convolutions' inputs are filled in place."""

    hidden: Tensor
    joined: Tensor
    """The recurrence's input: hidden state (or what the reset gate leaves of it), context, motion, flow."""
    motion: Tensor
    """The motion encoder's last layer's input: encoded correlations, encoded flow."""
    estimate: Tensor
    """The flow, fp32."""
    flow: Tensor
    """The flow, fp16."""


class _Update:
    """torchvision's UpdateBlock, in place."""

    def __init__(self, block: Any, levels: int) -> None:  # noqa: ANN401  (torchvision has no types)
        encoder, gru, head = block.motion_encoder, block.recurrent_block.convgru1, block.flow_head
        self.correlation = launches.LookUp(encoder.convcorr1[0], levels)
        self.flow = [launches.Convolution(layer[0]) for layer in (encoder.convflow1, encoder.convflow2)]
        self.motion = launches.Convolution(encoder.conv[0])
        self.gates = _Convolution(gru.convz, gru.convr)
        self.candidate = _Convolution(gru.convq)
        self.delta = [launches.Convolution(head.conv1), launches.Convolution(head.conv2, relu=False)]
        self.hidden = block.hidden_state_size

    def begin(self, context: Tensor) -> _State:
        """The state before the first update, of the context encoder's output (B, rows, columns, C)."""
        *grid, channels = context.shape
        state = _State(
            hidden=torch.tanh(context[..., : self.hidden]).contiguous(),
            joined=context.new_zeros(*grid, self.gates.inputs),
            motion=context.new_empty(*grid, self.motion.inputs),
            estimate=context.new_zeros(*grid, 8, dtype=torch.float32),
            flow=context.new_zeros(*grid, 8),
        )
        state.joined[..., : self.hidden] = state.hidden
        state.joined[..., self.hidden : channels] = F.relu(context[..., self.hidden :])
        return state

    def __call__(self, state: _State, current: Tensor, pyramid: Tensor) -> None:
        """One update: the next hidden state and flow."""
        self.correlation(current, pyramid, state.estimate, out=state.motion[..., : self.correlation.outputs])
        self.recur(state)

    def recur(self, state: _State) -> None:
        """An update behind its look-up."""
        first, second = self.flow
        second(first(state.flow), out=state.motion[..., self.correlation.outputs :])
        self.motion(state.motion, out=state.joined[..., -8 - self.motion.outputs : -8])
        update = launches.reset(self.gates(state.joined), self.gates.bias, state.hidden, state.joined)
        launches.advance(self.candidate(state.joined), self.candidate.bias, update, state.hidden, state.joined)
        first, second = self.delta
        launches.move(second(first(state.hidden)), state.estimate, state.flow, state.joined[..., -8:])


class _Convolution:
    """One or several convolutions of the same input, by cuDNN: (B, h, w, C) -> (B, h, w, D) fp16, without bias."""

    def __init__(self, *layers: nn.Conv2d) -> None:
        weight = torch.cat([layer.weight.detach() for layer in layers])
        self.inputs = -(-weight.shape[1] // 8) * 8
        padded = F.pad(weight, (0, 0, 0, 0, 0, self.inputs - weight.shape[1])).half()
        self.weight = padded.contiguous(memory_format=torch.channels_last)
        self.bias = torch.cat([layer.bias.detach().float() for layer in layers if layer.bias is not None])
        self.padding = layers[0].padding

    def __call__(self, x: Tensor) -> Tensor:
        return _nhwc(F.conv2d(_nchw(x), self.weight, padding=self.padding))


class _Encoder:
    """torchvision's FeatureEncoder, with instance norms or none."""

    def __init__(self, encoder: Any, *, normed: bool) -> None:  # noqa: ANN401  (torchvision has no types)
        self.first = _Layer(encoder.convnormrelu, normed)
        self.blocks = [
            _Block(block, normed) for layer in (encoder.layer1, encoder.layer2, encoder.layer3) for block in layer
        ]
        self.weight, self.bias = encoder.conv.weight.detach().half().flatten(1), encoder.conv.bias.detach().half()

    def __call__(self, x: Tensor) -> Tensor:
        """(B, H, W, 8) -> (B, H/8, W/8, C)."""
        x, scale = self.first(x)
        if scale is not None:
            x = launches.activate(x, scale)
        for block in self.blocks:
            x = block(x)
        return F.linear(x, self.weight, self.bias)


class _Block:
    """torchvision's BottleneckBlock."""

    def __init__(self, block: Any, normed: bool) -> None:  # noqa: ANN401  (torchvision has no types)
        self.first, self.second = _Layer(block.convnormrelu1, normed), _Layer(block.convnormrelu2, normed)
        self.last = _Layer(block.convnormrelu3, normed)
        projects = not isinstance(block.downsample, nn.Identity)
        self.shortcut = _Layer(block.downsample, normed, relu=False) if projects else None

    def __call__(self, x: Tensor) -> Tensor:
        shortcut = (x, None) if self.shortcut is None else self.shortcut(x)
        return launches.activate(*self.last(*self.second(*self.first(x))), *shortcut)


class _Layer:
    """A convolution with bias and ReLU; or, with an instance norm, the bare convolution and the scale to follow."""

    def __init__(self, layer: Any, normed: bool, *, relu: bool = True) -> None:  # noqa: ANN401  (as above)
        self.convolution, self.normed = launches.Convolution(layer[0], relu=relu), normed

    def __call__(self, x: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.convolution.normed(x, scale) if self.normed else (self.convolution(x), None)


def _enlarging(
    grid: tuple[int, int], size: tuple[int, int], working: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """raft.to_frame_size as matrices, (2, h, H/8) and (W/8, w): it is linear, and works along one axis at a time.

    Its passes over images of the working size cost more than all products.
    """
    # Along one axis the other is short, and constant; which of the two ways of resizing is taken depends on the height.
    short = 4 if working[0] > size[0] else 8
    rows, columns = (torch.eye(side, device=device)[:, None, None].expand(-1, 2, 1, -1) for side in grid)
    down = raft.to_frame_size(rows.mT, (size[0], short), (working[0], 8))[:, 0, :, 0].T
    across = raft.to_frame_size(columns, (short, size[1]), (8, working[1]))[:, 0, 0]
    down, across = down / down.sum(1, keepdim=True), across / across.sum(0)
    return torch.stack([down * (raft.STRIDE * s / w) for s, w in zip(size[::-1], working[::-1], strict=True)]), across


def _pyramid(previous: Tensor, levels: int) -> Tensor:
    """Features (B, C, rows, columns) at every level, one behind the other: (B, positions, C).

    A side that has shrunk to 1 is not pooled further (as raft's pyramid).
    """
    pyramid = [previous.contiguous(memory_format=torch.channels_last)]
    for _ in range(levels - 1):
        kernel = [min(2, side) for side in pyramid[-1].shape[-2:]]
        pyramid.append(F.avg_pool2d(pyramid[-1], kernel, kernel))
    return torch.cat([_nhwc(level).flatten(1, 2) for level in pyramid], 1)


def _nchw(x: Tensor) -> Tensor:
    """A view."""
    return x.permute(0, 3, 1, 2)


def _nhwc(x: Tensor) -> Tensor:
    """A view of what is channels_last, else a copy."""
    return x.permute(0, 2, 3, 1).contiguous()
