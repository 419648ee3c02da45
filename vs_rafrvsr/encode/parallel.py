"""A script's encode, split over workers and joined: the same frames as one encode makes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from vs_rafrvsr.encode import Encoded
from vs_rafrvsr.encode.cluster import Cluster, cluster
from vs_rafrvsr.encode.join import Mux, join, rehearse
from vs_rafrvsr.encode.options import check_filters, check_split, picture_options
from vs_rafrvsr.encode.pieces import Piece, WorkFolder, holds_pieces, work_path
from vs_rafrvsr.encode.render import Job, Progress, Show, check_files, output_path, partial
from vs_rafrvsr.encode.source import video_delay, warn_of_length
from vs_rafrvsr.encode.timing import edges
from vs_rafrvsr.errors import EncodeError

log = logging.getLogger(__name__)


def encode_split(
    script: Path,
    out: Path,
    *,
    workers: int,
    gpus_per_worker: float | None = None,
    address: str | None = None,
    source: Path | None = None,
    ffmpeg_options: Sequence[str] = (),
    arguments: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Show = lambda _: None,
) -> Encoded:
    """As `encode`, in pieces that Ray's workers make; a run that was interrupted goes on with those it has.

    Args:
        script, out, source, ffmpeg_options, arguments, overwrite: as encode's. Pieces are kept in `OUT.pieces` until
            out is whole; script, out and that folder have the same paths on all nodes.
        workers: pieces that are made at once.
        gpus_per_worker: GPUs that a worker takes, 0 to 1; None is 1 where there are GPUs, else 0.
        address: of a running Ray cluster, or "auto"; None starts Ray on this machine.
        progress: called about twice a second.

    Raises:
        EncodeError: as encode; Ray is missing or has no such GPUs; a piece failed three times; `OUT.pieces` is of
            another encode.
    """
    script, out = script.absolute(), output_path(out)
    source = None if source is None else source.absolute()
    check_files(script, out, source, overwrite)
    check_filters(ffmpeg_options)
    check_split(ffmpeg_options)
    delay = Fraction(0) if source is None else video_delay(source)
    job = Job(script=script, arguments=dict(arguments or {}), ffmpeg_options=list(picture_options(ffmpeg_options)))
    with work_path(out) as path:
        with cluster(workers, gpus_per_worker, address) as connection:
            folder = WorkFolder.open(path, out.suffix, job, connection.read_clip(job), workers)
            warn_of_length(folder.clip, source)
            mux = Mux(rate=folder.clip.rate, source=source, delay=delay, ffmpeg_options=ffmpeg_options)
            missing = [frames for frames in folder.plan if folder.finished(frames) is None]
            fps = 0.0
            if missing:
                with _telling_what_is_kept(path):
                    _rehearse(folder, connection, out, mux)
                    fps = _make(missing, folder, connection, progress)
        with _telling_what_is_kept(path):
            times = _join_all(folder, out, mux)
        folder.remove()
    return Encoded(folder.clip, len(times) - 1, times[:-1], fps)


@contextmanager
def _telling_what_is_kept(path: Path) -> Iterator[None]:
    kept = f"Finished pieces are in {path}; the same command goes on from there, also with other options for sound"
    try:
        yield
    except EncodeError as error:
        if not holds_pieces(path):
            raise
        raise EncodeError(f"{error}\n{kept}") from error
    except KeyboardInterrupt:
        if holds_pieces(path):
            log.warning(kept)
        raise


def _rehearse(folder: WorkFolder, connection: Cluster, out: Path, mux: Mux) -> None:
    """Join blank frames, so that what joining would refuse is known before the work."""
    blank = connection.make_blank(folder)
    _check_seen(blank)
    try:
        rehearse(blank, out, mux, folder.clip.frames)
    except EncodeError as error:
        raise EncodeError(f"joining would fail, tried with a blank first and last frame: {error}") from error
    finally:
        blank.unlink()


def _make(missing: Sequence[range], folder: WorkFolder, connection: Cluster, progress: Show) -> float:
    """Make pieces; the frames per second."""
    todo, total, begin = sum(map(len, missing)), folder.clip.frames, time.monotonic()

    def report(finished: int, workers: Mapping[str, Progress]) -> None:
        done = finished + sum(worker.frames for worker in workers.values())
        progress(Progress(total - todo + done, total, done / (time.monotonic() - begin), workers))

    report(0, {})
    connection.make(folder, missing, report)
    return todo / (time.monotonic() - begin)


def _join_all(folder: WorkFolder, out: Path, mux: Mux) -> list[Fraction]:
    """Join the pieces of a folder to out; seconds at which each frame starts, and the last one ends."""
    pieces = _all_finished(folder)
    _warn_of_unlike_makers(pieces)
    times = edges([duration for piece in pieces for duration in piece.durations], mux.rate)
    with partial(out) as unfinished:
        join([piece.path for piece in pieces], unfinished, mux, times=times)
    return times


def _all_finished(folder: WorkFolder) -> list[Piece]:
    pieces = [folder.finished(frames) for frames in folder.plan]
    for frames, piece in zip(folder.plan, pieces, strict=True):
        if piece is None:
            _check_seen(folder.file(frames))
            raise EncodeError(f"{folder.file(frames)} is not whole although a worker has made it")
    return [piece for piece in pieces if piece is not None]


def _check_seen(path: Path) -> None:
    if not path.exists():
        raise EncodeError(
            f"{path} is not seen here although a worker has made it; {path.parent.parent} must be a folder that all "
            "nodes share"
        )


def _warn_of_unlike_makers(pieces: Sequence[Piece]) -> None:
    makers = sorted({maker for piece in pieces for maker in piece.makers})
    if len(makers) > 1:
        log.warning(
            "frames were made in several ways: %s. Unless the script asks for that, they fit together to rounding at "
            "best, not bit for bit",
            "; ".join(makers),
        )
