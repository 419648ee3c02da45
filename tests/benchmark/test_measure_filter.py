"""scripts/measure_filter.py on the CPU: a script that is reloaded, and a film whose encode is read again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.encode.media import ffmpeg

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_filter.py"
TAGS = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]


def measured(results: Path, *words: str | Path) -> dict[str, Any]:
    """The file's rows, when one more has been measured."""
    command = [sys.executable, str(SCRIPT), *map(str, words), "--device", "cpu", "--json", str(results)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    rows: dict[str, Any] = json.loads(results.read_text())
    return rows


def make_film(path: Path) -> Path:
    picture, sound = "testsrc2=size=64x48:rate=25:duration=1", "sine=duration=1"
    ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-c:v", "libx264", *TAGS, "-c:a", "aac", path)
    return path


def test_rows_are_named_by_what_was_measured_and_a_film_is_read_again(tmp_path: Path) -> None:
    film, out, results = make_film(tmp_path / "a.mkv"), tmp_path / "out.mkv", tmp_path / "results.json"
    measured(results, "reload", "--size", "32x32", "--rounds", "3")
    rows = measured(results, "film", film, out, "--size", "16x16")
    assert list(rows) == ["reload 32x32", "film 16x16 a.mkv"]
    assert rows["reload 32x32"]["instances"] == 2
    row = rows["film 16x16 a.mkv"]
    assert row["frames"] == 25
    assert row["right"] == {"frames": True, "duration": True, "colour tags": True, "sound": True}
    piped = measured(results, "pipe", "--size", "64x48")["pipe 64x48"]
    assert min(piped["fps_shell"], piped["fps_encode"]) > 0


CHECK = """
import json, sys
from pathlib import Path
from benchmarking.contents import Contents
film, other = (Contents.of(Path(name)) for name in sys.argv[1:])
print(json.dumps(other.checked(film)))
"""


def test_an_encode_that_is_cut_short_wrongly_tagged_and_silent_is_not_right(tmp_path: Path) -> None:
    film, other = make_film(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    tags = ["-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m"]
    ffmpeg("-i", film, "-t", "0.5", "-an", "-c:v", "libx264", *tags, other)
    command = [sys.executable, "-c", CHECK, str(film), str(other)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")])}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    assert json.loads(found) == {"frames": False, "duration": False, "colour tags": False, "sound": False}
