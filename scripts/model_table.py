#!/usr/bin/env python
"""The README's tables of models, from the headers of their weights files, and of noise, from samples/noise.json.

    scripts/model_table.py                                      writes the tables
    scripts/model_table.py --check                              exits with 1 where the README says otherwise
    scripts/model_table.py --scores JSON --on Vid4 FILE...      first writes scores into weights files

JSON is scripts/evaluate.py's; each FILE gets the scores of the model of its name, and a checksum that fits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marked import replaced, table_row

from vs_rafrvsr import weights
from vs_rafrvsr.models.listing import parameters
from vs_rafrvsr.models.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
README, WEIGHTS = ROOT / "README.md", ROOT / "vs_rafrvsr" / "weights"
NOISE = ROOT / "samples" / "noise.json"
BEGIN, END = "<!-- {}: by scripts/model_table.py -->\n", "<!-- end of {} -->\n"
METRICS = {"PSNR-Y": "{:.2f}", "SSIM-Y": "{:.4f}", "LPIPS": "{:.3f}", "tOF": "{:.3f}"}
NOISE_METRICS = {"PSNR-Y": "{:.2f}", "LPIPS": "{:.3f}", "tOF": "{:.3f}", "residual noise": "{:.2f}"}
CAUSAL = ", leadin=0"
"""Ends the names of figures of the strictly causal filter."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--scores", type=Path, metavar="JSON")
    parser.add_argument("--on", help="what the clips are called")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_intermixed_args()
    if args.scores and not (args.on and args.files):
        parser.error("--scores needs --on NAME and the weights files")
    if args.files and not args.scores:
        parser.error("weights files need --scores JSON: what to write into them")
    for file in args.files:
        write_scores(file, json.loads(args.scores.read_text()), args.on)
    old = README.read_text()
    new = old
    for name, rows in (("models", table()), ("noise", noise_tables(json.loads(NOISE.read_text())))):
        new = replaced(new, BEGIN.format(name), END.format(name), "".join(rows))
    if args.check and new != old:
        raise SystemExit("README.md: its tables are not what was measured; run scripts/model_table.py")
    README.write_text(new)


def write_scores(file: Path, result: dict[str, Any], on: str) -> None:
    """The mean figures of the model of that name, added to the header."""
    if any(result["damage"].values()):
        raise SystemExit(f"scores of damaged input ({result['damage']}) do not describe a model; take clean ones")
    if file.stem not in result["models"]:
        raise SystemExit(f"no scores of {file.stem}, only of {', '.join(result['models'])}")
    if result["models"][file.stem].get("weights") != weights.read_fingerprint(file):
        raise SystemExit(f"the scores of {file.stem} are of other weights of that name; run scripts/evaluate.py again")
    protocol = result["protocol"]["name"].replace("bi", "BI").replace("bd", "BD")
    how = "" if result["leadin"] is None else f", leadin={result['leadin']}"
    scores = result["models"][file.stem]["mean"]
    found = {f"{on} {protocol} {name}{how}": round(scores[name], 4) for name in METRICS if name in scores}
    header, tensors = weights.load(file)
    weights.save(file, dataclasses.replace(header, quality=header.quality | found), tensors)


def table() -> Iterator[str]:
    """A row for every model and set of clips that it was measured on."""
    columns = ("model", "trained on", "parameters", "measured on", *METRICS, "PSNR-Y, strictly causal")
    yield from (table_row(columns), table_row(["---"] * len(columns)))
    for row in MODELS.values():
        path = WEIGHTS / row.file
        header = weights.read_header(path)
        size = f"{parameters(path) / 1e6:.1f} M"
        for on in measured_on(header.quality):
            figures = [
                form.format(header.quality[name]) if (name := f"{on} {metric}{how}") in header.quality else "-"
                for metric, how, form in [*((m, "", f) for m, f in METRICS.items()), ("PSNR-Y", CAUSAL, "{:.2f}")]
            ]
            yield table_row([f"`{row.name}`", header.degradation, size, on or "-", *figures])


def noise_tables(result: dict[str, Any]) -> Iterator[str]:
    """Of centre-aligned input, then of BD input where it was measured with more than bicubic."""
    for name, measured in result["weights"].items():
        if name in MODELS and measured != weights.read_fingerprint(WEIGHTS / MODELS[name].file):
            raise SystemExit(f"{NOISE.name} is of other weights of {name}; run scripts/noise.py again")
    yield from noise_table(result["tables"]["bi"]["rows"])
    bd = result["tables"]["bd"]
    if len(bd["rows"]["clean"]) > 1:
        yield f"\nThe same on BD input ({bd['protocol']['source']}):\n\n"
        yield from noise_table(bd["rows"])


def noise_table(rows: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    """A row for every damage, figures of bicubic and of the models."""
    names = list(rows["clean"])
    yield table_row(["low-resolution clip", *(f"`{n}`" if n in MODELS else n for n in names)])
    yield table_row(["---"] * (1 + len(names)))
    for label, scores in rows.items():
        figures = (scores[name] for name in names)
        yield table_row([label, *map(noise_cell, figures)])


def noise_cell(scores: dict[str, float]) -> str:
    """The figures of a model; LPIPS is missing where scripts/noise.py ran without --features."""
    return " / ".join(form.format(scores[name]) if name in scores else "-" for name, form in NOISE_METRICS.items())


def measured_on(quality: dict[str, float]) -> list[str]:
    """The sets of clips, in the header's order; one without a name where there is none."""
    sets = (re.fullmatch(r"(.+) PSNR-Y", name) for name in quality)
    return [found[1] for found in sets if found] or [""]


if __name__ == "__main__":
    main()
