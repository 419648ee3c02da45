"""From sources in host memory to clips on the device: degraded, with the flow between neighbouring frames."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training import data, motion, real
from vs_rafrvsr.training.checkpoint import fingerprint
from vs_rafrvsr.training.degrade import degrade
from vs_rafrvsr.training.pool import PoolClip
from vs_rafrvsr.training.recipe import Recipe
from vs_rafrvsr.training.variants import FLOW_PARTS, Net

CAMERA = "camera/"
"""Names of clips made from stills begin so."""
CAMERA_SIZE = (288, 384)
MADE_FRAMES, HELD_FRAMES = 64, 16
"""Of clips made from stills, and of those held for validation. The packs' clips are too short to learn from what a
recurrence does to old states."""
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
    clean: list[PoolClip] = field(default_factory=list)
    """The clips of `real` by bicubic, where those are damaged: what a clean source gets."""
    shown: list[PoolClip] = field(default_factory=list)
    """Clips of the user's, such as Vid4: scored and pictured as the run goes, and nothing is chosen by them."""


@dataclass(frozen=True)
class Shape:
    """Sizes to prepare; small ones serve rehearsals."""

    limit: int | None = None
    """Read only so many clips of each pack or set."""
    area: int | None = None
    """Cut clips to a square of this side."""


@dataclass(frozen=True)
class Material:
    """What a run is made of, in host memory."""

    clips: list[data.Source]
    stills: list[data.Source]

    @classmethod
    def of_packs(cls, packs: Sequence[Path], shape: Shape) -> Material:
        """Video packs, with their stills."""
        clips = [data.read_pack(pack, limit=shape.limit) for pack in packs]
        stills = [data.read_stills(pack, limit=shape.limit) for pack in packs]
        for pack, reading in zip([*packs, *packs], [*clips, *stills], strict=True):
            print(f"{pack.name}: {reading.summary()}", flush=True)
        return cls([s for r in clips for s in r.sources], [s for r in stills for s in r.sources])

    @classmethod
    def of_vimeo(cls, root: Path, recipe: Recipe, shape: Shape) -> Material:
        """Vimeo-90K in either published layout: the clips of its list, or the recipe's subset of them."""
        names = data.vimeo_list(root, recipe.data.subset or None, recipe.seed)
        reading = data.read_vimeo(root, names[: shape.limit])
        print(f"{root.name}: {reading.summary()}", flush=True)
        return cls(reading.sources, [])

    @classmethod
    def of_folders(cls, root: Path, recipe: Recipe, shape: Shape) -> Material:
        """A folder of frames per clip; clips shorter than the recipe's are skipped, each is a source of its own."""
        reading = data.read_folders(root, shortest=recipe.frames, limit=shape.limit)
        print(f"{root.name}: {reading.summary()}", flush=True)
        return cls(reading.sources, [])


@torch.no_grad()
def prepare(
    material: Material, recipe: Recipe, flow_net: Net, device: torch.device, cache: Path | None, shape: Shape
) -> Prepared:
    """Make clips from the stills, degrade, and compute the flow (from `cache` if it holds it)."""
    whole = [replace(s, hr=_cut(s.hr, shape.area), lr=_cut(s.lr, shape.area, SCALE)) for s in material.clips]

    def held(group: str) -> bool:
        return _is_held(group, recipe)

    whole += fast_clips([s for s in whole if not held(s.group)], recipe)
    whole += camera_clips(material.stills, recipe, device, shape)

    def made(wanted: tuple[data.Source, int, Recipe]) -> PoolClip:
        source, variant, plan = wanted
        return _bare(source, variant, _seed(source.group, recipe), plan, device)

    def variants(source: data.Source) -> int:
        alone = held(source.group) or _is_made(source.name) or source.lr is not None
        return 1 if alone else recipe.data.variants

    wanted = [(s, v, recipe) for s in whole for v in range(variants(s))]
    if recipe.data.degradation == "real":
        wanted += [(s, 0, _clean(recipe)) for s in whole if held(s.group) and not _is_made(s.name)]
    # Encoders run beside one another; what runs on the device alone gains nothing from threads.
    with ThreadPoolExecutor(os.cpu_count() if recipe.data.degradation == "real" else 1) as pool:
        clips = list(pool.map(made, wanted))
    if not recipe.flow.joint:  # a joint step estimates its own
        flows = _flows(clips, flow_net, recipe, cache)
        clips = [replace(c, flow=flow) for c, flow in zip(clips, flows, strict=True)]
    seen: Counter[tuple[str, str]] = Counter()
    kept: dict[str, list[PoolClip]] = {"real": [], "camera": [], "clean": []}
    for clip, (_, _, plan) in zip(clips, wanted, strict=True):
        if held(clip.source):
            filmed = "real" if plan is recipe else "clean"
            kind = "camera" if clip.camera else filmed
            seen[clip.source, kind] += 1
            if seen[clip.source, kind] <= VALIDATION_PER_SOURCE:
                kept[kind].append(clip)
    if not seen:
        every = recipe.data.validation_every
        print(f"WARNING: no clip for validation: none of the sources is the one in {every} that is kept", flush=True)
    return Prepared([c for c in clips if not held(c.source)], **kept)


@torch.no_grad()
def shown_clips(folder: Path, recipe: Recipe, flow_net: Net, device: torch.device) -> list[PoolClip]:
    """A folder of clips, a folder of truth frames each; a recipe for real video sees them clean, by bicubic."""
    plan = _clean(recipe) if recipe.data.degradation == "real" else recipe
    reading = data.read_folders(folder)
    print(f"{folder.name}: {reading.summary()}", flush=True)
    clips = [_bare(source, 0, 0, plan, device) for source in reading.sources]
    return clips if recipe.flow.joint else [replace(c, flow=clip_flow(flow_net, c.lr)) for c in clips]


def _clean(recipe: Recipe) -> Recipe:
    return replace(recipe, data=replace(recipe.data, degradation="bi"))


def _is_made(name: str) -> bool:
    return name.startswith(CAMERA)


def _is_held(group: str, recipe: Recipe) -> bool:
    return data.is_validation(group, recipe.data.validation_every)


def _seed(group: str, recipe: Recipe) -> int:
    """The recipe's; always the same for what is held for validation, so that runs of all seeds are judged alike."""
    return 0 if _is_held(group, recipe) else recipe.seed


def fast_clips(clips: Sequence[data.Source], recipe: Recipe) -> list[data.Source]:
    """The clips at double speed, where that leaves enough frames."""
    if not recipe.data.fast_weight:
        return []
    long = [s for s in clips if len(s.hr[::2]) >= recipe.frames]
    return [
        replace(
            s,
            name=f"{s.name}, double speed",
            hr=s.hr[::2],
            lr=None if s.lr is None else s.lr[::2],
            weight=recipe.data.fast_weight,
        )
        for s in long
    ]


def camera_clips(
    stills: Sequence[data.Source], recipe: Recipe, device: torch.device, shape: Shape
) -> list[data.Source]:
    """`data.stills_clips` clips of the stills in turn under smooth camera motion, and their flow.

    Each is damaged in one way and drawn as often as a filmed clip in all its variants.
    """
    camera = motion.Camera(step=recipe.data.stills_step)
    size = CAMERA_SIZE if shape.area is None else (shape.area, shape.area)
    clips = []
    for index in range(recipe.data.stills_clips if stills else 0):
        still = stills[index % len(stills)]
        frames = HELD_FRAMES if _is_held(still.group, recipe) else MADE_FRAMES
        maps = motion.path(_generator(f"{_seed(still.group, recipe)}:{index}:{still.name}"), frames, camera)
        hr = motion.render(torch.from_numpy(still.hr[0]).to(device), maps, size).cpu().numpy()
        flow = motion.exact_flow(maps, size, device).half().cpu().numpy()
        weight = float(recipe.data.variants)
        clips.append(data.Source(f"{CAMERA}{index}/{still.name}", still.group, hr, flow=flow, weight=weight))
    return clips


def clip_flow(net: Net, lr: Tensor) -> Tensor:
    """Flow of a clip (n, 3, h, w) uint8 to both neighbours: (n, 4, h, w) fp16, see `PoolClip.flow`."""
    size = (lr.shape[-2], lr.shape[-1])
    features = net.encode(lr.float() / 255)
    earlier, later = (features._make(x[part] for x in features) for part in (slice(None, -1), slice(1, None)))
    flow = torch.zeros(len(lr), 4, *size, device=lr.device, dtype=torch.float16)
    for at, current, other in ((slice(1, None), later, earlier), (slice(None, -1), earlier, later)):
        found = net.flow(current, other, size)
        flow[at, slice(0, 2) if at.start else slice(2, 4)] = found.half()
    return flow


def _flows(clips: Sequence[PoolClip], net: Net, recipe: Recipe, cache: Path | None) -> list[Tensor]:
    file = cache / f"flow-{_flow_key(clips, net, recipe)}.safetensors" if cache else None
    if file is not None and file.exists():
        held = load_file(file)
        return [held[str(i)].to(c.lr.device) for i, c in enumerate(clips)]
    flows = [clip_flow(net, c.lr) for c in clips]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")  # processes that train together may all write it
        save_file({str(i): flow.cpu() for i, flow in enumerate(flows)}, part)
        part.replace(file)
    return flows


def _flow_key(clips: Sequence[PoolClip], net: Net, recipe: Recipe) -> str:
    """What the flow of clips depends on."""
    weights = (tensor for name, tensor in sorted(net.state_dict().items()) if name.startswith(FLOW_PARTS))
    given = (f"{clip.name}{tuple(clip.lr.shape)}{int(clip.lr.sum())}" for clip in clips)
    return fingerprint([f"{recipe.flow.updates} {recipe.flow.scale}", *weights, *given])


@torch.no_grad()
def _bare(source: data.Source, variant: int, seed: int, recipe: Recipe, device: torch.device) -> PoolClip:
    """A clip or a copy, drawn by the square root of its detail, with its flow where that is known, NaN elsewhere."""
    name = f"{source.name}#{variant}" if variant else source.name
    hr = torch.from_numpy(source.hr).to(device)
    if variant:
        hr = cut_anew(hr, _generator(f"{seed}:cut:{name}"), recipe.crop)
    if source.lr is not None:
        if recipe.data.degradation != "bi":
            raise data.DataError(
                f"{name} has LR frames of its own, which are bicubic: data.degradation is bi for them, not "
                f"{recipe.data.degradation}"
            )
        lr = torch.from_numpy(source.lr).to(device)
    else:
        lr = small(hr, recipe.data.degradation, _generator(f"{seed}:{name}"))
    if source.flow is not None:
        flow = torch.from_numpy(source.flow).to(device)
    else:
        flow = torch.full((len(lr), 4, *lr.shape[-2:]), torch.nan, device=device, dtype=torch.float16)
    weight = source.weight * math.sqrt(detail(hr))
    return PoolClip(name, source.group, hr, lr, flow, weight, _is_made(source.name))


def cut_anew(hr: Tensor, rng: np.random.Generator, crop: int) -> Tensor:
    """A clip (n, 3, H, W) cut so that its LR pixels fall elsewhere; as it is where a crop would no longer fit.

    From the same LR pixels again and again a network learns the clip by heart (scripts/recipes/README.md).
    """
    height, width = hr.shape[-2:]
    if min(height, width) < SCALE * (crop + 2):
        return hr
    top, left = rng.integers(SCALE, size=2)
    bottom, right = (end - (end - start) % SCALE for start, end in ((top, height), (left, width)))
    return hr[..., top:bottom, left:right].contiguous()


def _generator(name: str) -> np.random.Generator:
    """The same for a name whatever else is drawn, so that one clip's luck does not depend on the others."""
    return np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:16], 16))


def small(hr: Tensor, degradation: str, rng: np.random.Generator) -> Tensor:
    """LR frames of a clip (N, 3, H, W) uint8: by a benchmark's degradation, or by damage drawn for this clip."""
    if degradation != "real":
        return degrade(hr, degradation)
    damage = real.draw(rng)
    return real.squeeze(real.shrink(hr, damage, rng), damage)


def detail(hr: Tensor) -> float:
    """Mean absolute Laplacian of grey in 8-bit steps, on every 8th frame: how much there is to restore."""
    grey = hr[::8].float().mean(1)
    middle = 4 * grey[:, 1:-1, 1:-1]
    laplacian = middle - grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    return float(laplacian.abs().mean())


def _cut[T: (data.Frames, data.Frames | None)](frames: T, area: int | None, scale: int = 1) -> T:
    if area is None or frames is None:
        return frames
    return np.ascontiguousarray(frames[..., : area // scale, : area // scale])
