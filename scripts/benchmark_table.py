#!/usr/bin/env python
"""README's table and the chart from what scripts/benchmark.py measured.

python scripts/benchmark_table.py [RESULTS [README CHART]]
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from marked import replaced, table_row

ROOT = Path(__file__).resolve().parent.parent
RESULTS, README, CHART = ROOT / "samples/benchmark.json", ROOT / "README.md", ROOT / "samples/benchmark.svg"
BEGIN, END = "<!-- benchmark -->\n", "<!-- /benchmark -->\n"

NAMES = {
    "rafrvsr": "rafrvsr",
    "rafrvsr-compiled": "rafrvsr on torch.compile",
    "rafrvsr-eager": "rafrvsr on cuDNN",
    "realesrgan-4": "vs-realesrgan animevideov3, 4 streams",
    "realesrgan-1": "vs-realesrgan animevideov3, 1 stream",
    "basicvsrpp": "vs-basicvsrpp",
}
"""The filters in order. Other rows, for example the clip alone, are in the results only."""

HEAD = """\
| filter | input | format | fps | of its network's | device memory | first frame | seek, median / worst |
|---|---|---|---|---|---|---|---|
"""

BAR, LABEL, WIDTH = 18, 260, 720
"""Heights and widths in the chart, in pixels."""

type Row = dict[str, Any]


def shown(results: dict[str, Any]) -> list[Row]:
    """The rows of the table: by size, ours in every format, the others in 8 bits."""
    rows = [row for row in results["rows"] if row["filter"] in NAMES and "fps" in row]
    rows = [row for row in rows if row["filter"] == "rafrvsr" or row["format"] == "YUV420P8"]
    order = list(NAMES)
    return sorted(rows, key=lambda row: (_width(row), order.index(row["filter"]), len(row["format"])))


def _width(row: Row) -> int:
    return int(row["input"].partition("x")[0])


def section(results: dict[str, Any]) -> str:
    """What stands between the marks in README."""
    context = results["context_gb"]
    memory = f" Of the device memory, {context:.2f} GB are what any process of PyTorch holds." if context else ""
    text = (
        f"On one {results['machine']}, through `vspipe`, output discarded, measured by `scripts/benchmark.py` "
        f"([benchmark.json](samples/benchmark.json)).{memory} The rivals have random weights: only speed is compared."
    )
    table = HEAD + "".join(table_row(cells(row)) for row in shown(results))
    return f"{textwrap.fill(text, 120)}\n\n![frames per second](samples/benchmark.svg)\n\n{table}"


def cells(row: Row) -> list[str]:
    """Those of one row of the table; what was not measured is empty."""
    return [
        NAMES[row["filter"]],
        row["input"],
        row["format"],
        f"{row['fps']:.3g}",
        f"{row['fps'] / row['network_fps']:.0%}" if "network_fps" in row else "",
        f"{row['peak_gb']:.1f} GB" if row.get("peak_gb") is not None else "",
        f"{row['first_frame_s']:.1f} s" if "first_frame_s" in row else "",
        f"{row['seek_ms_median']:.0f} / {row['seek_ms_worst']:.0f} ms" if "seek_ms_median" in row else "",
    ]


def chart(results: dict[str, Any]) -> str:
    """Bars of frames per second, one scale for each input size, as SVG."""
    rows = [row for row in shown(results) if row["format"] == "YUV420P8"]
    parts, y = [], 0
    for size in dict.fromkeys(row["input"] for row in rows):
        group = [row for row in rows if row["input"] == size]
        longest = max(row["fps"] for row in group)
        parts.append(_text(4, y + 20, f"{size}, frames per second", "bold"))
        y += 28
        for row in group:
            width = (WIDTH - LABEL - 60) * row["fps"] / longest
            colour = "#2563eb" if row["filter"].startswith("rafrvsr") else "#9ca3af"
            parts.append(_text(12, y + BAR - 5, NAMES[row["filter"]]))
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR - 3}" fill="{colour}"/>')
            parts.append(_text(LABEL + width + 6, y + BAR - 5, f"{row['fps']:.3g}"))
            y += BAR
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" font-weight="{weight}">{text}</text>'


def main(results: Path = RESULTS, readme: Path = README, svg: Path = CHART) -> None:
    """Write both."""
    found = json.loads(results.read_text())
    readme.write_text(replaced(readme.read_text(), BEGIN, END, section(found)))
    svg.write_text(chart(found))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
