"""scripts/evaluate.py as its users call it, the installed plugin behind it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluating.scoring import ALEXNET, HEADS

from tests.metrics.pictures import moving, picture
from vs_rafrvsr import weights
from vs_rafrvsr.metrics.fidelity import Frames, psnr_y, ssim_y
from vs_rafrvsr.metrics.lpips import Lpips, lpips_and_tlp
from vs_rafrvsr.metrics.tof import tof
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.training.codec import Codec, compress
from vs_rafrvsr.training.degrade import degrade

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate.py"


def write(folder: Path, frames: Frames) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i:03}.png"), frame[..., ::-1])


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    for name, size in (("wide", (64, 96)), ("tall", (96, 72))):
        write(folder / name, moving(4, *size, 2))
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


def test_what_duf_counts_of_bicubic_is_what_a_direct_computation_finds(features: Path, tmp_path: Path) -> None:
    """MATLAB's bicubic is PyTorch's antialiased one; the resizer rounds between its two directions."""
    truth = moving(7, 96, 112, 3)
    write(tmp_path / "truth" / "clip", truth)
    options = ("--features", str(features), "--crf", "30")
    done = evaluate(tmp_path / "truth", tmp_path / "duf.json", "duf", "bicubic", *options)
    assert done.returncode == 0, done.stderr
    clean = degrade(torch.from_numpy(truth).permute(0, 3, 1, 2), "bd").permute(0, 2, 3, 1).contiguous().numpy()
    lr = torch.from_numpy(compress(clean, Codec(name="libx264", crf=30))).permute(0, 3, 1, 2)
    upscaled = F.interpolate(lr.float(), scale_factor=4, mode="bicubic", antialias=True)
    output = upscaled.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    counted, found = (frames[2:-2, 8:-8, 8:-8] for frames in (truth, output))
    lpips, tlp = lpips_and_tlp(Lpips(features / ALEXNET, features / HEADS), counted, found)
    mean = json.loads((tmp_path / "duf.json").read_text())["models"]["bicubic"]["mean"]
    assert mean["PSNR-Y"] == pytest.approx(psnr_y(counted, found).mean(), abs=0.01)
    assert mean["SSIM-Y"] == pytest.approx(ssim_y(counted, found).mean(), abs=1e-3)
    assert mean["tOF"] == pytest.approx(tof(truth[2:-2], output[2:-2]).mean(), rel=0.02)
    assert mean["LPIPS"] == pytest.approx(lpips.mean(), rel=0.02)
    assert mean["tLP100"] == pytest.approx(tlp.mean(), rel=0.05)


def test_given_lr_frames_are_upscaled_and_a_clip_without_them_is_named_and_skipped(truth: Path, tmp_path: Path) -> None:
    shutil.copytree(truth, tmp_path / "truth")
    write(tmp_path / "lr" / "wide", np.full((4, 16, 24, 3), 100, np.uint8))
    options = ("bicubic", "--lr", str(tmp_path / "lr"))
    done = evaluate(tmp_path / "truth", tmp_path / "bi.json", "bi", *options)
    assert "1 read, 1 skipped" in done.stdout
    assert "tall: 0 LR frames, 4 needed" in done.stdout
    result = json.loads((tmp_path / "bi.json").read_text())
    assert result["truth"]["clips"] == {"wide": 4}
    assert result["lr"]["made"] == "given"
    frames = moving(4, 64, 96, 2)
    expected = psnr_y(frames, np.full_like(frames, 100)).mean()
    assert result["models"]["bicubic"]["mean"]["PSNR-Y"] == pytest.approx(expected)
    write(tmp_path / "truth" / "wide", np.stack([picture(64, 96, 1)]))
    assert "holds figures with truth" in evaluate(tmp_path / "truth", tmp_path / "bi.json", "bi", *options).stderr


def test_vimeo_s_test_set_is_read_by_its_list_and_its_lr_frames_are_not(tmp_path: Path) -> None:
    """Those are bicubic, which BD is not."""
    (tmp_path / "sep_testlist.txt").write_text("00001/0266\n")
    for i, frame in enumerate(moving(7, 64, 96, 2), 1):
        for kind, part in (("target", frame), ("low_resolution", np.zeros_like(frame[::4, ::4]))):
            file = tmp_path / kind / "00001" / "0266" / f"im{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), part[..., ::-1])
    done = evaluate(tmp_path, tmp_path / "vimeo.json", "vimeo-bd", "bicubic-aligned")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "vimeo.json").read_text())
    assert result["lr"]["made"] == "by the protocol"
    assert result["models"]["bicubic-aligned"]["clips"]["00001/0266"]["PSNR-Y"] > 20


def test_leadin_reaches_the_plugin(truth: Path, clean: tuple[Path, str], tmp_path: Path) -> None:
    done = evaluate(truth, tmp_path / "causal.json", "bi", "rafrvsr", "--leadin", "0")
    assert done.returncode == 0, done.stderr
    causal, led = (json.loads(f.read_text())["models"]["rafrvsr"]["mean"] for f in (tmp_path / "causal.json", clean[0]))
    assert causal["PSNR-Y"] != pytest.approx(led["PSNR-Y"], abs=1e-3)
    assert "holds figures with leadin 0" in evaluate(truth, tmp_path / "causal.json", "bi", "bicubic").stderr


def test_figures_of_another_machine_or_of_other_weights_of_the_name_are_refused(
    truth: Path, clean: tuple[Path, str], tmp_path: Path
) -> None:
    result = json.loads(clean[0].read_text())
    assert result["machine"] == "CPU"
    file, other = tmp_path / "bi.json", tmp_path / "rafrvsr.safetensors"
    file.write_text(json.dumps(result | {"machine": "a card"}))
    assert "holds figures with machine a card, not CPU" in evaluate(truth, file, "bi", "bicubic").stderr
    header, tensors = weights.load(MODELS["rafrvsr"].path)
    weights.save(other, header, {name: tensor + 1 for name, tensor in tensors.items()})
    shutil.copy(clean[0], file)
    assert "other weights named rafrvsr" in evaluate(truth, file, "bi", str(other)).stderr
    both = evaluate(truth, file, "bi", "rafrvsr", str(other))
    assert f"rafrvsr and {other} would both be called rafrvsr" in both.stderr
    assert json.loads(file.read_text()) == result


@pytest.mark.parametrize(
    ("protocol", "options", "said"),
    [
        ("bi", ("--truth", "nowhere"), "nowhere"),
        ("bi", ("--features", "nowhere"), f"nowhere/{ALEXNET} is missing"),
        ("duf", (), "tall: 4 frames, 5 needed"),
    ],
)
def test_what_is_missing_is_said(
    truth: Path, tmp_path: Path, protocol: str, options: tuple[str, ...], said: str
) -> None:
    done = evaluate(truth, tmp_path / "new.json", protocol, "bicubic", *options)
    assert done.returncode == 1
    assert done.stderr.startswith("evaluate: ")
    assert said in done.stderr
    assert not (tmp_path / "new.json").exists()
