"""Tiles are exact with a model's halo, and with a pixel less they are not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from vs_rafrvsr.engine.tiles import TiledStack
from vs_rafrvsr.models.frvsr import FRVSR
from vs_rafrvsr.models.rafrvsr import RAFRVSR

ARCHITECTURES = {
    "frvsr": partial(FRVSR, channels=8),
    "rafrvsr": partial(RAFRVSR, channels=8, flow_updates=1, flow_input_scale=1.0),
}


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("build", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_halo_is_what_tiles_need_to_the_pixel(build: Callable[..., FRVSR | RAFRVSR], blocks: int) -> None:
    torch.manual_seed(0)
    net = build(blocks=blocks)
    stack = net.sr.double().requires_grad_(False)  # rounding is far below what one pixel changes
    x = torch.rand(1, stack.head.in_channels, 40, 56, dtype=torch.float64)
    whole = torch.cat(stack(x), 1)
    tiled, short = (torch.cat(TiledStack(stack, halo, (16, 16))(x), 1) for halo in (net.halo, net.halo - 1))
    assert torch.allclose(tiled, whole, rtol=0, atol=1e-12)
    assert not torch.allclose(short, whole, rtol=0, atol=1e-9)
