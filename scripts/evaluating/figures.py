"""Figures for the result page: tables from the JSON files of measurements, charts from training curves."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluating.scoring import DIGITS

LESS_IS_BETTER = ("LPIPS", "tOF", "tLP100", "flat noise", "residual noise", "EPE", "ms", "learned by heart")
"""How the names of such columns begin."""
SIZE = (560, 220)
"""Width and height of a chart's plot area, in its own units."""
CURVES = {
    "real_settled": "Validation, real video: PSNR-Y in dB",
    "camera_settled": "Validation, camera motion over stills: PSNR-Y in dB",
    "shown_settled": "Clips to look at: PSNR-Y in dB",
    "loss": "Training loss, of each run's own kind",
}
"""Columns of curves.csv that are drawn."""
SETTLED = {"real_settled": "filmed, dB", "camera_settled": "made, dB"}
"""Of a short run's final scores, what its table shows."""
BY_HEART = ("gain", "gain by other pixels", "learned by heart")
"""Of what a model knows by heart, what its table shows."""
BASELINES = {"flow": "raft-x2", "losses": "all losses", "training": "rafrvsr-bi"}
"""JSON file -> what its run `baseline` is, where it has no other name in scripts/recipes."""

type Row = tuple[tuple[str, ...], dict[str, float]]
"""Names, the group's first, and figures."""
type Line = list[tuple[float, float]]


class Table(NamedTuple):
    """Cells as text, names before figures."""

    title: str
    names: list[str]
    columns: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]]
    """(row, column) of the best figures of each group."""


class Chart(NamedTuple):
    """Polylines and ticks in units of SIZE."""

    title: str
    lines: list[tuple[int, str, str]]
    """Number of the run, which is its colour and dash in every chart, its name, and an SVG polyline's points."""
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def tables(folder: Path) -> Iterator[Table]:
    """Of the JSON files of evaluate, noise, compare_flow, plateau_table, measure_stability and measure_overfit."""
    for file in sorted(folder.glob("*.json")):
        result = read(file)
        title = file.stem.replace("-", " ")
        if "protocol" in result:
            rows: list[Row] = [(("", model), found["mean"]) for model, found in result["models"].items()]
            yield table(f"{title}: {result['protocol']['source']}", ["model"], rows)
        for name, part in result.get("tables", {}).items():
            rows = [((how, model), found) for how, row in part["rows"].items() for model, found in row.items()]
            yield table(f"{title}, {name.upper()} input: {part['protocol']['source']}", ["LR clip", "model"], rows)
        if {"runs", "clips"} <= result.keys():
            rows = [
                (("", name, f"x{run['scale']:g}", updates if updates != "0" else ""), row)
                for name, run in result["runs"].items()
                for updates, row in run["updates"].items()
            ]
            yield table(f"{title}, {result['device']}", ["flow", "its input", "updates"], rows)
        if "rounds" in result:
            rows = [
                ((str(number), run["name"]), {kind: run["final"][column] for column, kind in SETTLED.items()})
                for number, runs in enumerate(result["rounds"], 1)
                for run in runs
            ]
            yield table(f"{title}: PSNR-Y on validation clips", ["round", "run"], rows)
        if {"frames", "models"} <= result.keys():
            yield table(f"{title}, along a shot: {result['unit']}", ["model"], list(stretches(result)))
        if "shift" in result:
            rows = [
                ((part, model), {column: found["parts"][part]["settled"][column] for column in BY_HEART})
                for part in ("trained on", "held")
                for model, found in result["models"].items()
            ]
            yield table(f"{title}: {result['unit']}", ["clips", "model"], rows)


def read(file: Path) -> dict[str, Any]:
    """What a JSON file holds, its baseline under its own name."""
    result: dict[str, Any] = json.loads(file.read_text())
    own = BASELINES.get(file.stem, "baseline")
    for part in {"runs", "models"} & result.keys():
        result[part] = {name.replace("baseline", own): found for name, found in result[part].items()}
    return result


def stretches(result: dict[str, Any]) -> Iterator[Row]:
    """Every model's figures from frames of a shot on, means over the clips that all models have."""
    clips = set.intersection(*map(set, result["models"].values())) - {"weights"}
    for model, found in result["models"].items():
        means = [float(np.mean(part)) for part in zip(*(found[clip] for clip in clips), strict=True)]
        yield ("", model), {f"from {n * result['frames'] // len(means)}": mean for n, mean in enumerate(means)}


def table(title: str, names: list[str], rows: list[Row]) -> Table:
    """The best of a group of at least two is marked; a group's name stands in its first row."""
    found_columns = dict.fromkeys(column for _, row in rows for column in row)
    columns = sorted(found_columns, key=[*DIGITS, *found_columns].index)
    best, cells = set(), []
    for _, members in groupby(enumerate(rows), key=lambda row: row[1][0][0]):
        group = list(members)
        for index, column in enumerate(columns, len(names)):
            found = {number: row[column] for number, (_, row) in group if column in row}
            if len(found) > 1:
                better = min if column.startswith(LESS_IS_BETTER) else max
                best.add((better(found, key=lambda number: found[number]), index))
        for place, (_, (name, row)) in enumerate(group):
            figures = [f"{row[c]:.{DIGITS.get(c, 3)}f}" if c in row else "" for c in columns]
            cells.append([*(name if place == 0 else ("", *name[1:]))[-len(names) :], *figures])
    return Table(title, names, columns, cells, best)


def charts(files: Iterable[Path]) -> Iterator[Chart]:
    """Of curves.csv files, a line each under its folder's name, over minutes of training; only what is finite."""
    runs = {file.parent.name: list(csv.DictReader(file.read_text().splitlines())) for file in files}
    for column, title in CURVES.items():
        lines = {
            name: [
                (float(row["seconds"]) / 60, value)
                for row in rows
                if math.isfinite(value := float(row.get(column) or "nan"))
            ]
            for name, rows in runs.items()
        }
        if any(len(line) > 1 for line in lines.values()):
            yield chart(title, lines, rising=column != "loss")


def chart(title: str, lines: dict[str, Line], rising: bool) -> Chart:
    """The beginning of a curve dwarfs the rest: what is worse than the worst tenth of all values is cut off."""
    x, y = np.array([point for line in lines.values() for point in line]).T
    low, high = (np.quantile(y, 0.1), y.max()) if rising else (y.min(), np.quantile(y, 0.9))
    right, span = x.max(), max(high - low, 1e-9)
    width, height = SIZE

    def points(line: Line) -> str:
        place = [(a / right * width, height * (1 - np.clip((b - low) / span, 0, 1))) for a, b in line]
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in place)

    return Chart(
        title,
        [(number, name, points(line)) for number, (name, line) in enumerate(lines.items()) if len(line) > 1],
        [(share * width, f"{share * right:.3g}") for share in np.linspace(0, 1, 5)],
        [(height * (1 - share), f"{low + share * span:.4g}") for share in np.linspace(0, 1, 4)],
    )
