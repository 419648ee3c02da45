#!/usr/bin/env python
"""Does a model amplify noise? `scripts/noise.py --truth DIR --features DIR --json samples/noise.json [MODEL...]`.

DIR holds a folder of truth frames per clip. The LR clip stays clean, gets Gaussian noise (sigma of 255), or goes
through H.264, and every model upscales it through the plugin. There are two tables, since each model is fed its own
phase: BI input, scored as `bi` of scripts/evaluate.py, and BD input, scored as `bd`; bicubic, aligned, is in both,
named or not. The file of results is added to, so that models can be measured one after the other, and a run that was
stopped goes on; figures of another machine, truth, damage or weights of the same name are refused.

Residual noise: where the truth is flat (the standard deviation of Y in the 9x9 window around a pixel is under 2), the
root mean square of output - truth on Y, mean over frames, then over clips; divided by bicubic's of the same row. Above
1, the model left or made more noise than bicubic.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evaluating.scoring import (
    ALIGNED,
    BICUBIC,
    DIGITS,
    Clips,
    Scores,
    Upscaler,
    damaged,
    fingerprint,
    judge,
    machine,
    mean,
    measure,
    named,
    packed,
    phase_of,
    small,
    upscaler,
    weights_of,
)
from measuring import held, refuse_others, run_script
from rich.console import Console
from rich.table import Table

from vs_rafrvsr import weights
from vs_rafrvsr.metrics.lpips import Lpips
from vs_rafrvsr.metrics.protocol import PROTOCOLS, Protocol
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training import data
from vs_rafrvsr.training.degrade import PHASE

TABLES = {"bi": BICUBIC, "bd": ALIGNED}
"""Protocol of a table and what its residual noise is relative to."""
DAMAGE: dict[str, dict[str, Any]] = {
    "clean": {},
    "noise 2": {"noise": 2.0},
    "noise 5": {"noise": 5.0},
    "noise 10": {"noise": 10.0},
    "H.264 crf 23": {"crf": 23},
    "H.264 crf 28": {"crf": 28},
    "H.264 crf 33": {"crf": 33},
}
WANTED = ("PSNR-Y", "tOF", "flat noise")
COLUMNS = ("PSNR-Y", "LPIPS", "tOF", "residual noise")


def main() -> None:
    """The command line."""
    args = arguments()
    started = time.monotonic()
    models = named(args.models)
    marks = {name: weights.read_fingerprint(weights_of(model)) for name, model in models.items()}
    reading = data.read_folders(args.truth, shortest=2, multiple=SCALE)
    if args.rehearse:
        reading.sources = [dataclasses.replace(s, hr=s.hr[:4, :, :128, :192]) for s in reading.sources[:1]]
    print(reading.summary())
    truth = {source.name: packed(source.hr) for source in reading.sources}
    lr = {name: damaged_rows(reading.sources, PROTOCOLS[name]) for name in TABLES}
    setting = {
        "machine": machine(args.device),
        "truth": {"clips": {name: len(frames) for name, frames in truth.items()}, "sha256": fingerprint(truth)},
        "lr": {name: {label: fingerprint(clips) for label, clips in rows.items()} for name, rows in lr.items()},
    }
    result = held(args.json, setting) or {**setting, "weights": {}, "tables": empty_tables()}
    refuse_others(args.json, result["weights"], marks)
    lpips = judge(args.features, args.device)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    for name, table in result["tables"].items():
        protocol, baseline = PROTOCOLS[name], TABLES[name]
        own = {n: model for n, model in models.items() if phase_of(model) == PHASE[protocol.degradation]}
        ways = {n: upscaler(model, protocol, args.device) for n, model in {baseline: baseline, **own}.items()}
        for label, row in table["rows"].items():
            for model in [n for n in ways if n not in row]:
                row[model] = scores(protocol, ways[model], truth, lr[name][label], lpips, row.get(baseline))
                if model in own:
                    result["weights"][model] = marks[model]
                args.json.write_text(json.dumps(result, indent=1) + "\n")
                print(f"{name}, {label}, {model}: {time.monotonic() - started:.0f} s", flush=True)
        Console(width=120).print(listing(protocol, table["rows"]))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(MODELS), help="name or weights file")
    parser.add_argument("--truth", type=Path, required=True, help="a folder of frames per clip")
    parser.add_argument("--features", type=Path, help="folder with LPIPS's weights, as scripts/evaluate.py takes it")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true", help="a corner of four frames of one clip")
    args = parser.parse_args()
    args.models = [model for model in args.models if model not in TABLES.values()]
    return args


def damaged_rows(sources: list[data.Source], protocol: Protocol) -> dict[str, Clips]:
    """The LR clips of every row."""
    clean = {source.name: small(source, protocol) for source in sources}
    return {
        label: {clip: damaged(frames, clip, **damage) for clip, frames in clean.items()}
        for label, damage in DAMAGE.items()
    }


def empty_tables() -> dict[str, Any]:
    """A table for every protocol, of rows without models."""
    return {
        name: {"protocol": dataclasses.asdict(PROTOCOLS[name]), "rows": {label: {} for label in DAMAGE}}
        for name in TABLES
    }


def scores(
    protocol: Protocol, way: Upscaler, truth: Clips, lr: Clips, lpips: Lpips | None, baseline: Scores | None
) -> Scores:
    """A model's means over clips; its residual noise is relative to the baseline's, without one to its own."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        clips = measure(pool, protocol, way, truth, lr, lpips, WANTED)
    found = mean([clip.result() for clip in clips.values()])
    if "flat noise" in found:
        found["residual noise"] = found["flat noise"] / (baseline or found)["flat noise"]
    return found


def listing(protocol: Protocol, rows: dict[str, dict[str, Scores]]) -> Table:
    """A line per damage and model."""
    lines = Table("LR clip", "model", *COLUMNS, title=f"{protocol.name}: {protocol.source}")
    for label, models in rows.items():
        for model, found in models.items():
            cells = (f"{found[name]:.{DIGITS[name]}f}" if name in found else "-" for name in COLUMNS)
            lines.add_row(label if model == next(iter(models)) else "", model, *cells)
        lines.add_section()
    return lines


if __name__ == "__main__":
    run_script(main)
