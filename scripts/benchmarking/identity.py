"""Which network figures are of: a model's name is not enough, for its file changes under it."""

from __future__ import annotations

from vs_rafrvsr import weights
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.options import Options

DEFAULT = Options().model


def shape() -> dict[str, object]:
    """The default model's name and its architecture's arguments, all that speed depends on."""
    return {"model": DEFAULT, "network": weights.read_header(MODELS[DEFAULT].path).config}


def identity(model: str) -> dict[str, object]:
    """A shipped model's name, its weights' fingerprint and RAFT's updates."""
    path = MODELS[model].path
    return {
        "model": model,
        "weights": weights.read_fingerprint(path),
        "flow_updates": weights.read_header(path).config.get("flow_updates"),
    }
