"""FRVSR 10-64 (Sajjadi, Vemulapalli, Brown 2018, arXiv 1801.04590): the model that RAFRVSR starts from.

FNet estimates the flow from two LR frames, the previous HR output is warped by it and moved to LR by space-to-depth,
and SRNet makes the next output from that and the LR frame; nothing else is handed on.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vs_rafrvsr.models.registry import Stack
from vs_rafrvsr.models.residual_block import ResidualBlock
from vs_rafrvsr.models.warp import SCALE, BicubicBase, space_to_depth, upsample_flow, warp

LEAK = 0.2
LARGEST_FLOW = 24.0
"""LR pixels; the paper's tanh ends FNet, its range is TecoGAN's."""
MAX_PIXELS = 2**24
"""Most pixels of FNet's input at once: PyTorch's channels_last upsampling counts its 64 channels of them in 32 bits."""


class Features(NamedTuple):
    """FNet sees pairs: a frame is its own feature."""

    frames: Tensor
    """(B, 3, h, w) in [0, 1]."""


class State(NamedTuple):
    """What one step leaves for the next."""

    hr: Tensor
    """(B, 3, 4h, 4w) fp32, the HR output."""


class FNet(nn.Module):
    """Flow between two frames: an encoder-decoder of 14 convolutions (figure 2, left)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (6, 32, 64, 128, 256, 128, 64)
        self.stages = nn.ModuleList(
            nn.ModuleList((nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1))) for a, b in pairwise(widths)
        )
        self.last = nn.ModuleList((nn.Conv2d(64, 32, 3, padding=1), nn.Conv2d(32, 2, 3, padding=1)))

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """Frames (B, 3, h, w) in [0, 1] -> flow (B, 2, h, w) from current to previous, in pixels.

        Many pairs are taken a few at a time; how many depends on the size alone.
        """
        height, width = current.shape[-2:]
        pairs = max(1, MAX_PIXELS // (height * width))
        parts = [self._match(*pair) for pair in zip(current.split(pairs), previous.split(pairs), strict=True)]
        return torch.cat(parts)

    def _match(self, current: Tensor, previous: Tensor) -> Tensor:
        """The input is centred, else the network does not leave zero flow; sides are padded to multiples of 8."""
        height, width = current.shape[-2:]
        x = torch.cat([current, previous], 1) * 2 - 1
        x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        for index, stage in enumerate(self.stages):
            for layer in stage:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
                x = F.leaky_relu(layer(x), LEAK)
            if index < 3:
                x = F.max_pool2d(x, 2)
            else:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.last[1](F.leaky_relu(self.last[0](x), LEAK))
        flow: Tensor = torch.tanh(x.float()) * LARGEST_FLOW
        return flow[..., :height, :width]


class SRNet(nn.Module):
    """Convolution, residual blocks, two transposed convolutions, convolution (figure 2, right)."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3 + 3 * SCALE**2, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1) for _ in range(2)
        )
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 51, h, w) -> residual (B, 48, h, w) after space-to-depth, and no hidden features: (B, 0, h, w)."""
        y = self.body(F.relu(self.head(x)))
        for layer in self.up:
            y = F.relu(layer(y))
        return space_to_depth(self.tail(y)), x[:, :0]


class FRVSR(nn.Module):
    """The recurrent model, see `registry.RecurrentModel`. As TecoGAN's, SRNet adds to the bicubic upscale.

    Args:
        channels: width of SRNet.
        blocks: residual blocks of SRNet.
        offset: phase of the LR samples, see BicubicBase.
    """

    min_size = 16

    def __init__(self, *, channels: int = 64, blocks: int = 10, offset: float = -1.5) -> None:
        super().__init__()
        self.fnet = FNet()
        self.sr = SRNet(channels, blocks)
        self.halo = 2 + 2 * blocks  # what follows the body reaches one LR pixel in all
        self.footprint = 3 + 3 * SCALE**2 + 3 * channels * SCALE**2
        self.base = BicubicBase(offset)

    def encode(self, frames: Tensor) -> Features:
        """Frames (B, 3, h, w) in [0, 1], for `flow`."""
        return Features(frames)

    def flow(self, current: Features, previous: Features, size: tuple[int, int]) -> Tensor:
        """Flow (B, 2, h, w) from each current frame to its previous one, in LR pixels, for frames of size (h, w)."""
        flow: Tensor = self.fnet(current.frames, previous.frames)
        return flow

    def empty_state(self, lr: Tensor) -> State:
        """The state before the first frame of a shot: black."""
        batch, _, height, width = lr.shape
        return State(torch.zeros(batch, 3, SCALE * height, SCALE * width, device=lr.device, dtype=torch.float32))

    def step(self, lr: Tensor, state: State, flow: Tensor | None, stack: Stack | None = None) -> State:
        """One frame: lr (B, 3, h, w) fp32 in [0, 1]; flow (B, 2, h, w) to the state's frame, None for no motion.

        `stack` runs SRNet another way, for example in tiles.
        """
        hr = state.hr if flow is None else warp(state.hr, upsample_flow(flow))
        aligned = torch.cat([lr, space_to_depth(hr)], 1).to(self.sr.head.weight.dtype)
        residual, _ = (stack or self.sr)(aligned.contiguous(memory_format=torch.channels_last))
        return State(self.base(lr, residual))
