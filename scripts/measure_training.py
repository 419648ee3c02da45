#!/usr/bin/env python
"""What training steps cost: `scripts/measure_training.py TABLE --packs PACK... --json FILE [key=value ...]`.

TABLE lists runs as scripts/recipes/speed.toml does; `key=value`, as scripts/train.py takes them, change its baseline.
For each run: seconds to capture the step (with --profile also a table of its kernels beside the JSON), steps a second,
the share of that time spent waiting for data, and peak memory. FILE is added to, so that runs can be measured one after
the other; figures of another device are refused.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path
from typing import Any

import torch
from measuring import RUN_FAULTS, run_script, use_device
from torch.profiler import ProfilerActivity, profile

from vs_rafrvsr.training import recipe
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.prepare import Material, Prepared, Shape, prepare
from vs_rafrvsr.training.recipe import Recipe
from vs_rafrvsr.training.start import make_net

PROFILED = 3
"""Steps under the profiler."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--packs", type=Path, nargs="+", required=True)
    parser.add_argument("--runs", nargs="+", help="only these")
    parser.add_argument("--profile", nargs="*", default=[], help="these runs' kernels too")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rehearse", action="store_true", help="a few tiny clips and small nets")
    args = parser.parse_intermixed_args()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    baseline, runs = recipe.read_table(args.table, args.overrides, args.rehearse)
    names = recipe.chosen(runs, args.runs)
    device, card = torch.device(args.device), use_device(args.device)
    result: dict[str, Any] = json.loads(args.json.read_text()) if args.json.exists() else {"device": card, "runs": {}}
    if result["device"] != card:
        raise SystemExit(f"{args.json} holds figures of {result['device']}, not of {card}: give another file")
    shape = Shape(limit=20, area=96) if args.rehearse else Shape()
    prepared = prepare(Material.of_packs(args.packs, shape), baseline, make_net(baseline, device), device, None, shape)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        small = recipe.REHEARSAL if args.rehearse else {}
        plan = recipe.change(baseline, {"name": name, **runs[name], **small})
        kernels = args.json.with_name(f"{args.json.stem}-{name}.txt") if name in args.profile else None
        try:
            result["runs"][name] = measure(plan, prepared, device, args.steps, kernels)
        except RUN_FAULTS as error:
            result["runs"][name] = {"failed": str(error)[:400]}
        print(f"{name}: {result['runs'][name]}", flush=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")
        gc.collect()
        torch.cuda.empty_cache()


def measure(
    plan: Recipe, prepared: Prepared, device: torch.device, steps: int, kernels: Path | None
) -> dict[str, float]:
    """One run's figures; its kernels go into a file."""
    shared = 0  # the clips lie beside their copy in the pool only because the next run wants them too
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        shared = sum(part.nbytes for clip in prepared.train for part in (clip.hr, clip.lr, clip.flow))
    trainer = Trainer(plan, prepared, device, Path())
    start = time.perf_counter()
    trainer.advance(1)
    capture = time.perf_counter() - start
    whole = seconds(trainer, steps)
    trainer._fill_plan = lambda: None  # type: ignore[method-assign]  # the last batch again and again
    still = seconds(trainer, steps)
    if kernels is not None:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            trainer.advance(PROFILED)
        sort = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=sort, row_limit=60, max_name_column_width=110)
        kernels.write_text(f"{PROFILED} steps\n{table}\n")
    return {
        "capture_seconds": capture,
        "steps_per_second": steps / whole,
        "clips_per_second": steps * plan.batch / whole,
        "waiting_for_data": max(0.0, 1 - still / whole),
        "peak_gib": (torch.cuda.max_memory_allocated() - shared) / 2**30 if device.type == "cuda" else 0.0,
    }


def seconds(trainer: Trainer, steps: int) -> float:
    """Of some steps."""
    before = trainer.seconds
    trainer.advance(steps)
    return trainer.seconds - before


if __name__ == "__main__":
    run_script(main)
