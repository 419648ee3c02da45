"""scripts/demo.py, the work behind `scripts/demo`, on the installed package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.encode.media import FFV1, ffmpeg, streams, times

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-P", str(ROOT / "scripts" / "demo.py")]


def test_demo_beats_bicubic_and_shows_it() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    figures = re.fullmatch(r"bicubic (\d+\.\d\d) dB, rafrvsr (\d+\.\d\d) dB, \d+\.\d fps", last)
    assert figures, last
    assert float(figures[2]) > float(figures[1]) + 0.5
    out = ROOT / "build" / "demo"
    assert (
        streams(out / "upscaled.mkv", "video")[0]["width"] == streams(out / "bicubic.mkv", "video")[0]["width"] == 640
    )
    assert Image.open(out / "compare.png").size == (1280, 748)


def test_demo_upscales_a_given_video_with_its_sound(tmp_path: Path) -> None:
    video = tmp_path / "a film.mkv"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=48x32:rate=30000/1001:duration=0.2")
    ffmpeg(*picture, "-f", "lavfi", "-i", "sine=duration=0.2", "-color_range", "pc", *FFV1, "-c:a", "flac", video)
    subprocess.run([*DEMO, str(video)], check=True, capture_output=True)
    out = tmp_path / "a film_x4.mkv"
    result = streams(out, "video")[0]
    assert (result["width"], result["height"], result["color_range"]) == (192, 128, "pc")
    assert result["r_frame_rate"] == "30000/1001"
    assert len(times(out)) == len(times(video))
    assert len(streams(out, "audio")) == 1
    made = out.stat().st_mtime_ns
    again = subprocess.run([*DEMO, str(video)], check=True, capture_output=True, text=True)
    assert "is there already" in again.stdout
    assert out.stat().st_mtime_ns == made
