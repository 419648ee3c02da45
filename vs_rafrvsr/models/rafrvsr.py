"""RAFRVSR: FRVSR (Sajjadi et al. 2018) whose flow network is RAFT (Teed & Deng 2020), with propagated hidden features.

One step takes the LR frame, the previous HR output warped by the flow and moved to LR by space-to-depth, and the
previous step's hidden features warped by the same flow; SRNet adds its residual to the bicubic upscale.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_small

from vs_rafrvsr.models import raft
from vs_rafrvsr.models.registry import Stack
from vs_rafrvsr.models.residual_block import ResidualBlock
from vs_rafrvsr.models.warp import SCALE, BicubicBase, space_to_depth, upsample_flow, warp


class State(NamedTuple):
    """What one step leaves for the next."""

    hr: Tensor
    """(B, 3, 4h, 4w) fp32, the HR output."""
    hidden: Tensor
    """(B, channels, h, w) in the network's dtype."""


class SRNet(nn.Module):
    """Head, residual body, and a tail of one convolution: a 4x4 block of RGB for every LR pixel.

    The body's output is both the tail's input and the hidden features that the next step gets, warped.
    """

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(inputs, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, 3 * SCALE**2, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, h, w) -> residual (B, 48, h, w) before depth-to-space, hidden features (B, channels, h, w)."""
        hidden = self.body(F.relu(self.head(x)))
        return self.tail(hidden), hidden


class RAFRVSR(nn.Module):
    """The recurrent model. `encode` and `flow` may be batched over frames; `step` is the recurrence.

    Args:
        channels: width of SRNet.
        blocks: residual blocks of SRNet.
        flow_updates: RAFT's updates.
        flow_input_scale: RAFT sees the frames upscaled by this factor (bounded by raft.MAX_AREA).
        offset: phase of the LR samples, see BicubicBase.
    """

    min_size = 16

    def __init__(
        self, *, channels: int, blocks: int, flow_updates: int, flow_input_scale: float, offset: float = -1.5
    ) -> None:
        super().__init__()
        self.channels = channels
        self.flow_updates = flow_updates
        self.flow_input_scale = flow_input_scale
        self.raft = raft_small(weights=None)
        self.sr = SRNet(3 + 3 * SCALE**2 + channels, channels, blocks)
        self.halo = 2 + 2 * blocks
        self.footprint = 3 + 3 * SCALE**2 + channels + 3 * max(channels, 3 * SCALE**2)
        self.base = BicubicBase(offset)

    def encode(self, frames: Tensor) -> raft.Features:
        """Features of frames (B, 3, h, w) in [0, 1], for `flow`."""
        return raft.encode(self.raft, frames, self.flow_input_scale)

    def flow(self, current: raft.Features, previous: raft.Features, size: tuple[int, int]) -> Tensor:
        """Flow (B, 2, h, w) from each current frame to its previous one, in LR pixels, for frames of size (h, w)."""
        return raft.flow(self.raft, current, previous, size, self.flow_input_scale, self.flow_updates)

    def empty_state(self, lr: Tensor) -> State:
        """The state before the first frame of a shot: zeros."""
        batch, _, height, width = lr.shape
        weight = self.sr.head.weight
        return State(
            torch.zeros(batch, 3, SCALE * height, SCALE * width, device=lr.device, dtype=torch.float32),
            torch.zeros(batch, self.channels, height, width, device=lr.device, dtype=weight.dtype),
        )

    def step(self, lr: Tensor, state: State, flow: Tensor | None, stack: Stack | None = None) -> State:
        """One frame: lr (B, 3, h, w) fp32 in [0, 1]; flow (B, 2, h, w) to the state's frame, None for no motion.

        `stack` runs SRNet another way, for example in tiles.
        """
        residual, hidden = (stack or self.sr)(self._aligned(lr, state, flow))
        return State(self.base(lr, residual), hidden)

    def _aligned(self, lr: Tensor, state: State, flow: Tensor | None) -> Tensor:
        """What SRNet gets; of the large tensors on the way none is left."""
        dtype = state.hidden.dtype
        hr = state.hr if flow is None else warp(state.hr, upsample_flow(flow))
        moved = space_to_depth(hr).to(dtype)
        del hr
        hidden = state.hidden if flow is None else warp(state.hidden, flow)
        return torch.cat([lr.to(dtype), moved, hidden], 1).contiguous(memory_format=torch.channels_last)
