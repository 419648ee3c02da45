"""Commands that the documents call as `scripts/NAME` can be called so, and refuse at once what cannot work."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    file
    for file in (ROOT / "scripts").iterdir()
    if file.is_file() and (file.suffix != ".py" or "__main__" in file.read_text())
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_run_by_its_path(script: Path) -> None:
    assert os.access(script, os.X_OK), "chmod +x, and git add --chmod=+x"
    assert script.read_text().startswith("#!/usr/bin/env ")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "tests/README.md"])
def test_scripts_that_a_document_names_are_there(document: str) -> None:
    named = set(re.findall(r"\bscripts/[\w/.-]+\w", (ROOT / document).read_text()))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--help",), 0, "scripts/demo [VIDEO]"),
        (("-h",), 0, "scripts/demo [VIDEO]"),
        (("absent.mkv",), 1, "demo: absent.mkv is not a file"),
        (("/",), 1, "demo: / is not a file"),
        (("a.mkv", "b.mkv"), 2, "scripts/demo [VIDEO]"),
    ],
)
def test_the_demo_checks_its_words_before_it_sets_anything_up(
    words: tuple[str, ...], status: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "demo").write_bytes((ROOT / "scripts" / "demo").read_bytes())
    (tmp_path / "scripts" / "setup").write_text("#!/bin/sh\necho set-up runs >&2\nexit 9\n")
    for script in ("demo", "setup"):
        (tmp_path / "scripts" / script).chmod(0o755)
    done = subprocess.run(
        [tmp_path / "scripts" / "demo", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "set-up runs" not in done.stderr
