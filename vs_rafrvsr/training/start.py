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

BODY = "sr.body."
"""Names of the residual blocks' tensors: BODY + "BLOCK.LAYER", of layers `a` and `b`."""


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

    Weights of a shallower model, whose number of blocks divides the recipe's, are deepened.

    Raises:
        RecipeError: the file is not there, or not all that it has to give is in it.
    """
    if not recipe.start:
        return {}
    if not Path(recipe.start).exists():
        raise RecipeError(f"start = {recipe.start!r}: there is no such file; give those weights by start=FILE")
    fitting = _fitting(_deepened(checkpoint.read(Path(recipe.start)), own, recipe.model.blocks), own)
    lacking = [name for name in own if name not in fitting and _is_needed(name, recipe)]
    if lacking or not fitting:
        raise RecipeError(
            f"{recipe.start} has {len(fitting)} of the model's {len(own)} tensors in their shapes, and not "
            f"{[*lacking, *own][0]}; start=FILE takes weights of the same architecture and size, or with blocks whose "
            "number divides the model's; flow.weights=FILE may give RAFT's"
        )
    return fitting


def _deepened(found: dict[str, Tensor], own: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """`found` with so many blocks: behind each of its own come new ones, which add nothing yet.

    Their first convolution is `own`'s and their second is 0, so the network computes what it did and learns on from
    there (Net2DeeperNet, Chen et al. 2016, https://arxiv.org/abs/1511.05641). Without blocks where their number does
    not divide `blocks`.
    """
    theirs = len({name.split(".")[2] for name in found if name.startswith(BODY)})
    if theirs in (0, blocks):
        return found
    deeper = {name: tensor for name, tensor in found.items() if not name.startswith(BODY)}
    if blocks % theirs:
        return deeper
    print(f"start: {theirs} blocks are {blocks} now, and the new ones add nothing yet", flush=True)
    for name, tensor in own.items():
        if name.startswith(BODY):
            block, layer = name.removeprefix(BODY).split(".", 1)
            place, added = divmod(int(block), blocks // theirs)
            trained = f"{BODY}{place}.{layer}"
            if added:
                deeper[name] = torch.zeros_like(tensor) if layer.startswith("b.") else tensor
            elif trained in found:
                deeper[name] = found[trained]
    return deeper


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
