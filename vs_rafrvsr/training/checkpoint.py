"""Checkpoints: named tensors and a JSON record, in safetensors files small enough to move about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

LARGEST_FILE = 15_000_000
"""Bytes of tensors in one file; no tensor is split."""


class CheckpointError(RuntimeError):
    """A checkpoint that is incomplete or does not fit."""


def save(stem: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> list[Path]:
    """Write `stem.0.safetensors`, `stem.1.safetensors`, ...; the record is in every header. Returns the files.

    Files are written aside and renamed at the end, part 0 last, so a stop leaves the old checkpoint or the new one
    whole; a mixture is refused by `load`.
    """
    parts: list[dict[str, Tensor]] = [{}]
    room = LARGEST_FILE
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if parts[-1] and size > room:
            parts.append({})
            room = LARGEST_FILE
        parts[-1][name] = tensor.detach().cpu().contiguous()
        room -= size
    stem.parent.mkdir(parents=True, exist_ok=True)
    header = {"record": json.dumps(record), "parts": str(len(parts))}
    files = [stem.with_name(f"{stem.name}.{i}.safetensors") for i in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        save_file(part, file.with_suffix(".part"), header)
    for file in reversed(files):
        file.with_suffix(".part").rename(file)
    return files


def load(stem: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a checkpoint."""
    tensors: dict[str, Tensor] = {}
    first = stem.with_name(f"{stem.name}.0.safetensors")
    if not first.exists():
        raise CheckpointError(f"no checkpoint at {first}")
    with safe_open(first, "pt") as file:
        header = file.metadata()
    for index in range(int(header["parts"])):
        path = stem.with_name(f"{stem.name}.{index}.safetensors")
        if not path.exists():
            raise CheckpointError(f"{path} is missing: the checkpoint has {header['parts']} parts")
        with safe_open(path, "pt") as file:
            if file.metadata() != header:
                raise CheckpointError(f"{path} belongs to another step than {first.name}")
            tensors |= {name: torch.clone(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    return tensors, json.loads(header["record"])
