"""Models through the plugin against a truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path

import numpy as np
import torch
import vapoursynth as vs

from evaluating.clips import play, to_clip
from vs_rafrvsr import weights
from vs_rafrvsr.metrics.fidelity import Curve, Frames, flat_noise, psnr_rgb, psnr_y, ssim_y
from vs_rafrvsr.metrics.lpips import Lpips, lpips_and_tlp
from vs_rafrvsr.metrics.protocol import EvaluationError, Protocol
from vs_rafrvsr.metrics.tof import tof
from vs_rafrvsr.models.registry import MODELS
from vs_rafrvsr.training import data
from vs_rafrvsr.training.codec import Codec, compress
from vs_rafrvsr.training.degrade import PHASE, degrade

core = vs.core
CENTRED = PHASE["bi"]
BICUBIC, ALIGNED = "bicubic", "bicubic-aligned"
ALEXNET, HEADS = "alexnet_torchvision_features.safetensors", "lpips_v0.1_alex.safetensors"
DIGITS = {
    "PSNR-Y": 3, "PSNR-RGB": 3, "SSIM-Y": 4, "LPIPS": 4, "tOF": 4, "tLP100": 3, "flat noise": 3, "residual noise": 3,
}  # fmt: skip
"""Metrics in the order of tables, and the digits that they are printed with."""
METRICS: dict[str, Callable[[Frames, Frames], Curve]] = {
    "PSNR-Y": psnr_y,
    "SSIM-Y": ssim_y,
    "PSNR-RGB": psnr_rgb,
    "flat noise": flat_noise,
}
"""Of the part that counts; tOF is of whole frames."""

type Clips = dict[str, Frames]
type Scores = dict[str, float]
type Upscaler = Callable[[vs.VideoNode], vs.VideoNode]


def packed(planes: Frames) -> Frames:
    """Frames (N, 3, H, W), as the training's readers give them, as (N, H, W, 3)."""
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def small(source: data.Source, protocol: Protocol) -> Frames:
    """The clip's own LR frames (N, h, w, 3), or the protocol's."""
    return packed(
        degrade(torch.from_numpy(source.hr), protocol.degradation).numpy() if source.lr is None else source.lr
    )


def damaged(lr: Frames, name: str, noise: float = 0.0, crf: int | None = None) -> Frames:
    """LR frames with Gaussian noise of that sigma in 8-bit steps, then through x264; the same every time."""
    if noise:
        rng = np.random.default_rng(list(name.encode()))
        lr = (lr + rng.normal(0, noise, lr.shape)).round().clip(0, 255).astype(np.uint8)
    return lr if crf is None else compress(lr, Codec(name="libx264", crf=crf))


def weights_of(model: str) -> Path:
    """A shipped model's weights file, or one given by its path.

    Raises:
        EvaluationError: there is no such model.
    """
    if not model.endswith(".safetensors") and model not in MODELS:
        known = ", ".join((BICUBIC, ALIGNED, *MODELS))
        raise EvaluationError(f"{model!r} is unknown; use a weights file (.safetensors), {known}")
    return MODELS[model].path if model in MODELS else Path(model)


def mark_of(model: str) -> str | None:
    """The fingerprint of a model's weights; bicubic has none.

    Raises:
        EvaluationError: there is no such model.
    """
    return None if model in (BICUBIC, ALIGNED) else weights.read_fingerprint(weights_of(model))


def named(models: Iterable[str]) -> dict[str, str]:
    """Models by the names that they get in a table, which are their files' without folder and suffix.

    Raises:
        EvaluationError: two would get the same name.
    """
    found: dict[str, str] = {}
    for model in models:
        other = found.setdefault(Path(model).stem, model)
        if other != model:
            raise EvaluationError(f"{other} and {model} would both be called {Path(model).stem}: rename a file")
    return found


def phase_of(model: str) -> float:
    """Where a model takes its LR samples to lie (`degrade.PHASE`).

    Raises:
        EvaluationError: there is no such model.
    """
    return float(weights.read_header(weights_of(model)).config.get("offset", CENTRED))


def upscaler(model: str, protocol: Protocol, device: str, **options: str | int) -> Upscaler:
    """What turns the LR clip into RGB24 of four times its size; `options` are Upscale's.

    Raises:
        EvaluationError: a model whose pixels lie elsewhere than the protocol's.
    """
    phase = PHASE[protocol.degradation]
    if model in (BICUBIC, ALIGNED):
        # A sample of phase p lies on HR pixel 4i - p, a centred one on 4i + 1.5.
        return partial(bicubic, shift=(phase - CENTRED) / 4 if model == ALIGNED else 0.0)
    own = phase_of(model)
    if own != phase:
        raise EvaluationError(
            f"{model} was trained for samples at phase {own}, protocol {protocol.name} has {phase}: it would lie "
            f"{abs(own - phase)} pixels off; use a protocol of its own degradation, or another model"
        )
    chosen = {"model" if model in MODELS else "weights": model}
    return lambda clip: core.rafrvsr.Upscale(clip, device=device, **chosen, **options)


def bicubic(clip: vs.VideoNode, shift: float) -> vs.VideoNode:
    """The resizer's x4 with MATLAB's kernel; `shift` moves the window, in LR pixels."""
    return core.resize.Bicubic(
        clip, 4 * clip.width, 4 * clip.height, filter_param_a=0, filter_param_b=0.5, src_left=shift, src_top=shift
    )


def measure(
    pool: Executor,
    protocol: Protocol,
    upscale: Upscaler,
    truth: Clips,
    lr: Clips,
    judge: Lpips | None,
    wanted: Container[str] = DIGITS,
) -> dict[str, Future[Scores]]:
    """Every clip's scores, to come: the pool scores a clip while the next is upscaled."""
    parts = {}
    for clip, frames in truth.items():
        output = np.stack(list(play(upscale(to_clip(lr[clip])), clip)))
        parts[clip] = pool.submit(score, protocol, frames, output, judge, wanted)
    return parts


def score(
    protocol: Protocol, truth: Frames, output: Frames, judge: Lpips | None, wanted: Container[str] = DIGITS
) -> Scores:
    """One clip's means over the frames that count: the metrics wanted that can be had."""
    counted, found = protocol.count(truth), protocol.count(output)
    curves = {name: metric(counted, found) for name, metric in METRICS.items() if name in wanted}
    if "tOF" in wanted:
        curves["tOF"] = tof(protocol.whole(truth), protocol.whole(output))
    if judge is not None:
        curves["LPIPS"], curves["tLP100"] = lpips_and_tlp(judge, counted, found)
    return {name: float(np.nanmean(curve)) for name, curve in curves.items() if np.isfinite(curve).any()}


def mean(clips: list[Scores]) -> Scores:
    """Of the clips that have the figure."""
    names = dict.fromkeys(name for clip in clips for name in clip)
    return {name: float(np.mean([clip[name] for clip in clips if name in clip])) for name in names}


def judge(features: Path | None, device: str) -> Lpips | None:
    """LPIPS from a folder that holds its files, on the plugin's `device`; none without a folder.

    Raises:
        EvaluationError: a file is missing.
    """
    if features is None:
        return None
    for file in (features / ALEXNET, features / HEADS):
        if not file.is_file():
            raise EvaluationError(f"{file} is missing, which LPIPS needs; without --features there is no LPIPS")
    return Lpips(features / ALEXNET, features / HEADS, torch_device(device))


def fingerprint(clips: Clips) -> str:
    """SHA-256 of all pixels in name order, 16 digits of it."""
    digest = hashlib.sha256()
    for name in sorted(clips):
        digest.update(np.ascontiguousarray(clips[name]))
    return digest.hexdigest()[:16]


def torch_device(name: str) -> str:
    """Torch's name for the plugin's `device`."""
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def machine(device: str) -> str:
    """What the plugin's `device` is called, for a record.

    Raises:
        EvaluationError: a CUDA device is asked for and not there.
    """
    name = torch_device(device)
    if not name.startswith("cuda"):
        return "CPU"
    if not torch.cuda.is_available():
        raise EvaluationError(f"device {name}: PyTorch finds no CUDA device; use --device cpu")
    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in ("cuda", *cards):
        raise EvaluationError(f"device {name}: PyTorch finds {', '.join(cards)}; use one of them, or --device cpu")
    return torch.cuda.get_device_name(name)
