"""What counts as a shortage of memory and as a lost GPU, in the words of PyTorch and of the libraries under it."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch

from vs_rafrvsr import faults

SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
]

LOSSES = [
    RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("Triton Error [CUDA]: unspecified launch failure"),
    RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: the launch timed out and was terminated"),
    RuntimeError("CUDA error: unknown error"),
    RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"),
]

OTHERS = [
    RuntimeError("CUDA error: operation not permitted when stream is capturing\nDevice-side assertions may help"),
    RuntimeError("CUDA error: invalid argument\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("Expected all tensors to be on the same device, but found cuda:0 and cpu"),
    ValueError("CUDA error: out of memory"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=str)
def test_a_shortage_of_memory_is_no_loss(error: Exception) -> None:
    assert faults.out_of_memory(error)
    assert not faults.device_lost(error)
    assert "close other programs" in str(faults.explained(error))


@pytest.mark.parametrize("error", LOSSES, ids=str)
def test_a_lost_gpu_is_told_with_what_cuda_said_first(error: Exception) -> None:
    assert not faults.out_of_memory(error)
    assert faults.device_lost(error)
    said = str(error).partition("\n")[0]
    message = str(faults.explained(error))
    assert message.startswith(f"the GPU failed ({said}), and a process cannot use it after that; start the program")
    assert "\n" not in message


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_are_neither(error: Exception) -> None:
    assert not faults.out_of_memory(error)
    assert not faults.device_lost(error)
    assert faults.explained(error) is None


def raised(work: Callable[[], object]) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError


def test_a_shortage_counts_under_the_error_that_hides_it() -> None:
    """A capture that is broken off raises an error of its own when it ends."""

    def work() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    assert faults.out_of_memory(raised(work))


def test_after_a_loss_no_tensor_is_freed() -> None:
    before = torch.zeros(1)
    watched = weakref.ref(before)
    faults.keep_tensors()
    del before
    assert watched() is not None
    after = torch.zeros(1)
    watched = weakref.ref(after)
    del after
    assert watched() is None
