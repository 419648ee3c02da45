"""curves.csv: what a run reports, and how its validation clips score."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from vs_rafrvsr.training.validate import Score


class Curves:
    """A run's curves.csv.

    Args:
        file: where.
        sums: names of the loss and its terms.
        kinds: names of the kinds of validation clips.
    """

    def __init__(self, file: Path, sums: Iterable[str], kinds: Iterable[str]) -> None:
        self.file = file
        scores = [
            f"{kind}_{name}" for kind in dict.fromkeys(("real", "camera", *kinds)) for name in (*Score._fields, "lost")
        ]
        self.columns = ["step", "seconds", "steps_per_second", *sums, "gradient", "rate", "skipped", *scores]

    def begin(self, step: int) -> None:
        """Write what there is, up to a step: what was done after the last checkpoint is done again."""
        done = list(csv.DictReader(self.file.read_text().splitlines())) if self.file.exists() else []
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in done if float(row["step"]) <= step)

    def append(self, row: Mapping[str, float]) -> None:
        """Add a report; its validation columns stay empty between validations."""
        with self.file.open("a", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow({name: f"{value:.6g}" for name, value in row.items()})
