"""The progress of an encode on stderr: frames, frames per second, time left; for a split one also of each worker.

Off a terminal it is a line now and then, without the workers. What is logged meanwhile appears above it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Display

from vs_rafrvsr.encode.render import Progress, Show

SECONDS_BETWEEN_LINES = 30


@contextmanager
def displayed() -> Iterator[Show]:
    """A display that lasts as long as the block."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as show:
            yield show
    else:
        yield _lines(console)


def _lines(console: Console) -> Show:
    said = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal said
        if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            left = f", {(progress.total - progress.frames) / progress.fps:.0f} s left" if progress.fps else ""
            console.print(f"{progress.frames} of {progress.total} frames, {progress.fps:.2f} fps{left}")

    return show


@contextmanager
def _bars(console: Console) -> Iterator[Show]:
    name, fps = TextColumn("{task.description}"), TextColumn("{task.fields[fps]:.2f} fps")
    columns = (name, BarColumn(), MofNCompleteColumn(), fps, TimeRemainingColumn())
    stderr = sys.stderr
    with Display(*columns, console=console) as display, _logging_above(stderr):
        rows = {"": display.add_task("", total=None, fps=0.0)}

        def show(progress: Progress) -> None:
            for name in rows.keys() - progress.workers.keys() - {""}:
                display.remove_task(rows.pop(name))
            for name, row in {**progress.workers, "": progress}.items():
                if name not in rows:
                    rows[name] = display.add_task(name, fps=0.0)
                _update(display, rows[name], row)

        yield show


@contextmanager
def _logging_above(stderr: TextIO) -> Iterator[None]:
    """Inside a Display, which has put a stream that prints above the rows in the place of stderr, log there too."""
    found = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    handlers = [handler for handler in found if handler.stream is stderr]
    for handler in handlers:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(stderr)


def _update(display: Display, task: TaskID, progress: Progress) -> None:
    display.update(task, completed=progress.frames, total=progress.total, fps=progress.fps)
