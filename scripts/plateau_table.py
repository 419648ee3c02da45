#!/usr/bin/env python
"""The table of short training runs, from the results that scripts/plateau.py wrote.

    scripts/plateau_table.py ROUND... --json samples/plateau.json

ROUND is a folder of runs of equal time, the run `baseline` among them. The JSON holds all runs' scores; the table in
scripts/recipes/README.md, their PSNR-Y on validation clips beside their baseline's, is written anew from it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marked import replaced, table_row

TEXT = Path(__file__).resolve().parent / "recipes" / "README.md"
BEGIN, END = "<!-- runs: by scripts/plateau_table.py -->\n", "<!-- end of runs -->\n"
CLIPS = ("real_settled", "camera_settled")
"""PSNR-Y from the ninth frame on, of filmed and of made clips."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=Path, nargs="+", metavar="ROUND")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    rounds = [collect(folder) for folder in args.rounds]
    args.json.write_text(json.dumps({"rounds": rounds}, indent=1) + "\n")
    TEXT.write_text(replaced(TEXT.read_text(), BEGIN, END, "".join(table(rounds))))


def collect(folder: Path) -> list[dict[str, Any]]:
    """The finished runs of a round, the baseline first, then the better ones first."""
    found = [json.loads(file.read_text()) for file in sorted(folder.rglob("*.json"))]
    kept = ("name", "change", "parameters", "device", "recipe", "final")
    runs = [{key: run[key] for key in kept} for run in found if run.get("final")]
    for recipe in (run["recipe"] for run in runs):  # where a file was on that machine is of no interest
        for part, key in ((recipe, "start"), (recipe["flow"], "weights"), (recipe["losses"], "features")):
            part[key] = Path(part.get(key, "")).name
    if "baseline" not in {run["name"] for run in runs}:
        raise SystemExit(f"plateau_table: {folder} has no finished run named baseline, against which the others count")
    return sorted(runs, key=lambda run: (run["name"] != "baseline", -mean(run)))


def mean(run: dict[str, Any]) -> float:
    """Of both kinds of clips."""
    return statistics.mean(float(run["final"][clips]) for clips in CLIPS)


def table(rounds: list[list[dict[str, Any]]]) -> Iterator[str]:
    """Rows in Markdown."""
    yield "| round | run | changes | seconds | steps | filmed, dB | made, dB | against its baseline |\n"
    yield "|---|---|---|---|---|---|---|---|\n"
    for number, runs in enumerate(rounds, 1):
        for run in runs:
            final, change = run["final"], run["change"]
            code = f"`{json.dumps(change)}`" if change else ""
            spent = (f"{final[what]:.0f}" for what in ("seconds", "step"))
            scores = (f"{final[clips]:.2f}" for clips in CLIPS)
            gain = f"{mean(run) - mean(runs[0]):+.2f}" if change else ""
            yield table_row([str(number), run["name"], code, *spent, *scores, gain])


if __name__ == "__main__":
    main()
