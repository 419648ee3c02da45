"""Geometry: directions, phases and borders, on inputs where a mistake shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.plugin.clips import core, pixels, rgb_clip
from vs_rafrvsr.models.warp import BicubicBase, depth_to_space, space_to_depth, upsample_flow, warp


def test_warp_fetches_from_where_the_flow_points() -> None:
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0] = 1
    assert torch.equal(warp(x, flow)[0, 0, :, :4], x[0, 0, :, 1:])
    assert torch.equal(warp(x, flow)[0, 0, :, 4], x[0, 0, :, 4]), "the border is replicated"
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 1] = 0.5
    torch.testing.assert_close(warp(x, flow)[0, 0, :3], (x[0, 0, :3] + x[0, 0, 1:]) / 2)


def test_warp_keeps_coordinates_in_single_precision_for_half_tensors() -> None:
    ramp = torch.arange(900.0).expand(1, 1, 2, 900) / 900
    flow = torch.full((1, 2, 2, 900), 0.25)
    error = warp(ramp.half(), flow).float() - warp(ramp, flow)
    assert error.abs().max() < 1e-3


def test_upsampled_flow_is_in_pixels_of_the_output_and_commutes_with_upscaling() -> None:
    """Warping then enlarging a ramp equals enlarging then warping, if the flow is scaled and sited rightly."""
    ys, xs = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    ramp = (2 * xs + 3 * ys)[None, None]
    flow = torch.stack([0.3 + 0 * xs, -0.6 + 0 * ys])[None]

    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)

    inner = (..., slice(12, -12), slice(12, -12))
    torch.testing.assert_close(enlarge(warp(ramp, flow))[inner], warp(enlarge(ramp), upsample_flow(flow))[inner])


def test_space_to_depth_orders_channels_as_documented() -> None:
    x = torch.rand(1, 3, 8, 12)
    deep = space_to_depth(x)
    assert torch.equal(deep[0, 16 * 2 + 4 * 1 + 3], x[0, 2, 1::4, 3::4])
    assert torch.equal(depth_to_space(deep), x)


def test_the_base_equals_vapoursynths_bicubic_inside_the_frame() -> None:
    frames = np.random.default_rng(0).random((1, 3, 20, 24), np.float32)
    wanted = pixels(core.resize.Bicubic(rgb_clip(frames), 96, 80, filter_param_a=0, filter_param_b=0.5).get_frame(0))
    found = BicubicBase()(torch.from_numpy(frames))[0]
    inner = (slice(12, -12), slice(12, -12))
    for ours, theirs in zip(found.numpy(), wanted, strict=True):
        np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-5)


@pytest.mark.parametrize(("offset", "site"), [(-1.5, 1.5), (0.0, 0.0)])
def test_the_base_is_sited_by_its_offset(offset: float, site: float) -> None:
    """On a ramp, HR pixel k must read (k - site) / 4."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    row = BicubicBase(offset)(ramp)[0, 0, 32, 12:-12]
    torch.testing.assert_close(row, (torch.arange(12.0, 52.0) - site) / 4)
