"""Scripts that measure, as their users call them: mistakes end in one line, figures that must not be mixed are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.encode.media import FFV1, ffmpeg
from tests.metrics.pictures import moving
from vs_rafrvsr.models.registry import MODELS

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run(script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *map(str, words)]
    return subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("measure_stability", "rafrvsr --truth nowhere --json a.json", "'nowhere'"),
        ("measure_stability", "rafrvsr --truth nowhere --json a.json --frames 50", "give a multiple of that"),
        ("measure_stability", "rafrvsr-bd --truth nowhere --json a.json", "its own degradation, or another model"),
        ("measure_recurrence", "", "give --vid4 DIR, --clip VIDEO or both"),
        ("measure_recurrence", "--vid4 nowhere", "'nowhere'"),
        ("measure_scenecut", "--data nowhere", "nowhere: 0 sources for the reporting half"),
        (
            "plateau",
            "recipes/flow.toml --packs nowhere --flow-weights train.py --out nowhere",
            "train.py is no weights file: give safetensors, or torchvision's .pth",
        ),
        ("compare_flow", "nowhere --packs nowhere --json a.json", "scripts/plateau.py writes them"),
        ("model_table", "nowhere.safetensors", "need --scores JSON"),
        ("soak", "--device cuda:99", "device cuda:99: PyTorch finds"),
    ],
)
def test_a_mistake_ends_in_one_line(script: str, words: str, said: str) -> None:
    done = run(script, *words.split())
    assert done.returncode in (1, 2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith((f"{script}: ", f"{script}.py: error: "))
    assert said in last
    assert "Traceback" not in done.stderr


def test_long_shots_of_another_length_or_weights_are_not_mixed(tmp_path: Path) -> None:
    for clip, frames in (("clip", 7), ("short", 1)):
        (tmp_path / "truth" / clip).mkdir(parents=True)
        for i, frame in enumerate(moving(frames, 64, 64, 2)):
            cv2.imwrite(str(tmp_path / "truth" / clip / f"{i}.png"), frame)
    file = tmp_path / "long.json"
    words = ("--truth", tmp_path / "truth", "--device", "cpu", "--json", file)
    done = run("measure_stability", "rafrvsr", "--frames", "20", *words)
    assert done.returncode == 0, done.stderr
    assert "short: 1 frames, 7 needed" in done.stdout
    result = json.loads(file.read_text())
    assert (result["machine"], result["frames"]) == ("CPU", 20)
    assert {name: len(found["clip"]) for name, found in result["models"].items()} == {"bicubic": 1, "rafrvsr": 1}
    assert (
        "holds figures with frames 20, not 40" in run("measure_stability", "rafrvsr", "--frames", "40", *words).stderr
    )
    other = tmp_path / "rafrvsr.safetensors"
    other.write_bytes(MODELS["rafrvsr-bi"].path.read_bytes())
    assert "other weights named rafrvsr" in run("measure_stability", other, "--frames", "20", *words).stderr
    assert json.loads(file.read_text()) == result


def test_clips_shorter_than_a_cross_fade_are_measured(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    (tmp_path / "data" / "part").mkdir(parents=True)
    for number in range(4):
        file, count = f"{number}.mkv", 5 + number
        picture = f"testsrc2=size=96x64:rate=25,hue=h={90 * number},trim=end_frame={count}"
        ffmpeg("-f", "lavfi", "-i", picture, *FFV1, tmp_path / "data" / "part" / file)
        place = {"src": f"repository {number}:film {number}", "src_first": 0}
        rows.append({"file": file, "first": 0, "count": count, "size": [96, 64], **place})
    (tmp_path / "data" / "part" / "index.json").write_text(json.dumps(rows))
    done = run("measure_scenecut", "--data", tmp_path / "data", "--json", tmp_path / "cuts.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "cuts.json").read_text())
    assert (result["clips"], result["sources"]) == (2, 2)
    assert result["as stored"]["reported only"]["cross-fades over 12 frames"]["pairs"] == 11
