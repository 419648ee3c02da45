from __future__ import annotations

import pytest
import torch

from vs_rafrvsr.models import frvsr
from vs_rafrvsr.models.frvsr import FRVSR, State


def model(blocks: int = 2) -> FRVSR:
    torch.manual_seed(0)
    return FRVSR(channels=8, blocks=blocks).requires_grad_(False).eval()


def test_its_size_is_the_paper_s() -> None:
    """10-64 with FNet, counted by hand: 1,745,506 of FNet, 843,587 of SRNet."""
    net = FRVSR()
    assert sum(p.numel() for p in net.fnet.parameters()) == 1_745_506
    assert sum(p.numel() for p in net.parameters()) == 1_745_506 + 843_587


def test_an_untrained_step_is_near_the_bicubic_base_and_flow_moves_the_state() -> None:
    net = model()
    lr = torch.rand(2, 1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    first = net.step(lr[0], net.empty_state(lr[0]), None)
    assert first.hr.shape == (1, 3, 96, 128)
    still = net.step(lr[1], first, torch.zeros(1, 2, 24, 32))
    moved = net.step(lr[1], first, torch.ones(1, 2, 24, 32))
    assert torch.allclose(still.hr, net.step(lr[1], first, None).hr, atol=1e-5)
    assert not torch.allclose(still.hr, moved.hr, atol=1e-5)


@pytest.mark.parametrize("size", [(24, 32), (19, 29)])
def test_flow_of_any_size(size: tuple[int, int]) -> None:
    net = model()
    frames = net.encode(torch.rand(2, 3, *size))
    flow = net.flow(frames, frames, size)
    assert flow.shape == (2, 2, *size)
    assert flow.abs().max() <= 24


def test_pairs_taken_a_few_at_a_time_have_the_same_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    current, previous = torch.rand(2, 5, 3, 19, 29, generator=torch.Generator().manual_seed(1))
    whole = net.fnet(current, previous)
    for pixels in (2 * 19 * 29, 1):  # two pairs, and less than one
        monkeypatch.setattr(frvsr, "MAX_PIXELS", pixels)
        assert torch.allclose(net.fnet(current, previous), whole, atol=1e-5)


def test_the_state_is_the_output_alone() -> None:
    assert State._fields == ("hr",)
