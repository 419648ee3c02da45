"""What a device's failures look like, and what they mean for users."""

from __future__ import annotations

import ctypes
import gc
import re

import torch
from torch import Tensor

from vs_rafrvsr.errors import DeviceError

_MEMORY = re.compile(
    r"out.of.memory|DefaultCPUAllocator|ALLOC(ATION)?_FAILED|CU(BLAS|DNN)_STATUS_NOT_INITIALIZED", re.IGNORECASE
)
"""Of PyTorch, cuBLAS, cuDNN, CuPy, NVRTC, Triton. The libraries' handles are not initialised where memory is short."""

_DEVICE = re.compile(r"CUDA error|CUDA_ERROR|cudaError|\[CUDA\]|cuDNN error")
"""What makes an error one of CUDA's, in the words of the same libraries."""

_LASTING = re.compile(
    r"illegal.?(memory access|address|instruction)|misaligned|launch.?fail|execution_failed|assert|time(d )?.?out"
    r"|invalid.?(address space|pc|program counter)|hardware.?stack|uncorrectable|ecc|unknown|context is destroyed",
    re.IGNORECASE,
)
"""What a process's use of a GPU does not survive (CUDA's reference calls them sticky); other errors pass."""


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that an allocation failed, or came while such a one was handled, as when a capture ends."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, RuntimeError) and _MEMORY.search(str(error)):
        return True
    return error.__context__ is not None and out_of_memory(error.__context__)


def device_lost(error: BaseException) -> bool:
    """Whether it says that the GPU has failed for good, for example at an illegal access."""
    if not isinstance(error, RuntimeError) or out_of_memory(error):
        return False
    said = first_line(error)
    return bool(_DEVICE.search(said) and _LASTING.search(said))


def first_line(error: BaseException) -> str:
    """What an error says at first, for a message of ours; its type's name where it says nothing, as MemoryError."""
    return str(error).partition("\n")[0] or type(error).__name__


def explained(error: BaseException) -> DeviceError | None:
    """What users are told where a device has failed; None for an error of another kind."""
    said = first_line(error)
    if out_of_memory(error):
        return DeviceError(
            f"memory ran out ({said}); close other programs that use the device, or crop or downscale the clip first"
        )
    if device_lost(error):
        return DeviceError(
            f"the GPU failed ({said}), and a process cannot use it after that; start the program anew, and if it fails "
            "again, run `python -m vs_rafrvsr doctor`"
        )
    return None


def keep_tensors() -> None:
    """After a loss: let no tensor that there is be freed, ever.

    PyTorch asks the device when it frees one that several streams or copies have used, and that call's error, in a
    destructor, would end the process.
    """
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
