"""scripts/benchmark.py from end to end on the CPU, and that it goes on where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.encode.media import FFV1, ffmpeg
from vs_rafrvsr import weights
from vs_rafrvsr.models.registry import MODELS

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def benchmark(file: Path, video: Path, *filters: str, figures: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), "--json", str(file), "--video", str(video), "--filters", *filters]
    words += ["--figures", figures] if figures else []
    words += ["--inputs", "16x16", "--formats", "YUV420P8", "--seconds", "1", "--least", "20", "--device", "cpu"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


def film(path: Path, seconds: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=size=64x48:rate=25:duration={seconds}", *FFV1, path)
    return path


def test_rows_are_measured_and_added_to_a_file(tmp_path: Path) -> None:
    file, video = tmp_path / "a.json", film(tmp_path / "film.mkv", seconds=8)
    done = benchmark(file, video, "source", "rafrvsr")
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["machine"] == "CPU"
    source, row = result["rows"]
    assert (source["filter"], row["filter"], row["input"], row["format"]) == ("source", "rafrvsr", "16x16", "YUV420P8")
    figures = {"fps", "fps_python", "network_fps", "first_frame_s", "first_frame_cold_s", "seek_ms_median"}
    assert all(row[name] > 0 for name in figures)
    assert row["seek_ms_median"] <= row["seek_ms_worst"]
    assert source["fps"] > 100 * row["fps"]
    network = {"model": "rafrvsr", "network": weights.read_header(MODELS["rafrvsr"].path).config}
    assert network.items() <= row.items()
    assert network.items() <= result.items()
    assert "network" not in source

    again = benchmark(file, video, "rafrvsr", figures="network")
    assert again.returncode == 0, again.stderr
    result = json.loads(file.read_text())
    changed = {name for name in row if result["rows"][1][name] != row[name]}
    assert changed <= {"network_fps", "network_ms"}
    row = result["rows"][1]

    file.write_text(json.dumps(result | {"network": "others"}))
    refused = benchmark(file, video, "rafrvsr", figures="network")
    assert refused.returncode != 0
    assert "must not be mixed" in refused.stderr
    file.write_text(json.dumps(result))

    refused = benchmark(file, film(tmp_path / "other.mkv", seconds=8), "source")
    assert refused.returncode != 0
    assert "must not be mixed" in refused.stderr
    assert json.loads(file.read_text()) == result

    failing = benchmark(file, film(tmp_path / "short" / "film.mkv", seconds=1), "source")
    assert failing.returncode == 0, failing.stderr
    kept, failed = json.loads(file.read_text())["rows"]
    assert kept == row
    assert "25 frames, fewer than 200" in failed["error"]
    assert "fps" not in failed


@pytest.mark.parametrize(
    ("device", "said"),
    [("cpu", "fewer frames of thumbnails: --inputs 16x16 --least 20"), ("cuda:99", "device cuda:99: PyTorch finds ")],
)
def test_what_cannot_be_measured_is_refused_at_once(tmp_path: Path, device: str, said: str) -> None:
    words = [sys.executable, str(SCRIPT), "--json", str(tmp_path / "a.json"), "--device", device]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if line]
    assert message.startswith("benchmark: ")
    assert said in message
    assert not (tmp_path / "a.json").exists()
