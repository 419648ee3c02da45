"""What the doctor says of memory and of how to install: it must be judged, and must work."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vs_rafrvsr import doctor, weights
from vs_rafrvsr.doctor import GIB, State
from vs_rafrvsr.models.registry import MODELS


def with_devices(monkeypatch: pytest.MonkeyPatch, *free: float) -> None:
    """As many CUDA devices of 8 GiB, with so many GiB free."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(free))
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: (int(free[index] * GIB), 8 * GIB))


def test_a_device_with_room_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    with_devices(monkeypatch, 2.0, 7.5)
    finding = doctor.check_device_memory()
    assert (finding.state, finding.remedy) == (State.FINE, "")
    assert finding.found == "cuda:0 2.0 of 8.0 GiB free\ncuda:1 7.5 of 8.0 GiB free"


@pytest.mark.parametrize("free", [(0.5,), (7.5, 1.9)])
def test_a_device_that_is_full_is_limited_and_told_what_to_do(
    free: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_devices(monkeypatch, *free)
    finding = doctor.check_device_memory()
    assert finding.state is State.LIMITED
    assert f"{free[-1]} of 8.0 GiB free" in finding.found
    for word in ("480x270 needs 2 GiB", "close other programs", "tile=["):
        assert word in finding.remedy


@pytest.mark.parametrize(("free", "state"), [(1.9, State.LIMITED), (2.1, State.FINE)])
def test_main_memory_is_judged_too(free: float, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=int(free * GIB), total=8 * GIB))
    finding = doctor.check_memory()
    assert finding.state is state
    assert f"{free} of 8.0 GiB" in finding.found
    assert bool(finding.remedy) == (state is State.LIMITED)


def test_what_it_tells_to_install_is_the_checkout_not_a_name_that_no_index_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vapoursynth.get_plugin_dir", lambda: str(tmp_path))
    for row in MODELS.values():
        (tmp_path / row.file).write_bytes(b"damaged")
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setitem(sys.modules, "cupy", None)
    for check in (doctor.check_plugin, doctor.check_weights):
        assert check().remedy == "in the checkout: pip install --force-reinstall --no-deps ."
    assert doctor.check_cupy().remedy == "in the checkout: pip install '.[cuda13]'"


def test_a_device_that_is_listed_and_computes_nothing_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a card that this PyTorch has no code for: here there is none at that number."""
    number = torch.cuda.device_count()
    with_devices(monkeypatch, *[8.0] * (number + 1))
    finding = doctor.check_gpu()
    assert finding.state is State.BROKEN
    assert f"cuda:{number}" in finding.found
    assert "pytorch.org" in finding.remedy


@pytest.mark.cuda
def test_a_device_that_works_has_upscaled_a_frame() -> None:
    finding = doctor.check_gpu()
    assert finding.state is State.FINE
    assert "upscaled a frame on cuda:0" in finding.found
