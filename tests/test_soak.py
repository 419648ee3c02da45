"""The short form of scripts/soak.py: a chain of two instances, seeks mixed in, nothing lost and nothing growing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[1] / "scripts" / "soak.py"


def test_nothing_is_lost_or_grows_in_a_short_soak() -> None:
    command = [sys.executable, "-P", str(SOAK), "--frames", "600", "--size", "16x16", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["frames"] == 600 + 6 * 4
    assert found["wrong"] == 0
    assert abs(found["handles_per_1000_frames"]) < 1
    assert abs(found["threads_per_1000_frames"]) < 4
    assert found["host_bytes_per_1000_frames"] < 64 * 2**20
