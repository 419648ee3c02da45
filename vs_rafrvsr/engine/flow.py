"""RAFT in half precision on CUDA: what cuDNN does slowly is arranged for it, what it cannot do has kernels of its own.

Equal to raft.encode and raft.flow but for rounding. Coordinates and the flow itself stay fp32; features are fp16.
- cuDNN's tensor-core kernels want channels in multiples of 8: inputs are padded with zeros, z and r are one
  convolution.
- PyTorch's instance norm copies NHWC to NCHW and back and leaves ReLU and addition to further passes.
- The all-pairs volume is not made: at the bounded working size it would take 266 MB a pair in fp32. Its average-pooled
  levels are the correlation with average-pooled features, so the products are computed where they are looked up.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_rafrvsr.models import raft
from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.models.raft import Features

NORM_CHUNK = 1024
"""Pixels that one program of `moments` sums up."""

LOOK_UP_PIXELS = 8
"""Pixels that one program of `look_up` looks around."""

BATCH_AREA = 4 * raft.MAX_AREA
"""Pixels of RAFT's input that are encoded or matched at once: bounds its memory, and is enough to fill a GPU."""


def batch_size(size: tuple[int, int], scale: float, most: int) -> int:
    """Frames or pairs at once for frames of size (h, w): a function of the size alone, so that numbers are too."""
    height, width = raft.working_size(*size, scale)
    return max(1, min(most, round(BATCH_AREA / (height * width))))


class FastFlow:
    """`RAFRVSR.encode` and `RAFRVSR.flow` in fp16, channels_last."""

    def __init__(self, model: RAFRVSR) -> None:
        net = copy.deepcopy(model.raft).half().to(memory_format=torch.channels_last)
        for encoder in (net.feature_encoder, net.context_encoder):
            _pad_inputs(encoder.convnormrelu[0])
        _replace_blocks(net.feature_encoder)
        self.features, self.context = net.feature_encoder, net.context_encoder
        self.update = _Update(net.update_block)
        self.hidden = net.update_block.hidden_state_size
        self.levels, self.radius = net.corr_block.num_levels, net.corr_block.radius
        self.scale, self.updates = model.flow_input_scale, model.flow_updates

    def encode(self, frames: Tensor) -> Features:
        """As raft.encode; features fp16."""
        x = F.pad(raft.prepare(frames, self.scale), (0, 0, 0, 0, 0, 5)).half()
        x = x.contiguous(memory_format=torch.channels_last)
        return Features(self.features(x), self.context(x))

    def flow(self, features: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
        """As raft.flow, (B, 2, h, w) fp32, of features (current context, current matching, previous matching)."""
        estimate = self._match(*features)
        return raft.to_frame_size(estimate, size, raft.working_size(*size, self.scale))

    def _match(self, context: Tensor, current: Tensor, previous: Tensor) -> Tensor:
        """As raft._match."""
        levels = _pooled(previous, self.levels)
        hidden = torch.tanh(context[:, : self.hidden])
        rest = F.relu(context[:, self.hidden :])
        batch, _, rows, columns = context.shape
        ys = torch.arange(rows, device=context.device, dtype=torch.float32)[:, None].expand(rows, columns)
        xs = torch.arange(columns, device=context.device, dtype=torch.float32).expand(rows, columns)
        origin = torch.stack([xs, ys])
        estimate = torch.zeros(batch, 2, rows, columns, device=context.device, dtype=torch.float32)
        current = current.contiguous(memory_format=torch.channels_last)
        for _ in range(self.updates):
            samples = look_up(current, levels, origin + estimate, self.radius, self.update.samples)
            hidden, delta = self.update(hidden, rest, samples, estimate)
            estimate = estimate + delta
        return estimate


class _Update:
    """torchvision's UpdateBlock with its convolutions padded and merged."""

    def __init__(self, block: Any) -> None:  # noqa: ANN401  (torchvision has no types)
        encoder, gru, head = block.motion_encoder, block.recurrent_block.convgru1, block.flow_head
        self.correlation = _Convolution(encoder.convcorr1[0])
        self.flow = [_Convolution(encoder.convflow1[0]), _Convolution(encoder.convflow2[0])]
        self.motion = _Convolution(encoder.conv[0])
        self.gates = _Convolution(gru.convz, gru.convr)
        self.candidate = _Convolution(gru.convq)
        self.delta = [_Convolution(head.conv1), _Convolution(head.conv2)]
        self.samples = self.correlation.inputs

    def __call__(self, hidden: Tensor, context: Tensor, samples: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden state, fp16, and the change of the flow, fp32."""
        # Zeros behind the flow's two channels pad both its own encoder's input and the recurrence's.
        padded = F.pad(flow, (0, 0, 0, 0, 0, 6)).half().contiguous(memory_format=torch.channels_last)
        encoded = padded
        for layer in self.flow:
            encoded = F.relu_(layer(encoded))
        motion = F.relu_(self.motion(torch.cat([F.relu_(self.correlation(samples)), encoded], 1)))
        given = torch.cat([context, motion, padded], 1)
        update, reset = torch.sigmoid(self.gates(torch.cat([hidden, given], 1))).chunk(2, 1)
        candidate = torch.tanh(self.candidate(torch.cat([reset * hidden, given], 1)))
        hidden = torch.lerp(hidden, candidate, update)
        first, second = self.delta
        return hidden, second(F.relu_(first(hidden)))[:, :2].float()


class _Convolution:
    """One or several convolutions of the same input as one, inputs and outputs padded to multiples of 8."""

    def __init__(self, *layers: nn.Conv2d) -> None:
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
        outputs, inputs = -weight.shape[0] % 8, -weight.shape[1] % 8
        padded = F.pad(weight, (0, 0, 0, 0, 0, inputs, 0, outputs))
        self.weight = padded.contiguous(memory_format=torch.channels_last)
        self.bias = F.pad(bias, (0, outputs))
        self.padding = layers[0].padding
        self.inputs = padded.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


class _Block(nn.Module):
    """torchvision's BottleneckBlock with instance norms whose ReLU and addition take no passes of their own."""

    def __init__(self, block: Any) -> None:  # noqa: ANN401  (torchvision has no types)
        super().__init__()
        self.convolutions = nn.ModuleList(layer[0] for layer in (block.convnormrelu1, block.convnormrelu2))
        self.last = block.convnormrelu3[0]
        self.shortcut = None if isinstance(block.downsample, nn.Identity) else block.downsample[0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D, h / stride, w / stride), fp16, channels_last."""
        shortcut = x if self.shortcut is None else instance_norm(self.shortcut(x), relu=False)
        for convolution in self.convolutions:
            x = instance_norm(convolution(x))
        return instance_norm(self.last(x), shortcut=shortcut)


class _First(nn.Module):
    """The encoder's first convolution, with its norm and ReLU."""

    def __init__(self, layer: Any) -> None:  # noqa: ANN401  (torchvision has no types)
        super().__init__()
        self.convolution = layer[0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, C, h / 2, w / 2)."""
        return instance_norm(self.convolution(x))


def _pad_inputs(layer: nn.Conv2d) -> None:
    """Let a copy of an encoder's first convolution take 8 channels, of which the last 5 do not matter."""
    padded = F.pad(layer.weight, (0, 0, 0, 0, 0, 5)).contiguous(memory_format=torch.channels_last)
    layer.weight = nn.Parameter(padded, requires_grad=False)
    layer.in_channels = 8


def _replace_blocks(encoder: Any) -> None:  # noqa: ANN401  (torchvision has no types)
    """Put our blocks in place of torchvision's in a copy of its feature encoder."""
    encoder.convnormrelu = _First(encoder.convnormrelu)
    for layer in (encoder.layer1, encoder.layer2, encoder.layer3):
        for index, block in enumerate(layer):
            layer[index] = _Block(block)


def instance_norm(x: Tensor, *, relu: bool = True, shortcut: Tensor | None = None) -> Tensor:
    """relu(shortcut + relu(norm(x))), or less where not asked for: (B, C, h, w) fp16, channels_last, per image."""
    from vs_rafrvsr.engine import kernels

    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = x.shape
    area, block = height * width, 1 << (channels - 1).bit_length()
    chunks = -(-area // NORM_CHUNK)
    partial = x.new_empty(batch, chunks, 2, channels, dtype=torch.float32)
    scale = x.new_empty(batch, 2, channels, dtype=torch.float32)
    out = torch.empty_like(x)
    pixels = 4096 // block
    added = x if shortcut is None else shortcut.contiguous(memory_format=torch.channels_last)
    kernels.moments[chunks, batch](x, partial, area, chunks, channels, block, NORM_CHUNK, min(pixels, NORM_CHUNK))
    kernels.settle[(batch,)](partial, scale, area, chunks, channels, block)
    kernels.normalise[-(-area // pixels), batch](
        x, scale, added, out, area, channels, block, pixels, relu, shortcut is not None
    )
    return out


def _pooled(previous: Tensor, levels: int) -> list[Tensor]:
    """Features at every level; a side that has shrunk to 1 is not pooled further (as raft's pyramid)."""
    pyramid = [previous.contiguous(memory_format=torch.channels_last)]
    for _ in range(levels - 1):
        kernel = [min(2, side) for side in pyramid[-1].shape[-2:]]
        pyramid.append(F.avg_pool2d(pyramid[-1], kernel, kernel))
    return pyramid


def look_up(current: Tensor, levels: list[Tensor], position: Tensor, radius: int, channels: int) -> Tensor:
    """As raft._look_up over the volume of current (B, C, rows, columns) with the levels' features.

    Returns (B, channels, rows, columns) fp16, channels_last; channels behind the samples are zero.
    """
    from vs_rafrvsr.engine import kernels

    batch, features, rows, columns = current.shape
    out = current.new_zeros(batch, rows, columns, channels)
    position = position.contiguous()
    for level, previous in enumerate(levels):
        kernels.look_up[-(-rows * columns // LOOK_UP_PIXELS), batch](
            current,
            previous,
            position,
            out,
            rows,
            columns,
            *previous.shape[-2:],
            0.5**level,
            1 / math.sqrt(features),
            level * (2 * radius + 1) ** 2,
            features,
            radius,
            channels,
            LOOK_UP_PIXELS,
        )
    return out.permute(0, 3, 1, 2)
