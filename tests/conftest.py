"""The installed wheel is what is tested; GPU tests are counted where there is no GPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# OpenMP reads this when torch is loaded, in child processes too: many threads, few cores and tiny frames spend most of
# their time spinning for each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

if not torch.cuda.is_available():
    # Triton reads this when a kernel is defined: without a GPU our kernels run in its interpreter, on tiny frames.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Behind site-packages, so that `tests` is found and the source tree's `vs_rafrvsr` is not.
sys.path.append(str(Path(__file__).parent.parent))


def pytest_report_header() -> str:
    """Which copy of the package is under test."""
    import vs_rafrvsr

    return f"vs_rafrvsr: {Path(vs_rafrvsr.__file__).parent}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests without a GPU; RAFRVSR_REQUIRE_CUDA=1 makes that an error instead."""
    if torch.cuda.is_available():
        return
    if os.environ.get("RAFRVSR_REQUIRE_CUDA") == "1":
        raise pytest.UsageError("RAFRVSR_REQUIRE_CUDA=1, but PyTorch sees no CUDA device")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
