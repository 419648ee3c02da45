"""Exact tiles: the convolution stack runs on pieces with a halo of its receptive field, everything else stays whole."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vs_rafrvsr.options import MIN_TILE

ALIGN = 8
"""Tiles are a multiple of this, so that few distinct shapes arise."""

LEAST_AREA = 64 * 64
"""Pixels that a tile may have on any device, however little memory it has."""


class TiledStack:
    """Runs a stack of convolutions tile by tile; equal to the whole run to rounding.

    Args:
        net: (1, C, h, w) -> residual (1, R, h, w) and hidden features (1, F, h, w).
        halo: pixels around a pixel that its output depends on.
        tile: (width, height) of the tiles, without halo.
    """

    def __init__(self, net: nn.Module, halo: int, tile: tuple[int, int]) -> None:
        self.net, self.halo, self.tile = net, halo, tile

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The stack's outputs for x (1, C, h, w)."""
        height = x.shape[-2]
        rows = [self._row(x, top, min(top + self.tile[1], height)) for top in range(0, height, self.tile[1])]
        return torch.cat([r for r, _ in rows], 2), torch.cat([h for _, h in rows], 2)

    def _row(self, x: Tensor, top: int, bottom: int) -> tuple[Tensor, Tensor]:
        width = x.shape[-1]
        parts = [
            self._piece(x, top, bottom, left, min(left + self.tile[0], width)) for left in range(0, width, self.tile[0])
        ]
        return torch.cat([r for r, _ in parts], 3), torch.cat([h for _, h in parts], 3)

    def _piece(self, x: Tensor, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor]:
        y0, x0 = max(0, top - self.halo), max(0, left - self.halo)
        piece = x[:, :, y0 : bottom + self.halo, x0 : right + self.halo].contiguous(memory_format=torch.channels_last)
        residual, hidden = self.net(piece)
        inner = (..., slice(top - y0, bottom - y0), slice(left - x0, right - x0))
        return residual[inner], hidden[inner]


def choose(size: tuple[int, int], bytes_per_pixel: int, total_memory: int) -> tuple[int, int]:
    """(width, height) of tiles for a frame of size (h, w): the whole frame where an eighth of the memory holds it.

    A pure function of size, model and *total* memory: what a tile computes must not depend on what else is running.
    """
    height, width = size
    limit = max(LEAST_AREA, total_memory // 8 // bytes_per_pixel)
    columns = rows = 1
    while math.ceil(width / columns) * math.ceil(height / rows) > limit:
        if width / columns >= height / rows:
            columns += 1
        else:
            rows += 1
    return _aligned(width, columns), _aligned(height, rows)


def halved(tile: tuple[int, int]) -> tuple[int, int] | None:
    """(width, height) with the longer side halved; None where that would be less than users may choose."""
    width, height = tile
    if max(tile) < 2 * MIN_TILE:
        return None
    return (_aligned(width, 2), height) if width >= height else (width, _aligned(height, 2))


def _aligned(side: int, pieces: int) -> int:
    return math.ceil(side / pieces / ALIGN) * ALIGN
