"""The scripts around training, on a made-up pack: experiments, what flow networks are worth, what steps cost."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision
from compare_flow import epe
from measure_overfit import summary, windows
from safetensors.torch import save_file
from torch import Tensor

from tests.training.fabricated import clip, picture
from vs_rafrvsr.models.frvsr import Features
from vs_rafrvsr.training.unroll import Unroll

SCRIPTS = Path(__file__).parents[2] / "scripts"
WEIGHTS = SCRIPTS.parent / "vs_rafrvsr" / "weights" / "rafrvsr.safetensors"


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 videos of 14 frames and 8 stills, each of a source of its own."""
    folder = tmp_path_factory.mktemp("pack")
    for i in range(16):
        writer = cv2.VideoWriter(str(folder / f"{i}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (128, 96))
        for frame in clip(str(i), 14, 96, 128, seed=i).hr:
            writer.write(image(frame))
        writer.release()
    for i in range(8):
        cv2.imwrite(str(folder / f"{i}.png"), image(picture(384, 512, seed=i)))
    for index, ending, count in (("index", "avi", 16), ("stills", "png", 8)):
        entries = [{"file": f"{i}.{ending}", "src": f"{index} {i}:x"} for i in range(count)]
        (folder / f"{index}.json").write_text(json.dumps(entries))
    return folder


def image(frame: Tensor) -> cv2.typing.MatLike:
    """(3, h, w) as OpenCV takes it."""
    return frame.permute(1, 2, 0).numpy()


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_flow_networks_are_trained_and_compared(pack: Path, tmp_path: Path) -> None:
    table, names = SCRIPTS / "recipes" / "flow.toml", ["baseline", "fnet-native"]
    out = tmp_path / "runs"
    plan = [table, "--packs", pack, "--seconds", "1", "--out", out, "--rehearse", "--runs", *names]
    run("plateau.py", *plan)
    trained = {name: (out / f"{name}.json").stat().st_mtime_ns for name in names}
    run("plateau.py", *plan)
    assert trained == {name: (out / f"{name}.json").stat().st_mtime_ns for name in names}, "made a second time"
    run("compare_flow.py", out, "--packs", pack, "--json", tmp_path / "flow.json", "--rehearse")
    found = json.loads((tmp_path / "flow.json").read_text())["runs"]
    assert found.keys() == {"baseline", "baseline, raft_large", "fnet-native"}
    assert list(found["baseline"]["updates"]) == ["2", "4", "6", "12"]
    assert list(found["fnet-native"]["updates"]) == ["0"]
    for name in names:
        for row in found[name]["updates"].values():
            assert row["EPE"] > 0
            assert 5 < row["PSNR-Y camera"] < 60
            assert row["ms 16x16"] > 0


@pytest.mark.parametrize(("off", "expected"), [((0.0, 0.0), 0), ((3.0, 4.0), 5)])
def test_epe_is_the_length_of_the_error_where_the_match_lies_within_the_frame(
    off: tuple[float, float], expected: float
) -> None:
    known = clip("a", 4, 64, 96)
    found = known.flow[1:, :2].float() + torch.tensor(off)[:, None, None]
    found[..., -1] = 99  # the picture moves left: these came in from the right
    net: Any = SimpleNamespace(encode=Features, flow=lambda *_: found, advance=None)
    assert epe(Unroll(net, 2, None), known, 2) == pytest.approx(expected)


def test_what_is_known_by_heart_is_measured_on_the_same_picture_by_other_pixels(pack: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 101, 300, 3), np.uint8)
    own, other = windows(frames)
    assert own.shape == other.shape == (3, 96, 256, 3)
    top, left = 0, 20  # multiples of 4, as training's LR pixels begin
    assert np.array_equal(own, frames[:, top : top + 96, left : left + 256])
    assert np.array_equal(other, frames[:, top + 2 : top + 98, left + 2 : left + 258])
    gains = np.array([[[3.0, 5.0], [1.0, 2.0]], [[4.0, 6.0], [4.0, 5.0]], [[2.0, 3.0], [1.0, 3.0]]])
    first, settled = summary(gains).values()
    assert (first["gain"], first["gain by other pixels"], first["learned by heart"]) == (3, 2, 1)
    assert settled["learned by heart"] == pytest.approx(4 / 3)
    assert settled["median of it"] == 1
    file = tmp_path / "overfit.json"
    run("measure_overfit.py", "bicubic", "rafrvsr-bi", "--packs", pack, "--clips", 1, "--json", file)
    bicubic, ours = (found["parts"] for found in json.loads(file.read_text())["models"].values())
    for part in ("trained on", "held"):
        assert bicubic[part]["settled"]["clips"] == ours[part]["settled"]["clips"] == 1
        assert bicubic[part]["settled"]["gain"] == 0
        assert abs(ours[part]["settled"]["gain"]) > 0.01
    (tmp_path / "index.json").write_text(json.dumps([{"file": str(pack / "0.avi"), "src": "index 0:x"}]))
    command = [sys.executable, str(SCRIPTS / "measure_overfit.py"), "bicubic", "--packs", str(tmp_path), "--json", "a"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.fullmatch(
        r"measure_overfit: the packs have no clip that was (trained on|held) and has 14 frames of 66x66 pixels: "
        r"give more packs\n",
        done.stderr,
    )


def test_a_run_that_failed_or_was_killed_is_named_and_can_be_made_again(pack: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "runs", SCRIPTS / "recipes" / "losses.toml"
    plan = [table, "--packs", pack, "--seconds", "0.1", "--out", out, "--rehearse", "losses.network=squeezenet1_1"]
    plan += ["losses.features=nowhere.safetensors", "--runs", "baseline", "no-perceptual"]
    said = run("plateau.py", *plan)
    assert re.search(r"baseline: FAILED .*nowhere\.safetensors", said)
    assert sorted(file.name for file in out.glob("*.claim")) == ["no-perceptual.claim"]
    assert (out / "no-perceptual.json").is_file()
    (out / "baseline.claim").touch()  # as a process that was killed leaves it
    said = run("plateau.py", *plan)
    assert "baseline: claimed, no result" in said
    assert "no-perceptual:" not in said


def test_an_interrupted_run_gives_up_its_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    plateau = runpy.run_path(str(SCRIPTS / "plateau.py"))
    assert plateau["claim"](tmp_path, "a")
    assert not plateau["claim"](tmp_path, "a")
    with pytest.raises(KeyboardInterrupt), plateau["given_up_on_failure"](tmp_path, "a", 0.0):
        raise KeyboardInterrupt
    assert plateau["claim"](tmp_path, "a")


def test_the_steps_of_recipes_are_timed_one_after_the_other(pack: Path, tmp_path: Path) -> None:
    file = tmp_path / "training.json"
    options = [SCRIPTS / "recipes" / "speed.toml", "--packs", pack, "--steps", "2", "--json", file, "--rehearse"]
    run("measure_training.py", *options, "--runs", "frvsr-bi")
    features = torchvision.models.squeezenet1_1(weights=None).state_dict()
    save_file(features, tmp_path / "features.safetensors")
    changed = [f"losses.features={tmp_path}/features.safetensors"]
    table = tmp_path / "speed.toml"
    text = (SCRIPTS / "recipes" / "speed.toml").read_text()
    table.write_text(re.sub('"vgg16"', '"squeezenet1_1"', text))
    options[0] = table
    run("measure_training.py", *options, *changed, "--runs", "rafrvsr-texture", "seed-project")
    found = json.loads(file.read_text())["runs"]
    assert list(found) == ["frvsr-bi", "rafrvsr-texture", "seed-project"]
    assert "not the weights of vgg19" in found.pop("seed-project")["failed"]
    for row in found.values():
        assert row["steps_per_second"] > 0
        assert 0 <= row["waiting_for_data"] < 1


def test_packs_are_trained_on_clips_shown_and_the_flow_kept(pack: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "steps = 4\nbatch = 2\nframes = 3\ncrop = 8\nwarm_up = 1\nreport_every = 2\nvalidate_every = 4\n"
        "model = { channels = 4, blocks = 1 }\nflow = { updates = 1 }\n"
        "data = { validation_every = 3, stills_clips = 4 }\n"
    )
    shown = tmp_path / "shown"
    for t, frame in enumerate(clip("shown", 8, 64, 96, seed=50).hr):
        (shown / "a").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(shown / "a" / f"{t}.png"), image(frame))
    options = [recipe, f"flow.weights={WEIGHTS}", "--packs", pack, "--show", shown, "--cache", tmp_path / "cache"]
    options += ["--area", "96", "--limit", "20"]
    first = run("train.py", *options, "--out", tmp_path / "first")
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    assert kept
    second = run("train.py", *options, "--out", tmp_path / "second")
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    assert scores(first) == scores(second)
    assert any(name.startswith("shown_") for name in scores(first))
    assert list((tmp_path / "first" / "pictures").glob("*4*.png"))
    assert (tmp_path / "first" / "tiny.safetensors").is_file()


def scores(log: str) -> dict[str, str]:
    """What the last row says of validation clips."""
    words = log.splitlines()[-1].split()
    return {
        name: value for name, value in zip(words[::2], words[1::2], strict=True) if "_" in name and "per" not in name
    }
