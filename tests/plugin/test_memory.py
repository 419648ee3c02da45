"""The device's memory runs out in mid-stream: no frame is lost, and each is what its mark says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
import vapoursynth as vs

from tests.plugin.clips import moving, rgb_clip, same
from vs_rafrvsr.engine.network import Network
from vs_rafrvsr.engine.tiles import halved

core = vs.core
FRAMES, WIDTH, HEIGHT = 12, 72, 64
HALVES = [40, 64]
MARK = "_RafrvsrTileFallback"


ON_CUDA = torch.OutOfMemoryError("tried to allocate too much")
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


def frames(clip: vs.VideoNode, **arguments: object) -> list[vs.VideoFrame]:
    return list(core.rafrvsr.Upscale(clip, device="cpu", leadin=2, flow_updates=1, **arguments).frames(prefetch=1))


def inject(monkeypatch: pytest.MonkeyPatch, shortage: Shortage, method: str = "step") -> None:
    plain = getattr(Network, method)

    def limited(self: Network, *arguments: object) -> object:
        if shortage.strikes(self):
            raise shortage.error
        return plain(self, *arguments)

    monkeypatch.setattr(Network, method, limited)


@pytest.mark.parametrize("error", [ON_CUDA, ON_THE_CPU])
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


def test_frames_after_the_fallback_are_those_of_smaller_tiles(
    clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, tiled = frames(clip), frames(clip, tile=HALVES)
    inject(monkeypatch, Shortage(whole_until=8))
    with caplog.at_level(logging.WARNING):
        found = frames(clip)
    marked = [MARK in f.props for f in found]
    assert len(found) == FRAMES
    assert marked == sorted(marked)
    assert set(marked) == {False, True}
    for n, frame in enumerate(found):
        assert same(frame, (tiled if marked[n] else whole)[n]), n
        assert frame.props["_RafrvsrNumerics"] == (tiled if marked[n] else whole)[n].props["_RafrvsrNumerics"], n
    assert [record.getMessage().count("tiles of 40x64") for record in caplog.records] == [1]


def test_where_nothing_helps_every_frame_says_so(clip: vs.VideoNode, monkeypatch: pytest.MonkeyPatch) -> None:
    shortage = Shortage(failing=frozenset(range(1, 1000)))
    inject(monkeypatch, shortage)
    out = core.rafrvsr.Upscale(clip, device="cpu", leadin=2, flow_updates=1)
    for n in (0, 5, 0):
        with pytest.raises(vs.Error, match=r"cpu is out of memory \(tried to allocate too much\); close"):
            out.get_frame(n)
    monkeypatch.undo()
    assert out.get_frame(5).props[MARK] == 1


def sizes(tile: tuple[int, int]) -> Iterator[tuple[int, int]]:
    following: tuple[int, int] | None = tile
    while following is not None:
        yield following
        following = halved(following)


def test_halving_ends_at_what_users_may_choose() -> None:
    assert list(sizes((200, 90))) == [(200, 90), (104, 90), (56, 90), (56, 48)]
