"""Weights files: round trip, and a header that can be read without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vs_rafrvsr import WeightsError, weights
from vs_rafrvsr.models.registry import MODELS, load
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
