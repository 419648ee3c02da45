"""The progress of an encode on stderr: frames, frames per second, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Display

from vs_rafrvsr.encode import Progress


@contextmanager
def displayed() -> Iterator[Callable[[Progress], None]]:
    """What to pass to encode() as its progress."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[fps]:.2f} fps"), TimeRemainingColumn())
    with Display(*columns, console=Console(stderr=True)) as display:
        task = display.add_task("", total=None, fps=0.0)

        def show(progress: Progress) -> None:
            display.update(task, completed=progress.frames, total=progress.total, fps=progress.fps)

        yield show
