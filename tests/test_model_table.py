"""scripts/model_table.py as its users call it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vs_rafrvsr import weights
from vs_rafrvsr.weights import Header

ROOT = Path(__file__).parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The script, the README and the weights in another place, so that they can be spoiled."""
    for part in (
        "scripts/model_table.py",
        "scripts/marked.py",
        "README.md",
        "samples/noise.json",
        "vs_rafrvsr/weights",
    ):
        to = tmp_path / part
        to.parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, to)
    return tmp_path


def run(root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "model_table.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_readme_says_what_the_weights_say() -> None:
    assert run(ROOT, "--check").returncode == 0


def test_measured_scores_reach_the_header_and_the_readme(copy: Path) -> None:
    file = copy / "vs_rafrvsr" / "weights" / "rafrvsr.safetensors"
    before, tensors = weights.load(file)
    scores = {"PSNR-Y": 31.416, "SSIM-Y": 0.98765, "flat noise": 1.0}
    result: dict[str, Any] = {
        "protocol": {"name": "bd"},
        "leadin": None,
        "damage": {"noise": 0.0, "H.264 crf": None},
        "models": {"rafrvsr": {"weights": "of another file", "mean": scores}},
    }
    (copy / "scores.json").write_text(json.dumps(result))
    assert "other weights of that name" in run(copy, "--scores", copy / "scores.json", "--on", "Mine", file).stderr
    result["models"]["rafrvsr"]["weights"] = weights.read_fingerprint(file)
    (copy / "scores.json").write_text(json.dumps(result))
    done = run(copy, "--scores", copy / "scores.json", "--on", "Mine", file)
    assert done.returncode == 0, done.stderr
    header, same = weights.load(file)  # which checks the checksum
    assert header.quality == {**before.quality, "Mine BD PSNR-Y": 31.416, "Mine BD SSIM-Y": 0.9877}
    assert all(torch.equal(same[name], tensor) for name, tensor in tensors.items())
    rows = [row for row in (copy / "README.md").read_text().splitlines() if row.startswith("| `rafrvsr` | ")]
    assert rows[-1].endswith("| Mine BD | 31.42 | 0.9877 | - | - | - |")
    assert all(row in (ROOT / "README.md").read_text() for row in rows[:-1])
    assert run(copy, "--check").returncode == 0


def test_scores_of_another_model_or_of_noise_are_refused(copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    weights.save(file, Header(architecture="a", config={}, degradation="", training={}, quality={}), {})
    for damage, message in ((0.0, "no scores of other"), (5.0, "damaged input")):
        result = {"damage": {"noise": damage}, "models": {"rafrvsr": {"mean": {}}}}
        (copy / "scores.json").write_text(json.dumps(result))
        assert message in run(copy, "--scores", copy / "scores.json", "--on", "Mine", file).stderr


def test_noise_that_was_measured_without_lpips_has_a_table(copy: Path) -> None:
    file = copy / "samples" / "noise.json"
    result = json.loads(file.read_text())
    for row in result["tables"]["bi"]["rows"].values():
        for scores in row.values():
            del scores["LPIPS"]
    file.write_text(json.dumps(result))
    done = run(copy)
    assert done.returncode == 0, done.stderr
    assert "| clean | 23.78 / - / 0.448 / 1.00 |" in (copy / "README.md").read_text()


def test_noise_on_bd_input_has_a_table_once_a_model_is_there(copy: Path) -> None:
    file, readme = copy / "samples" / "noise.json", copy / "README.md"
    result = json.loads(file.read_text())
    rows = result["tables"]["bd"]["rows"]
    for row in rows.values():
        for name in [name for name in row if name != "bicubic-aligned"]:
            del row[name]
    file.write_text(json.dumps(result))
    assert "run scripts/model_table.py" in run(copy, "--check").stderr
    assert run(copy).returncode == 0
    before = readme.read_text().partition("<!-- end of noise -->")
    assert "on BD input (" not in before[0]
    for row in rows.values():
        row["ours-bd"] = {"PSNR-Y": 31.416, "LPIPS": 0.25, "tOF": 0.125, "residual noise": 0.5}
    file.write_text(json.dumps(result))
    assert run(copy).returncode == 0
    after = readme.read_text().partition("<!-- end of noise -->")
    assert after[2] == before[2]
    added = after[0].removeprefix(before[0])
    assert added.startswith("\nThe same on BD input (RRN, RSDN: sigma 1.6, 8 px crop, all frames):\n\n| low-res")
    assert "| low-resolution clip | bicubic-aligned | ours-bd |" in added
    assert re.search(r"\| noise 5 \| [\d./ ]+ \| 31.42 / 0.250 / 0.125 / 0.50 \|", added)


def test_a_readme_without_the_marks_is_left_and_told_what_it_lacks(copy: Path) -> None:
    readme = copy / "README.md"
    spoiled = readme.read_text().replace("<!-- end of noise -->\n", "")
    readme.write_text(spoiled)
    assert "needs the lines <!-- noise: by scripts/model_table.py --> and <!-- end of noise -->" in run(copy).stderr
    assert readme.read_text() == spoiled


def test_a_stale_readme_is_noticed(copy: Path) -> None:
    readme = copy / "README.md"
    spoiled = readme.read_text().replace("| `rafrvsr` | ", "| `rafrvsr` | not ")
    readme.write_text(spoiled)
    assert "run scripts/model_table.py" in run(copy, "--check").stderr
    assert readme.read_text() == spoiled
