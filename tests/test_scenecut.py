import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vs_rafrvsr.scenecut import THRESHOLD, decide, scores, thumbnails

HEIGHT, WIDTH = 120, 160


def textured(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """A picture (3, height, width) in [0, 0.9] with structure at every scale, as photographs have."""
    random = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, 3, height, width)
    for octave in range(1, 6):
        coarse = torch.rand(1, 3, 2**octave, 2**octave, generator=random) - 0.5
        picture += F.interpolate(coarse, (height, width), mode="bicubic") / octave**0.5
    return (0.35 + 0.15 * picture[0] / picture.std()).clamp(0, 0.9)


def score(previous: Tensor, current: Tensor) -> float:
    return scores(thumbnails(previous.unsqueeze(0)), thumbnails(current.unsqueeze(0))).item()


PICTURES = [textured(seed) for seed in range(8)]
WIDE = textured(100, 2 * HEIGHT, 2 * WIDTH)


def window(top: int, left: int) -> Tensor:
    return WIDE[:, top : top + HEIGHT, left : left + WIDTH]


def flat(luma: float) -> Tensor:
    return torch.full((3, HEIGHT, WIDTH), luma)


@pytest.mark.parametrize(
    "change", [lambda x: x, lambda x: x * 0.1, lambda x: x[:, ::6, ::10]], ids=["plain", "dark", "tiny"]
)
def test_another_picture_is_a_cut_and_the_same_one_is_none(change: Callable[[Tensor], Tensor]) -> None:
    for previous, current in itertools.permutations(PICTURES, 2):
        assert score(change(previous), change(current)) >= THRESHOLD
    assert [score(change(picture), change(picture)) for picture in PICTURES] == pytest.approx([0] * 8, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(down=st.integers(-18, 18), across=st.integers(-28, 28))
def test_a_pan_within_reach_is_no_cut(down: int, across: int) -> None:
    assert score(window(60, 80), window(60 + down, 80 + across)) < THRESHOLD


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 7), other=st.integers(0, 7), gain=st.floats(0.3, 1.0), lift=st.floats(0, 0.1))
def test_gain_and_offset_hardly_change_the_score(seed: int, other: int, gain: float, lift: float) -> None:
    before, after = PICTURES[seed], PICTURES[other]
    assert score(before, after * gain + lift) == pytest.approx(score(before, after), abs=0.02)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 7), other=st.integers(0, 7))
def test_mirrored_frames_score_the_same(seed: int, other: int) -> None:
    before, after = PICTURES[seed], PICTURES[other]
    for axes in ((-1,), (-2,), (-1, -2)):
        assert score(before.flip(axes), after.flip(axes)) == pytest.approx(score(before, after), abs=1e-5)


@pytest.mark.parametrize("picture", PICTURES[:4])
def test_what_a_shot_may_do_is_no_cut(picture: Tensor) -> None:
    random = torch.Generator().manual_seed(1)
    noisy = picture + torch.randn(picture.shape, generator=random) * 10 / 255
    zoomed = F.interpolate(picture[None, :, 4:-4, 5:-5], (HEIGHT, WIDTH), mode="bilinear")[0]
    walker, walked = picture.clone(), picture.clone()
    walker[:, 40:100, 30:60], walked[:, 40:100, 60:90] = 0.95, 0.95
    changed = {
        "flash": (picture, (picture * 2.5).clamp(0, 1)),
        "end of flash": ((picture * 2.5).clamp(0, 1), picture),
        "noise": (picture, noisy.clamp(0, 1)),
        "zoom": (picture, zoomed),
        "moving foreground": (walker, walked),
        "half a cross-fade step": (picture, 0.8 * picture + 0.2 * WIDE[:, :HEIGHT, :WIDTH]),
    }
    assert {name: pair for name, pair in changed.items() if score(*pair) >= THRESHOLD} == {}


@pytest.mark.parametrize("colour", [0.0, 1.0])
@pytest.mark.parametrize("frames", [12, 24])
def test_a_fade_is_no_cut(colour: float, frames: int) -> None:
    fade = [torch.lerp(PICTURES[0], flat(colour), i / frames).mul(255).round() / 255 for i in range(frames + 1)]
    both = fade + fade[::-1]
    assert max(itertools.starmap(score, itertools.pairwise(both))) < THRESHOLD


def test_flat_frames_are_alike_and_a_shot_after_black_is_a_cut() -> None:
    assert score(flat(0), flat(1)) == 0
    assert score(flat(0.3), flat(0.3)) == 0
    assert score(flat(0), PICTURES[0]) >= THRESHOLD
    assert score(flat(1), PICTURES[0]) < THRESHOLD  # the end of a flash that clipped everything


def test_what_a_flash_leaves_unclipped_is_no_evidence() -> None:
    nearly_white = flat(1)
    nearly_white[:, 40:60, 60:90] = PICTURES[1][:, 40:60, 60:90]
    assert score(PICTURES[0], nearly_white) < THRESHOLD
    assert score(nearly_white, PICTURES[0]) < THRESHOLD


@pytest.mark.parametrize("size", [(4, 4), (4, 2000), (16, 2000), (5, 7), (1081, 33)])
def test_every_size_gives_thumbnails_and_scores_in_range(size: tuple[int, int]) -> None:
    frames = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(2))
    small = thumbnails(frames)
    found = scores(small[:-1], small[1:])
    assert small.shape == (3, *thumbnails(frames[:1]).shape[1:])
    assert found.shape == (2,)
    assert (small.dtype, found.dtype) == (torch.float32, torch.float32)
    assert 0 <= found.min() <= found.max() <= 1


def test_a_bad_sample_neither_hides_nor_makes_a_cut() -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        current = PICTURES[0].clone()
        current[:, 60, 80] = bad
        assert score(PICTURES[1], current) >= THRESHOLD > score(PICTURES[0], current)


def test_a_pair_scores_the_same_in_any_company() -> None:
    stack = thumbnails(torch.stack(PICTURES))
    assert torch.equal(stack, torch.cat([thumbnails(picture[None]) for picture in PICTURES]))
    together = scores(stack[:-1], stack[1:])
    alone = [scores(stack[i : i + 1], stack[i + 1 : i + 2]) for i in range(len(stack) - 1)]
    assert torch.equal(together, torch.cat(alone))


def test_default_dtype_does_not_matter() -> None:
    expected = score(PICTURES[0], PICTURES[1])
    try:
        torch.set_default_dtype(torch.float64)
        assert score(PICTURES[0], PICTURES[1]) == expected
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_numbers_of_the_cpu() -> None:
    stack = torch.stack(PICTURES)
    here, there = thumbnails(stack), thumbnails(stack.to("cuda"))
    torch.testing.assert_close(there.to("cpu"), here, rtol=0, atol=1e-6)
    torch.testing.assert_close(scores(there[:-1], there[1:]).to("cpu"), scores(here[:-1], here[1:]), rtol=0, atol=1e-4)


def test_decide_lets_the_first_known_source_of_the_mode_speak() -> None:
    for prev, following, found in itertools.product((None, 0, 1), (None, 0, 1), (None, 0.2, 0.5, 0.9)):
        detected = found is not None and found >= 0.5
        said = prev if prev is not None else following
        assert decide("off", prev, following, found, 0.5) is False
        assert decide("detect", prev, following, found, 0.5) is detected
        assert decide("props", prev, following, found, 0.5) is bool(said)
        assert decide("auto", prev, following, found, 0.5) is (detected if said is None else bool(said))
