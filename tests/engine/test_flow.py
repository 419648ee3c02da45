"""RAFT in half precision against RAFT in single precision: on the GPU, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("triton")

from tests.engine.test_convolution import DEVICE, INTERPRETED, distance
from vs_rafrvsr.engine.flow import FastFlow, _pooled, batch_size, instance_norm, look_up
from vs_rafrvsr.models import raft
from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.models.raft import Features

pytestmark = [] if INTERPRETED else [pytest.mark.cuda]
GRIDS = [(3, 5), (1, 9), (6, 7)] if INTERPRETED else [(3, 5), (1, 9), (17, 23), (68, 120)]


def channels_last(x: Tensor) -> Tensor:
    return x.to(DEVICE).half().contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("grid", GRIDS)
def test_looking_up_without_the_volume_equals_looking_up_in_it(grid: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(grid[1])
    current, previous = (channels_last(torch.randn(2, 128, *grid, generator=generator)) for _ in range(2))
    rows, columns = grid
    position = torch.stack([torch.randn(2, *grid, generator=generator) * columns, torch.randn(2, *grid) * rows], 1)
    position[0, :, 0, 0] = torch.tensor([-1e6, 1e6])  # far outside
    position[1, :, 0, 0] = 1.0  # exactly on a pixel
    position = position.to(DEVICE)
    wanted = raft._look_up(raft._correlation_pyramid(current.float(), previous.float(), 4), position, 3)
    found = look_up(current, _pooled(previous, 4), position, 3, 200)
    assert found.shape == (2, 200, *grid)
    assert not found[:, 196:].any()
    torch.testing.assert_close(found[:, :196].float(), wanted, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize(("channels", "size"), [(8, (5, 7)), (24, (40, 31)), (96, (3, 3))])
def test_the_norm_equals_pytorchs_with_its_relu_and_addition(channels: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(channels)
    x, shortcut = (channels_last(torch.randn(2, channels, *size, generator=generator) * 3 + 2) for _ in range(2))
    plain = F.instance_norm(x.float())
    assert distance(instance_norm(x, relu=False), plain) < 1e-3
    assert distance(instance_norm(x), F.relu(plain)) < 1e-3
    wanted = F.relu(F.relu(plain) + shortcut.float())
    assert distance(instance_norm(x, shortcut=shortcut), wanted) < 1e-3


@pytest.mark.parametrize("size", [(17, 23), (24, 40)] if INTERPRETED else [(17, 23), (61, 40), (270, 480)])
def test_the_flow_equals_single_precision(size: tuple[int, int]) -> None:
    model = moving_model()
    frames = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    fast = FastFlow(model)
    plain, half = model.encode(frames), fast.encode(frames)
    for found, features in zip(half, plain, strict=True):
        assert distance(found, features) < 2e-2
    later, earlier = slice(1, None), slice(-1)
    wanted = model.flow(Features(*(f[later] for f in plain)), Features(*(f[earlier] for f in plain)), size)
    found = fast.flow((half.context[later], half.matching[later], half.matching[earlier]), size)
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    assert wanted.abs().mean() > 0.05
    assert (found - wanted).abs().mean() < 0.02 * wanted.abs().mean() + 0.02


def moving_model() -> RAFRVSR:
    torch.manual_seed(0)
    model = RAFRVSR(channels=16, blocks=1, flow_updates=2, flow_input_scale=2.0).eval().requires_grad_(False)
    for layer in model.raft.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.copy_(layer.weight.half())
            if layer.bias is not None:
                layer.bias.copy_(layer.bias.half())
    return model.to(DEVICE)


def test_the_batch_follows_from_the_size_alone_and_is_bounded() -> None:
    assert batch_size((270, 480), 1.0, 16) == 16
    assert batch_size((270, 480), 2.0, 16) == batch_size((2160, 3840), 2.0, 16) == 4
