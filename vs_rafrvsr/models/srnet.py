"""SRNet: the residual network that turns the aligned inputs of one step into the HR frame (FRVSR, section 3.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """x + b(relu(a(x))), two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        y: Tensor = x + self.b(F.relu(self.a(x)))
        return y


class SRNet(nn.Module):
    """Head, residual body, and a tail of one convolution to 48 channels, the 4x4 RGB block of every LR pixel.

    The body's output is both the tail's input and the hidden features that the next step gets, warped.
    """

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(inputs, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, 48, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, h, w) -> residual (B, 48, h, w) before depth-to-space, hidden features (B, channels, h, w)."""
        hidden = self.body(F.relu(self.head(x)))
        return self.tail(hidden), hidden
