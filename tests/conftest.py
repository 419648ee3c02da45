"""GPU tests: skipped and counted where there is no GPU; RAFRVSR_REQUIRE_CUDA=1 makes that an error instead."""

from __future__ import annotations

import os

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    if os.environ.get("RAFRVSR_REQUIRE_CUDA") == "1":
        raise pytest.UsageError("RAFRVSR_REQUIRE_CUDA=1, but PyTorch sees no CUDA device")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
