"""Readers: video packs, Vimeo-90K, folders of frames, stills. Each yields `Source`s and names what it had to skip."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from vs_rafrvsr.errors import RafrvsrError
from vs_rafrvsr.models.warp import SCALE
from vs_rafrvsr.training import codec

Frames = NDArray[np.uint8]
IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
VALIDATION_EVERY = 10
"""About one source in this many is kept for validation."""
SHORTEST = 12
"""Frames of a pack's clip: the settled ones, which validation scores, begin with the ninth."""
SMALLEST = 32
"""Pixels of a clip's shorter side: its LR frames are then as small as RAFT takes."""
SMALLEST_STILL = 320
"""The same of a pack's still: frames of 288x384 show it, mirrored beyond its border."""
VIMEO_LISTS = ("sep_trainlist.txt", "sep_testlist.txt")
"""Vimeo-90K's own lists of clips: the septuplets have both, the super-resolution test set the second alone."""
FAULTY_CLIPS = {"1007429640_1": "a cut between frames 14 and 15"}
"""Clips of the packs that are not what their index says, by the stem of their file."""


@dataclass(frozen=True)
class Source:
    """One clip or still in host memory."""

    name: str
    group: str
    """What it was cut from: validation is split by it, because clips of one origin look alike."""
    hr: Frames
    """(n, 3, H, W) RGB, sides divisible by 8; n = 1 for a still."""
    lr: Frames | None = None
    """(n, 3, H/4, W/4), where the data set brings its own."""
    flow: NDArray[np.float16] | None = None
    """(n, 4, H/4, W/4) to both neighbours, see `PoolClip.flow`, where the motion is known."""
    weight: float = 1.0
    """How often it is drawn, against another clip of the same detail."""


@dataclass
class Reading:
    """What a reader found."""

    sources: list[Source] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Name -> why."""

    def checked(self, where: Path) -> Reading:
        """Itself; an empty set is an error that says why."""
        if not self.sources:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(self.skipped.items())[:3]) or "nothing found"
            raise DataError(f"{where}: no usable clip ({reasons})")
        return self

    def summary(self) -> str:
        """One line for a log, which names every skipped clip."""
        reasons = "; ".join(f"{name}: {why}" for name, why in self.skipped.items())
        return f"{len(self.sources)} read, {len(self.skipped)} skipped" + (f" ({reasons})" if reasons else "")


class DataError(RafrvsrError):
    """A data set that cannot be used."""


class SkipError(DataError):
    """One clip that cannot be used; its text is the reason."""


def is_validation(group: str, every: int = VALIDATION_EVERY) -> bool:
    """Whether a source is kept for validation, one in `every`: by a hash of its name, so that the split never moves.

    With another salt than 7, a new run would train on what earlier ones were judged by.
    """
    return int(hashlib.sha256(f"7:{group}".encode()).hexdigest(), 16) % every == 0


def read_pack(folder: Path, limit: int | None = None) -> Reading:
    """Clips of a pack: `index.json` lists {file, src: "group:path"}, the files are videos."""

    def clip(entry: dict[str, str]) -> Source:
        if fault := FAULTY_CLIPS.get(Path(entry["file"]).stem):
            raise SkipError(fault)
        frames = read_video(folder / entry["file"])
        if len(frames) < SHORTEST:
            raise SkipError(f"{len(frames)} frames, {SHORTEST} needed")
        _check_size(frames, SMALLEST)
        return Source(entry["file"], entry["src"].split(":")[0], frames)

    return _read(_index(folder / "index.json")[:limit], clip, lambda entry: entry["file"]).checked(folder)


def read_stills(folder: Path, limit: int | None = None) -> Reading:
    """Stills of a pack, listed in `stills.json` as {file, src}. A pack without stills is not an error."""

    def still(entry: dict[str, str]) -> Source:
        frames = read_image(folder / entry["file"])[None]
        _check_size(frames, SMALLEST_STILL)
        return Source(entry["file"], entry["src"].split(":")[0], frames)

    return _read(_index(folder / "stills.json")[:limit], still, lambda entry: entry["file"])


def read_folders(
    root: Path, shortest: int = 7, lr_root: Path | None = None, multiple: int = 8, limit: int | None = None
) -> Reading:
    """Folders of frames, one clip each, in name order; `lr_root` may hold a folder of LR frames under the same name.

    Sides are cut to multiples of `multiple`, which is one of SCALE.
    """

    def clip(folder: Path) -> Source:
        small = _images(lr_root / folder.name) if lr_root else None
        return _clip_of(folder.name, folder.name, _images(folder), small, shortest, multiple)

    folders = sorted(p for p in root.iterdir() if p.is_dir())
    return _read(folders[:limit], clip, lambda folder: folder.name).checked(root)


def read_vimeo(root: Path, names: Sequence[str]) -> Reading:
    """Vimeo-90K clips of 7 frames by name ("00001/0266"; see `vimeo_list`), in either published layout.

    `sequences/NAME/im1.png` (septuplets), or `target/NAME` with `low_resolution/NAME` (the super-resolution test set).
    """
    truth, small = root / "sequences", None
    if not truth.is_dir():
        truth, small = root / "target", root / "low_resolution"

    def clip(name: str) -> Source:
        lr = [small / name / f"im{i}.png" for i in range(1, 8)] if small and small.is_dir() else None
        return _clip_of(name, name.split("/")[0], [truth / name / f"im{i}.png" for i in range(1, 8)], lr, 7)

    return _read(names, clip, str).checked(root)


def vimeo_list(root: Path, subset: int | None = None, seed: int = 0) -> list[str]:
    """The names in the first of VIMEO_LISTS that `root` has, or a random `subset` of them (originally 2,500)."""
    path = next((root / name for name in VIMEO_LISTS if (root / name).is_file()), None)
    if path is None:
        raise DataError(f"{root}: has neither {' nor '.join(VIMEO_LISTS)}, Vimeo-90K's lists of clips")
    names = path.read_text().split()
    if subset is None:
        return names
    if subset > len(names):
        raise DataError(f"{path}: {len(names)} clips listed, a subset of {subset} asked for")
    chosen = np.random.default_rng(seed).choice(len(names), subset, replace=False)
    return [names[i] for i in sorted(chosen)]


def read_image(path: Path, multiple: int = 8) -> Frames:
    """(3, H, W) RGB uint8, sides cut to multiples of `multiple`."""
    if not path.is_file():
        raise SkipError(f"no file {path.name}")
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError):  # an empty file, more pixels than OpenCV takes; one that may not be read
        image = None
    if image is None:
        raise SkipError(f"unreadable image {path.name}")
    planes: Frames = _planes(image[None, ..., ::-1], multiple)[0]
    return planes


def read_video(path: Path) -> Frames:
    """(n, 3, H, W) RGB uint8, sides cut to multiples of 8."""
    try:
        return _planes(codec.decode(path))
    except ValueError as error:
        raise SkipError("unreadable video" if path.is_file() else "no such file") from error


def _planes(rgb: NDArray[Any], multiple: int = 8) -> Frames:
    height, width = (side // multiple * multiple for side in rgb.shape[1:3])
    return np.ascontiguousarray(rgb[:, :height, :width].transpose(0, 3, 1, 2), dtype=np.uint8)


def _check_size(frames: Frames, smallest: int) -> None:
    if min(frames.shape[-2:]) < smallest:
        raise SkipError(f"{frames.shape[-1]}x{frames.shape[-2]}, {smallest} needed")


def _index(path: Path) -> list[dict[str, str]]:
    try:
        entries = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: not found; a pack has index.json and stills.json beside its files") from None
    except ValueError as error:
        raise DataError(f"{path}: no JSON: {error}") from None
    wrong = [entry for entry in entries if not _is_entry(entry)] if isinstance(entries, list) else [entries]
    if wrong:
        raise DataError(f"{path}: a list of {{file, src}} is needed; it has {json.dumps(wrong[0])[:80]}")
    return cast(list[dict[str, str]], entries)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("file", "src"))


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES) if folder.is_dir() else []


def _clip_of(
    name: str, group: str, files: Sequence[Path], lr_files: Sequence[Path] | None, shortest: int, multiple: int = 8
) -> Source:
    if len(files) < shortest:
        raise SkipError(f"{len(files)} frames, {shortest} needed")
    if lr_files is not None and len(lr_files) != len(files):
        raise SkipError(f"{len(lr_files)} LR frames, {len(files)} needed")
    hr = _stack(files, multiple)
    _check_size(hr, SMALLEST)
    lr = None if lr_files is None else _stack(lr_files, multiple // SCALE)
    if lr is not None and any(SCALE * b != a for a, b in zip(hr.shape[2:], lr.shape[2:], strict=True)):
        raise SkipError(f"LR {lr.shape} does not match truth {hr.shape}: a quarter of its size is needed")
    return Source(name, group, hr, lr)


def _stack(files: Sequence[Path], multiple: int) -> Frames:
    frames = [read_image(path, multiple) for path in files]
    if len({frame.shape for frame in frames}) > 1:
        raise SkipError("frames of different sizes")
    return np.stack(frames)


def _read[T](entries: Iterable[T], read: Callable[[T], Source], name: Callable[[T], str]) -> Reading:
    """Read in threads (OpenCV and PyAV drop the GIL), in the order given."""

    def attempt(entry: T) -> tuple[str, Source | str]:
        try:
            return name(entry), read(entry)
        except SkipError as reason:
            return name(entry), str(reason)

    reading = Reading()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for label, result in pool.map(attempt, entries):
            if isinstance(result, str):
                reading.skipped[label] = result
            else:
                reading.sources.append(result)
    return reading
