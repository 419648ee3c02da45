"""The table that `python -m vs_rafrvsr models` prints, from the weights files' headers."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table
from safetensors import safe_open

from vs_rafrvsr import weights
from vs_rafrvsr.models.registry import MODELS


def table() -> Table:
    """One row a model.

    Raises:
        WeightsError: a shipped weights file cannot be read.
    """
    listing = Table("model", "made for", "trained on", "parameters", "measured quality")
    for row in MODELS.values():
        header = weights.read_header(row.path)
        quality = "\n".join(f"{name} {value:g}" for name, value in header.quality.items()) or "not measured"
        listing.add_row(row.name, row.summary, header.degradation, f"{parameters(row.path):,}", quality)
    return listing


def parameters(path: Path) -> int:
    """How many numbers a weights file holds; only its header is read."""
    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (not a dict)
