#!/usr/bin/env python
"""Score models through the plugin: `scripts/evaluate.py --truth DIR --protocol bi MODEL... --json FILE`.

DIR holds a folder of frames per clip. A MODEL is `bicubic`, `bicubic-aligned`, a model's name or a weights file. LR
frames are made from the truth as the protocol says, or come from --lr, of the same layout. FILE is added to, so that
models can be scored one after the other; figures of another protocol, other truth or other options are refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import vapoursynth as vs
from rich.console import Console
from rich.table import Table

from vs_rafrvsr import weights
from vs_rafrvsr.errors import RafrvsrError
from vs_rafrvsr.metrics.clips import play, to_clip
from vs_rafrvsr.metrics.fidelity import Frames, flat_noise, psnr_rgb, psnr_y, ssim_y
from vs_rafrvsr.metrics.lpips import Lpips, lpips_and_tlp
from vs_rafrvsr.metrics.protocol import PROTOCOLS, Protocol
from vs_rafrvsr.metrics.tof import tof
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.training import data
from vs_rafrvsr.training.codec import Codec, compress
from vs_rafrvsr.training.degrade import PHASE, degrade

core = vs.core
CENTRED = PHASE["bi"]
ALEXNET, HEADS = "alexnet_torchvision_features.safetensors", "lpips_v0.1_alex.safetensors"
DIGITS = {"PSNR-Y": 3, "PSNR-RGB": 3, "SSIM-Y": 4, "LPIPS": 4, "tOF": 4, "tLP100": 3, "flat noise": 3}

type Scores = dict[str, float]
type Upscaler = Callable[[vs.VideoNode], vs.VideoNode]


class EvaluationError(RuntimeError):
    """Figures that would not be comparable."""


def main() -> None:
    """The command line."""
    args = arguments()
    protocol = PROTOCOLS[args.protocol]
    reading = data.read_folders(args.truth, shortest=1, lr_root=args.lr)
    print(reading.summary())
    truth = {source.name: np.ascontiguousarray(source.hr.transpose(0, 2, 3, 1)) for source in reading.sources}
    lr = {s.name: damaged(small(s, protocol), s.name, args.noise, args.crf) for s in reading.sources}
    setting = {
        "protocol": dataclasses.asdict(protocol),
        "truth": {"clips": {name: len(frames) for name, frames in truth.items()}, "sha256": fingerprint(truth)},
        "lr": {"made": "by the protocol" if args.lr is None else "given", "sha256": fingerprint(lr)},
        "damage": {"noise": args.noise, "H.264 crf": args.crf},
        "leadin": args.leadin,
    }
    result = opened(args.json, setting)
    judge = Lpips(args.features / ALEXNET, args.features / HEADS, torch_device(args.device)) if args.features else None
    for model in args.models:
        upscale = upscaler(model, protocol, args)
        clips = {
            name: score(protocol, frames, np.stack(list(play(upscale(to_clip(lr[name])), f"{model} {name}"))), judge)
            for name, frames in truth.items()
        }
        result["models"][Path(model).stem] = {"clips": clips, "mean": mean(list(clips.values()))}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")
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


def opened(file: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """The result so far.

    Raises:
        EvaluationError: its figures were made in another way.
    """
    if not file.exists():
        return {**setting, "unit": "mean of the clips' means over frames", "models": {}}
    held: dict[str, Any] = json.loads(file.read_text())
    for key, value in setting.items():
        if held.get(key) != json.loads(json.dumps(value)):
            raise EvaluationError(
                f"{file} holds figures with {key} {held.get(key)}, not {value}: they must not be mixed; "
                "write to another file"
            )
    return held


def small(source: data.Source, protocol: Protocol) -> Frames:
    """The clip's own LR frames (N, h, w, 3), or the protocol's."""
    lr = degrade(torch.from_numpy(source.hr), protocol.degradation).numpy() if source.lr is None else source.lr
    return np.ascontiguousarray(lr.transpose(0, 2, 3, 1))


def damaged(lr: Frames, name: str, noise: float, crf: int | None) -> Frames:
    """LR frames with Gaussian noise of that sigma in 8-bit steps, then through x264; the same every time."""
    if noise:
        rng = np.random.default_rng(list(name.encode()))
        lr = (lr + rng.normal(0, noise, lr.shape)).round().clip(0, 255).astype(np.uint8)
    return lr if crf is None else compress(lr, Codec(name="libx264", crf=crf))


def upscaler(model: str, protocol: Protocol, args: argparse.Namespace) -> Upscaler:
    """What turns the LR clip into RGB24 of four times its size.

    Raises:
        EvaluationError: a model whose pixels lie elsewhere than the protocol's.
    """
    phase = PHASE[protocol.degradation]
    if model in ("bicubic", "bicubic-aligned"):
        # A sample of phase p lies on HR pixel 4i - p, a centred one on 4i + 1.5.
        shift = (phase - CENTRED) / 4 if model == "bicubic-aligned" else 0.0
        return lambda clip: bicubic(clip, shift)
    file = Path(model) if model.endswith(".safetensors") else None
    path = file or (MODELS[model].path if model in MODELS else None)
    if path is None:
        raise EvaluationError(
            f"{model!r}: a weights file (.safetensors), bicubic, bicubic-aligned, {', '.join(MODELS)}"
        )
    own = weights.read_header(path).config.get("offset", CENTRED)
    if own != phase:
        raise EvaluationError(
            f"{model} was trained for samples at phase {own}, protocol {protocol.name} has {phase}: it would lie "
            f"{abs(own - phase)} pixels off; choose a protocol of its own degradation"
        )
    given = {"weights": str(file)} if file else {"model": model}
    if args.leadin is not None:
        given["leadin"] = args.leadin
    return lambda clip: core.rafrvsr.Upscale(clip, device=args.device, **given)


def bicubic(clip: vs.VideoNode, shift: float) -> vs.VideoNode:
    """The resizer's x4 with MATLAB's kernel; `shift` moves the window, in LR pixels."""
    return core.resize.Bicubic(
        clip, 4 * clip.width, 4 * clip.height, filter_param_a=0, filter_param_b=0.5, src_left=shift, src_top=shift
    )


def score(protocol: Protocol, truth: Frames, output: Frames, judge: Lpips | None) -> Scores:
    """One clip's means over the frames that count."""
    counted, found = protocol.count(truth), protocol.count(output)
    curves = {
        "PSNR-Y": psnr_y(counted, found),
        "SSIM-Y": ssim_y(counted, found),
        "PSNR-RGB": psnr_rgb(counted, found),
        "flat noise": flat_noise(counted, found),
    }
    if judge is not None:
        curves["LPIPS"], curves["tLP100"] = lpips_and_tlp(judge, counted, found)
    if len(counted) > 1:
        curves["tOF"] = tof(counted, found)
    return {name: float(np.nanmean(curve)) for name, curve in curves.items() if np.isfinite(curve).any()}


def mean(clips: list[Scores]) -> Scores:
    """Of the clips that have the figure."""
    names = dict.fromkeys(name for clip in clips for name in clip)
    return {name: float(np.mean([clip[name] for clip in clips if name in clip])) for name in names}


def table(result: dict[str, Any]) -> Table:
    """Models by metric, mean over clips."""
    protocol = result["protocol"]
    models = result["models"]
    names = [name for name in DIGITS if any(name in m["mean"] for m in models.values())]
    listing = Table("model", *names, title=f"{protocol['name']}: {protocol['source']}")
    for model, found in models.items():
        listing.add_row(model, *(f"{found['mean'][n]:.{DIGITS[n]}f}" if n in found["mean"] else "-" for n in names))
    return listing


def fingerprint(clips: dict[str, Frames]) -> str:
    """SHA-256 of all pixels in name order, 16 digits of it."""
    digest = hashlib.sha256()
    for name in sorted(clips):
        digest.update(np.ascontiguousarray(clips[name]))
    return digest.hexdigest()[:16]


def torch_device(name: str) -> str:
    """Torch's name for the plugin's `device`."""
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    try:
        main()
    except (EvaluationError, data.DataError, RafrvsrError) as error:
        raise SystemExit(f"evaluate: {error}") from None
