"""What holds while the network runs, whatever the rest of the process has set."""

from __future__ import annotations

from typing import Any

import torch

from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.options import Options

backends: Any = torch.backends
SETTINGS = [
    (backends.cudnn, "enabled", False, True),
    (backends.cudnn, "benchmark", True, False),
    (backends.cudnn, "deterministic", False, True),
    (backends.cudnn.conv, "fp32_precision", "tf32", "ieee"),
    (backends.cuda.matmul, "fp32_precision", "tf32", "ieee"),
    (backends.cuda.matmul, "allow_fp16_accumulation", True, False),
    (backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", False, True),
    (backends.mkldnn, "enabled", False, True),
    (backends.mkldnn.conv, "fp32_precision", "bf16", "ieee"),
    (backends.mkldnn.matmul, "fp32_precision", "bf16", "ieee"),
]
"""Owner, name, a neighbour's value, ours. They can be read and set without a GPU, and on most CPUs change nothing."""


def values() -> list[Any]:
    return [torch.get_deterministic_debug_mode(), *(getattr(owner, name) for owner, name, *_ in SETTINGS)]


def put(mode: int, *rest: object) -> None:
    torch.set_deterministic_debug_mode(mode)
    for (owner, name, *_), value in zip(SETTINGS, rest, strict=True):
        setattr(owner, name, value)


def test_the_network_runs_under_its_own_settings_and_leaves_a_neighbours() -> None:
    runtime, before = Runtime.choose(Options(device="cpu")), values()
    try:
        put(1, *(theirs for _, _, theirs, _ in SETTINGS))
        assert runtime.run(values) == [0, *(ours for *_, ours in SETTINGS)]
        assert values() == [1, *(theirs for _, _, theirs, _ in SETTINGS)]
    finally:
        put(*before)
