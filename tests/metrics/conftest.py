"""LPIPS's weights for tests, made up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from evaluating.scoring import ALEXNET, HEADS
from safetensors.torch import save_file

CHANNELS = (64, 192, 384, 256, 256)


@pytest.fixture(scope="session")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with AlexNet and heads of seeded weights, as --features takes it."""
    folder = tmp_path_factory.mktemp("features")
    generator = torch.Generator().manual_seed(0)
    shapes = {
        f"features.{n}": t.shape for n, t in torchvision.models.alexnet(weights=None).features.state_dict().items()
    }
    tensors = {n: torch.randn(s, generator=generator) / max(1, s[1:].numel()) ** 0.5 for n, s in shapes.items()}
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=generator) for i, c in enumerate(CHANNELS)}
    save_file(tensors, folder / ALEXNET)
    save_file(heads, folder / HEADS)
    return folder
