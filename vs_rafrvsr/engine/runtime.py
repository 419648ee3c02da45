"""Where and how the network runs: device, precision, stream, and numbers that no neighbour's setting can change."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vs_rafrvsr.engine.once import is_news
from vs_rafrvsr.errors import DeviceError, RafrvsrError
from vs_rafrvsr.options import Options

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One filter's device and precision."""

    device: torch.device
    dtype: torch.dtype
    """Of the convolution stack; flow and images are fp32."""
    stream: torch.cuda.Stream | None
    """None on the CPU."""
    side: torch.cuda.Stream | None
    """A second one, see `beside`."""

    @classmethod
    def choose(cls, options: Options) -> Runtime:
        """What the options mean on this machine.

        Raises:
            DeviceError: no such device, or it cannot do that precision.
        """
        device = _running(_device(options.device), options.device)
        if device.type == "cpu" and options.precision == "fp16":
            raise DeviceError("precision='fp16' needs a CUDA device, and this filter runs on the CPU; use 'auto'")
        half = device.type == "cuda" and options.precision != "fp32"
        stream, side = _streams(device)
        return cls(device=device, dtype=torch.float16 if half else torch.float32, stream=stream, side=side)

    def total_memory(self) -> int:
        """Bytes of the device's memory, free or not, so that what follows from it is fixed."""
        if self.device.type == "cuda":
            return int(torch.cuda.get_device_properties(self.device).total_memory)
        import psutil

        return int(psutil.virtual_memory().total)

    def name(self) -> str:
        """The kind of device: between two that have the same name, results agree bit for bit."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"CPU, {torch.backends.cpu.get_cpu_capability()}"

    def run[R](self, work: Callable[..., R], *args: object) -> R:
        """Call `work(*args)` on the device's own thread, and wait for what it returns or raises."""

        def call() -> R:
            with self.entered():
                return work(*args)

        return _submit(self.device, call).result()

    def beside(self, work: Callable[..., tuple[Tensor, ...]], *args: object) -> tuple[Tensor, ...]:
        """`work(*args)` on the second stream: neither it nor who reads its numbers on the host waits for the first."""
        if self.stream is None or self.side is None:
            return work(*args)
        with torch.cuda.stream(self.side):
            made = work(*args)
        self.stream.wait_stream(self.side)
        for tensor in made:
            tensor.record_stream(self.stream)
        return made

    def half_flow(self) -> AbstractContextManager[object]:
        """In half precision also the flow network's convolutions and products; its weights and its flow stay fp32.

        In strict fp32 RAFT takes twice as long from 480x270 (H200), and more than all else of the network.
        """
        return torch.autocast("cuda", torch.float16, enabled=self.dtype == torch.float16)

    def mark(self) -> torch.cuda.Event | None:
        """An event that comes when the stream has done all that it has to do by now; who waits for it sleeps."""
        if self.stream is None:
            return None
        event = torch.cuda.Event(blocking=True)
        event.record(self.stream)
        return event

    def trim(self) -> None:
        """Give back the host memory that the C library keeps of what was freed.

        glibc (seen with 2.36) seldom reuses what tensors on the CPU, which are aligned, have freed: a process grew by a
        megabyte a frame, none of it in use. Cheap enough once a look.
        """
        if self.device.type == "cpu" and _malloc_trim is not None:
            _malloc_trim(0)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make this thread run on the device and stream, without gradients, under fixed numeric settings."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(_fixed_numerics())
            if self.device.type == "cpu":
                stack.enter_context(_several_threads())
            if self.stream is not None:
                stack.enter_context(torch.cuda.device(self.device))
                stack.enter_context(torch.cuda.stream(self.stream))
            yield


_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def _device(name: str) -> torch.device:
    if name == "cpu":
        return torch.device("cpu")
    count = _usable_gpus(name)
    if name == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    if not count:
        raise DeviceError(
            f"device={name!r} was asked for, but PyTorch sees no CUDA device; use device='cpu', "
            "or run `python -m vs_rafrvsr doctor` to see why"
        )
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise DeviceError(
            f"device={name!r} does not exist; this machine has cuda:0 to cuda:{count - 1}; use one, 'auto' or 'cpu'"
        )
    return torch.device("cuda", index)


def _running(device: torch.device, name: str) -> torch.device:
    """The device, if this build of PyTorch has code for it; `name` is what was asked for."""
    if device.type == "cpu":
        return device
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        if "no kernel image" not in str(error):
            raise
        gpu, version = torch.cuda.get_device_name(device), torch.__version__
        remark = f"PyTorch {version} has no code for the {gpu}; install a build that has, see pytorch.org"
        if name != "auto":
            raise DeviceError(f"device={name!r}: {remark}, or use device='cpu'") from error
        if is_news(remark):
            log.warning("%s. The filter runs on the CPU, much more slowly", remark)
        return torch.device("cpu")
    return device


def _usable_gpus(name: str) -> int:
    """How many there are, if PyTorch can use them; `name` is what was asked for."""
    count = torch.cuda.device_count()  # right in a forked child too, unlike torch.cuda.is_available
    if not count:
        return 0
    try:
        torch.cuda.init()
    except RuntimeError as error:
        if "forked subprocess" in str(error):
            raise DeviceError(
                f"device={name!r} cannot be used in a process that was forked from one that has used CUDA; start it by "
                "spawn, e.g. multiprocessing.get_context('spawn'), or use device='cpu'"
            ) from error
        return 0  # for example the driver is too old
    return count


_threads: dict[torch.device, ThreadPoolExecutor] = {}
_threads_lock = threading.Lock()


def _thread(device: torch.device) -> ThreadPoolExecutor:
    """The one thread that computes on a device, for all filters.

    VapourSynth has as many worker threads as the machine has cores. Were each to compute, each would get its own
    cuBLAS and cuDNN handles with their workspaces (32 MiB of device memory apiece) or its own team of OpenMP threads.
    """
    with _threads_lock:
        if device not in _threads:
            _threads[device] = ThreadPoolExecutor(1, thread_name_prefix=f"rafrvsr {device}")
        return _threads[device]


def _submit[R](device: torch.device, call: Callable[[], R]) -> Future[R]:
    """Hand `call` to the device's thread.

    Raises:
        RafrvsrError: Python is being shut down: pools of threads take nothing from then on.
    """
    try:
        return _thread(device).submit(call)
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise
        raise RafrvsrError("Python is being shut down") from error


@cache
def _streams(device: torch.device) -> tuple[torch.cuda.Stream, torch.cuda.Stream] | tuple[None, None]:
    """The same for all filters of a device: PyTorch keeps freed memory per stream, so new ones would add to it."""
    return (torch.cuda.Stream(device), torch.cuda.Stream(device)) if device.type == "cuda" else (None, None)


_cudnn: Any = torch.backends.cudnn
_mkldnn: Any = torch.backends.mkldnn


class _Determinism:
    """`torch.use_deterministic_algorithms` as an attribute: it refuses some of what is as deterministic as all else."""

    @property
    def mode(self) -> int:
        return torch.get_deterministic_debug_mode()

    @mode.setter
    def mode(self, mode: int) -> None:
        torch.set_deterministic_debug_mode(mode)


_SETTINGS: tuple[tuple[Any, str, object], ...] = (
    (_Determinism(), "mode", 0),
    (_cudnn, "enabled", True),
    (_cudnn, "benchmark", False),
    (_cudnn, "deterministic", True),
    (_cudnn.conv, "fp32_precision", "ieee"),
    (torch.backends.cuda.matmul, "fp32_precision", "ieee"),
    (torch.backends.cuda.matmul, "allow_fp16_accumulation", False),
    (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", True),
    (_mkldnn, "enabled", True),
    (_mkldnn.conv, "fp32_precision", "ieee"),
    (_mkldnn.matmul, "fp32_precision", "ieee"),
)
"""Settings that change results and that PyTorch keeps for the whole process."""

_settings_lock = threading.Lock()
_settings_users = 0
_settings_before: list[object] = []


@contextmanager
def _fixed_numerics() -> Iterator[None]:
    """Hold _SETTINGS at our values while any filter computes; afterwards they are what they were.

    Counted, because filters overlap in time: the first one in sets, the last one out restores.
    """
    global _settings_users
    with _settings_lock:
        if _settings_users == 0:
            _settings_before[:] = [getattr(owner, name) for owner, name, _ in _SETTINGS]
            _set([value for *_, value in _SETTINGS])
        _settings_users += 1
    try:
        yield
    finally:
        with _settings_lock:
            _settings_users -= 1
            if _settings_users == 0:
                _set(_settings_before)


@contextmanager
def _several_threads() -> Iterator[None]:
    """Two threads where this one may use only one: alone it would take other convolutions, with other last bits.

    From two on, oneDNN computes the same with any number. Ray's workers, for example, have one thread a core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(2, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _set(values: list[object]) -> None:
    for (owner, name, _), value in zip(_SETTINGS, values, strict=True):
        setattr(owner, name, value)


def _begin_anew() -> None:
    """In a forked child: the threads did not come along, and nobody will release what they held."""
    global _threads_lock, _settings_lock, _settings_users
    _threads.clear()
    _threads_lock, _settings_lock = threading.Lock(), threading.Lock()
    if _settings_users:
        _settings_users = 0
        _set(_settings_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
