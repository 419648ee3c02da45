"""Pieces made by Ray's workers, on this machine or many. Nothing else imports Ray."""

from __future__ import annotations

import logging
import math
import os
import platform
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vs_rafrvsr.encode.clip import Clip
from vs_rafrvsr.encode.pieces import WorkFolder
from vs_rafrvsr.encode.render import Job, Progress, read_clip
from vs_rafrvsr.errors import EncodeError

log = logging.getLogger(__name__)

ATTEMPTS = 3
OBJECT_STORE = 100 << 20  # bytes; frames go through files, and Ray would take a third of the memory


@contextmanager
def cluster(workers: int, gpus_per_worker: float | None, address: str | None) -> Iterator[Cluster]:
    """Ray's workers, to the end of the block, which also ends what they are doing.

    Args:
        workers: pieces that are made at once.
        gpus_per_worker: 0 to 1; None is 1 where there are GPUs, else 0.
        address: of a running cluster, or "auto"; None starts Ray on this machine.

    Raises:
        EncodeError: Ray is not installed, does not start, has no such GPUs, or no room for a worker.
    """
    if workers < 1:
        raise EncodeError(f"--workers {workers} is out of range; use 1 or more")
    try:
        import ray
    except ImportError:
        message = "a split encode needs Ray, which is not installed: in the checkout, pip install '.[ray]'"
        raise EncodeError(message) from None
    cpus = max(1, (os.cpu_count() or 1) // workers) if address is None else 1
    here: dict[str, Any] = {"num_cpus": cpus * workers, "object_store_memory": OBJECT_STORE} if address is None else {}
    _check_answers(address)
    try:
        with _keeping_sigterm():
            ray.init(
                address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **here
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EncodeError(f"Ray at {address or 'this machine'} cannot be used: {error}") from error
    try:
        nodes = _resources(ray)
        gpus = gpus_of_worker(nodes, gpus_per_worker)
        check_room(nodes, workers, cpus, gpus)
        yield Cluster(ray, workers, {"num_cpus": cpus, "num_gpus": gpus})
    finally:
        ray.shutdown()


def _resources(ray: Any) -> list[Mapping[str, float]]:  # noqa: ANN401  (a module)
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Ray sets a handler of its own, which ends in a trace of C++ and another status."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _check_answers(address: str | None) -> None:
    """Ray itself tries for minutes."""
    host, _, port = (address or "").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise EncodeError(
                f"Ray at {address} cannot be used: {error}; `ray start --head` shows an address"
            ) from error


def gpus_of_worker(nodes: Sequence[Mapping[str, float]], wanted: float | None) -> float:
    """GPUs that a worker takes, 0 to 1, of nodes with these resources."""
    most = max(node.get("GPU", 0.0) for node in nodes)
    if wanted is None:
        return min(1.0, most)
    if not 0 <= wanted <= min(1.0, most):
        raise EncodeError(
            f"--gpus-per-worker {wanted:g} cannot be had; Ray's nodes have up to {most:g} GPUs each, and a worker uses "
            "one or a part of one: use 0 to 1, or leave it out"
        )
    return wanted


def check_room(nodes: Sequence[Mapping[str, float]], workers: int, cpus: int, gpus: float) -> None:
    """Warn where so many workers cannot run at once on nodes with these resources, and refuse where none can.

    Ray itself would wait without a word.
    """
    needs = {"CPU": cpus, "GPU": gpus}
    fits = [min(int(node.get(name, 0) / need + 1e-6) for name, need in needs.items() if need) for node in nodes]
    if not any(fits):
        raise EncodeError(
            f"a worker takes {cpus} CPU and {gpus:g} GPU, which no node of Ray's has; start one that does, with "
            "`ray start --address=… --num-cpus=N`"
        )
    if sum(fits) < workers:
        each = math.ceil(workers / max(1.0, sum(node.get("GPU", 0) for node in nodes)))
        share = (
            f", or --gpus-per-worker {math.floor(100 / each) / 100:g} to let them share GPUs" if each * gpus > 1 else ""
        )
        log.warning("only %d of %d workers run at once; use --workers %d%s", sum(fits), workers, sum(fits), share)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A connection to Ray.

    Args:
        ray: the module.
        workers: pieces that are made at once.
        needs: what Ray reserves for each, as options of a task.
    """

    ray: Any
    workers: int
    needs: Mapping[str, float]

    def read_clip(self, job: Job) -> Clip:
        """What the script's clip is on a worker, whose device is that of the encode."""
        ref = self._task(_read_clip, retry_exceptions=False).remote(job)
        return self._result(ref, "reading the script failed")  # type: ignore[no-any-return]

    def make_blank(self, folder: WorkFolder) -> Path:
        """A file of blank frames, encoded by a worker as it would encode a piece."""
        ref = self._task(_make_blank, retry_exceptions=False).remote(folder)
        return self._result(ref, "encoding blank frames failed")  # type: ignore[no-any-return]

    def make(
        self, folder: WorkFolder, pieces: Sequence[range], report: Callable[[int, Mapping[str, Progress]], None]
    ) -> None:
        """Make pieces. A worker or node that is lost in mid-piece is replaced by Ray.

        Args:
            folder: where, seen by all workers.
            pieces: frames of each.
            report: called about twice a second with the frames of pieces finished, and the progress of each piece that
                is being made, by its worker and frames.

        Raises:
            EncodeError: a piece failed three times; what is finished is kept.
        """
        board = self._board()
        task, waiting = self._task(_make, retry_exceptions=True), deque(pieces)
        running, finished = dict[Any, range](), 0
        while waiting or running:
            while waiting and len(running) < self.workers:
                frames = waiting.popleft()
                running[task.remote(folder, frames, board)] = frames
            made = self.ray.wait(list(running), timeout=0.5)[0]
            self._warn(board)
            for ref in made:
                frames = running.pop(ref)
                self._result(ref, f"frames {frames.start} to {frames.stop - 1} failed {ATTEMPTS} times, last")
                board.forget.remote(frames)
                finished += len(frames)
            report(finished, self.ray.get(board.read.remote()))
        self._warn(board)

    def _warn(self, board: Any) -> None:  # noqa: ANN401  (a handle of Ray's)
        for warning in self.ray.get(board.take_warnings.remote()):
            log.warning(warning)

    def _task(self, function: Callable[..., object], *, retry_exceptions: bool) -> Any:  # noqa: ANN401  (Ray's)
        """SPREAD, or Ray would fill the first node before it uses the next. Where workers are lost, it tries again."""
        options = {"max_retries": ATTEMPTS - 1, "scheduling_strategy": "SPREAD"}
        return self.ray.remote(**options, retry_exceptions=retry_exceptions, **self.needs)(function)

    def _result(self, ref: object, failed: str) -> Any:  # noqa: ANN401  (the task's)
        errors = self.ray.exceptions
        try:
            return self.ray.get(ref)
        except errors.RayTaskError as error:
            raise EncodeError(f"{failed} {error.cause}") from error
        except errors.RayError as error:
            raise EncodeError(f"{failed} because the worker was lost: {error}") from error

    def _board(self) -> Any:  # noqa: ANN401  (Ray's)
        """On this node: one that is lost must not take it along."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        return self.ray.remote(num_cpus=0, scheduling_strategy=here)(_Board).remote()


@dataclass(slots=True)
class _Board:
    """An actor to which workers say how far they are, what went wrong, and what they log."""

    reports: dict[range, tuple[str, Progress]] = field(default_factory=dict)
    attempts: Counter[range] = field(default_factory=Counter)
    failures: dict[range, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    logged: set[str] = field(default_factory=set)

    def begin(self, frames: range, worker: str) -> None:
        self.attempts[frames] += 1
        if self.attempts[frames] > 1:
            again = f"on {worker}, attempt {self.attempts[frames]} of {ATTEMPTS}"
            reason = self.failures.pop(frames, "the worker was lost")
            self.warnings.append(f"frames {frames.start} to {frames.stop - 1} are made again {again}: {reason}")

    def fail(self, frames: range, reason: str) -> None:
        self.failures[frames] = reason

    def hear(self, message: str) -> None:
        """A message that many workers log is said once."""
        if message not in self.logged:
            self.logged.add(message)
            self.warnings.append(message)

    def tell(self, frames: range, worker: str, progress: Progress) -> None:
        if frames in self.attempts:  # what a worker says last may come after `forget`
            self.reports[frames] = (worker, progress)

    def forget(self, frames: range) -> None:
        self.attempts.pop(frames, None)
        self.reports.pop(frames, None)

    def read(self) -> dict[str, Progress]:
        return {f"{worker} {f.start}:{f.stop}": progress for f, (worker, progress) in self.reports.items()}

    def take_warnings(self) -> list[str]:
        taken, self.warnings = self.warnings, []
        return taken


def _read_clip(job: Job) -> Clip:
    with _naming_the_node():
        return read_clip(job)


def _make_blank(folder: WorkFolder) -> Path:
    with _naming_the_node():
        return folder.make_blank()


def _make(folder: WorkFolder, frames: range, board: Any) -> None:  # noqa: ANN401  (a handle of Ray's)
    board.begin.remote(frames, platform.node())
    try:
        with _naming_the_node(), _logging_to(board):
            folder.make(frames, lambda progress: board.tell.remote(frames, platform.node(), progress))
    except EncodeError as error:
        board.fail.remote(frames, str(error))
        raise


@contextmanager
def _logging_to(board: Any) -> Iterator[None]:  # noqa: ANN401  (a handle of Ray's)
    """What is logged meanwhile is said where the encode was started."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            board.hear.remote(self.format(record))

    ours, handler = logging.getLogger("vs_rafrvsr"), Handler()
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)


@contextmanager
def _naming_the_node() -> Iterator[None]:
    try:
        yield
    except EncodeError as error:
        raise EncodeError(f"on {platform.node()}: {error}") from error
