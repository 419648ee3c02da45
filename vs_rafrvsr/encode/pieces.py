"""The folder beside the output where a split encode keeps its pieces: what they are pieces of, and which are finished.

OUT.pieces/manifest.json                 what is encoded, and how it is cut
OUT.pieces/00000000-00000240.mkv, .json  frames 0 to 239; the JSON is written last and says that they are finished
OUT.pieces/lock                          held by the run that makes pieces
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vs_rafrvsr import __version__
from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.encode.options import video_options
from vs_rafrvsr.encode.render import Job, Show, check_written, partial, render, render_blank
from vs_rafrvsr.encode.split import chunk_of, lengths_for, plan
from vs_rafrvsr.encode.timing import count_frames
from vs_rafrvsr.errors import EncodeError
from vs_rafrvsr.properties import DEVICE


@contextmanager
def work_path(out: Path) -> Iterator[Path]:
    """`OUT.pieces`, to the end of the block this run's alone; gone after it if no piece in it is finished.

    Raises:
        EncodeError: it cannot be written, another run has it, or it is somebody else's folder.
    """
    path = out.with_name(f"{out.name}.pieces")
    if path.is_dir() and any(path.iterdir()) and not (path / "lock").exists():
        raise EncodeError(f"{path} is a folder of something else; move it away, or choose another output")
    try:
        path.mkdir(exist_ok=True)
        lock = (path / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EncodeError(f"another run is making {out}; wait for its end, or choose another output") from None
    except OSError as error:
        raise EncodeError(f"output {out} cannot be written: {path}: {error.strerror}") from error
    with lock:
        try:
            yield path
        finally:
            if not holds_pieces(path):
                shutil.rmtree(path, ignore_errors=True)


def holds_pieces(path: Path) -> bool:
    """Is any piece in this folder finished?"""
    return any(path.glob("*-*[0-9].json"))  # one that is half written ends in .part.json


@dataclass(frozen=True, slots=True)
class Piece:
    """A finished piece: its file, the seconds that each frame lasts, and what made its frames, see Rendered."""

    path: Path
    durations: list[Fraction]
    makers: list[str]


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """A folder of pieces that are all of one encode.

    Args:
        path: the folder, which every worker sees under the same name.
        suffix: of the pieces' files, the output's.
        job, clip: what is encoded.
        script: the script's SHA-256.
        plan: the frames of each piece.
    """

    path: Path
    suffix: str
    job: Job
    clip: Clip
    script: str
    plan: list[range]

    @classmethod
    def open(cls, path: Path, suffix: str, job: Job, clip: Clip, workers: int) -> WorkFolder:
        """An output's folder, which is empty or what an interrupted run has left; then the plan is that run's.

        Raises:
            EncodeError: it cannot be written, or holds pieces of another encode.
        """
        manifest = path / "manifest.json"
        identity = _identity(job, clip)
        try:
            if manifest.exists():
                cut = _check_manifest(_read(manifest), identity, path)
            else:
                cut = plan(clip.frames, chunk_of(clip.props), workers, lengths_for(clip.props))
                _write(manifest, identity | {"pieces": [[p.start, p.stop] for p in cut]})
            for left in path.glob("*.part.*"):
                left.unlink()
        except OSError as error:
            raise EncodeError(f"{path} cannot be written: {error.strerror}") from error
        return cls(path, suffix, job, clip, identity["script"], cut)

    def file(self, frames: range) -> Path:
        """Where the piece of these frames is."""
        return self.path / f"{frames.start:08}-{frames.stop:08}{self.suffix}"

    def finished(self, frames: range) -> Piece | None:
        """The piece of these frames; None unless it is there and whole."""
        path = self.file(frames)
        record = _read(path.with_suffix(".json"))
        if record is None or not path.exists() or record.get("sha256") != _sha256(path):
            return None
        return Piece(path, [Fraction(text) for text in record["durations"]], record["makers"])

    def make(self, frames: range, progress: Show) -> None:
        """Make the piece of these frames.

        Raises:
            EncodeError: vspipe or ffmpeg failed, frames are missing, the script has changed, or is another clip here.
        """
        path = self.file(frames)
        self._check_script()
        with partial(path) as unfinished:
            done = render(self.job, unfinished, frames=frames, progress=progress)
            self._check_script()
            _check_alike(_plain(self.clip), _plain(done.clip))
            check_written(count_frames(unfinished), len(frames))
            digest = _sha256(unfinished)
        durations = [str(duration) for duration in done.durations]
        record = {"sha256": digest, "makers": list(done.makers), "durations": durations}
        _write(path.with_suffix(".json"), record)

    def make_blank(self) -> Path:
        """Make a file like a piece, of two blank frames, or one where the clip has no more.

        Raises:
            EncodeError: ffmpeg failed.
        """
        path = self.path / f"blank{self.suffix}"
        render_blank(self.clip, video_options(self.clip, self.job.ffmpeg_options), path, min(2, self.clip.frames))
        return path

    def _check_script(self) -> None:
        if _sha256(self.job.script) != self.script:
            raise EncodeError(
                f"{self.job.script} was changed during the run, and pieces must be of one script; put it back as it "
                f"was, or delete {self.path} to begin anew"
            )

    def remove(self) -> None:
        """The output is whole."""
        shutil.rmtree(self.path)


def _identity(job: Job, clip: Clip) -> dict[str, Any]:
    """All that decides a piece's frames; the clip's properties hold weights, precision and tiles of Upscale."""
    return {
        "version": __version__,
        "script": _sha256(job.script),
        "arguments": dict(job.arguments),
        "ffmpeg options": list(job.ffmpeg_options),
        "clip": _plain(clip),
    }


def _plain(clip: Clip) -> dict[str, Any]:
    """The clip as JSON has it, without the device's name."""
    props = {name: value for name, value in clip.props.items() if name != DEVICE}
    return asdict(clip) | {"rate": str(clip.rate), "props": props}


def _check_manifest(found: dict[str, Any] | None, identity: dict[str, Any], path: Path) -> list[range]:
    """The plan of a manifest that is of the same encode."""
    others = ["manifest"] if found is None else [name for name in identity if _differ(found.get(name), identity[name])]
    if found is None or others:
        raise EncodeError(
            f"{path} holds pieces of another encode: of another {', '.join(others)}. Delete the folder to begin anew, "
            "or go on with the script, arguments and options of that run"
        )
    return [range(start, stop) for start, stop in found["pieces"]]


def _check_alike(expected: dict[str, Any], found: dict[str, Any]) -> None:
    expected, found = ({**clip.pop("props"), **clip} for clip in (expected, found))
    for name in sorted(expected.keys() | found.keys()):
        if _differ(expected.get(name), found.get(name)):
            raise EncodeError(
                f"here the script's clip has {name} = {found.get(name)}, elsewhere {expected.get(name)}, so that the "
                "pieces would not fit together; use the same files and versions everywhere, and like devices or "
                "explicit arguments of Upscale (device, precision, tile)"
            )


def _differ(one: object, other: object) -> bool:
    """As JSON, where a NaN is like another."""
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no whole one."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, record: dict[str, Any]) -> None:
    """A JSON file that is either whole or not there."""
    with partial(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1))
