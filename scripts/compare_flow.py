#!/usr/bin/env python
"""RAFT or not: what each flow network of a table gives and costs.

    scripts/plateau.py scripts/recipes/flow.toml --packs PACK... --seconds 180 --out DIR
    scripts/compare_flow.py DIR --packs PACK... [--show VID4] --json samples/flow.json

Every run in DIR, with 2, 4, 6 and 12 of RAFT's updates at inference. PSNR-Y in settled frames of the validation clips,
and of --show's, from an empty state. EPE: mean length, in LR pixels, of the flow's error on validation clips with known
camera motion, over pixels whose match lies within the frame before. ms: flow of one pair of frames, each encoded once,
in PyTorch's own kernels in half precision; the plugin's are faster. raft_large is measured for its cost alone, without
its learned upsampling.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import run_script, use_device
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.models.optical_flow import raft_large

from vs_rafrvsr.training.data import DataError
from vs_rafrvsr.training.pool import PoolClip
from vs_rafrvsr.training.prepare import Material, Prepared, Shape, prepare, shown_clips
from vs_rafrvsr.training.recipe import Recipe, build, read_table
from vs_rafrvsr.training.start import make_net
from vs_rafrvsr.training.unroll import Unroll
from vs_rafrvsr.training.validate import validate
from vs_rafrvsr.training.variants import Net

UPDATES = (2, 4, 6, 12)
SIZES = ((144, 180), (270, 480))
"""LR frames (h, w) that are timed: Vid4's, and one whose enlargement is bounded (`raft.MAX_AREA`); FNet's is not."""
PAIRS, REPEATS = 8, 10
TABLE = Path(__file__).parent / "recipes" / "flow.toml"


def main() -> None:
    """The command line."""
    args = arguments()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    device, started = torch.device(args.device), time.monotonic()
    called = use_device(args.device)
    files = sorted(args.runs.glob("*.safetensors"))
    if not files:
        raise DataError(f"{args.runs}: no .safetensors of a run; scripts/plateau.py writes them")
    plan, _ = read_table(TABLE, rehearse=args.rehearse)
    shape = Shape(limit=20, area=96) if args.rehearse else Shape()
    net = make_net(plan, device)
    prepared = prepare(Material.of_packs(args.packs, shape), plan, net, device, None, shape)
    if args.show:
        prepared = replace(prepared, shown=shown_clips(args.show, plan, net, device))
    result: dict[str, Any] = {
        "device": called,
        "clips": {"real": len(prepared.real), "camera": len(prepared.camera), "shown": len(prepared.shown)},
        "runs": {},
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    sizes = ((16, 16),) if args.rehearse else SIZES
    for name, recipe, rows in runs(files, prepared, device, sizes):
        flow = {"network": recipe.model.matcher, "scale": recipe.flow.scale}
        result["runs"][name] = {**flow, "steps": recipe.steps, "updates": rows}
        result["seconds"] = round(time.monotonic() - started)
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    Console(width=120).print(table(result))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="DIR", help="where scripts/plateau.py wrote")
    parser.add_argument("--packs", type=Path, nargs="+", required=True)
    parser.add_argument("--show", type=Path, help="a folder of truth frames per clip, such as Vid4")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rehearse", action="store_true", help="of a rehearsed table: few tiny clips")
    return parser.parse_args()


type Rows = dict[int, dict[str, float]]
"""Figures by RAFT's updates; FNet has one row, 0."""


def runs(
    files: list[Path], prepared: Prepared, device: torch.device, sizes: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, Recipe, Rows]]:
    """Name, recipe and figures so far, a row longer each time."""
    for file in files:
        record = json.loads(file.with_suffix(".json").read_text())
        recipe = replace(build(Recipe, record["recipe"]), start=str(file))
        net = make_net(recipe, device)
        rows: Rows = {}
        for updates in UPDATES if recipe.model.matcher == "raft" else (0,):
            rows[updates] = quality(net, prepared, updates) | speed(net, sizes, updates, device)
            yield recipe.name, recipe, rows
        if recipe.model.matcher == "raft":
            net.raft = raft_large(weights=None).to(device)  # type: ignore[attr-defined]
            large: Rows = {updates: speed(net, sizes, updates, device) for updates in UPDATES}
            yield f"{recipe.name}, raft_large", recipe, large


@torch.no_grad()
def quality(net: Net, prepared: Prepared, updates: int) -> dict[str, float]:
    """PSNR-Y by kind of clips, and EPE."""
    unroll = Unroll(net, updates, None)
    kinds = {"real": prepared.real, "camera": prepared.camera, "shown": prepared.shown}
    scores = {
        f"PSNR-Y {kind}": validate(lambda lr, flow: unroll(lr, flow)[0], clips).settled
        for kind, clips in kinds.items()
        if clips
    }
    errors = [epe(unroll, clip, updates) for clip in prepared.camera]
    return scores | ({"EPE": sum(errors) / len(errors)} if errors else {})


def epe(unroll: Unroll, clip: PoolClip, updates: int) -> float:
    """Mean length of the error of a camera clip's flow to the frame before, in LR pixels."""
    found = unroll.joint_flow(clip.lr[None].float() / 255, updates)[0, 1:]
    true = clip.flow[1:, :2].float()
    return float((found - true).norm(dim=1)[inside(true)].mean())


def inside(flow: Tensor) -> Tensor:
    """Whether flow (n, 2, h, w) leads to within the frame: (n, h, w)."""
    height, width = flow.shape[-2:]
    ys = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    xs = torch.arange(width, device=flow.device) + flow[:, 0]
    return (ys >= 0) & (ys <= height - 1) & (xs >= 0) & (xs <= width - 1)


@torch.no_grad()
def speed(net: Net, sizes: tuple[tuple[int, int], ...], updates: int, device: torch.device) -> dict[str, float]:
    """Milliseconds a pair, by size of the LR frames."""
    figures = {}
    for height, width in sizes:
        frames = torch.rand(PAIRS + 1, 3, height, width, device=device)

        def pairs(frames: Tensor = frames) -> Tensor:
            with torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16):
                features = net.encode(frames)
                earlier, later = (features._make(x[part] for x in features) for part in (slice(-1), slice(1, None)))
                return net.flow(later, earlier, (frames.shape[-2], frames.shape[-1]), updates)

        float(pairs().sum())
        figures[f"ms {width}x{height}"] = 1000 * seconds(pairs, device) / PAIRS
    return figures


def seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    """Of one call, the mean of some; the sum of its result waits for the device."""
    repeats = REPEATS if device.type == "cuda" else 1
    start = time.perf_counter()
    for _ in range(repeats):
        result = work()
    float(result.sum())
    return (time.perf_counter() - start) / repeats


def table(result: dict[str, Any]) -> Table:
    """A row per run and updates."""
    rows = [
        (name, run, updates, row) for name, run in result["runs"].items() for updates, row in run["updates"].items()
    ]
    columns = dict.fromkeys(column for *_, row in rows for column in row)
    listing = Table("run", "network", "input", "steps", "updates", *columns, title=f"flow networks, {result['device']}")
    for name, run, updates, row in rows:
        cells = (f"{row[c]:.3f}" if c in row else "-" for c in columns)
        scale = f"x{run['scale']:g}"
        listing.add_row(name, run["network"], scale, str(run["steps"]), str(updates or "-"), *cells)
    return listing


if __name__ == "__main__":
    run_script(main)
