from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.training.unroll import Unroll
from vs_rafrvsr.training.variants import Variant, VariantNet, initialise

PLAIN = Variant(channels=8, blocks=2)


def net_of(variant: Variant) -> VariantNet:
    torch.manual_seed(0)
    net = VariantNet(variant, offset=-1.5, flow_updates=1, flow_input_scale=1.0)
    initialise(net)
    return net.requires_grad_(False)


def frames() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 4, 3, 16, 20, generator=generator), torch.randn(2, 4, 2, 16, 20, generator=generator)


def test_without_changes_it_is_the_model_users_get() -> None:
    net = net_of(PLAIN)
    model = RAFRVSR(channels=8, blocks=2, flow_updates=1, flow_input_scale=1.0)
    model.load_state_dict(net.state_dict())
    lr, flow = frames()
    ours, *_ = Unroll(net, None, None)(lr, flow)
    state = model.empty_state(lr[:, 0])
    for t in range(4):
        state = model.step(lr[:, t], state, flow[:, t] if t else None)
        assert torch.equal(state.hr, ours[:, t])


def test_half_precision_leaves_the_base_alone() -> None:
    net = net_of(PLAIN)
    for parameter in net.sr.tail.parameters():
        parameter.zero_()
    lr, flow = frames()
    output, *_ = Unroll(net, None, torch.bfloat16)(lr, flow)
    assert torch.equal(output[:, 2], net.base(lr[:, 2]))


def test_refinement_starts_as_the_flow_it_is_given() -> None:
    lr, flow = frames()
    _, used, _ = Unroll(net_of(dataclasses.replace(PLAIN, refine=4)), None, None)(lr, flow)
    assert torch.equal(used, flow)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_fnet_s_flow_is_in_lr_pixels_at_any_input_scale(scale: float) -> None:
    net = VariantNet(dataclasses.replace(PLAIN, matcher="fnet"), offset=-1.5, flow_updates=1, flow_input_scale=scale)
    initialise(net)
    net.fnet.last[1].bias.data = torch.tensor([0.5 * scale, 0.0])  # what FNet sees is enlarged
    features = net.encode(frames()[0][:, 0])
    flow = net.flow(features, features, (16, 20))
    assert flow.shape == (2, 2, 16, 20)
    assert flow[:, 0].mean().item() == pytest.approx(math.tanh(0.5 * scale) * 24 / scale, abs=0.2)
    assert not any(name.startswith("raft") for name in net.state_dict())


def test_frame_0_ignores_its_flow_and_later_frames_use_theirs() -> None:
    lr, flow = frames()
    unroll = Unroll(net_of(PLAIN), None, None)
    reference, *_ = unroll(lr, flow)
    for t in range(4):
        other = flow.clone()
        other[:, t] += 1
        changed = (unroll(lr, other)[0] != reference).flatten(2).any(2).any(0)
        assert changed.tolist() == [t > 0 and s >= t for s in range(4)]


def test_a_clip_in_two_parts_is_the_clip() -> None:
    lr, flow = frames()
    unroll = Unroll(net_of(PLAIN), None, None)
    whole, all_used, _ = unroll(lr, flow)
    first, _, state = unroll(lr[:, :3], flow[:, :3])
    rest, used, _ = unroll(lr[:, 2:], flow[:, 2:], state=state)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole)
    assert torch.equal(used, all_used[:, 3:])


def test_an_empty_state_is_none() -> None:
    """A row that begins anew has one, and a frame before its first, of which nothing is seen."""
    lr, flow = frames()
    net = net_of(PLAIN)
    unroll = Unroll(net, None, None)
    rest, *_ = unroll(lr, flow, state=net.empty_state(lr[:, 0]))
    alone, *_ = unroll(lr[:, 1:], flow[:, 1:])
    torch.testing.assert_close(rest, alone)


@pytest.mark.parametrize(
    "change",
    [
        {"previous": "none"},
        {"previous_lr": True},
        {"hidden": "conv"},
    ],
)
def test_every_change_changes_the_result(change: dict[str, object]) -> None:
    lr, flow = frames()
    plain, *_ = Unroll(net_of(PLAIN), None, None)(lr, flow)
    other, *_ = Unroll(net_of(dataclasses.replace(PLAIN, **change)), None, None)(lr, flow)  # type: ignore[arg-type]
    assert not torch.equal(plain, other)


def test_the_empty_state_shows_no_previous_output() -> None:
    net = net_of(PLAIN)
    assert torch.equal(net._previous(torch.rand(2, 3, 64, 80), None), torch.zeros(2, 48, 16, 20))
