"""Peaks of figures that only exist now, and the driver's own figure of a card's memory."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Peak:
    """The largest value of a figure while something runs, sampled every `interval` seconds."""

    def __init__(self, figure: Callable[[], float], interval: float = 0.002) -> None:
        self.figure, self.interval = figure, interval
        self.value, self._done = figure(), threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample until the block ends."""
        thread = threading.Thread(target=self._sample)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _sample(self) -> None:
        while not self._done.wait(self.interval):
            self.value = max(self.value, self.figure())


class Card:
    """A card's memory as the driver counts it (NVML), read from outside the processes that use it.

    Raises:
        OSError: there is no NVML, or it does not know the card.
    """

    def __init__(self, uuid: str) -> None:
        self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        self._handle = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByUUID", f"GPU-{uuid}".encode(), ctypes.byref(self._handle))

    def used(self) -> float:
        """Bytes in use, by anyone."""
        total_free_used = (ctypes.c_ulonglong * 3)()
        self._call("nvmlDeviceGetMemoryInfo", self._handle, total_free_used)
        return float(total_free_used[2])

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._nvml, name)(*arguments)
        if status:
            raise OSError(f"{name} failed with status {status}")
