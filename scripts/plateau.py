#!/usr/bin/env python
"""Run the plateau experiments: one baseline, one change at a time, equal seconds of training, validation over time.

    scripts/plateau.py scripts/recipes/plateau.toml --packs PACK... --flow-weights FILE --seconds 170 --out DIR

Trailing `key=value`, as scripts/train.py takes them, change the baseline. Start one process per GPU, `--device cuda:N`,
with the same --out: each takes the next run that none has claimed. A process that was killed leaves OUT/NAME.claim
behind: remove it, and the run is made again. Results: OUT/NAME.json and OUT/NAME.safetensors, which are whole weights
files, as scripts/evaluate.py takes them, where runs fine-tune a model (`start=FILE`) or train their own flow.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from measuring import RUN_FAULTS, run_script, use_device
from safetensors.torch import save_file

from vs_rafrvsr.training import export
from vs_rafrvsr.training.data import DataError
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.prepare import Material, Prepared, Shape, prepare
from vs_rafrvsr.training.recipe import Recipe, change, check_flow, chosen, read_table
from vs_rafrvsr.training.start import make_net
from vs_rafrvsr.training.validate import validate_bicubic

PROBE = 30
"""Steps that measure the speed; the run's length in steps follows from it."""
VALIDATIONS = 6


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--packs", type=Path, nargs="+", required=True)
    parser.add_argument("--flow-weights", default="", help="safetensors with raft.* tensors")
    parser.add_argument("--seconds", type=float, default=170.0, help="training time of one run")
    parser.add_argument("--until", type=float, default=float("inf"), help="start no run after so many seconds in all")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="folder that keeps the flow between starts")
    parser.add_argument("--runs", nargs="+", help="only these")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rehearse", action="store_true", help="a few tiny clips and small nets")
    args = parser.parse_intermixed_args()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    started = time.monotonic()
    recipe, runs = read_table(args.table, [f"flow.weights={args.flow_weights}", *args.overrides], args.rehearse)
    names = chosen(runs, args.runs)
    if not args.rehearse:
        check_flow(recipe)
    shape = Shape(limit=20, area=96) if args.rehearse else Shape()
    device, card = torch.device(args.device), use_device(args.device)
    flow_net = make_net(recipe, device)
    prepared = prepare(Material.of_packs(args.packs, shape), recipe, flow_net, device, args.cache, shape)
    if not (prepared.real and prepared.camera):
        raise DataError("no filmed or no made clips are left for validation: give more packs, with clips and stills")
    counts = f"{len(prepared.train)} training, {len(prepared.real)} + {len(prepared.camera)} validation clips"
    print(f"[{time.monotonic() - started:6.1f}] prepared: {counts}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    bicubic = {
        kind: validate_bicubic(flow_net.base, clips)._asdict()
        for kind, clips in (("real", prepared.real), ("camera", prepared.camera))
    }
    (args.out / "bicubic.json").write_text(json.dumps(bicubic, indent=1) + "\n")
    print(f"bicubic: {bicubic}", flush=True)
    for name in names:
        if time.monotonic() - started > args.until:
            break
        if claim(args.out, name):
            with given_up_on_failure(args.out, name, started):
                changes = runs[name]
                run(change(recipe, {"name": name, **changes}), changes, prepared, device, card, args, started)
            gc.collect()
            torch.cuda.empty_cache()


def claim(out: Path, name: str) -> bool:
    """Whether no other process works on a run or has done it; if so, it is this one's."""
    file = out / f"{name}.claim"
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        if not (out / f"{name}.json").exists():
            print(f"{name}: claimed, no result; unless another process works on it, remove {file}", flush=True)
        return False
    return True


@contextmanager
def given_up_on_failure(out: Path, name: str, started: float) -> Iterator[None]:
    """Around a run: whatever stops it leaves it to be tried again, and its own failure leaves the others alone."""
    try:
        yield
    except BaseException as error:
        (out / f"{name}.claim").unlink()
        if not isinstance(error, RUN_FAULTS):
            raise
        print(f"[{time.monotonic() - started:6.1f}] {name}: FAILED {str(error)[:400]}", flush=True)


def run(
    recipe: Recipe,
    changes: dict[str, Any],
    prepared: Prepared,
    device: torch.device,
    card: str,
    args: argparse.Namespace,
    started: float,
) -> None:
    """Train for so many seconds and write the result, the JSON last."""
    trainer = Trainer(recipe, prepared, device, args.out / recipe.name)
    trainer.advance(PROBE)
    steps = max(PROBE + VALIDATIONS, round(args.seconds * PROBE / trainer.seconds))
    trainer.recipe = dataclasses.replace(
        recipe, steps=steps, validate_every=-(-steps // VALIDATIONS), checkpoint_every=steps
    )
    for row in trainer.run():
        if "real_settled" in row:
            print(f"[{time.monotonic() - started:6.1f}] {recipe.name:14} {line(row)}", flush=True)
    file = args.out / f"{recipe.name}.safetensors"
    if recipe.flow.joint or recipe.start:
        export.write(file, trainer)
    else:  # all runs have the same RAFT
        save_file({name: t for name, t in trainer.export().items() if not name.startswith("raft.")}, file)
    scored = [row for row in trainer.history if "real_settled" in row]
    result = {
        "name": recipe.name,
        "change": changes,
        "recipe": dataclasses.asdict(trainer.recipe),
        "parameters": sum(p.numel() for n, p in trainer.net.named_parameters() if not n.startswith("raft.")),
        "device": card,
        "torch": torch.__version__,
        "validation": scored,
        "final": scored[-1],
    }
    (args.out / f"{recipe.name}.json").write_text(json.dumps(result, indent=1) + "\n")


def line(row: dict[str, float]) -> str:
    """One validation, for the log."""
    scores = " ".join(
        f"{kind} {row[f'{kind}_settled']:.3f} (frame 0 {row[f'{kind}_first']:.3f})" for kind in ("real", "camera")
    )
    speed = f"{row['seconds']:5.0f} s step {row['step']:6.0f} {row['steps_per_second']:5.1f}/s"
    return f"{speed} loss {row['loss']:.5f} {scores} skipped {row['skipped']:.0f}"


if __name__ == "__main__":
    run_script(main)
