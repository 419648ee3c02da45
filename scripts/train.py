#!/usr/bin/env python
"""Train a recipe: `scripts/train.py RECIPE (--packs PACK... | --vimeo DIR | --folders DIR) --out DIR [key=value ...]`.

Overrides are dotted keys with TOML values, such as `rate=2e-4 model.channels=128`. A run that was stopped goes on where
its last checkpoint stands with `--resume`, and then equals one that never stopped; `rate` and `steps`, which make the
schedule, may be others then.

On N GPUs of one host: `torchrun --standalone --nproc-per-node N scripts/train.py ...`. The recipe's batch is that of
all together, so a run computes the same on any number of them, to rounding, and may be resumed on another.

Clips given by --show, such as Vid4, are only looked at: every validation scores them (columns shown_* of curves.csv)
and writes DIR/pictures/STEP-CLIP.png, output beside truth.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import FrameType

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vs_rafrvsr.errors import RafrvsrError
from vs_rafrvsr.training import checkpoint, export, recipe
from vs_rafrvsr.training.checkpoint import CheckpointError
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.prepare import Material, Shape, prepare, shown_clips
from vs_rafrvsr.training.recipe import Recipe
from vs_rafrvsr.training.start import make_net, make_perceptual
from vs_rafrvsr.training.team import Team


def main() -> None:
    """The command line."""
    try:
        train(arguments())
    except (RafrvsrError, OSError) as error:
        sys.exit(f"train: {error}")


def train(args: argparse.Namespace) -> None:
    """What the module's docstring says."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    started = time.monotonic()
    plan = recipe.load(args.recipe, args.overrides)
    recipe.check_flow(plan)
    team, device = Team.join(torch.device(args.device))
    with nullcontext() if team.leads else redirect_stdout(None):  # the leader's log is all processes' log
        trainer = make_trainer(plan, args, device, team)
        print(f"{plan.name}: {trainer.describe()}, {time.monotonic() - started:.0f} s to prepare", flush=True)
        run(trainer, Stopping(started + 60 * args.minutes))
    if team.leads:
        export.write(args.out / f"{plan.name}.safetensors", trainer)
    trainer.close()
    team.leave()


def make_trainer(plan: Recipe, args: argparse.Namespace, device: torch.device, team: Team) -> Trainer:
    """The trainer, before its first step or where it stood; clips take minutes, so what may be wrong is seen before."""
    team.share(plan.batch)
    if checkpoint.exists(args.out / "checkpoint") != args.resume:
        raise CheckpointError(
            f"{args.out} has no checkpoint to resume"
            if args.resume
            else f"{args.out} has the checkpoint of a run: go on with it by --resume, or choose another --out"
        )
    make_perceptual(plan)
    flow_net = make_net(plan, device)
    shape = Shape(args.limit, args.area)
    if args.packs:
        material = Material.of_packs(args.packs, shape)
    elif args.vimeo:
        material = Material.of_vimeo(args.vimeo, plan, shape)
    else:
        material = Material.of_folders(args.folders, plan, shape)
    prepared = prepare(material, plan, flow_net, device, args.cache, shape)
    if args.show:
        prepared = replace(prepared, shown=shown_clips(args.show, plan, flow_net, device))
    trainer = Trainer(plan, prepared, device, args.out, team)
    prepared.train.clear()  # or all clips would lie twice on the device
    if args.resume:
        trainer.resume()
    return trainer


def run(trainer: Trainer, stopping: Stopping) -> None:
    """Train to the end or until it is time to stop, with a bar or a log."""
    name, team = trainer.recipe.name, trainer.team
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        speed_estimate_period=600,  # seconds: reports of slow runs are far apart
        disable=not (sys.stderr.isatty() and team.leads),
    )
    with bar:
        task = bar.add_task(name, total=trainer.recipe.steps, completed=trainer.step)
        for row in trainer.run(lambda: team.any(stopping.due(), trainer.device)):
            bar.update(task, completed=trainer.step, description=f"{name} {words(row)}")
            scored = any(column.endswith("_settled") for column in row)
            if scored or bar.disable:
                bar.console.print(report(row), highlight=False, soft_wrap=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--packs", type=Path, nargs="+", help="folders with index.json and stills.json")
    source.add_argument("--vimeo", type=Path, help="Vimeo-90K's folder, with sep_trainlist.txt or sep_testlist.txt")
    source.add_argument("--folders", type=Path, help="a folder of frames per clip, each clip a source of its own")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint, curves.csv and weights go here")
    parser.add_argument("--cache", type=Path, help="folder that keeps the flow between starts")
    parser.add_argument("--show", type=Path, help="a folder of truth frames per clip to look at")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop, with a checkpoint, after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=int, help="read only so many clips of each pack or set, for a rehearsal")
    parser.add_argument("--area", type=int, help="cut clips to squares of this side, for a rehearsal")
    return parser.parse_intermixed_args()


class Stopping:
    """Whether to stop: time is up, or somebody asked (SIGINT or SIGTERM); a second signal stops at once."""

    def __init__(self, deadline: float) -> None:
        self.deadline, self.asked = deadline, False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            sys.exit(128 + number)
        self.asked = True

    def due(self) -> bool:
        """Now?"""
        return self.asked or time.monotonic() > self.deadline


def words(row: dict[str, float]) -> str:
    """What the bar says: speed, the loss, and its parts."""
    names = list(row)
    parts = names[names.index("loss") : names.index("gradient")]
    return " ".join([f"{row['steps_per_second']:.1f} steps/s", *(f"{name} {row[name]:.4g}" for name in parts)])


def report(row: dict[str, float]) -> str:
    """One line of a log."""
    return " ".join(f"{name} {value:.5g}" for name, value in row.items())


if __name__ == "__main__":
    main()
