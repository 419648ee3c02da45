"""The short form of scripts/soak.py: a chain of two instances, seeks mixed in. Memory needs the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[1] / "scripts" / "soak.py"


def test_no_frame_is_lost_or_wrong_and_no_handle_or_thread_stays() -> None:
    command = [sys.executable, str(SOAK), "--frames", "300", "--size", "16x16", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["frames"] == 300 + 3 * 4
    assert found["wrong"] == 0
    assert abs(found["handles_per_1000_frames"]) < 1
    assert abs(found["threads_per_1000_frames"]) < 4
