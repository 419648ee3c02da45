"""Which failures of the CUDA route are CuPy's, so that the resizer's takes over, and which go up. Needs no GPU."""

from __future__ import annotations

import pytest
import torch

from vs_rafrvsr.faults import explained
from vs_rafrvsr.pixels import cuda, route
from vs_rafrvsr.pixels.formats import FORMATS
from vs_rafrvsr.pixels.rgb import RgbExchange

DEVICE = torch.device("cuda", 0)


class CompileError(Exception):
    """Like CuPy's CompileException, of no common kind."""


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the trial fail."""

    def trial(*_: object) -> None:
        raise error

    monkeypatch.setattr(cuda.CudaExchange, "stage", trial)


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'cupy'"),
        ImportError("libnvrtc.so.13: cannot open shared object file"),
        OSError("nvrtc"),
        CompileError("kernels.cu(1): error: identifier is undefined"),
        RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"),
        RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device"),
    ],
)
def test_cupys_own_failures_leave_the_resizers_route(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing(monkeypatch, error)
    exchange, remark = route.choose("Gray8", DEVICE)
    assert isinstance(exchange, RgbExchange)
    assert remark is not None
    assert f"{type(error).__name__}: {error}" in remark
    assert "pip install '.[cuda" in remark


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."),
        torch.AcceleratorError("CUDA error: out of memory"),  # as of pinned memory
        RuntimeError("cudaErrorMemoryAllocation: out of memory"),
        RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        RuntimeError("NVRTC_ERROR_OUT_OF_MEMORY (1)"),
        MemoryError("Out of memory allocating 1,024 bytes (allocated so far: 0 bytes)."),
    ],
)
def test_a_lack_of_memory_goes_up(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        cuda.trouble(FORMATS["YUV420P8"], DEVICE)
    assert caught.value is error
    assert str(explained(error)).startswith("memory ran out (")


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"),
    ],
)
def test_a_lost_gpu_goes_up(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failing(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        cuda.trouble(FORMATS["YUV420P8"], DEVICE)
    assert caught.value is error
    assert str(explained(error)).startswith("the GPU failed (")
