"""scripts/benchmark_table.py, and that README shows the figures that were measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]


def make(*files: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "benchmark_table.py"), *map(str, files)], check=True)


def test_readme_and_chart_say_what_was_measured(tmp_path: Path) -> None:
    results = ROOT / "samples" / "benchmark.json"
    if not results.exists():
        pytest.skip("nothing has been measured yet")
    readme, chart = tmp_path / "README.md", tmp_path / "chart.svg"
    shutil.copy(ROOT / "README.md", readme)
    make(results, readme, chart)
    assert readme.read_text() == (ROOT / "README.md").read_text()
    assert chart.read_text() == (ROOT / "samples" / "benchmark.svg").read_text()


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    row = {"filter": "rafrvsr", "input": "64x48", "format": "YUV420P8", "fps": 98.76, "network_fps": 123.4}
    rival = {"filter": "basicvsrpp", "input": "64x48", "format": "YUV420P8", "fps": 12.3, "peak_gb": 2.5}
    failed = {"filter": "realesrgan-1", "input": "64x48", "format": "YUV420P8", "error": "out of memory"}
    results, readme, chart = tmp_path / "a.json", tmp_path / "README.md", tmp_path / "chart.svg"
    results.write_text(json.dumps({"machine": "a test", "context_gb": 0.5, "rows": [rival, failed, row]}))
    readme.write_text("# Title\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nend\n")
    make(results, readme, chart)
    text = readme.read_text()
    assert text.startswith("# Title\n<!-- benchmark -->\nOn one a test")
    assert text.endswith("<!-- /benchmark -->\nend\n")
    assert [line for line in text.splitlines() if "64x48" in line] == [
        "| rafrvsr | 64x48 | YUV420P8 | 98.8 | 80% |  |  |  |",
        "| vs-basicvsrpp | 64x48 | YUV420P8 | 12.3 |  | 2.5 GB |  |  |",
    ]
    widths = [float(bar.get("width", "")) for bar in ElementTree.parse(chart).iter() if bar.get("fill", "")[0:1] == "#"]
    assert widths[1] / widths[0] == pytest.approx(12.3 / 98.76, rel=1e-2)
    make(results, readme, chart)
    assert readme.read_text() == text
