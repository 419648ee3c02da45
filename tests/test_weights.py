"""Weights files: round trip, a header that is read without torch, one clear error for whatever is no such file."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vs_rafrvsr import OptionError, WeightsError, weights
from vs_rafrvsr.models.frvsr import FRVSR
from vs_rafrvsr.models.registry import MODELS, load, title
from vs_rafrvsr.weights import Header

HEADER = Header(
    architecture="rafrvsr", config={"channels": 4}, degradation="BI", training={"steps": 7}, quality={"PSNR": 25.9}
)


def small(path: Path) -> Path:
    weights.save(path, HEADER, {"a": torch.arange(6, dtype=torch.float16).reshape(2, 3), "b": torch.ones(1)})
    return path


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    header, tensors = weights.load(small(tmp_path / "w"))
    assert header == HEADER == weights.read_header(tmp_path / "w")
    assert torch.equal(tensors["a"], torch.arange(6, dtype=torch.float16).reshape(2, 3))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_and_no_cut_passes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = small(tmp_path_factory.mktemp("w") / "w")
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        header, tensors = weights.load(path)
    except WeightsError:
        return
    # A space of JSON may have become another white space: nothing that counts has changed.
    assert header == HEADER
    assert set(tensors) == {"a", "b"}


def refused(path: Path, content: bytes) -> str:
    """The message with which a file of this content is refused, both as weights and in a listing."""
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights file") as caught:
        weights.load(path)
    return str(caught.value)


def test_a_file_cut_at_any_byte_of_its_header_is_refused(tmp_path: Path) -> None:
    content = small(tmp_path / "w").read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for length in range(header + 1):
        refused(tmp_path / "cut", content[:length])


def with_table(path: Path, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The small file with its table of tensors changed and a checksum that fits: another tool may have written it."""
    content = small(path).read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    table, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    record = json.loads(table["__metadata__"][weights.KEY])
    change(table)
    tensors = {name: row for name, row in table.items() if name != "__metadata__"}
    text = json.dumps([{k: v for k, v in record.items() if k != "sha256"}, tensors], sort_keys=True)
    record["sha256"] = hashlib.sha256(text.encode() + body).hexdigest()
    if weights.KEY in table.get("__metadata__", {}):
        table["__metadata__"][weights.KEY] = json.dumps(record)
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + body


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table["a"].update(data_offsets=[0, 10 * 2**30]),
        lambda table: table["a"].update(data_offsets=[0, 10 * 2**30], shape=[10 * 2**30 // 2]),
        lambda table: table["a"].update(data_offsets=[-4, 8]),
        lambda table: table["a"].update(shape=[3, 3]),
        lambda table: table["a"].update(shape=[-2, -3]),
        lambda table: table["a"].update(dtype="F512"),
        lambda table: table["a"].pop("shape"),
        lambda table: table.pop("a"),
        lambda table: table.update(c=7),
        lambda table: table.pop("__metadata__"),
        lambda table: table.update(__metadata__={}),
        lambda table: table.update(__metadata__=[]),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    refused(tmp_path / "w", with_table(tmp_path / "good", change))


@pytest.mark.parametrize("text", [b"[" * 10**6, b"{}", b"[]", b"7", b"null", b'{"__metadata__": null}', b"\xff" * 40])
def test_a_header_that_is_no_table_is_refused(tmp_path: Path, text: bytes) -> None:
    refused(tmp_path / "w", struct.pack("<Q", len(text)) + text + bytes(100))


@pytest.mark.parametrize("length", [10 * 2**30, 2**63, 2**64 - 1])
def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path, length: int) -> None:
    content = small(tmp_path / "good").read_bytes()
    refused(tmp_path / "w", struct.pack("<Q", length) + content[8:])


def test_only_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(WeightsError, match="a folder or a device"):
            weights.load(path)
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load(Path("a\0b"))


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 10**6},
        {"channels": 1000, "blocks": 1000},
        {"blocks": 10**12},
        {"blocks": -1},
        {"channels": 0},
        {"channels": "many"},
        {"channels": None},
        {"offset": float("nan")},
        {"colour": 1},
    ],
    ids=str,
)
def test_a_configuration_that_the_tensors_do_not_have_is_refused_before_it_takes_memory(
    tmp_path: Path, change: dict[str, object]
) -> None:
    header, tensors = weights.load(MODELS["rafrvsr"].path)
    weights.save(tmp_path / "w", replace(header, config=header.config | change), tensors)
    before = psutil.Process().memory_info().rss
    with pytest.raises(WeightsError, match="does not fit its own configuration"):
        load("rafrvsr", str(tmp_path / "w"), None)
    assert psutil.Process().memory_info().rss - before < 2**28


def test_a_file_brings_its_own_architecture_and_is_called_by_it(tmp_path: Path) -> None:
    model = FRVSR(channels=4, blocks=1)
    header = replace(HEADER, architecture="frvsr", config={"channels": 4, "blocks": 1})
    weights.save(tmp_path / "w", header, model.state_dict())
    assert isinstance(load("rafrvsr", str(tmp_path / "w"), None), FRVSR)
    assert title("rafrvsr", str(tmp_path / "w")) == "frvsr"
    assert title("rafrvsr-bi", None) == "rafrvsr-bi"
    with pytest.raises(OptionError, match=r"model='esrgan' is unknown; use one of 'rafrvsr'"):
        title("esrgan", str(tmp_path / "w"))


def test_updates_of_raft_are_refused_where_the_model_has_none(tmp_path: Path) -> None:
    model, config = FRVSR(channels=4, blocks=1), {"channels": 4, "blocks": 1}
    weights.save(tmp_path / "w", replace(HEADER, architecture="frvsr", config=config), model.state_dict())
    load("rafrvsr", str(tmp_path / "w"), None)
    with pytest.raises(OptionError, match=r"flow_updates=5.*leave it out"):
        load("rafrvsr", str(tmp_path / "w"), 5)


def test_swapped_shapes_and_foreign_names_are_refused(tmp_path: Path) -> None:
    header, tensors = weights.load(MODELS["rafrvsr"].path)
    turned = {name: t.transpose(0, 1) if name == "sr.head.weight" else t for name, t in tensors.items()}
    renamed = {name.replace("sr.", "net."): t for name, t in tensors.items()}
    for wrong in (turned, renamed, {}):
        weights.save(tmp_path / "w", header, wrong)
        with pytest.raises(WeightsError, match=r"does not fit its own configuration.*name or shape"):
            load("rafrvsr", str(tmp_path / "w"), None)


@pytest.mark.parametrize(("field", "value"), [("architecture", ["rafrvsr"]), ("architecture", 7), ("config", "wide")])
def test_a_header_with_fields_of_another_type_is_refused(tmp_path: Path, field: str, value: object) -> None:
    header, tensors = weights.load(MODELS["rafrvsr"].path)
    weights.save(tmp_path / "w", weights.Header(**(vars(header) | {field: value})), tensors)
    with pytest.raises(WeightsError, match="not a weights file"):
        load("rafrvsr", str(tmp_path / "w"), None)


@pytest.mark.parametrize("name", MODELS)
def test_every_shipped_model_loads_and_says_what_it_is(name: str) -> None:
    header = weights.read_header(MODELS[name].path)
    assert header.degradation
    assert header.training
    assert header.quality
    assert load(name, None, None)
    assert MODELS[name].path.stat().st_size <= 6e6


def test_reading_a_header_loads_no_torch() -> None:
    code = (
        "import sys; from vs_rafrvsr.models.registry import MODELS; from vs_rafrvsr.weights import read_header; "
        "[read_header(m.path) for m in MODELS.values()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
