"""RAFT in half precision against RAFT in single precision: on the GPU, else in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

pytest.importorskip("triton")

from tests.engine.test_step import DEVICE, INTERPRETED, distance
from vs_rafrvsr.engine.cuda import flow_launches as launches
from vs_rafrvsr.engine.cuda.flow import FastFlow, _enlarging, _pyramid, batch_size
from vs_rafrvsr.models import raft
from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.models.raft import Features

pytestmark = [] if INTERPRETED else [pytest.mark.cuda]
GRIDS = [(3, 5), (1, 9), (10, 17)] if INTERPRETED else [(3, 5), (1, 9), (17, 23), (68, 120)]


def half(x: Tensor) -> Tensor:
    return x.to(DEVICE).half()


def nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("grid", GRIDS)
def test_looking_up_without_the_volume_equals_looking_up_in_it(grid: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(grid[1])
    current, previous = (half(torch.randn(2, 128, *grid, generator=generator)) for _ in range(2))
    rows, columns = grid
    flow = torch.randn(2, 2, *grid, generator=generator) * torch.tensor([columns, rows]).view(2, 1, 1)
    flow[0, :, 0, 0] = torch.tensor([-1e6, 1e6])  # far outside
    flow[1, :, 0, 0] = 1.0  # exactly on a pixel
    flow[1, :, 1:] = 0.3 + 0.1 * torch.randn(2, rows - 1, columns, generator=generator)  # smooth, as flows are
    estimate = nhwc(F.pad(flow, (0, 0, 0, 0, 0, 6))).to(DEVICE)
    layer = nn.Conv2d(196, 96, 1).to(DEVICE).requires_grad_(False)
    layer.weight.copy_(layer.weight.half())

    found = torch.full((2, *grid, 128), -1.0, device=DEVICE, dtype=torch.float16)
    launches.LookUp(layer, 4)(nhwc(current), _pyramid(previous, 4), estimate, out=found[..., 16:112])
    ys, xs = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    position = (flow + torch.stack([xs, ys])).to(DEVICE)
    samples = raft._look_up(raft._correlation_pyramid(current.float(), previous.float(), 4), position, 3)
    wanted = nhwc(F.relu(layer(samples)))
    torch.testing.assert_close(found[..., 16:112].float(), wanted, rtol=5e-3, atol=5e-3)
    assert (found[..., :16] == -1).all()
    assert (found[..., 112:] == -1).all()


LAYERS = [(3, 32, 7, 2), (32, 8, 1, 1), (8, 8, 3, 1), (24, 96, 1, 1), (16, 16, 3, 2), (96, 24, 1, 1), (128, 2, 3, 1)]
"""Inputs, outputs, side and step."""


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [(5, 7), (19, 16)])
def test_a_convolution_equals_pytorchs(layer: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    inputs, outputs, side, step = layer
    generator = torch.Generator().manual_seed(inputs)
    plain = nn.Conv2d(inputs, outputs, side, step, side // 2).to(DEVICE).requires_grad_(False)
    plain.weight.copy_(plain.weight.half())
    x = half(torch.randn(2, inputs, *size, generator=generator))
    padded = nhwc(F.pad(x, (0, 0, 0, 0, 0, -inputs % 8)))
    wanted = plain(x.float())
    assert distance(launches.Convolution(plain)(padded)[..., :outputs], nhwc(F.relu(wanted))) < 1e-3
    found = torch.full((2, *wanted.shape[-2:], 256), -1.0, device=DEVICE, dtype=torch.float16)
    convolution = launches.Convolution(plain, relu=False)
    end = 16 + convolution.outputs
    convolution(padded, out=found[..., 16:end])
    assert distance(found[..., 16 : 16 + outputs], nhwc(wanted)) < 1e-3
    assert (found[..., :16] == -1).all()
    assert (found[..., end:] == -1).all()


@pytest.mark.parametrize(("channels", "size"), [(8, (5, 7)), (24, (40, 31)), (96, (3, 3))])
def test_norms_equal_pytorchs_with_their_relu_and_addition(channels: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(channels)
    x, shortcut = (half(torch.randn(2, channels, *size, generator=generator) * 3 + 2) for _ in range(2))
    first, second = (nn.Conv2d(channels, channels, side, 1, side // 2).to(DEVICE) for side in (1, 3))
    for layer in (first, second):
        layer.requires_grad_(False).weight.copy_(layer.weight.half())
    plain = F.relu(F.instance_norm(second(F.relu(F.instance_norm(first(x.float()))))))
    other = F.instance_norm(first(shortcut.float()))
    one, two = launches.Convolution(first), launches.Convolution(second)
    found, scale = two.normed(*one.normed(nhwc(x)))
    assert distance(launches.activate(found, scale), nhwc(plain)) < 3e-3
    wanted = nhwc(F.relu(plain + other))
    assert distance(launches.activate(found, scale, *one.normed(nhwc(shortcut))), wanted) < 3e-3
    wanted = nhwc(F.relu(plain + shortcut.float()))
    assert distance(launches.activate(found, scale, nhwc(shortcut)), wanted) < 3e-3


@pytest.mark.parametrize("size", [(16, 24), (13, 18)])
def test_the_input_equals_rafts(size: tuple[int, int]) -> None:
    frames = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    found = launches.pack(frames, raft.STRIDE)
    assert distance(found[..., :3], nhwc(raft.prepare(frames, 1.0))) < 1e-3
    assert not found[..., 3:].any()


@pytest.mark.parametrize(("size", "scale"), [((24, 40), 1.0), ((17, 23), 2.0), ((30, 45), 0.7), ((24, 41), 1.02)])
def test_the_flow_comes_to_the_frames_size_as_rafts(size: tuple[int, int], scale: float) -> None:
    working = raft.working_size(*size, scale)
    rows, columns = (-(-side // raft.STRIDE) for side in working)
    estimate = torch.randn(2, 2, rows, columns, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    down, across = _enlarging((rows, columns), size, working, estimate.device)
    torch.testing.assert_close(down @ (estimate @ across), raft.to_frame_size(estimate, size, working))


@pytest.mark.parametrize("size", [(9, 11), (8, 20)] if INTERPRETED else [(17, 23), (61, 40), (270, 480)])
def test_the_flow_equals_single_precision(size: tuple[int, int]) -> None:
    model = moving_model()
    frames = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    fast = FastFlow(model)
    plain, half = model.encode(frames), fast.encode(frames)
    for found, features in zip(half, plain, strict=True):
        assert distance(found, features) < 2e-2
    wanted = model.flow(plain, Features(*(f.flip(0) for f in plain)), size)  # there and back
    found = fast.flow((half.context, half.matching, half.matching.flip(0)), size)
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    assert wanted.abs().mean() > 0.05
    assert (found - wanted).abs().mean() < 0.01 * wanted.abs().mean()


def moving_model(updates: int = 2) -> RAFRVSR:
    torch.manual_seed(0)
    model = RAFRVSR(channels=16, blocks=1, flow_updates=updates, flow_input_scale=2.0).eval().requires_grad_(False)
    for layer in model.raft.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.copy_(layer.weight.half())
            if layer.bias is not None:
                layer.bias.copy_(layer.bias.half())
    return model.to(DEVICE)


def test_the_batch_follows_from_the_size_alone_and_is_bounded() -> None:
    assert batch_size((270, 480), 1.0, 16) == 16
    assert batch_size((270, 480), 2.0, 16) == batch_size((2160, 3840), 2.0, 16) == 4
