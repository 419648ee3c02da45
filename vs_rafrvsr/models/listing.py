"""The table that `python -m vs_rafrvsr models` prints, from the weights files' headers."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table
from safetensors import safe_open

from vs_rafrvsr import weights
from vs_rafrvsr.models.registry import MODELS


def table() -> Table:
    """One row a model; of its figures those with the default arguments.

    Raises:
        WeightsError: a shipped weights file cannot be read.
    """
    listing = Table("model", "made for", "trained on", "parameters", "measured quality")
    for row in MODELS.values():
        header = weights.read_header(row.path)
        figures = [f"{name} {value:.4g}" for name, value in header.quality.items() if not name.endswith("leadin=0")]
        listing.add_row(
            row.name, row.summary, header.degradation, f"{parameters(row.path):,}", "\n".join(figures) or "not measured"
        )
    return listing


def parameters(path: Path) -> int:
    """How many numbers a weights file holds; only its header is read."""
    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (not a dict)
