"""Checkpoints: named tensors and a JSON record, in safetensors files small enough to move about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vs_rafrvsr.errors import RafrvsrError

LARGEST_FILE = 15_000_000
"""Bytes of tensors in one file; no tensor is split."""


class CheckpointError(RafrvsrError):
    """A checkpoint that is incomplete or does not fit, or a file that holds no tensors."""


def save(stem: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> list[Path]:
    """Write `stem.0.safetensors`, and what does not fit into it beside it; the record is in every header.

    Returns the files. The other parts' names belong to this record alone, and part 0, which names them, is put in place
    last, in one step: a stop leaves the old checkpoint or the new one whole. Then the old one's parts are removed.
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
    text = json.dumps(record)
    unique = fingerprint([text])
    files = [_first(stem), *(stem.with_name(f"{stem.name}.{unique}.{i}.safetensors") for i in range(1, len(parts)))]
    header = {"record": text, "parts": json.dumps([file.name for file in files])}
    for file, part in reversed(list(zip(files, parts, strict=True))):
        save_file(part, file.with_suffix(".part"), header)
        file.with_suffix(".part").replace(file)
    for file in {*stem.parent.glob(f"{stem.name}.*.safetensors"), *stem.parent.glob(f"{stem.name}.*.part")} - {*files}:
        file.unlink()
    return files


def exists(stem: Path) -> bool:
    """Whether there is one; whether it is whole, `load` sees."""
    return _first(stem).exists()


def load(stem: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a checkpoint.

    Raises:
        CheckpointError: there is none, or a part of it is missing or another's.
    """
    tensors: dict[str, Tensor] = {}
    first = _first(stem)
    if not exists(stem):
        raise CheckpointError(f"no checkpoint at {first}")
    with safe_open(first, "pt") as file:
        header = file.metadata()
    for name in json.loads(header["parts"]):
        path = stem.with_name(name)
        if not path.exists():
            raise CheckpointError(f"{path} is missing: it is a part of {first.name}")
        with safe_open(path, "pt") as file:
            if file.metadata() != header:
                raise CheckpointError(f"{path} belongs to another step than {first.name}")
            tensors |= {name: torch.clone(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    return tensors, json.loads(header["record"])


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a weights file: safetensors, or torchvision's own .pth.

    Raises:
        CheckpointError: it is neither.
    """
    try:
        if file.suffix != ".pth":
            return load_file(file)
        tensors: dict[str, Tensor] = torch.load(file, "cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler raises whatever comes
        raise CheckpointError(f"{file} is no weights file: give safetensors, or torchvision's .pth") from error
    return tensors


def fingerprint(parts: Iterable[str | Tensor]) -> str:
    """A short SHA-256 of texts and tensors."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _first(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.0.safetensors")
