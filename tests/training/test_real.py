from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.training.fabricated import clip
from vs_rafrvsr.models.warp import BicubicBase
from vs_rafrvsr.training.codec import STREAMS, Codec, compress, jpeg
from vs_rafrvsr.training.degrade import PHASE, degrade
from vs_rafrvsr.training.real import RESAMPLERS, Damage, blur, draw, resize, shrink, squeeze

HR = clip("a", 4, 64, 96).hr


X264 = Codec(name="libx264", crf=30, preset="veryfast")
PRESETS = ("medium", "veryfast")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_damage_it_is_bi() -> None:
    assert torch.equal(squeeze(shrink(HR, Damage(), rng()), Damage()), degrade(HR, "bi"))


@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("middle", [None, 0.5])
def test_samples_stay_centred(resampler: str, middle: float | None) -> None:
    """A ramp comes back unmoved; a pixel off would be 2 of 255."""
    ramp = (torch.arange(96) * 2).to(torch.uint8).expand(1, 3, 64, 96)
    damage = Damage(resampler=resampler, middle=middle, blur=(1.5, 1.0, 0.3))
    back = BicubicBase(PHASE["real"])(shrink(ramp, damage, rng()).float())
    assert (back - ramp)[..., 16:-16, 20:-20].abs().mean() < 0.6


def test_the_same_seed_gives_the_same_clip_and_another_another() -> None:
    damages = [draw(rng(s)) for s in (1, 1, 2)]
    assert damages[0] == damages[1] != damages[2]
    damage = Damage(noise=5.0, shot=5.0, codec=X264)
    a, b, c = (squeeze(shrink(HR, damage, rng(s)), damage) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    "damage", [Damage(codec=X264), Damage(quality=60), Damage(quality=60, codec=X264)], ids=["codec", "jpeg", "both"]
)
def test_squeeze_is_jpeg_then_the_encoder(damage: Damage) -> None:
    lr = degrade(HR, "bi")
    frames = lr.permute(0, 2, 3, 1).numpy()
    if damage.quality:
        frames = jpeg(frames, damage.quality)
    if damage.codec:
        frames = compress(frames, damage.codec)
    squeezed = squeeze(lr, damage)
    assert np.array_equal(squeezed.permute(0, 2, 3, 1).numpy(), frames)
    assert not torch.equal(squeezed, lr)


@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("middle", [None, 0.6])
@pytest.mark.parametrize("shape", [None, (1.5, 0.6, 0.4)])
def test_shrink_is_blur_then_the_middle_size_then_a_quarter(
    shape: tuple[float, float, float] | None, middle: float | None, resampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage = Damage(blur=shape, middle=middle, resampler=resampler)
    x = HR.float() / 255
    if shape:
        x = blur(x, shape)
    if middle:
        x = resize(x, (38, 58), resampler)  # of 64x96
    expected = (resize(x, (16, 24), resampler).clamp(0, 1) * 255).round().byte()
    monkeypatch.setattr("vs_rafrvsr.training.real.AT_ONCE", 3)
    found = shrink(HR, damage, rng())
    assert torch.equal(found, expected)
    others = [Damage(), *(dataclasses.replace(damage, resampler=r) for r in RESAMPLERS if r != resampler)]
    assert not any(torch.equal(found, shrink(HR, other, rng())) for other in others if other != damage)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(("height", "width"), [(47, 64), (48, 63), (47, 63), (8, 64), (13, 9)])
def test_odd_and_short_sides_are_encoded_with_their_border_repeated(name: str, height: int, width: int) -> None:
    frames = np.ascontiguousarray(HR.permute(0, 2, 3, 1).numpy()[:, :height, :width])
    codec = Codec(name=name, crf=20, preset="veryfast")
    even = compress(np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge"), codec)
    found = compress(frames, codec)
    assert found.shape == frames.shape
    assert np.array_equal(found, even[:, :height, :width])


@pytest.mark.parametrize("name", STREAMS)
def test_an_encoder_gives_the_same_every_time(name: str) -> None:
    """Noise in motion, and sides of no round number: x264 with AVX-512 gave another clip nearly every time."""
    y, x = np.mgrid[:72, :100]
    waves = [127 + 60 * np.sin((x + 2 * t) / 5) * np.cos((y - t) / 7) for t in range(24)]
    noise = rng().normal(0, 6, (24, 72, 100, 3))
    frames = (np.stack(waves)[..., None] + noise).clip(0, 255).astype(np.uint8)
    first, *others = (compress(frames, Codec(name=name, crf=23)) for _ in range(6))
    assert all(np.array_equal(first, other) for other in others)


def test_noise_has_the_size_it_says_and_grey_noise_no_colour() -> None:
    flat = torch.full((8, 3, 256, 256), 128, dtype=torch.uint8)
    noisy = shrink(flat, Damage(noise=8.0), rng()).float() - 128
    assert noisy.std().item() == pytest.approx(8, rel=0.05)
    shot = shrink(flat, Damage(shot=8.0), rng()).float() - 128
    assert shot.std().item() == pytest.approx(8 * (128 / 255) ** 0.5, rel=0.05)
    grey = shrink(flat, Damage(noise=8.0, grey=True), rng())
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert not torch.equal(noisy[:, 0], noisy[:, 2])
    assert not torch.equal(noisy[0], noisy[1])


def test_blur_lies_along_its_angle() -> None:
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    wide = blur(point, (2.0, 0.5, 0.0))[0, 0]
    assert wide.sum().item() == pytest.approx(1, abs=1e-4)
    assert wide[16, 19] > 10 * wide[19, 16]
    assert torch.allclose(blur(point, (2.0, 0.5, np.pi / 2))[0, 0], wide.T, atol=1e-5)


@pytest.mark.parametrize("name", STREAMS)
def test_an_encoder_damages_more_the_higher_its_crf(name: str) -> None:
    """On grey frames: what 4:2:0 does to colours this small would hide it."""
    frames = np.ascontiguousarray(HR[:, :1].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
    errors = [
        np.abs(compress(frames, Codec(name=name, crf=crf, preset="veryfast")).astype(float) - frames).mean()
        for crf in (10, 30, 45)
    ]
    assert errors[0] < errors[1] < errors[2]
    assert errors[0] < 2


@pytest.mark.parametrize("name", STREAMS)
def test_an_encoder_damages_otherwise_with_another_preset(name: str) -> None:
    frames = np.ascontiguousarray(HR.permute(0, 2, 3, 1).numpy())
    medium, fast = (compress(frames, Codec(name=name, crf=30, preset=preset)) for preset in PRESETS)
    assert not np.array_equal(medium, fast)


@pytest.mark.parametrize("name", STREAMS)
def test_an_encoder_shifts_no_colours(name: str) -> None:
    """Else a network would learn to shift them back: every encoded clip would have the same error."""
    colours = rng().integers(16, 240, (12, 3))
    codec = Codec(name=name, crf=15, preset="veryfast")
    flat = [np.full((2, 32, 32, 3), colour, np.uint8) for colour in colours]
    shifts = np.array([compress(frames, codec).mean((0, 1, 2)) for frames in flat]) - colours
    assert np.abs(shifts).max() < 1.6
    assert np.abs(shifts.mean(0)).max() < 0.5


@pytest.mark.parametrize("name", STREAMS)
def test_an_encoder_moves_no_colours(name: str) -> None:
    """Chroma lies left of the middle in the stream, half a pixel: a spot of colour alone comes back where it was."""
    ys, xs = np.mgrid[:96, :96]
    spot = 90 * np.exp(-((ys - 47.5) ** 2 + (xs - 47.5) ** 2) / 72)
    frames = np.stack([128 + spot, np.full_like(spot, 128), 128 - spot], 2).round().astype(np.uint8)[None].repeat(3, 0)
    red = compress(frames, Codec(name=name, crf=12))[1, ..., 0].astype(float) - 128
    red[red < 5] = 0
    assert ((red * xs).sum() / red.sum(), (red * ys).sum() / red.sum()) == pytest.approx((47.5, 47.5), abs=0.15)


@pytest.mark.parametrize("name", STREAMS)
def test_clips_of_a_few_frames_come_back_whole(name: str) -> None:
    """In a process that finds no zeros in fresh memory, where x265 leaves the time of such frames unset."""
    program = "import sys, numpy as np; from vs_rafrvsr.training.codec import Codec, compress\n"
    program += "codec = Codec(name=sys.argv[1], crf=15, preset='veryfast')\n"
    program += "print([len(compress(np.full((n, 32, 32, 3), 100, np.uint8), codec)) for n in (1, 2, 3, 7)])"
    env = {**os.environ, "MALLOC_PERTURB_": "85"}
    done = subprocess.run([sys.executable, "-P", "-c", program, name], env=env, capture_output=True, text=True)
    assert done.stdout == "[1, 2, 3, 7]\n", done.stderr


def test_narrow_clips_leave_the_process_whole() -> None:
    """Where x265 wrote behind its buffers, glibc ended the process within a few clips."""
    program = "import numpy as np; from vs_rafrvsr.training.codec import Codec, compress\n"
    program += "noise = np.random.default_rng(0).integers(0, 255, (32, 40, 40, 3), np.uint8)\n"
    program += "codecs = [Codec(name='libx265', crf=28, preset=p) for p in ('medium', 'veryfast')]\n"
    program += "print({compress(noise[:n], c).shape[1:] for n in range(8, 33) for c in codecs})"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert done.stdout == "{(40, 40, 3)}\n", done.stderr


def test_jpeg_keeps_colours_in_place() -> None:
    frames = np.full((2, 16, 16, 3), (200, 100, 30), np.uint8)
    assert np.abs(jpeg(frames, 90).astype(int) - frames).max() < 6


def test_draws_cover_every_kind_of_damage_and_leave_a_share_clean() -> None:
    drawn = [draw(rng(seed)) for seed in range(300)]
    assert 0.14 < sum(d == Damage() for d in drawn) / 300 < 0.27
    for field in dataclasses.fields(Damage):
        assert len({getattr(d, field.name) for d in drawn}) > 1, field.name
    codecs = [d.codec for d in drawn if d.codec]
    assert {(codec.name, codec.preset) for codec in codecs} == set(itertools.product(STREAMS, PRESETS))
