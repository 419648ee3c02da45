#!/usr/bin/env python
"""Does the recurrence stay good as its state grows old? PSNR-Y over a long shot, through the real plugin.

    python scripts/measure_stability.py --truth DIR [--frames 160] [--device auto] --json FILE MODEL...

DIR holds a folder of frames per clip. Each is played to and fro without a cut until it is --frames long, reduced (BI)
and upscaled without a restart. A MODEL is a name or a weights file. Prints and notes means of 20 frames, by clip.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from measure_recurrence import NEVER, curve, read_truth, shrink

from vs_rafrvsr.metrics.clips import play, to_clip
from vs_rafrvsr.metrics.evaluation import BICUBIC, upscaler, weights_of
from vs_rafrvsr.metrics.protocol import PROTOCOLS
from vs_rafrvsr.training.pool import to_and_fro
from vs_rafrvsr.weights import read_fingerprint

STRETCH = 20
"""Frames of a mean."""


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json.exists() else {}
    known |= {Path(model).stem: {"weights": read_fingerprint(weights_of(model))} for model in options.models}
    for clip_name, frames in read_truth(options.truth).items():
        truth = frames[to_and_fro(torch.arange(options.frames), len(frames))[0].numpy()]
        clip = to_clip(shrink(truth))
        for model in (BICUBIC, *options.models):
            name = Path(model).stem
            upscale = upscaler(model, PROTOCOLS["bi"], options.device, chunk=NEVER, scenecut="off")
            found = curve(truth, play(upscale(clip), f"{clip_name} {name}"))
            means = [float(np.mean(found[at : at + STRETCH])) for at in range(0, len(found), STRETCH)]
            known.setdefault(name, {})[clip_name] = means
            print(f"{clip_name} {name}:", *(f"{value:.2f}" for value in means), flush=True)
            options.json.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
