"""The device's memory runs out in mid-stream: no frame is lost, and each is what its mark says."""

from __future__ import annotations

import gc
import itertools
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import vapoursynth as vs

from tests.plugin.clips import DEVICES, moving, pixels, rgb_clip, same
from vs_rafrvsr.engine import engine
from vs_rafrvsr.engine.engine import Output
from vs_rafrvsr.engine.network import Network
from vs_rafrvsr.engine.tiles import choose, halved
from vs_rafrvsr.pixels.colour import Colour
from vs_rafrvsr.pixels.exchange import Downloaded, Pack, Staged
from vs_rafrvsr.pixels.rgb import RgbExchange
from vs_rafrvsr.plugin import filter
from vs_rafrvsr.plugin.host import Host
from vs_rafrvsr.plugin.recurrence import Recurrence

core = vs.core
FRAMES, WIDTH, HEIGHT = 12, 72, 64
HALVES = [40, 64]
MARK = "_RafrvsrTileFallback"


ON_CUDA = torch.OutOfMemoryError("tried to allocate too much")
PINNED = RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")
LOST = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronous")
PASSING = RuntimeError("CUDA error: operation not permitted when stream is capturing\nCUDA kernel errors might be")
ON_THE_CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


class Shortage:
    """Lets calls of a method of the network fail: those by number, and those of whole frames from some number on."""

    def __init__(
        self, failing: frozenset[int] = frozenset(), whole_until: int | None = None, error: Exception = ON_CUDA
    ) -> None:
        self.failing, self.whole_until, self.calls, self.error = failing, whole_until, 0, error

    def strikes(self, network: Network) -> bool:
        self.calls += 1
        late = self.whole_until is not None and network.stack is None and self.calls > self.whole_until
        return self.calls in self.failing or late


@pytest.fixture
def clip() -> vs.VideoNode:
    return rgb_clip(moving(FRAMES, HEIGHT, WIDTH))


def frames(clip: vs.VideoNode, device: str = "cpu", **arguments: object) -> list[vs.VideoFrame]:
    return list(core.rafrvsr.Upscale(clip, device=device, leadin=2, flow_updates=1, **arguments).frames(prefetch=1))


def inject(monkeypatch: pytest.MonkeyPatch, shortage: Shortage, method: str = "step") -> None:
    plain = getattr(Network, method)

    def limited(self: Network, *arguments: object) -> object:
        if shortage.strikes(self):
            raise shortage.error
        return plain(self, *arguments)

    monkeypatch.setattr(Network, method, limited)


@pytest.mark.parametrize("error", [ON_CUDA, ON_THE_CPU, PINNED])
@pytest.mark.parametrize(("method", "failing"), [("step", {1, 7}), ("encode", {1}), ("frame", {2})])
def test_memory_that_comes_back_changes_nothing(
    method: str, failing: set[int], error: Exception, clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = frames(clip)
    inject(monkeypatch, Shortage(failing=frozenset(failing), error=error), method)
    found = frames(clip)
    assert len(found) == FRAMES
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))
    assert not any(MARK in f.props for f in found)


@pytest.mark.parametrize("device", DEVICES)
def test_frames_after_the_fallback_are_those_of_smaller_tiles(
    device: str, clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, tiled = frames(clip, device), frames(clip, device, tile=HALVES)
    inject(monkeypatch, Shortage(whole_until=8))
    with caplog.at_level(logging.WARNING):
        found = frames(clip, device)
    marked = [MARK in f.props for f in found]
    assert len(found) == FRAMES
    assert marked == sorted(marked)
    assert set(marked) == {False, True}
    for n, frame in enumerate(found):
        assert same(frame, (tiled if marked[n] else whole)[n]), n
        assert frame.props["_RafrvsrNumerics"] == (tiled if marked[n] else whole)[n].props["_RafrvsrNumerics"], n
    said = [m for m in caplog.messages if "out of memory" in m]
    assert [m.count("tiles of 40x64") for m in said] == [1]


def test_a_frame_that_is_under_way_during_the_fallback_says_what_made_it(
    clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, tiled = frames(clip), frames(clip, tile=HALVES)
    plain = Recurrence._to_frame

    def met(self: Recurrence, output: Output, host: Host) -> object:
        frame = plain(self, output, host)
        if not output.halvings:
            for _ in range(2):
                self.engine.runtime.run(self.engine._make_room, "taken by another program")
        return frame

    monkeypatch.setattr(Recurrence, "_to_frame", met)
    found = frames(clip)
    for n, wanted in enumerate((whole[0], *tiled[1:])):
        assert same(found[n], wanted), n
        assert found[n].props["_RafrvsrNumerics"] == wanted.props["_RafrvsrNumerics"], n
        assert found[n].props.get(MARK, 0) == (n > 0), n


@pytest.mark.parametrize(("error", "said"), [(ON_CUDA, "tried to allocate too much"), (MemoryError(), "MemoryError")])
def test_where_nothing_helps_every_frame_says_so(
    error: Exception, said: str, clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, Shortage(failing=frozenset(range(1, 1000)), error=error))
    out = core.rafrvsr.Upscale(clip, device="cpu", leadin=2, flow_updates=1)
    for n in (0, 5, 0):
        with pytest.raises(vs.Error, match=rf"cpu is out of memory \({said}\); close"):
            out.get_frame(n)
    monkeypatch.undo()
    assert out.get_frame(5).props[MARK] == 1


def test_memory_for_copies_that_runs_out_loses_no_frame(clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken by VapourSynth's threads, and room for it is made by the device's."""
    wanted, plain, calls = frames(clip), RgbExchange.stage, itertools.count()

    def limited(self: RgbExchange, colours: Sequence[Colour | None], pack: Pack, size: tuple[int, int]) -> Staged:
        if next(calls) in (0, 1):
            raise PINNED
        return plain(self, colours, pack, size)

    monkeypatch.setattr(RgbExchange, "stage", limited)
    found = frames(clip)
    assert next(calls) > 2
    assert len(found) == FRAMES
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("method", ["step", "encode", "frame"])
def test_once_the_gpu_is_lost_every_frame_says_so(
    method: str, clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (engine, filter):
        monkeypatch.setattr(module, "keep_tensors", lambda: None)
    inject(monkeypatch, Shortage(failing=frozenset(range(1, 1000)), error=LOST), method)
    out = core.rafrvsr.Upscale(clip, device="cpu", leadin=2, flow_updates=1)
    for n in (0, 5, 0, 11):
        with pytest.raises(
            vs.Error, match=r"^Upscale: the GPU failed \(CUDA error: an illegal .* encountered\),.*anew"
        ):
            out.get_frame(n)


def test_a_loss_that_shows_when_a_frame_is_fetched_keeps_the_tensors(
    clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freeing one would end the process, see keep_tensors."""
    kept = []
    monkeypatch.setattr(filter, "keep_tensors", lambda: kept.append(True))
    out = core.rafrvsr.Upscale(clip, device="cpu", leadin=2, flow_updates=1)
    out.get_frame(0)

    def lost(_: Downloaded) -> None:
        raise LOST

    monkeypatch.setattr(Downloaded, "wait", lost)
    with pytest.raises(vs.Error, match=r"^Upscale: the GPU failed"):
        out.get_frame(1)
    assert kept


@pytest.mark.parametrize("method", ["step", "encode", "frame"])
def test_after_an_error_that_passes_frames_are_right(
    method: str, clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neighbour that captures a CUDA graph, for example, makes calls fail for that long."""
    wanted = frames(clip)
    inject(monkeypatch, Shortage(failing=frozenset({1, 4, 9}), error=PASSING), method)
    out = core.rafrvsr.Upscale(clip, device="cpu", leadin=2, flow_updates=1)
    failed = 0
    for n in range(FRAMES):
        found = tried(out, n)
        while isinstance(found, str):
            assert "operation not permitted when stream is capturing" in found
            failed += 1
            found = tried(out, n)
        assert same(found, wanted[n]), n
    assert failed


LARGE = (540, 960)
"""Playing it takes about a gigabyte, beside what PyTorch itself takes."""

NO_ROOM = re.compile(r"Upscale: .*(out of memory|memory ran out) \(.*\); close other programs")

GREEDY = """
import sys, torch
torch.zeros(1, device="cuda")
free, _ = torch.cuda.mem_get_info()
taken = torch.empty(free - int(sys.argv[1]), dtype=torch.uint8, device="cuda")
print("taken", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_program(left: int) -> Iterator[None]:
    """One that takes the GPU's memory but for `left` bytes."""
    gc.collect()
    torch.cuda.empty_cache()
    command = [sys.executable, "-c", GREEDY, str(left)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "taken\n"
            yield
        finally:
            process.stdin.close()


def film(count: int) -> vs.VideoNode:
    """A texture that moves by (3, 1) pixels a frame."""
    picture = moving(1, *LARGE)[0]
    rolled = np.stack([np.roll(picture, (n, 3 * n), (1, 2)) for n in range(count)])
    return core.resize.Bicubic(rgb_clip(rolled), format=vs.YUV420P8, matrix=1)


def check(frame: vs.VideoFrame, wanted: vs.VideoFrame) -> None:
    """Equal to rounding, and marked where it was made in tiles."""
    for ours, theirs in zip(pixels(frame), pixels(wanted), strict=True):
        error = np.mean((ours.astype(np.float32) - theirs) ** 2)
        assert 10 * np.log10(255**2 / max(error, 1e-9)) > 50
    assert (MARK in frame.props) == ("whole frames" not in str(frame.props["_RafrvsrNumerics"]))


def tried(clip: vs.VideoNode, n: int) -> vs.VideoFrame | str:
    """Frame n, or the error in its place."""
    try:
        return clip.get_frame(n)
    except vs.Error as error:
        return str(error)


def play_with_little(clip: vs.VideoNode, wanted: Sequence[vs.VideoFrame], left: int) -> tuple[bool, int]:
    """Play on while another program leaves so many MB: whether they ran out, and how many frames failed meanwhile."""
    out = core.rafrvsr.Upscale(clip, device="cuda")
    for n in range(4):  # the GPU runs ahead to frame 15
        check(out.get_frame(n), wanted[n])
    shortages, failed = torch.cuda.memory_stats()["num_ooms"], 0
    with another_program(left << 20):
        for n in range(14, 24):
            found = tried(out, n)
            if isinstance(found, str):
                assert NO_ROOM.match(found)
                failed += 1
            else:
                check(found, wanted[n])
        ran_out = torch.cuda.memory_stats()["num_ooms"] > shortages
    for n in (*range(24, 32), *range(32)):
        check(out.get_frame(n), wanted[n])
    return ran_out, failed


@pytest.mark.cuda
def test_another_program_takes_the_gpus_memory_and_gives_it_back() -> None:
    """Where whole frames have no room, smaller tiles serve; where these have none either, frames say so meanwhile."""
    clip = film(32)
    wanted = list(core.rafrvsr.Upscale(clip, device="cuda").frames(prefetch=1))
    assert not any(MARK in frame.props for frame in wanted)
    ran_out, failed = play_with_little(clip, wanted, 32)
    assert ran_out, "memory did not run out"
    assert failed
    for left in (224, 288, 160, 352, 416):  # how much tiles need, and whole frames, depends on the card
        ran_out, failed = play_with_little(clip, wanted, left)
        if ran_out and not failed:
            return
    pytest.fail("tiles never served where whole frames had no room")


@pytest.mark.cuda
def test_a_filter_that_is_made_while_memory_is_short_works_or_says_what_to_do() -> None:
    """In 700 MB either, by the card; in 64 MB, where not even one output has room, it says so. Both work afterwards."""
    clip = film(20)
    wanted = list(core.rafrvsr.Upscale(clip, device="cuda").frames(prefetch=1))
    for left in (700, 64):
        with another_program(left << 20):
            out = core.rafrvsr.Upscale(clip, device="cuda")
            found = {n: tried(out, n) for n in (0, 1, 18)}
        made = {n: frame for n, frame in found.items() if not isinstance(frame, str)}
        assert all(NO_ROOM.match(said) for said in found.values() if isinstance(said, str))
        for n, frame in made.items():
            check(frame, wanted[n])
        for n in (0, 1, 4):
            check(out.get_frame(n), wanted[n])
    assert not made, "memory did not run out"
    for n, frame in enumerate(core.rafrvsr.Upscale(clip, device="cuda").frames(prefetch=1)):
        check(frame, wanted[n])
        assert MARK not in frame.props


def sizes(tile: tuple[int, int]) -> Iterator[tuple[int, int]]:
    following: tuple[int, int] | None = tile
    while following is not None:
        yield following
        following = halved(following)


def test_halving_ends_at_what_users_may_choose() -> None:
    assert list(sizes((200, 90))) == [(200, 90), (104, 90), (56, 90), (56, 48)]


@pytest.mark.parametrize(
    ("size", "memory", "tile"),
    [
        ((540, 960), 8 << 30, (960, 544)),
        ((1080, 1920), 8 << 30, (960, 1080)),
        ((1920, 1080), 8 << 30, (1080, 960)),
        ((1080, 1920), 1 << 20, (64, 64)),
    ],
)
def test_the_first_tiles_are_the_largest_that_an_eighth_of_all_memory_holds(
    size: tuple[int, int], memory: int, tile: tuple[int, int]
) -> None:
    assert choose(size, 1000, memory) == tile
