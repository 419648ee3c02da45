"""scripts/noise.py as its users call it, the installed plugin behind it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluating.scoring import damaged
from noise import DAMAGE

from tests.metrics.pictures import moving
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.training.codec import Codec, compress

SCRIPT = Path(__file__).parents[2] / "scripts" / "noise.py"


def noise(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--device", "cpu", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_model_is_measured_on_its_own_phase_and_against_bicubic(features: Path, tmp_path: Path) -> None:
    frames = moving(3, 64, 96, 2)
    frames[:, :, :48] = 120
    (tmp_path / "truth" / "clip").mkdir(parents=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / "truth" / "clip" / f"{i}.png"), frame)
    options = ("--truth", tmp_path / "truth", "--features", features, "--json", tmp_path / "noise.json")
    done = noise("bicubic", "rafrvsr", *options)
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
    assert all("LPIPS" in scores for rows in tables.values() for row in rows.values() for scores in row.values())
    assert "H.264 crf 33" in done.stdout


def test_models_are_added_one_after_the_other_and_others_refused(tmp_path: Path) -> None:
    (tmp_path / "truth" / "clip").mkdir(parents=True)
    for i, frame in enumerate(moving(2, 64, 96, 2)):
        cv2.imwrite(str(tmp_path / "truth" / "clip" / f"{i}.png"), frame)
    file, own = tmp_path / "noise.json", tmp_path / "own.safetensors"
    options = ("--truth", tmp_path / "truth", "--json", file)
    assert "bi, clean, bicubic:" in noise("bicubic", *options).stdout
    first = json.loads(file.read_text())
    assert first["weights"] == {}
    first["tables"]["bi"]["rows"]["noise 2"].clear()  # as a run leaves it that was stopped
    file.write_text(json.dumps(first))
    shutil.copy(MODELS["rafrvsr"].path, own)
    added = noise(own, *options)
    assert "bi, clean, bicubic:" not in added.stdout
    assert "bi, noise 2, bicubic:" in added.stdout
    result = json.loads(file.read_text())
    assert [list(models) for models in result["tables"]["bi"]["rows"].values()] == [["bicubic", "own"]] * 7
    assert list(result["weights"]) == ["own"]
    shutil.copy(MODELS["rafrvsr-bi"].path, own)
    assert "holds figures of other weights named own" in noise(own, *options).stderr
    cv2.imwrite(str(tmp_path / "truth" / "clip" / "0.png"), moving(1, 64, 96, 2)[0] // 2)
    assert "must not be mixed" in noise("bicubic", *options).stderr
    assert json.loads(file.read_text()) == result


def test_rows_are_damaged_as_they_say() -> None:
    sigmas, crfs = (2, 5, 10), (23, 28, 33)
    assert list(DAMAGE) == ["clean", *(f"noise {sigma}" for sigma in sigmas), *(f"H.264 crf {crf}" for crf in crfs)]
    frames = moving(3, 64, 96, 2)
    assert np.array_equal(damaged(frames, "a", **DAMAGE["clean"]), frames)
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    for sigma in sigmas:
        assert damaged(grey, "a", **DAMAGE[f"noise {sigma}"]).std() == pytest.approx(sigma, rel=0.03)
    for crf in crfs:
        expected = compress(frames, Codec(name="libx264", crf=crf))
        assert np.array_equal(damaged(frames, "a", **DAMAGE[f"H.264 crf {crf}"]), expected)


def test_what_is_missing_or_ambiguous_is_said(tmp_path: Path) -> None:
    missing = noise("--truth", tmp_path / "nowhere", "--json", tmp_path / "noise.json")
    assert missing.stderr.startswith("noise: ")
    assert str(tmp_path / "nowhere") in missing.stderr
    (tmp_path / "truth" / "clip").mkdir(parents=True)
    for i, frame in enumerate(moving(2, 64, 96, 2)):
        cv2.imwrite(str(tmp_path / "truth" / "clip" / f"{i}.png"), frame)
    both = noise("m/a.safetensors", "n/a.safetensors", "--truth", tmp_path / "truth", "--json", tmp_path / "noise.json")
    assert both.stderr == "noise: m/a.safetensors and n/a.safetensors would both be called a: rename a file\n"
