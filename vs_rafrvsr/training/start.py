"""What a run starts from: its network, initialised or with weights from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vs_rafrvsr.training import checkpoint
from vs_rafrvsr.training.degrade import PHASE
from vs_rafrvsr.training.recipe import Recipe, RecipeError
from vs_rafrvsr.training.variants import Net, TrainedFRVSR, VariantNet, initialise


def make_net(recipe: Recipe, device: torch.device) -> Net:
    """The recipe's network, initialised from its seed and from its start weights.

    Raises:
        RecipeError: a file has nothing for this network, or for RAFT not all.
        CheckpointError: a file holds no tensors.
    """
    torch.manual_seed(recipe.seed)
    phase = PHASE[recipe.data.degradation]
    net: VariantNet | TrainedFRVSR
    if recipe.architecture == "frvsr":
        net = TrainedFRVSR(channels=recipe.model.channels, blocks=recipe.model.blocks, offset=phase)
    else:
        net = VariantNet(
            recipe.model,
            offset=phase,
            flow_updates=recipe.flow.updates,
            flow_input_scale=recipe.flow.scale,
        )
    initialise(net)
    own = net.state_dict()
    if recipe.flow.weights:
        own |= _raft_weights(recipe.flow.weights, own)
    own |= start_weights(recipe, own)
    net.load_state_dict(own)
    return net.to(device)


def start_weights(recipe: Recipe, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the recipe's start weights whose name and shape are in `own`.

    Raises:
        RecipeError: there is none.
    """
    found = checkpoint.read(Path(recipe.start)) if recipe.start else {}
    fitting = _fitting(found, own)
    if recipe.start and not fitting:
        raise RecipeError(
            f"{recipe.start}: none of its {len(found)} tensors fits the model; give weights of {recipe.name}"
        )
    return fitting


def _raft_weights(file: str, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of RAFT, from weights of this project or from torchvision's own file."""
    found = checkpoint.read(Path(file))
    if not any(name.startswith("raft.") for name in found):
        found = {f"raft.{name}": tensor for name, tensor in found.items()}
    raft = {name: tensor for name, tensor in own.items() if name.startswith("raft.")}
    fitting = _fitting(found, raft)
    if not fitting or len(fitting) < len(raft):
        raise RecipeError(
            f"{file}: {len(fitting)} of its {len(found)} tensors fit, and this network's RAFT has {len(raft)}; "
            "flow.weights is a file of this project or torchvision's raft_small"
        )
    return fitting


def _fitting(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.float() for name, t in found.items() if name in own and own[name].shape == t.shape}
