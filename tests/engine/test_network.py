"""Which filters share a model."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vs_rafrvsr.engine.network import _shared_model
from vs_rafrvsr.engine.runtime import Runtime
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.options import Options


def test_filters_share_the_model_of_a_file_until_the_file_changes(tmp_path: Path) -> None:
    file = Path(shutil.copy(MODELS["rafrvsr"].path, tmp_path / "own.safetensors"))
    options = Options(weights=str(file), device="cpu")
    runtime = Runtime.choose(options)
    model = _shared_model(options, runtime)
    assert _shared_model(options, runtime) is model
    assert _shared_model(Options(device="cpu"), runtime) is not model
    os.utime(file, ns=(0, 0))
    assert _shared_model(options, runtime) is not model
