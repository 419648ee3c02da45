"""A script's encode, split over workers and joined: the same frames as one encode makes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from vs_rafrvsr.encode import Encoded
from vs_rafrvsr.encode.cluster import Cluster, Reports, cluster
from vs_rafrvsr.encode.join import join
from vs_rafrvsr.encode.pieces import Piece, WorkFolder
from vs_rafrvsr.encode.render import Job, Progress, check_files, partial
from vs_rafrvsr.encode.source import video_delay
from vs_rafrvsr.encode.timing import starts
from vs_rafrvsr.errors import EncodeError

type Show = Callable[[Progress, Reports], None]
"""Called with the progress in all, and that of each worker by its name."""


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
    progress: Show = lambda *_: None,
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
    script, out = script.absolute(), out.absolute()
    source = None if source is None else source.absolute()
    check_files(script, out, source, overwrite)
    delay = Fraction(0) if source is None else video_delay(source)
    job = Job(script=script, arguments=dict(arguments or {}), ffmpeg_options=list(ffmpeg_options))
    with cluster(workers, gpus_per_worker, address) as connection:
        folder = WorkFolder.open(out, job, connection.read_clip(job), workers)
        begin = time.monotonic()
        made = _make_missing(folder, connection, progress)
        seconds = time.monotonic() - begin
    pieces = _all_finished(folder)
    _warn_of_unlike_devices(pieces)
    rate = folder.clip.rate
    times = starts([duration for piece in pieces for duration in piece.durations], rate)
    with partial(out) as path:
        files = [piece.path for piece in pieces]
        join(files, path, times=times, rate=rate, source=source, delay=delay, ffmpeg_options=ffmpeg_options)
    folder.remove()
    return Encoded(folder.clip, len(times), times, made / seconds)


def _make_missing(folder: WorkFolder, connection: Cluster, progress: Show) -> int:
    """Make what is not finished; the number of frames that this was."""
    missing = [frames for frames in folder.plan if folder.finished(frames) is None]
    todo, total, begin = sum(map(len, missing)), folder.clip.frames, time.monotonic()

    def report(finished: int, workers: Reports) -> None:
        done = finished + sum(worker.frames for worker in workers.values())
        progress(Progress(total - todo + done, total, done / (time.monotonic() - begin)), workers)

    try:
        report(0, {})
        connection.make(folder, missing, report)
    except EncodeError as error:
        raise EncodeError(
            f"{error}\nWhat is finished is in {folder.path}; the same command goes on from there"
        ) from error
    return todo


def _all_finished(folder: WorkFolder) -> list[Piece]:
    pieces = [folder.finished(frames) for frames in folder.plan]
    absent = [str(folder.file(f)) for f, piece in zip(folder.plan, pieces, strict=True) if piece is None]
    if absent:
        raise EncodeError(
            f"{absent[0]} is not seen here although a worker has made it; {folder.path.parent} must be a folder that "
            "all nodes share"
        )
    return [piece for piece in pieces if piece is not None]


def _warn_of_unlike_devices(pieces: Sequence[Piece]) -> None:
    devices = sorted({piece.device for piece in pieces})
    if len(devices) > 1:
        logging.getLogger(__name__).warning(
            "pieces were made on %s: they fit together to rounding, not bit for bit", " and ".join(devices)
        )
