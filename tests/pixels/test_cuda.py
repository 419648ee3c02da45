"""The CUDA route's memory and streams. What its kernels compute is in test_kernels.py."""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from tests.pixels import device, host
from tests.pixels.pictures import frames, pictures
from vs_rafrvsr.pixels import cuda
from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.cuda import CudaExchange
from vs_rafrvsr.pixels.exchange import Exchange
from vs_rafrvsr.pixels.formats import FORMATS
from vs_rafrvsr.pixels.rgb import RgbExchange

pytestmark = pytest.mark.cuda

COLOURS = [Colour(matrix=1, full=False), Colour(matrix=6, full=True, location=2), Colour(matrix=9, full=False)]
SIZE = (36, 52)


def test_tensors_and_cupy_arrays_share_memory_both_ways() -> None:
    import cupy

    with torch.cuda.stream(device.stream()), cuda.shared_stream(device.stream()):
        tensor = torch.arange(24, dtype=torch.float32, device=device.stream().device).reshape(2, 3, 4)
        for given in (tensor, tensor[1], tensor.permute(2, 0, 1)):
            array = cuda.as_cupy(given)
            assert array.data.ptr == given.data_ptr()
            assert tuple(s // array.itemsize for s in array.strides) == given.stride()
        array = cupy.arange(6, dtype=cupy.float32)
        assert from_dlpack(array).data_ptr() == array.data.ptr


def test_cupy_enqueues_on_the_stream_that_pytorch_uses_and_only_inside() -> None:
    import cupy

    before = cupy.cuda.get_current_stream().ptr
    with cuda.shared_stream(device.stream()):
        assert cupy.cuda.get_current_stream().ptr == device.stream().cuda_stream
    assert cupy.cuda.get_current_stream().ptr == before


@pytest.mark.parametrize("exchange", [RgbExchange(device.DEVICE), CudaExchange(FORMATS["RGBS"], device.DEVICE)])
def test_an_output_may_be_overwritten_while_it_is_downloaded(exchange: Exchange) -> None:
    """As the next step of a CUDA graph does."""
    with torch.inference_mode(), torch.cuda.stream(device.stream()):
        rgb = torch.rand(3, 4320, 7680, device=device.DEVICE)
        wanted = rgb.cpu().numpy()
        made = exchange.download(rgb, COLOURS[0])
        rgb.zero_()
    found = FORMATS["RGBS"].planes(made.wait(), (4320, 7680))
    assert all(np.abs(plane - truth).max() < 1e-6 for plane, truth in zip(found, wanted, strict=True))


def test_staging_is_pinned_and_nothing_waits_for_the_device() -> None:
    exchange, stream = CudaExchange(FORMATS["YUV420P8"], device.DEVICE), device.stream()
    with torch.inference_mode(), torch.cuda.stream(stream):
        for cycles in (100_000_000, 2_000_000_000):  # the first time compiles and allocates; the second is a second
            torch.cuda._sleep(cycles)
            staged = exchange.stage([COLOURS[0]], lambda memory: memory.fill(0), (540, 960))
            made = exchange.download(exchange.upload(staged, (540, 960))[0], COLOURS[0])
            waited = stream.query()
            made.wait()
    assert not waited, "the calls waited for the device"
    assert staged.packed.is_pinned()
    assert made.packed.is_pinned()


@pytest.mark.parametrize("name", ["Gray16", "RGB24", "YUV420P8", "YUV422P10", "YUV444PH", "YUV420PS"])
def test_frames_of_a_batch_have_each_their_own_colour_and_neighbours_may_share_it(name: str) -> None:
    fmt, exchange = FORMATS[name], CudaExchange(FORMATS[name], device.DEVICE)
    colours = [None if i is None else COLOURS[i] for i in (0, 0, 1, 2, None, 2, 2, 0)]
    content = list(itertools.islice(itertools.cycle(frames(fmt, SIZE)), len(colours)))

    def pack(memory: NDArray[np.uint8]) -> None:
        for frame, target in zip(content, memory, strict=True):
            fmt.pack(frame, target)

    with torch.inference_mode(), torch.cuda.stream(device.stream()):
        together = exchange.upload(exchange.stage(colours, pack, SIZE), SIZE).cpu().numpy()
    for rgb, frame, colour in zip(together, content, colours, strict=True):
        alone = np.zeros_like(rgb) if colour is None else device.to_rgb(fmt, frame, colour)
        np.testing.assert_array_equal(rgb, alone)


def test_the_gpu_agrees_with_the_cpu_on_a_frame_of_many_blocks() -> None:
    fmt, size = FORMATS["YUV420P10"], (270, 482)
    for colour in COLOURS:
        for frame in frames(fmt, size):
            np.testing.assert_allclose(
                device.to_rgb(fmt, frame, colour), host.to_rgb(fmt, frame, colour), rtol=0, atol=2e-6
            )
        for rgb in pictures(size):
            for a, b in zip(device.from_rgb(fmt, rgb, colour), host.from_rgb(fmt, rgb, colour), strict=True):
                assert np.abs(a.astype(int) - b).max() <= 1


def test_many_threads_get_the_same_pixels_as_one() -> None:
    fmt = FORMATS["YUV420P8"]
    rgb = list(pictures(SIZE))
    alone = [device.from_rgb(fmt, picture, COLOURS[0]) for picture in rgb]
    start = threading.Barrier(4)

    def work(_: int) -> None:
        start.wait()
        for _ in range(10):
            for picture, expected in zip(rgb, alone, strict=True):
                for a, b in zip(device.from_rgb(fmt, picture, COLOURS[0]), expected, strict=True):
                    np.testing.assert_array_equal(a, b)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


@pytest.mark.parametrize("name", FORMATS)
def test_a_working_cupy_gives_no_trouble(name: str) -> None:
    assert cuda.trouble(FORMATS[name], device.DEVICE) is None


@pytest.mark.parametrize(
    "error", [ImportError("no module"), RuntimeError("cudaErrorInsufficientDriver"), OSError("nvrtc")]
)
def test_a_cupy_that_fails_is_trouble_that_names_the_extra(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cuda, "_kernels", fail)
    message = cuda.trouble(FORMATS["Gray8"], device.DEVICE)
    assert message is not None
    assert str(error) in message
    assert f"pip install '.[cuda{str(torch.version.cuda).split('.')[0]}]'" in message


def test_a_missing_cupy_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda._kernels.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "ModuleNotFoundError" in (cuda.trouble(FORMATS["Gray8"], device.DEVICE) or "")
