#!/usr/bin/env python
"""Does the recurrence stay good as its state grows old? PSNR-Y over a long shot, through the real plugin.

    python scripts/measure_stability.py --truth DIR [--frames 160] [--device auto] --json FILE MODEL...

DIR holds a folder of frames per clip. Each is played to and fro without a cut until it is --frames long, reduced (BI)
and upscaled without a restart. A MODEL is a name or a weights file. Prints means of 20 frames, by clip, and adds them
to FILE; figures of another machine, length or weights of the same name are refused.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from evaluating.clips import play, to_clip
from evaluating.scoring import BICUBIC, machine, mark_of, named, upscaler
from measure_recurrence import NEVER, curve, read_truth
from measuring import opened, run_script, shrink

from vs_rafrvsr.metrics.protocol import PROTOCOLS
from vs_rafrvsr.training.pool import to_and_fro

STRETCH = 20
"""Frames of a mean."""
UNIT = f"PSNR-Y in dB, means of {STRETCH} frames"


def main() -> None:
    """See the module's docstring."""
    options = arguments()
    models = named((BICUBIC, *options.models))
    marks = {name: mark_of(model) for name, model in models.items()}
    setting = {"machine": machine(options.device), "frames": options.frames}
    result = opened(options.json, setting, marks) | {"unit": UNIT}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    ways = {n: upscaler(m, PROTOCOLS["bi"], options.device, chunk=NEVER, scenecut="off") for n, m in models.items()}
    for clip_name, frames in read_truth(options.truth).items():
        truth = frames[to_and_fro(torch.arange(options.frames), len(frames))[0].numpy()]
        clip = to_clip(shrink(truth))
        for name, upscale in ways.items():
            found = curve(truth, play(upscale(clip), f"{clip_name} {name}"))
            means = [float(np.mean(found[at : at + STRETCH])) for at in range(0, len(found), STRETCH)]
            weighed = {"weights": marks[name]} if marks[name] else {}
            result["models"].setdefault(name, weighed)[clip_name] = means
            print(f"{clip_name} {name}:", *(f"{value:.2f}" for value in means), flush=True)
            options.json.write_text(json.dumps(result, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    if options.frames < STRETCH or options.frames % STRETCH:
        parser.error(f"--frames {options.frames}: means are of {STRETCH} frames; give a multiple of that, such as 160")
    return options


if __name__ == "__main__":
    run_script(main)
