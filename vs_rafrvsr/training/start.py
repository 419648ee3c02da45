"""What a run starts from: its networks, initialised or with weights from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vs_rafrvsr.training import checkpoint
from vs_rafrvsr.training.degrade import PHASE
from vs_rafrvsr.training.losses import Perceptual
from vs_rafrvsr.training.recipe import Recipe, RecipeError
from vs_rafrvsr.training.variants import FLOW_PARTS, Net, TrainedFRVSR, VariantNet, initialise, is_plain


def make_net(recipe: Recipe, device: torch.device) -> Net:
    """The recipe's network, initialised from its seed and from its start weights.

    Raises:
        RecipeError: a file lacks tensors of this network, or is not there.
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
    """The tensors of the recipe's start weights whose name and shape are in `own`; none without such weights.

    Raises:
        RecipeError: the file is not there, or not all that it has to give is in it.
    """
    if not recipe.start:
        return {}
    if not Path(recipe.start).exists():
        raise RecipeError(f"start = {recipe.start!r}: there is no such file; give those weights by start=FILE")
    fitting = _fitting(checkpoint.read(Path(recipe.start)), own)
    lacking = [name for name in own if name not in fitting and _is_needed(name, recipe)]
    if lacking or not fitting:
        raise RecipeError(
            f"{recipe.start} has {len(fitting)} of the model's {len(own)} tensors in their shapes, and not "
            f"{[*lacking, *own][0]}; start=FILE takes weights of the same architecture and size, of which "
            "flow.weights=FILE may give RAFT's"
        )
    return fitting


def _is_needed(name: str, recipe: Recipe) -> bool:
    """Whether start weights must hold a tensor: without it, a part of the model, or frozen flow, were untaught."""
    flow = name.startswith(FLOW_PARTS)
    if flow and recipe.flow.weights:
        return False
    return is_plain(recipe.model) or (flow and not recipe.flow.joint)


def make_perceptual(recipe: Recipe) -> Perceptual | None:
    """The recipe's perceptual term with its network, on the CPU; None where it does not count.

    Raises:
        RecipeError: there is no such network, or the file is another one's.
        CheckpointError: the file holds no tensors.
    """
    plan = recipe.losses
    file = Path(plan.features) if plan.features else None
    return Perceptual(plan.network, plan.layers, file) if plan.perceptual else None


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
