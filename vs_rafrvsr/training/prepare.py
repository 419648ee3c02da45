"""From sources in host memory to clips on the device: degraded, with the flow between neighbouring frames."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vs_rafrvsr.models import raft
from vs_rafrvsr.models.rafrvsr import RAFRVSR
from vs_rafrvsr.training import data, motion
from vs_rafrvsr.training.degrade import degrade
from vs_rafrvsr.training.pool import PoolClip
from vs_rafrvsr.training.recipe import Recipe

CAMERA_SIZE = (288, 384)
CAMERA_FRAMES = 16
VALIDATION_PER_SOURCE = 4
"""Clips of one source look alike: more of them only weigh it."""


@dataclass(frozen=True)
class Prepared:
    """Clips for training and, from other sources, for validation."""

    train: list[PoolClip]
    real: list[PoolClip]
    """Validation clips of real video."""
    camera: list[PoolClip]
    """Validation clips of camera motion over stills: sharp and free of compression, so that time has more to give."""


@dataclass(frozen=True)
class Shape:
    """Sizes to prepare; small ones serve rehearsals."""

    limit: int | None = None
    """Read only so many entries of each pack."""
    area: int | None = None
    """Cut clips to a square of this side."""


@torch.no_grad()
def prepare(
    packs: Sequence[Path], recipe: Recipe, flow_net: RAFRVSR, device: torch.device, cache: Path | None, shape: Shape
) -> Prepared:
    """Read the packs, make the camera clips, degrade, and compute the flow (from `cache` if it holds it)."""
    readings = [data.read_pack(pack, limit=shape.limit) for pack in packs]
    stills = [data.read_stills(pack, limit=shape.limit) for pack in packs]
    for pack, reading in zip([*packs, *packs], [*readings, *stills], strict=True):
        print(f"{pack.name}: {reading.summary()}", flush=True)
    clips = [
        _bare(s.name, s.group, torch.from_numpy(_cut(s.hr, shape)), False, recipe, device)
        for r in readings
        for s in r.sources
    ]
    clips += camera_clips([s for r in stills for s in r.sources], recipe, device, shape)
    flows = _flows(clips, flow_net, cache)
    clips = [replace(c, flow=flow) for c, flow in zip(clips, flows, strict=True)]
    held = [c for c in clips if data.is_validation(c.source)]
    seen: Counter[tuple[str, bool]] = Counter()
    kept = []
    for clip in held:
        key = clip.source, clip.camera
        seen[key] += 1
        if seen[key] <= VALIDATION_PER_SOURCE:
            kept.append(clip)
    return Prepared(
        [c for c in clips if not data.is_validation(c.source)],
        [c for c in kept if not c.camera],
        [c for c in kept if c.camera],
    )


def camera_clips(stills: Sequence[data.Source], recipe: Recipe, device: torch.device, shape: Shape) -> list[PoolClip]:
    """`data.stills_clips` clips under smooth camera motion, the stills in turn; without flow."""
    rng = np.random.default_rng(recipe.seed + 1)
    camera = motion.Camera(step=recipe.data.stills_step)
    size = CAMERA_SIZE if shape.area is None else (shape.area, shape.area)
    made = []
    for index in range(recipe.data.stills_clips if stills else 0):
        still = stills[index % len(stills)]
        hr = motion.render(torch.from_numpy(still.hr[0]).to(device), motion.path(rng, CAMERA_FRAMES, camera), size)
        made.append(_bare(f"camera/{index}/{still.name}", still.group, hr, True, recipe, device))
    return made


def clip_flow(net: RAFRVSR, lr: Tensor) -> Tensor:
    """Flow of a clip (n, 3, h, w) uint8 to both neighbours: (n, 4, h, w) fp16, see `PoolClip.flow`."""
    size = (lr.shape[-2], lr.shape[-1])
    features = net.encode(lr.float() / 255)
    earlier, later = (raft.Features(*(x[part] for x in features)) for part in (slice(None, -1), slice(1, None)))
    flow = torch.zeros(len(lr), 4, *size, device=lr.device, dtype=torch.float16)
    for at, current, other in ((slice(1, None), later, earlier), (slice(None, -1), earlier, later)):
        found = net.flow(current, other, size)
        flow[at, slice(0, 2) if at.start else slice(2, 4)] = found.half()
    return flow


def _flows(clips: Sequence[PoolClip], net: RAFRVSR, cache: Path | None) -> list[Tensor]:
    key = hashlib.sha256("".join(f"{c.name}{tuple(c.lr.shape)}{int(c.lr.sum())}" for c in clips).encode()).hexdigest()[
        :16
    ]
    file = cache / f"flow-{key}-{net.flow_updates}-{net.flow_input_scale}.safetensors" if cache else None
    if file is not None and file.exists():
        held = load_file(file)
        return [held[str(i)].to(c.lr.device) for i, c in enumerate(clips)]
    flows = [clip_flow(net, c.lr) for c in clips]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({str(i): flow.cpu() for i, flow in enumerate(flows)}, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    return flows


def _bare(name: str, group: str, hr: Tensor, camera: bool, recipe: Recipe, device: torch.device) -> PoolClip:
    """A clip without flow; it is drawn by the square root of its detail."""
    hr = hr.to(device)
    lr = degrade(hr, recipe.data.degradation)
    return PoolClip(name, group, hr, lr, torch.empty(0), math.sqrt(detail(hr)), camera)


def detail(hr: Tensor) -> float:
    """Mean absolute Laplacian of grey in 8-bit steps, on every 8th frame: how much there is to restore."""
    grey = hr[::8].float().mean(1)
    middle = 4 * grey[:, 1:-1, 1:-1]
    laplacian = middle - grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    return float(laplacian.abs().mean())


def _cut(hr: data.Frames, shape: Shape) -> data.Frames:
    return hr if shape.area is None else np.ascontiguousarray(hr[..., : shape.area, : shape.area])
