"""Small real files and what ffprobe says of them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

# A lossless, fast encoder: frames can be compared bit for bit.
FFV1 = ("-c:v", "ffv1")
X264 = ("-c:v", "libx264", "-preset", "ultrafast")


def script(folder: Path, body: str, name: str = "script.vpy") -> Path:
    """A script in a folder; `core` and `vs` are there."""
    path = folder / name
    path.write_text(f"import vapoursynth as vs\nfrom vapoursynth import core\n{body}\n")
    return path


def heed() -> None:
    """In a child, before it runs: a background job's children ignore SIGINT otherwise, those under nohup SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def left_over(folder: Path) -> list[str]:
    """What is there of an encode to `out` with some suffix."""
    return sorted(path.name for path in folder.iterdir() if "part" in path.name or path.name.startswith("out"))


def programs_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The vspipe and the ffmpeg of an encode that another process runs, once both are at work."""
    for _ in range(300):
        assert process.poll() is None, "the encode is over"
        found = [child for child in psutil.Process(process.pid).children(recursive=True) if _is_at_work(child)]
        if len(found) == 2:
            return found
        time.sleep(0.1)
    raise AssertionError("waited half a minute in vain")


def _is_at_work(child: psutil.Process) -> bool:
    """Is it vspipe, or the ffmpeg that reads from it? An ffmpeg before that one only tells what its encoder takes."""
    try:
        return child.name() == "vspipe" or "pipe:0" in child.cmdline()
    except psutil.Error:
        return False


def ffmpeg(*options: str | Path) -> None:
    """Run ffmpeg to make a test file."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, options)], check=True, stdin=subprocess.DEVNULL)


def probe(path: Path, *options: str) -> dict[str, Any]:
    """ffprobe's JSON."""
    assert shutil.which("ffprobe"), "these tests need ffprobe: apt install ffmpeg"
    command = ["ffprobe", "-v", "error", "-of", "json", *options, str(path)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def streams(path: Path, kind: str) -> list[Any]:
    """Streams of one kind ("video", "audio", "subtitle", "attachment")."""
    return [s for s in probe(path, "-show_streams")["streams"] if s["codec_type"] == kind]


def times(path: Path, kind: str = "v") -> list[float]:
    """Presentation times of a stream's packets in seconds, in order."""
    packets = probe(path, "-select_streams", f"{kind}:0", "-show_entries", "packet=pts_time")["packets"]
    return sorted(float(packet["pts_time"]) for packet in packets)


def pixels(path: Path, *options: str) -> bytes:
    """The decoded frames."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v:0", *options, "-fps_mode", "passthrough"]
    return subprocess.run([*command, "-f", "rawvideo", "-"], check=True, capture_output=True).stdout


def vspipe_pixels(vspipe: str, path: Path, *options: str) -> bytes:
    """What vspipe itself writes for a script."""
    return subprocess.run([vspipe, *options, str(path), "-"], check=True, capture_output=True).stdout


def side_data(path: Path) -> Sequence[dict[str, Any]]:
    """The side data of the first frame."""
    frames = probe(path, "-read_intervals", "%+#1", "-show_frames", "-select_streams", "v:0")["frames"]
    data: list[dict[str, Any]] = frames[0].get("side_data_list", [])
    return data
