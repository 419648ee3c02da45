"""scripts/evaluate.py as its users call it, the installed plugin behind it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.metrics.pictures import moving

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate.py"


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    for name, size in (("wide", (64, 96)), ("tall", (96, 72))):
        (folder / name).mkdir()
        for i, frame in enumerate(moving(4, *size, 2)):
            cv2.imwrite(str(folder / name / f"{i:03}.png"), frame[..., ::-1])
    return folder


def evaluate(truth: Path, file: Path, protocol: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--truth", str(truth), "--protocol", protocol, "--json", str(file)]
    return subprocess.run([*command, "--device", "cpu", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clean(truth: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of two models, and what the script printed."""
    file = tmp_path_factory.mktemp("clean") / "bi.json"
    done = evaluate(truth, file, "bi", "bicubic", "rafrvsr")
    assert done.returncode == 0, done.stderr
    return file, done.stdout


def test_models_are_added_to_a_file_and_protocols_never_mixed(truth: Path, clean: tuple[Path, str]) -> None:
    file, printed = clean
    result = json.loads(file.read_text())
    assert result["truth"]["clips"] == {"tall": 4, "wide": 4}
    found = result["models"]
    assert list(found) == ["bicubic", "rafrvsr"]
    assert set(found["rafrvsr"]["mean"]) == {"PSNR-Y", "SSIM-Y", "PSNR-RGB", "tOF"}
    mean = sum(clip["PSNR-Y"] for clip in found["bicubic"]["clips"].values()) / 2
    assert found["bicubic"]["mean"]["PSNR-Y"] == pytest.approx(mean)
    assert f"{mean:.3f}" in printed
    other = evaluate(truth, file, "bd", "bicubic")
    assert other.returncode != 0
    assert "must not be mixed" in other.stderr
    assert json.loads(file.read_text()) == result


def test_a_model_is_not_judged_by_pixels_that_lie_elsewhere(truth: Path, tmp_path: Path) -> None:
    done = evaluate(truth, tmp_path / "bd.json", "bd-whole", "bicubic", "bicubic-aligned", "rafrvsr")
    assert "rafrvsr was trained for samples at phase -1.5" in done.stderr
    found = json.loads((tmp_path / "bd.json").read_text())["models"]
    assert list(found) == ["bicubic", "bicubic-aligned"]
    assert found["bicubic-aligned"]["mean"]["PSNR-Y"] > found["bicubic"]["mean"]["PSNR-Y"] + 1


def test_damage_is_the_same_every_time_and_another_setting(
    truth: Path, clean: tuple[Path, str], tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("a.json", "b.json")]
    for file in files:
        assert evaluate(truth, file, "bi", "bicubic", "--noise", "10", "--crf", "28").returncode == 0
    assert files[0].read_text() == files[1].read_text()
    noisy, undamaged = (json.loads(f.read_text())["models"]["bicubic"]["mean"]["PSNR-Y"] for f in (files[0], clean[0]))
    assert noisy < undamaged - 0.3
    assert "must not be mixed" in evaluate(truth, files[0], "bi", "bicubic", "--noise", "5").stderr
