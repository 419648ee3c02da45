"""LAW 4: where a shot begins, the recurrence begins anew, and the output says so."""

from __future__ import annotations

import numpy as np
import pytest
import vapoursynth as vs

from tests.plugin.clips import core, moving, rgb_clip, same
from vs_rafrvsr.schedule import GROUP


def two_shots() -> vs.VideoNode:
    return rgb_clip(np.concatenate([moving(6, 64, 96), moving(7, 64, 96, seed=5)]))


def resets(clip: vs.VideoNode) -> list[int]:
    return [n for n, f in enumerate(clip.frames(close=True)) if f.props.get("_RafrvsrReset") == 1]


def with_prop(clip: vs.VideoNode, n: int, **props: int) -> vs.VideoNode:
    return clip[:n] + core.std.SetFrameProps(clip[n], **props) + clip[n + 1 :]


def test_the_detector_finds_the_cut_and_the_second_shot_stands_alone() -> None:
    out = core.rafrvsr.Upscale(two_shots())
    assert resets(out) == [0, 6]
    alone = core.rafrvsr.Upscale(two_shots()[6:])
    assert all(same(out.get_frame(6 + n), alone.get_frame(n)) for n in range(7))


def test_a_mark_that_the_source_brings_is_not_taken_over() -> None:
    """Of two Upscales in a chain only the last one's resets count."""
    assert resets(core.rafrvsr.Upscale(two_shots().std.SetFrameProps(_RafrvsrReset=1))) == [0, 6]


@pytest.mark.parametrize(("mode", "expected"), [("auto", [0, 6]), ("props", [0]), ("detect", [0, 6]), ("off", [0])])
def test_the_modes_without_properties(mode: str, expected: list[int]) -> None:
    assert resets(core.rafrvsr.Upscale(two_shots(), scenecut=mode)) == expected


@pytest.mark.parametrize(
    ("n", "props", "mode", "expected"),
    [
        (3, {"_SceneChangePrev": 1}, "auto", [0, 3, 6]),
        (3, {"_SceneChangePrev": 1}, "props", [0, 3]),
        (3, {"_SceneChangePrev": 1}, "detect", [0, 6]),
        (6, {"_SceneChangePrev": 0}, "auto", [0]),
        (5, {"_SceneChangeNext": 0}, "auto", [0]),
        (2, {"_SceneChangeNext": 1}, "props", [0, 3]),
        (3, {"_SceneChangePrev": 1}, "off", [0]),
    ],
)
def test_properties_come_before_the_detector(n: int, props: dict[str, int], mode: str, expected: list[int]) -> None:
    assert resets(core.rafrvsr.Upscale(with_prop(two_shots(), n, **props), scenecut=mode)) == expected


@pytest.mark.parametrize("arguments", [{}, {"chunk": GROUP // 2, "warmup": 0}], ids=["two reads", "two chunks"])
@pytest.mark.parametrize("mode", ["detect", "props"])
def test_a_cut_on_the_border_between_two_reads_or_chunks_is_seen(mode: str, arguments: dict[str, int]) -> None:
    """Each of the two ways tells it by the frame before, which came with other frames."""
    clip = rgb_clip(np.concatenate([moving(GROUP, 64, 96), moving(5, 64, 96, seed=5)]))
    told = with_prop(clip, GROUP - 1, _SceneChangeNext=1)
    assert resets(core.rafrvsr.Upscale(told, scenecut=mode, leadin=0, flow_updates=1, **arguments)) == [0, GROUP]


def test_a_threshold_of_one_trusts_no_pair_of_different_pictures_to_be_a_cut_less_than_zero_does() -> None:
    assert resets(core.rafrvsr.Upscale(two_shots(), scenecut_threshold=0.0)) == list(range(13))
    assert resets(core.rafrvsr.Upscale(two_shots(), scenecut_threshold=1.0)) == [0]


def test_the_lead_in_sees_later_frames_and_zero_is_strictly_causal() -> None:
    frames = moving(8, 24, 32)
    changed = frames.copy()
    changed[3:] = changed[3:, :, ::-1]
    for leadin, differs in ((0, False), (4, True)):
        first = [
            core.rafrvsr.Upscale(rgb_clip(f), leadin=leadin, scenecut="off").get_frame(0) for f in (frames, changed)
        ]
        assert same(*first) != differs
