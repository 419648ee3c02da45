"""scripts/benchmark.py from end to end on the CPU, and that it goes on where it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.encode.media import FFV1, ffmpeg

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def benchmark(file: Path, video: Path, *filters: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), "--json", str(file), "--video", str(video), "--filters", *filters]
    words += ["--inputs", "16x16", "--formats", "YUV420P8", "--seconds", "1", "--device", "cpu"]
    return subprocess.run(
        words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )


def test_rows_are_measured_and_added_to_a_file(tmp_path: Path) -> None:
    file, video, other = tmp_path / "a.json", tmp_path / "film.mkv", tmp_path / "other.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=8", *FFV1, video)
    other.hardlink_to(video)
    for name in ("source", "rafrvsr"):
        done = benchmark(file, video, name)
        assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["machine"] == "CPU"
    source, row = result["rows"]
    assert (source["filter"], row["filter"], row["input"], row["format"]) == ("source", "rafrvsr", "16x16", "YUV420P8")
    figures = {"fps", "fps_python", "network_fps", "first_frame_s", "first_frame_cold_s", "seek_ms_median"}
    assert all(row[name] > 0 for name in figures)
    assert row["seek_ms_median"] <= row["seek_ms_worst"]
    assert source["fps"] > 100 * row["fps"]
    refused = benchmark(file, other, "source")
    assert refused.returncode != 0
    assert "must not be mixed" in refused.stderr


def test_a_row_that_fails_says_why(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=1", *FFV1, tmp_path / "short.mkv")
    done = benchmark(tmp_path / "a.json", tmp_path / "short.mkv", "source")
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "a.json").read_text())["rows"][0]
    assert "25 frames, fewer than 200" in row["error"]
    assert "fps" not in row
