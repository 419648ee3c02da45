"""Our inference forward of RAFT against torchvision's own, and its state dict."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.optical_flow import raft_small

from vs_rafrvsr.models import raft, registry
from vs_rafrvsr.models.rafrvsr import RAFRVSR


def test_state_dict_names_and_shapes_are_torchvisions_so_that_its_pretrained_weights_load() -> None:
    ours = RAFRVSR(channels=8, blocks=1, flow_updates=2, flow_input_scale=1.0).raft
    theirs = raft_small(weights=None).state_dict()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.items()}
    ours.load_state_dict(theirs)


@pytest.mark.parametrize("size", [(128, 160), (136, 128)])
def test_the_forward_equals_torchvisions(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = raft_small(weights=None).eval()
    a, b = torch.rand(2, 2, 3, *size).unbind(1)
    with torch.inference_mode():
        wanted = net(a * 2 - 1, b * 2 - 1, num_flow_updates=4)[-1]
        found = raft.flow(net, raft.encode(net, a, 1.0), raft.encode(net, b, 1.0), size, 1.0, 4)
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (16, 300), (61, 40)])
def test_any_size_gives_a_finite_flow_of_that_size(size: tuple[int, int]) -> None:
    net = raft_small(weights=None).eval()
    features = raft.encode(net, torch.rand(2, 3, *size), 2.0)
    with torch.inference_mode():
        flow = raft.flow(net, features, features, size, 2.0, 2)
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()


def test_the_working_size_never_exceeds_its_bound() -> None:
    for height, width in ((270, 480), (540, 960), (1080, 1920), (4320, 7680), (16, 8192)):
        rows, columns = raft.working_size(height, width, 2.0)
        assert rows * columns <= 1.02 * raft.MAX_AREA
    assert raft.working_size(144, 180, 2.0) == (288, 360)


def test_a_pairs_flow_does_not_depend_on_how_many_are_matched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = raft_small(weights=None).eval()
    features = raft.encode(net, torch.rand(5, 3, 40, 48), 1.0)
    with torch.inference_mode():
        every = raft.flow(net, features, features, (40, 48), 1.0, 2)
        monkeypatch.setattr(raft, "MAX_VOLUME", 1)
        single = raft.flow(net, features, features, (40, 48), 1.0, 2)
    torch.testing.assert_close(every, single, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("device", "precision", "most"),
    [("cpu", torch.bfloat16, 0.03), pytest.param("cuda", torch.float16, 0.01, marks=pytest.mark.cuda)],
)
def test_half_precision_finds_the_same_motion_on_a_wide_frame(device: str, precision: torch.dtype, most: float) -> None:
    model = cast(RAFRVSR, registry.load("rafrvsr", None, None)).to(device)
    coarse = torch.rand(1, 3, 20, 270, generator=torch.Generator().manual_seed(0))
    picture = F.interpolate(coarse, scale_factor=4, mode="bicubic").clamp(0, 1).to(device)
    frames = torch.cat([picture[..., 8:-8, 28:1052], picture[..., 7:-9, 25:1049]])  # the second moved by (3, 1)

    def motion() -> torch.Tensor:
        first, second = (model.encode(frame[None]) for frame in frames)
        return model.flow(second, first, (64, 1024))

    with torch.inference_mode():
        wanted = motion()
        with torch.autocast(device, precision):
            found = motion()
    assert (wanted[..., 8:-8, 8:-8].mean((0, 2, 3)).cpu() - torch.tensor([-3.0, -1.0])).abs().max() < 0.1
    assert found.dtype == torch.float32
    assert (found - wanted).abs().mean() < most
