"""The weights that a run starts from: what is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tests.training.fabricated import tiny
from vs_rafrvsr.training import checkpoint
from vs_rafrvsr.training.recipe import RecipeError, check_flow, load
from vs_rafrvsr.training.start import make_net
from vs_rafrvsr.training.variants import VariantNet

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
RECIPES, TRUNK = ROOT / "scripts" / "recipes", ROOT / "vs_rafrvsr" / "weights" / "rafrvsr-bi.safetensors"


def test_weights_that_have_nothing_for_the_network_are_refused(tmp_path: Path) -> None:
    save_file({"foreign.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    file = str(tmp_path / "w.safetensors")
    for model in ({}, {"previous_lr": True}):
        given = tiny(start=file, model=model, flow={"joint": True})
        with pytest.raises(RecipeError, match=r"has 0 of the model's \d+ tensors .*; start=FILE takes"):
            make_net(given, CPU)
    with pytest.raises(RecipeError, match=r"0 of its 1 tensors fit, .* RAFT has 106; flow.weights is"):
        make_net(tiny(flow={"weights": file}), CPU)
    joint = {"architecture": "frvsr", "flow": {"joint": True, "weights": file}}
    with pytest.raises(RecipeError, match="0 of its 1 tensors fit, and this network's RAFT has 0"):
        make_net(tiny(**joint), CPU)


def saved(path: Path, **changes: Any) -> str:  # noqa: ANN401  (recipe values)
    """Weights of a small model, from another seed."""
    save_file(make_net(tiny(seed=1, **changes), CPU).state_dict(), path)
    return str(path)


def without_raft(path: Path) -> str:
    tensors = make_net(tiny(seed=1), CPU).state_dict()
    save_file({name: t for name, t in tensors.items() if not name.startswith("raft.")}, path)
    return str(path)


def test_start_weights_hold_all_of_the_model(tmp_path: Path) -> None:
    """One of another size fits in its last bias alone."""
    file = saved(tmp_path / "w.safetensors")
    found, wanted = make_net(tiny(start=file), CPU).state_dict(), load_file(file)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())
    for model in ({"channels": 8}, {"blocks": 2}):
        with pytest.raises(RecipeError, match=r"tensors in their shapes, and not sr\..*; start=FILE takes"):
            make_net(tiny(start=file, model=model), CPU)


def test_start_weights_without_raft_do_for_a_run_that_has_it_from_elsewhere(tmp_path: Path) -> None:
    """An experiment's too: its flow is frozen, and would stay as it was initialised."""
    file, raft = without_raft(tmp_path / "w.safetensors"), saved(tmp_path / "raft.safetensors")
    for model in ({}, {"previous_lr": True}):
        with pytest.raises(RecipeError, match=r"and not raft\..*, of which flow\.weights=FILE may give RAFT's"):
            make_net(tiny(start=file, model=model), CPU)
        found = make_net(tiny(start=file, model=model, flow={"weights": raft}), CPU).state_dict()
        assert all(torch.equal(t, found[n]) for n, t in load_file(raft).items() if n.startswith("raft."))


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted(RECIPES.glob("*.toml")) if "\nstart = " in path.read_text()]
)
def test_a_fine_tune_asks_for_the_weights_that_it_starts_from(name: str) -> None:
    with pytest.raises(RecipeError, match=r"start = .weights of .*: there is no such file; .* start=FILE"):
        make_net(load(RECIPES / f"{name}.toml"), CPU)


def test_the_default_starts_from_the_shipped_trunk() -> None:
    for name in ("rafrvsr", "rafrvsr-bd", "rafrvsr-bi-long"):
        make_net(load(RECIPES / f"{name}.toml", [f"start={TRUNK}"]), CPU)


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
