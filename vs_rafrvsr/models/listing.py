"""The table that `python -m vs_rafrvsr models` prints, from the weights files' headers."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Column, Table
from safetensors import safe_open

from vs_rafrvsr import weights
from vs_rafrvsr.models.registry import MODELS


def table() -> Table:
    """One row a model; of its figures those on Vid4 with the default arguments.

    Raises:
        WeightsError: a shipped weights file cannot be read.
    """
    model, data = Column("model", no_wrap=True), Column("trained on", overflow="fold")
    listing = Table(model, "made for", data, "parameters", "measured quality")
    for row in MODELS.values():
        header = weights.read_header(row.path)
        figures = [f"{name} {value:.4g}" for name, value in header.quality.items() if _is_shown(name)]
        listing.add_row(
            row.name, row.summary, header.degradation, f"{parameters(row.path):,}", "\n".join(figures) or "not measured"
        )
    return listing


def _is_shown(figure: str) -> bool:
    return figure.startswith("Vid4") and not figure.endswith("leadin=0")


def parameters(path: Path) -> int:
    """How many numbers a weights file holds; only its header is read."""
    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (not a dict)
