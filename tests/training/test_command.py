"""scripts/train.py as a user meets it: on a terminal, stopped by hand, and where something is wrong."""

from __future__ import annotations

import csv
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.test_team import FLOW, TRAIN, material

__all__ = ["material"]


def command(material: Path, out: Path, *options: str) -> list[str]:
    given = [str(material / "recipe.toml"), FLOW, "--vimeo", str(material), "--out", str(out), "--device", "cpu"]
    return [sys.executable, "-P", str(TRAIN), *given, *options]


def test_on_a_terminal_there_is_a_bar_with_speed_loss_and_time_left(material: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(material, tmp_path), stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:  # the terminal's other end is closed
                break
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert re.search(r"recipe \d+\.\d steps/s loss 0\.\d+ charbonnier 0\.\d+.*8/8.*\d:\d\d:\d\d", text)


def test_a_run_that_is_interrupted_goes_on(material: Path, tmp_path: Path) -> None:
    plan = command(material, tmp_path, "steps=100_000", "report_every=1")
    with subprocess.Popen(plan, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        while b"step 1 " not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 0
    stopped = len(list(csv.DictReader((tmp_path / "curves.csv").open())))
    resumed = subprocess.run([*plan, "--resume", "--minutes", "0"], capture_output=True, timeout=300, check=False)
    assert resumed.returncode == 0, resumed.stderr
    steps = [int(row["step"]) for row in csv.DictReader((tmp_path / "curves.csv").open())]
    assert steps == list(range(1, stopped + 2))


def test_a_used_folder_is_left_alone(material: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.0.safetensors").write_bytes(b"a run of many hours")
    (tmp_path / "curves.csv").write_text("and its curves")
    done = subprocess.run(command(material, tmp_path), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    said = f"train: {tmp_path} has the checkpoint of a run: go on with it by --resume, or choose another --out"
    assert done.stderr.splitlines() == [said]
    assert (tmp_path / "curves.csv").read_text() == "and its curves"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["rat=1e-3"], r"^train: unknown key rat: did you mean rate"),
        (["flow.weights=nowhere.safetensors"], r"^train: .*nowhere\.safetensors"),
        (["--vimeo", "nowhere", "--resume"], r"^train: .* has no checkpoint to resume$"),
        (["--vimeo", "nowhere", "losses.perceptual=1.0", "losses.features=none.pth"], r"^train: .*none\.pth"),
        (["--vimeo", "nowhere", "start=weights of a"], r"^train: start = 'weights of a': .* start=FILE$"),
        (["--vimeo", "nowhere"], r"^train: .*nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options: list[str], message: str, material: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(material, tmp_path, *options), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert re.match(message, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
