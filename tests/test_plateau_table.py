"""scripts/plateau_table.py as its users call it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def result(name: str, change: dict[str, object], filmed: float, made: float) -> dict[str, object]:
    return {
        "name": name,
        "change": change,
        "parameters": 1000,
        "device": "a card",
        "recipe": {
            "start": "/somewhere/start.safetensors",
            "flow": {"weights": "/somewhere/flow.safetensors"},
            "losses": {"features": "/somewhere/vgg.safetensors"},
        },
        "final": {"step": 100.0, "seconds": 60.0, "real_settled": filmed, "camera_settled": made},
    }


def test_every_run_stands_beside_its_own_baseline(tmp_path: Path) -> None:
    for part in ("scripts/plateau_table.py", "scripts/marked.py", "scripts/recipes/README.md"):
        to = tmp_path / part
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, to)
    rounds = {
        "one": [
            result("baseline", {}, 20, 10),
            result("worse", {"batch": 4}, 19, 10),
            result("a", {"rate": 1.0}, 21, 10),
        ],
        "two": [result("baseline", {}, 25, 15), result("a", {"rate": 2.0}, 25, 15.5)],
    }
    for name, runs in rounds.items():
        (tmp_path / name).mkdir()
        for run in runs:
            (tmp_path / name / f"{run['name']}.json").write_text(json.dumps(run))
        (tmp_path / name / "bicubic.json").write_text("{}")
        (tmp_path / name / "failed.json").write_text(json.dumps(result("failed", {}, 0, 0) | {"final": None}))
    command = [sys.executable, "scripts/plateau_table.py", "one", "two", "--json", "out.json"]
    subprocess.run(command, cwd=tmp_path, check=True)
    text = (tmp_path / "scripts/recipes/README.md").read_text()
    table = text.partition("<!-- runs: by scripts/plateau_table.py -->")[2].partition("<!-- end of runs -->")[0]
    rows = [row.split("|") for row in table.strip().splitlines()[2:]]
    found = [(row[1].strip(), row[2].strip(), row[-2].strip()) for row in rows]
    assert found == [
        ("1", "baseline", ""),
        ("1", "a", "+0.50"),
        ("1", "worse", "-0.50"),
        ("2", "baseline", ""),
        ("2", "a", "+0.25"),
    ]
    kept = json.loads((tmp_path / "out.json").read_text())["rounds"]
    assert [len(runs) for runs in kept] == [3, 2]
    assert "flow.safetensors" in (tmp_path / "out.json").read_text()
    assert "/somewhere" not in (tmp_path / "out.json").read_text()
