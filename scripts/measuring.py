"""What the scripts that measure have in common."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vs_rafrvsr.metrics import evaluation
from vs_rafrvsr.training.recipe import RecipeError

FAULTS = (*evaluation.FAULTS, RecipeError)
"""What the scripts end with a message for."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script; the user's errors end it with one line instead of a traceback."""
    try:
        main()
    except FAULTS as error:
        raise SystemExit(f"{Path(sys.argv[0]).stem}: {error}") from None


def add_result(file: Path, name: str, result: Any) -> None:  # noqa: ANN401
    """Put a result into a JSON file under its name, beside what is there already."""
    known = json.loads(file.read_text()) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known | {name: result}, indent=1) + "\n")
