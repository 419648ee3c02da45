"""LAW 1 through VapourSynth with the shipped weights: any order of requests gives linear play's frames, bit for bit."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import vapoursynth as vs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugin.clips import DEVICES, core, failing_at, moving, pixels, rgb_clip, same
from vs_rafrvsr.engine.engine import Engine
from vs_rafrvsr.engine.network import Network

FRAMES, CHUNK, WARMUP = 30, 12, 3


WHOLE, TILES = (0, 0), (32, 32)
"""On a GPU, whole frames run on our kernels and in CUDA graphs, tiles on PyTorch's."""


def upscaled(device: str, tile: tuple[int, int] = WHOLE, **others: int) -> vs.VideoNode:
    clip = rgb_clip(np.concatenate([moving(17, 24, 40), moving(13, 24, 40, seed=1)]))
    arguments = {"chunk": CHUNK, "warmup": WARMUP, "leadin": 4} | others
    return core.rafrvsr.Upscale(clip, device=device, tile=tile, **arguments)


@cache
def linear(device: str, tile: tuple[int, int] = WHOLE) -> list[vs.VideoFrame]:
    return [f.copy() for f in upscaled(device, tile).frames(prefetch=1)]


@pytest.mark.parametrize("tile", [WHOLE, TILES])
@pytest.mark.parametrize("device", DEVICES)
@given(
    orders=st.lists(st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=12), min_size=1, max_size=3),
    threads=st.sampled_from([1, 2, 4, 16]),
    cache_mb=st.sampled_from([1, 200]),
)
@settings(max_examples=8, deadline=None)
def test_any_requests_by_several_readers_equal_linear_play(
    device: str, tile: tuple[int, int], orders: list[list[int]], threads: int, cache_mb: int
) -> None:
    before = core.num_threads, core.max_cache_size
    core.num_threads, core.max_cache_size = threads, cache_mb
    try:
        clip = upscaled(device, tile)
        pending = [(n, clip.get_frame_async(n)) for order in orders for n in order]
        for n, future in pending:
            assert same(future.result(timeout=120), linear(device, tile)[n]), f"frame {n} differs"
    finally:
        core.num_threads, core.max_cache_size = before


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters read and run ahead on the CPU as they do on a GPU."""
    begin = Engine.__init__

    def begin_ahead(self: Engine, network: Network) -> None:
        begin(self, network)
        self.runs_ahead = self.reads_ahead = True

    monkeypatch.setattr(Engine, "__init__", begin_ahead)


@pytest.mark.usefixtures("ahead")
@pytest.mark.parametrize("prefetch", [1, 2, 40])
def test_reading_ahead_changes_nothing(prefetch: int) -> None:
    for n, frame in enumerate(upscaled("cpu").frames(prefetch=prefetch, close=True)):
        assert same(frame, linear("cpu")[n])


@pytest.mark.usefixtures("ahead")
def test_a_source_frame_that_fails_while_it_is_read_ahead_costs_others_one_failure_at_most() -> None:
    clip = core.rafrvsr.Upscale(failing_at(rgb_clip(moving(60, 24, 32)), 40, "torn"), device="cpu", tile=[0, 0])
    failed: dict[int, str] = {}
    for n in range(60):
        try:
            clip.get_frame(n)
        except vs.Error as error:
            failed[n] = str(error)
    assert 40 in failed
    assert len(failed) <= 3
    assert all("torn" in message for message in failed.values())
    for n in failed.keys() - {40}:
        clip.get_frame(n)


@pytest.mark.parametrize(("argument", "n"), [({"warmup": 0}, CHUNK), ({"flow_updates": 1}, 1)], ids=str)
def test_an_argument_that_quality_depends_on_reaches_the_network(argument: dict[str, int], n: int) -> None:
    assert not same(upscaled("cpu", WHOLE, **argument).get_frame(n), linear("cpu")[n])


@pytest.mark.parametrize("device", DEVICES)
def test_chunks_rendered_apart_join_bit_for_bit(device: str) -> None:
    for start in range(0, FRAMES, CHUNK):
        piece = upscaled(device)[start : start + CHUNK]
        for n, frame in enumerate(piece.frames(close=True), start):
            assert same(frame, linear(device)[n])


@pytest.mark.parametrize("device", DEVICES)
def test_a_neighbour_that_flips_global_settings_changes_nothing(device: str) -> None:
    backends: Any = torch.backends
    undisturbed = linear(device)
    settings_before = torch.get_default_dtype(), backends.cudnn.benchmark
    try:
        torch.set_default_dtype(torch.float64)
        backends.cudnn.benchmark = True
        backends.cuda.matmul.fp32_precision = "tf32"
        backends.mkldnn.matmul.fp32_precision = "bf16"
        backends.mkldnn.conv.fp32_precision = "bf16"
        clip = upscaled(device)
        for n in (0, 5, 18):
            assert same(clip.get_frame(n), undisturbed[n])
        assert backends.mkldnn.matmul.fp32_precision == "bf16", "the neighbour's setting was not put back"
    finally:
        torch.set_default_dtype(settings_before[0])
        backends.cudnn.benchmark = settings_before[1]
        for backend in (backends.cuda.matmul, backends.mkldnn.matmul, backends.mkldnn.conv):
            backend.fp32_precision = "none"


@pytest.mark.parametrize("device", DEVICES)
def test_tiles_agree_with_the_whole_frame_to_rounding(device: str) -> None:
    clip = rgb_clip(moving(4, 70, 90))
    whole = core.rafrvsr.Upscale(clip, device=device)
    for tile in ([32, 32], [40, 0], [0, 33]):
        tiled = core.rafrvsr.Upscale(clip, device=device, tile=tile)
        for n in range(4):
            for a, b in zip(pixels(whole.get_frame(n)), pixels(tiled.get_frame(n)), strict=True):
                np.testing.assert_allclose(a, b, atol=1 / 510 if device == "cuda" else 1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_filter_that_plays_on_and_on_holds_no_more_than_at_first(device: str) -> None:
    """Tensors that Python knows, at the end of the fourth chunk and of the sixth, to a frame's output."""

    def held() -> int:
        gc.collect()
        return sum(thing.nbytes for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))

    played = core.rafrvsr.Upscale(rgb_clip(moving(120, 16, 16)), device=device, chunk=20, warmup=2).frames(prefetch=1)
    after = {n: held() for n, _ in enumerate(played) if n in (79, 119)}
    assert after[119] < after[79] + 3 * 64 * 64 * 4
