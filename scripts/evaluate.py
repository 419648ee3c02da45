#!/usr/bin/env python
"""Score models through the plugin: `scripts/evaluate.py --truth DIR --protocol bi MODEL... --json FILE`.

DIR holds a folder of frames per clip, or Vimeo-90K with its list; all of it must fit in memory. A MODEL is `bicubic`,
`bicubic-aligned`, a model's name or a weights file. LR frames are made from the truth as the protocol says, or come
from --lr, of the same layout. FILE is added to, so that models can be scored one after the other; figures of another
machine, protocol, other truth, options or weights of the same name are refused.
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
    ALEXNET,
    DIGITS,
    HEADS,
    damaged,
    fingerprint,
    judge,
    machine,
    mark_of,
    mean,
    measure,
    named,
    packed,
    small,
    upscaler,
)
from measuring import opened, run_script
from rich.console import Console
from rich.table import Table

from vs_rafrvsr.metrics.protocol import PROTOCOLS, Protocol
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training import data


def main() -> None:
    """The command line."""
    args = arguments()
    started = time.monotonic()
    protocol = PROTOCOLS[args.protocol]
    reading = read(args.truth, args.lr, protocol)
    print(reading.summary())
    truth = {source.name: packed(source.hr) for source in reading.sources}
    lr = {s.name: damaged(small(s, protocol), s.name, args.noise, args.crf) for s in reading.sources}
    setting = {
        "machine": machine(args.device),
        "protocol": dataclasses.asdict(protocol),
        "truth": {"clips": {name: len(frames) for name, frames in truth.items()}, "sha256": fingerprint(truth)},
        "lr": {"made": "by the protocol" if args.lr is None else "given", "sha256": fingerprint(lr)},
        "damage": {"noise": args.noise, "H.264 crf": args.crf},
        "leadin": args.leadin,
    }
    models = named(args.models)
    marks = {name: mark_of(model) for name, model in models.items()}
    result = opened(args.json, setting, marks)
    options = {} if args.leadin is None else {"leadin": args.leadin}
    lpips = judge(args.features, args.device)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        upscale = upscaler(model, protocol, args.device, **options)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = measure(pool, protocol, upscale, truth, lr, lpips)
        clips = {clip: part.result() for clip, part in parts.items()}
        weighed = {"weights": marks[name]} if marks[name] else {}
        result["models"][name] = {**weighed, "clips": clips, "mean": mean(list(clips.values()))}
        args.json.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{model}: {time.monotonic() - started:.0f} s", flush=True)
    Console(width=120).print(table(result))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--truth", type=Path, required=True, help="a folder of frames per clip")
    parser.add_argument("--lr", type=Path, help="LR frames in the same layout")
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--features", type=Path, help=f"folder with {ALEXNET} and {HEADS}: LPIPS and tLP100 too")
    parser.add_argument("--noise", type=float, default=0.0, help="sigma of noise on the LR frames, of 255")
    parser.add_argument("--crf", type=int, help="the LR frames go through H.264 at this crf")
    parser.add_argument("--leadin", type=int, default=None, help="the plugin's argument; 0 is strictly causal")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args()


def read(truth: Path, lr: Path | None, protocol: Protocol) -> data.Reading:
    """Folders of frames; or Vimeo-90K by its list, whose own LR frames are left out: the protocol makes them."""
    if lr is None and any((truth / name).is_file() for name in data.VIMEO_LISTS):
        reading = data.read_vimeo(truth, data.vimeo_list(truth))
        return dataclasses.replace(reading, sources=[dataclasses.replace(s, lr=None) for s in reading.sources])
    return data.read_folders(truth, shortest=protocol.shortest, lr_root=lr, multiple=SCALE)


def table(result: dict[str, Any]) -> Table:
    """Models by metric, mean over clips."""
    protocol = result["protocol"]
    models = result["models"]
    names = [name for name in DIGITS if any(name in m["mean"] for m in models.values())]
    listing = Table("model", *names, title=f"{protocol['name']}: {protocol['source']}")
    for model, found in models.items():
        listing.add_row(model, *(f"{found['mean'][n]:.{DIGITS[n]}f}" if n in found["mean"] else "-" for n in names))
    return listing


if __name__ == "__main__":
    run_script(main)
