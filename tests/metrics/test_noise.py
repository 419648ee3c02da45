"""scripts/noise.py as its users call it, the installed plugin behind it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.metrics.pictures import moving

SCRIPT = Path(__file__).parents[2] / "scripts" / "noise.py"


def test_each_model_is_measured_on_its_own_phase_and_against_bicubic(tmp_path: Path) -> None:
    frames = moving(3, 64, 96, 2)
    frames[:, :, :48] = 120
    (tmp_path / "truth" / "clip").mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "truth" / "clip" / f"{i}.png"), frame)
    words = ("rafrvsr", "--truth", tmp_path / "truth", "--json", tmp_path / "noise.json", "--device", "cpu")
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tables = {name: t["rows"] for name, t in json.loads((tmp_path / "noise.json").read_text())["tables"].items()}
    assert [list(models) for models in tables["bi"].values()] == [["bicubic", "rafrvsr"]] * 7
    assert [list(models) for models in tables["bd"].values()] == [["bicubic-aligned"]] * 7
    bicubic, ours = ([row[name] for row in tables["bi"].values()] for name in ("bicubic", "rafrvsr"))
    assert {row["residual noise"] for row in bicubic} == {1.0}
    for ascending in (bicubic[:4], bicubic[4:]):
        assert sorted(ascending, key=lambda row: -row["PSNR-Y"]) == ascending
    # Noise of sigma 10 on R, G and B has 5.7 on Y; bicubic's kernel averages a part of it away.
    assert 3.5 < bicubic[3]["flat noise"] < 5.7
    assert ours[3]["residual noise"] == pytest.approx(ours[3]["flat noise"] / bicubic[3]["flat noise"])
    assert "H.264 crf 33" in done.stdout
