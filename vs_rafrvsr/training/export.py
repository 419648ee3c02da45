"""A run's averaged weights as a file that the plugin loads, with the training record in its header."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vs_rafrvsr import weights
from vs_rafrvsr.errors import WeightsError
from vs_rafrvsr.training.degrade import MADE_FOR, PHASE
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.recipe import Recipe
from vs_rafrvsr.training.variants import is_plain

VALIDATED_ON = {"real": "filmed clips", "clean": "filmed clips, undamaged", "camera": "stills in motion"}
"""Columns of a run's curves in words."""


def write(path: Path, trainer: Trainer) -> None:
    """Write the weights file; an experiment's network, which no plugin has, is named as such."""
    recipe = trainer.recipe
    header = weights.Header(
        architecture=recipe.architecture if is_plain(recipe.model) else f"{recipe.architecture}-variant",
        config=config(recipe),
        degradation=MADE_FOR[recipe.data.degradation],
        training={
            "steps": trainer.step,
            "seconds": round(trainer.seconds),
            "clips": len(trainer.pool.lengths),
            "recipe": record(recipe),
            "before": before(recipe.start),
        },
        quality={
            f"validation PSNR-Y, {words}": round(trainer.scored[f"{kind}_all"], 3)
            for kind, words in VALIDATED_ON.items()
            if f"{kind}_all" in trainer.scored
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.save(path, header, trainer.export())


def before(start: str) -> dict[str, Any]:
    """The training record of the weights that the run started from; empty where there were none, or not ours."""
    try:
        return weights.read_header(Path(start)).training if start else {}
    except WeightsError:
        return {}


def config(recipe: Recipe) -> dict[str, Any]:
    """The architecture's keyword arguments."""
    size = {"channels": recipe.model.channels, "blocks": recipe.model.blocks}
    flow = {"flow_updates": recipe.flow.updates, "flow_input_scale": recipe.flow.scale}
    return size | (flow if recipe.architecture == "rafrvsr" else {}) | {"offset": PHASE[recipe.data.degradation]}


def record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a table; of files only their names."""
    table = dataclasses.asdict(recipe)
    table["start"] = Path(recipe.start).name
    table["flow"]["weights"] = Path(recipe.flow.weights).name
    table["losses"]["features"] = Path(recipe.losses.features).name
    return table
