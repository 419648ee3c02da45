#!/usr/bin/env python
"""What a model knows by heart: its gain over bicubic on clips that it was trained on, and on the same by other pixels.

    python scripts/measure_overfit.py --packs PACK... [--clips 50] [--device auto] --json FILE MODEL...

A window of each clip is reduced (BI) as in training, and again from 2 HR pixels further down and to the right: then
every LR pixel is another, while the picture is as hard as before. A model that generalises gains as much; what it gains
less, it had learned by heart. Clips that are held for validation tell what chance does. Through the real plugin, at
frame 0 and in the mean of the frames where the recurrence has settled. A MODEL is a name or a file trained on BI.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from evaluating.clips import play, to_clip
from evaluating.scoring import BICUBIC, Upscaler, machine, mark_of, named, packed, upscaler
from measure_recurrence import curve
from measuring import opened, run_script, shrink
from numpy.typing import NDArray

from vs_rafrvsr.metrics.fidelity import Frames
from vs_rafrvsr.metrics.protocol import PROTOCOLS
from vs_rafrvsr.training import data
from vs_rafrvsr.training.validate import SETTLED

SHIFT = 2
"""HR pixels, half an LR pixel."""
FRAMES, WINDOW = 14, (192, 256)


def main() -> None:
    """See the module's docstring."""
    options = arguments()
    models = named(options.models)
    marks = {name: mark_of(model) for name, model in models.items()}
    setting = {"machine": machine(options.device), "clips": options.clips, "window": [FRAMES, *WINDOW], "shift": SHIFT}
    result = opened(options.json, setting, marks) | {"unit": "PSNR-Y over bicubic's, dB, means over clips"}
    sources = chosen(options.packs, options.clips)
    bicubic = upscaler(BICUBIC, PROTOCOLS["bi"], options.device)
    for name, model in models.items():
        upscale = upscaler(model, PROTOCOLS["bi"], options.device)
        parts = {
            part: summary(np.array([[gain(w, upscale, bicubic, name) for w in windows(frames)] for frames in clips]))
            for part, clips in sources.items()
        }
        result["models"][name] = {"weights": marks[name], "parts": parts}
        print(name, json.dumps(parts, indent=1), flush=True)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--packs", type=Path, nargs="+", required=True, help="folders with index.json")
    parser.add_argument("--clips", type=int, default=50, help="at most so many of each pack and part")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args()


def chosen(packs: list[Path], most: int) -> dict[str, list[Frames]]:
    """Clips that were trained on and that were held, at most so many of each pack, drawn the same every time.

    Raises:
        DataError: there are none of either.
    """
    found: dict[str, list[Frames]] = {"trained on": [], "held": []}
    for pack in packs:
        reading = data.read_pack(pack)
        print(f"{pack.name}: {reading.summary()}", flush=True)
        sources = [s for s in reading.sources if len(s.hr) >= FRAMES and min(s.hr.shape[-2:]) >= 64 + SHIFT]
        np.random.default_rng(0).shuffle(sources)
        for part, clips in found.items():
            alike = [s for s in sources if data.is_validation(s.group) == (part == "held")]
            clips += [packed(source.hr[:FRAMES]) for source in alike[:most]]
    for part, clips in found.items():
        if not clips:
            needed = f"{FRAMES} frames of {64 + SHIFT}x{64 + SHIFT} pixels"
            raise data.DataError(f"the packs have no clip that was {part} and has {needed}: give more packs")
    return found


def gain(truth: Frames, upscale: Upscaler, bicubic: Upscaler, name: str) -> tuple[float, float]:
    """PSNR-Y over bicubic's, at frame 0 and settled."""
    lr = to_clip(shrink(truth))
    ours, plain = (curve(truth, play(way(lr), name)) for way in (upscale, bicubic))
    return float(ours[0] - plain[0]), float(np.mean((ours - plain)[SETTLED:]))


def windows(frames: Frames) -> list[Frames]:
    """The middle of a clip (N, H, W, 3), by LR pixels as training had them and by others."""
    height, width = (min(side - SHIFT, most) // 4 * 4 for side, most in zip(frames.shape[1:3], WINDOW, strict=True))
    top, left = ((side - SHIFT - part) // 8 * 4 for side, part in zip(frames.shape[1:3], (height, width), strict=True))
    return [frames[:, y : y + height, x : x + width] for y, x in ((top, left), (top + SHIFT, left + SHIFT))]


def summary(gains: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Of gains (clips, 2, 2): by the LR pixels of training and by others, at frame 0 and settled."""
    return {
        when: {
            "clips": len(gains),
            "gain": float(own.mean()),
            "gain by other pixels": float(other.mean()),
            "learned by heart": float((own - other).mean()),
            "standard error of it": float((own - other).std() / np.sqrt(len(gains))),
            "median of it": float(np.median(own - other)),
        }
        for when, (own, other) in zip(("frame 0", "settled"), gains.transpose(2, 1, 0), strict=True)
    }


if __name__ == "__main__":
    run_script(main)
