"""Weights files: safetensors whose header carries the model's configuration and how it was trained.

The header's metadata has one key, `vs_rafrvsr`, a JSON object with the fields of `Header` and a SHA-256 over them, the
tensors' table and their bytes: a damaged or edited file is refused, and a model cannot be built in a wrong shape.
Reading a header loads neither torch nor safetensors.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vs_rafrvsr.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(__file__).parent
KEY = "vs_rafrvsr"
MAX_HEADER = 2**20
MAX_FILE = 2**28


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a weights file says of itself."""

    architecture: str
    """A key of registry.ARCHITECTURES."""
    config: dict[str, Any]
    """Keyword arguments of the architecture's class."""
    degradation: str
    """What the input looked like in training, for example "BI: bicubic x1/4 of clean video"."""
    training: dict[str, Any]
    """Data, steps, losses: the training record."""
    quality: dict[str, float]
    """Measured figures by name, for example {"Vid4 BI PSNR-Y": 25.91}."""


def read_header(path: Path) -> Header:
    """The header alone, unverified: for listings.

    Raises:
        WeightsError: not readable, or not a weights file of this program.
    """
    with _open(path) as file:
        return _parse(path, file.read(MAX_HEADER + 8))[0]


def read_digest(path: Path) -> str:
    """The checksum that a file carries, unverified: its identity.

    Raises:
        WeightsError: as read_header.
    """
    with _open(path) as file:
        return _parse(path, file.read(MAX_HEADER + 8))[2]


def load(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors (as stored, on the CPU) of a verified file.

    Raises:
        WeightsError: not readable, not a weights file of this program, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    with _open(path) as file:
        data = file.read()
    header, table, digest, start = _parse(path, data)
    if _digest(header, table, data[start:]) != digest:
        raise WeightsError(f"weights file {path} is damaged: its checksum does not fit; get a fresh copy")
    try:
        return header, load_tensors(data)
    except SafetensorError as error:
        raise WeightsError(f"weights file {path} is damaged ({error}); get a fresh copy") from error


def read_fingerprint(path: Path) -> str:
    """SHA-256 of the tensors alone: scores in the header do not change it.

    Raises:
        WeightsError: not readable or not a weights file of this program.
    """
    with _open(path) as file:
        data = file.read()
    return hashlib.sha256(data[_parse(path, data)[3] :]).hexdigest()


def save(path: Path, header: Header, tensors: dict[str, Tensor]) -> None:
    """Write a weights file; tensors as they are given."""
    from safetensors.torch import save as save_tensors

    data = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    (length,) = struct.unpack("<Q", data[:8])
    table = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    record = asdict(header) | {"sha256": _digest(header, table, body)}
    text = json.dumps({"__metadata__": {KEY: json.dumps(record)}} | table).encode()
    text += b" " * (-len(text) % 8)  # safetensors aligns the tensors by padding the header with spaces
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def _open(path: Path) -> Any:  # noqa: ANN401  (open's own return type is not worth its name)
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise WeightsError(f"weights file {path} is a folder or a device; check the path")
        if state.st_size > MAX_FILE:
            raise WeightsError(
                f"weights file {path} is larger than {MAX_FILE >> 20} MiB; it is not one of this program's"
            )
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise WeightsError(f"weights file {path} cannot be read ({error}); check the path") from error


def _parse(path: Path, data: bytes) -> tuple[Header, dict[str, Any], str, int]:
    """Header, the tensors' table, the checksum, and where the tensors' bytes begin."""
    foreign = f"{path} is not a weights file of vs_rafrvsr; `python -m vs_rafrvsr models` lists those that are there"
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER, len(data) - 8):
        raise WeightsError(f"{foreign} (or it is cut short)")
    try:
        table = json.loads(data[8 : 8 + length])
        record = json.loads(table.pop("__metadata__")[KEY])
        digest = record.pop("sha256")
        header = Header(**record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(foreign) from error
    if not isinstance(header.architecture, str) or not isinstance(header.config, dict):
        raise WeightsError(foreign)
    return header, table, digest, 8 + length


def _digest(header: Header, table: dict[str, Any], body: bytes) -> str:
    text = json.dumps([asdict(header), table], sort_keys=True)
    return hashlib.sha256(text.encode() + body).hexdigest()
