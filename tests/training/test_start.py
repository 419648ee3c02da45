"""The weights that a run starts from: what is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from tests.training.fabricated import tiny
from vs_rafrvsr.training import checkpoint
from vs_rafrvsr.training.recipe import RecipeError, check_flow
from vs_rafrvsr.training.start import make_net
from vs_rafrvsr.training.variants import VariantNet

CPU = torch.device("cpu")


def test_weights_that_have_nothing_for_the_network_are_refused(tmp_path: Path) -> None:
    save_file({"foreign.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    file = str(tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match="none of its 1 tensors fits"):
        make_net(tiny(start=file), CPU)
    with pytest.raises(RecipeError, match=r"0 of its 1 tensors fit, .* RAFT has 106; flow.weights is"):
        make_net(tiny(flow={"weights": file}), CPU)
    joint = {"architecture": "frvsr", "flow": {"joint": True, "weights": file}}
    with pytest.raises(RecipeError, match="0 of its 1 tensors fit, and this network's RAFT has 0"):
        make_net(tiny(**joint), CPU)


def test_a_part_of_raft_is_not_enough(tmp_path: Path) -> None:
    """One tensor of RAFT-large fits RAFT-small."""
    save_file(torchvision.models.optical_flow.raft_large(weights=None).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match="1 of its 169 tensors fit, and this network's RAFT has 106"):
        make_net(tiny(flow={"weights": str(tmp_path / "w.safetensors")}), CPU)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    for content in (b"", b"something else, and long enough"):
        (tmp_path / name).write_bytes(content)
        for given in ({"start": str(tmp_path / name)}, {"flow": {"weights": str(tmp_path / name)}}):
            with pytest.raises(checkpoint.CheckpointError, match=f"{name} is no weights file"):
                make_net(tiny(**given), CPU)


def test_frozen_flow_needs_weights() -> None:
    with pytest.raises(RecipeError, match=r"flow\.weights=FILE"):
        check_flow(tiny())
    check_flow(tiny(flow={"joint": True}))
    check_flow(tiny(start="w.safetensors"))


@pytest.mark.parametrize("name", ["raft_small.safetensors", "raft_small.pth"])
def test_torchvision_s_own_raft_file_is_taken(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.optical_flow.raft_small(weights=None).state_dict()
    torch.save(theirs, tmp_path / name) if name.endswith(".pth") else save_file(theirs, tmp_path / name)
    net = make_net(tiny(flow={"weights": str(tmp_path / name)}), CPU)
    assert isinstance(net, VariantNet)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in net.raft.state_dict().items())
