"""What the scripts that measure have in common."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import vapoursynth as vs
from evaluating.scoring import machine, packed

from vs_rafrvsr.errors import RafrvsrError
from vs_rafrvsr.metrics.fidelity import Frames
from vs_rafrvsr.metrics.protocol import EvaluationError
from vs_rafrvsr.training.degrade import degrade

FAULTS = (RafrvsrError, vs.Error, OSError)
"""What the scripts end with a message for."""
RUN_FAULTS = (RafrvsrError, RuntimeError, OSError)
"""Of one training run among several: its settings, memory or numbers, or a file that it needs."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script; the user's errors end it with one line instead of a traceback."""
    try:
        main()
    except FAULTS as error:
        raise SystemExit(f"{Path(sys.argv[0]).stem}: {error}") from None


def use_device(device: str) -> str:
    """Make the plugin's `device` the current one, on which streams are made and memory is reported; its name.

    Raises:
        EvaluationError: a CUDA device is asked for and not there.
    """
    called = machine(device)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    return called


def shrink(truth: Frames) -> Frames:
    """BI: bicubic x1/4, rounded; frames (N, H, W, 3)."""
    planes = torch.from_numpy(np.ascontiguousarray(truth.transpose(0, 3, 1, 2)))
    return packed(degrade(planes, "bi").numpy())


def add_result(file: Path, name: str, result: Any) -> None:  # noqa: ANN401
    """Put a result into a JSON file under its name, beside what is there already."""
    known = json.loads(file.read_text()) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known | {name: result}, indent=1) + "\n")


def opened(file: Path, setting: dict[str, Any], marks: dict[str, str | None]) -> dict[str, Any]:
    """The result of models that a file holds so far, or one without models yet.

    Raises:
        EvaluationError: its figures were made in another way, or are of other weights of the same name.
    """
    result = held(file, setting) or {**setting, "unit": "mean of the clips' means over frames", "models": {}}
    refuse_others(file, {name: model.get("weights") for name, model in result["models"].items()}, marks)
    return result


def held(file: Path, setting: dict[str, Any]) -> dict[str, Any] | None:
    """What a file holds so far, if it is there.

    Raises:
        EvaluationError: its figures were made in another way.
    """
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text())
    for key, value in setting.items():
        if found.get(key) != json.loads(json.dumps(value)):
            raise EvaluationError(
                f"{file} holds figures with {key} {found.get(key)}, not {value}: they must not be mixed; "
                "write to another file"
            )
    return found


def refuse_others(file: Path, known: Mapping[str, str | None], marks: Mapping[str, str | None]) -> None:
    """See to it that a file's figures are of the weights that are about to be measured.

    Raises:
        EvaluationError: it has some of other weights of the same name.
    """
    for name, mark in marks.items():
        if name in known and known[name] != mark:
            raise EvaluationError(
                f"{file} holds figures of other weights named {name}: take them out of it, or write to another file"
            )
