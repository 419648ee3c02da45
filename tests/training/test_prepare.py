from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.fabricated import clip, picture, write_image
from vs_rafrvsr.models.warp import warp
from vs_rafrvsr.training import prepare as subject
from vs_rafrvsr.training.data import Source, is_validation
from vs_rafrvsr.training.degrade import degrade
from vs_rafrvsr.training.prepare import Material, Prepared, Shape, prepare
from vs_rafrvsr.training.recipe import Recipe, change
from vs_rafrvsr.training.start import make_net

CPU = torch.device("cpu")
NAMES = [f"owner{i}/repo{i}" for i in range(12)]  # owner2's is held for validation
RECIPE = change(
    Recipe(name="tiny"),
    {"model": {"channels": 4, "blocks": 1}, "flow": {"updates": 1}, "data": {"stills_clips": 2}},
)


def material() -> Material:
    clips = [Source(f"{i}.mp4", NAMES[i], clip("", 4, 64, 64, seed=i).hr.numpy()) for i in (0, 1, 2)]
    still = Source("still.jpg", NAMES[3], picture(400, 400).numpy()[None])
    return Material(clips, [still])


def made(recipe: Recipe, cache: Path | None = None) -> Prepared:
    torch.manual_seed(0)
    return prepare(material(), recipe, make_net(recipe, CPU), CPU, cache, Shape(area=64))


def test_clips_are_degraded_and_split_by_source() -> None:
    assert [is_validation(NAMES[i]) for i in range(4)] == [False, False, True, False]
    found = made(RECIPE)
    assert [c.name for c in found.train] == ["0.mp4", "1.mp4", "camera/0/still.jpg", "camera/1/still.jpg"]
    assert [c.camera for c in found.train] == [False, False, True, True]
    assert [c.name for c in found.real] == ["2.mp4"]
    assert torch.equal(found.real[0].lr, degrade(found.real[0].hr, "bi"))
    assert not found.clean  # nothing is damaged
    assert found.train[0].flow.shape == (4, 4, 16, 16)


def test_joint_training_is_given_the_flow_that_is_known_and_no_other() -> None:
    found = made(change(RECIPE, {"flow": {"joint": True}, "data": {"stills_step": [1.0, 1.0]}}))
    for c in found.train:
        assert c.flow.isfinite().all() == c.camera
        assert c.flow.isnan().any() == (not c.camera)
    still = next(c for c in found.train if c.camera)
    lr, flow = still.lr.float(), still.flow.float()
    moved = (warp(lr[:-1], flow[1:, :2]) - lr[1:])[..., 4:-4, 4:-4].abs().mean()
    assert moved < 0.5 * (lr[:-1] - lr[1:])[..., 4:-4, 4:-4].abs().mean()


def test_random_damage_differs_by_variant_and_never_moves() -> None:
    recipe = change(RECIPE, {"data": {"degradation": "real", "variants": 2, "stills_clips": 0}})
    first, again = made(recipe), made(recipe)
    assert [c.name for c in first.train[:3]] == ["0.mp4", "0.mp4#1", "1.mp4"]
    assert len({c.lr.numpy().tobytes() for c in first.train}) >= 3  # some may be left clean
    assert len(first.real) == 1
    assert [c.name for c in first.clean] == ["2.mp4"]
    assert torch.equal(first.clean[0].lr, degrade(first.real[0].hr, "bi"))
    for a, b in zip([*first.train, *first.real], [*again.train, *again.real], strict=True):
        assert torch.equal(a.lr, b.lr)
    other = made(change(recipe, {"seed": 1}))
    assert torch.equal(other.real[0].lr, first.real[0].lr)
    assert not all(torch.equal(a.lr, b.lr) for a, b in zip(first.train, other.train, strict=True))


def test_copies_show_the_clip_by_other_pixels() -> None:
    """Ramps across and down tell where every pixel lies."""
    ramps = torch.stack(torch.meshgrid(torch.arange(120), torch.arange(163), indexing="ij"))
    hr = torch.cat([ramps, torch.zeros(1, 120, 163)]).expand(18, -1, -1, -1).to(torch.uint8)
    starts = set()
    for seed in range(99):
        found = subject.cut_anew(hr, np.random.default_rng(seed), 28)
        top, left = int(found[0, 0, 0, 0]), int(found[0, 1, 0, 0])
        height, width = found.shape[-2:]
        assert torch.equal(found, hr[..., top : top + height, left : left + width])
        assert (height, width) == ((120 - top) // 4 * 4, (163 - left) // 4 * 4)
        starts.add((top, left))
    assert len(starts) == 16
    assert subject.cut_anew(hr, np.random.default_rng(0), 29) is hr  # as it is: nothing smaller has room


def test_copies_are_made_of_filmed_training_clips_alone() -> None:
    recipe = change(RECIPE, {"crop": 8, "data": {"variants": 3}})
    found, again = made(recipe), made(recipe)
    names = [c.name for c in found.train]
    assert names[:6] == ["0.mp4", "0.mp4#1", "0.mp4#2", "1.mp4", "1.mp4#1", "1.mp4#2"]
    assert all("#" not in name for name in names[6:])
    assert [c.name for c in found.real] == ["2.mp4"]
    first, *copies = found.train[:3]
    assert torch.equal(first.hr, made(RECIPE).train[0].hr)
    for copy in copies:
        assert copy.hr.shape != first.hr.shape
        assert torch.equal(copy.lr, degrade(copy.hr, "bi"))
        assert copy.flow.shape == (4, 4, *copy.lr.shape[-2:])
    assert all(torch.equal(a.hr, b.hr) for a, b in zip(found.train, again.train, strict=True))


def test_a_folder_of_clips_to_show_is_clean_whatever_the_recipe_damages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "still" / "0.png", 64, 96)
    for i in range(7):
        write_image(tmp_path / "walk" / f"{i}.png", 64, 96, value=30 * i)
    recipe = change(RECIPE, {"data": {"degradation": "real"}})
    (found,) = subject.shown_clips(tmp_path, recipe, make_net(recipe, CPU), CPU)
    assert (found.name, found.flow.shape) == ("walk", (7, 4, 16, 24))
    assert torch.equal(found.lr, degrade(found.hr, "bi"))
    assert "1 read, 1 skipped (still: 1 frames, 7 needed)" in capsys.readouterr().out


def test_a_set_without_validation_clips_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    made(RECIPE)
    assert "WARNING" not in capsys.readouterr().out
    clips = Material(material().clips[:2], [])
    prepare(clips, RECIPE, make_net(RECIPE, CPU), CPU, None, Shape(area=64))
    assert "WARNING: no clip for validation: none of the sources is the one in 10" in capsys.readouterr().out


def test_a_set_s_own_lr_frames_are_used() -> None:
    own = np.full((4, 3, 16, 16), 9, np.uint8)
    source = Source("a", NAMES[0], clip("", 4, 64, 64).hr.numpy(), own)
    recipe = change(RECIPE, {"crop": 8, "data": {"variants": 3}})
    (found,) = prepare(Material([source], []), recipe, make_net(RECIPE, CPU), CPU, None, Shape()).train  # no copies
    assert found.lr.numpy().tolist() == own.tolist()


def test_a_subset_of_vimeo(tmp_path: Path) -> None:
    names = [f"0000{i}/0001" for i in range(1, 7)]
    (tmp_path / "sep_trainlist.txt").write_text("\n".join(names))
    for name in names:
        for i in range(1, 8):
            write_image(tmp_path / "sequences" / name / f"im{i}.png", 64, 64, value=i)
    recipe = change(RECIPE, {"data": {"subset": 4, "validation_every": 2}})
    found = Material.of_vimeo(tmp_path, recipe, Shape())
    assert (len(found.clips), found.stills) == (4, [])
    split = prepare(found, recipe, make_net(recipe, CPU), CPU, None, Shape())
    assert len(split.train) + len(split.real) == 4
    assert all(is_validation(c.source, 2) for c in split.real)


def test_folders_of_frames_are_trained_on_and_those_too_short_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, frames in {"a": 4, "b": 3, "c": 4, "short": 2}.items():
        for i in range(frames):
            write_image(tmp_path / name / f"{i}.png", 64, 96, value=30 * i)
    recipe = change(RECIPE, {"frames": 3})
    found = Material.of_folders(tmp_path, recipe, Shape())
    assert "3 read, 1 skipped (short: 2 frames, 3 needed)" in capsys.readouterr().out
    split = prepare(found, recipe, make_net(recipe, CPU), CPU, None, Shape())
    assert sorted({c.source for c in (*split.train, *split.real)}) == ["a", "b", "c"]
    assert len(Material.of_folders(tmp_path, recipe, Shape(limit=2)).clips) == 2


def test_clips_at_double_speed_are_drawn_less_and_never_validated() -> None:
    recipe = change(RECIPE, {"frames": 2, "data": {"stills_clips": 0, "fast_weight": 0.25}})
    found = made(recipe)
    assert [c.name for c in found.train] == ["0.mp4", "1.mp4", "0.mp4, double speed", "1.mp4, double speed"]
    assert [c.name for c in found.real] == ["2.mp4"]
    clip, fast = found.train[0], found.train[2]
    assert torch.equal(fast.hr, clip.hr[::2])
    assert torch.equal(fast.lr, clip.lr[::2])
    assert fast.weight == pytest.approx(0.25 * clip.weight, rel=0.1)
    assert len(made(change(recipe, {"frames": 3})).train) == 2  # of four frames two are left


def test_held_camera_clips_are_the_same_whatever_the_seed() -> None:
    stills = [Source(f"{i}.jpg", NAMES[i], picture(400, 400, seed=i).numpy()[None]) for i in (1, 2)]
    one, two = (subject.camera_clips(stills, change(RECIPE, {"seed": seed}), CPU, Shape(area=64)) for seed in (0, 1))
    assert [np.array_equal(a.hr, b.hr) for a, b in zip(one, two, strict=True)] == [False, True]


def test_flow_of_another_network_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    recipe = change(RECIPE, {"data": {"stills_clips": 0}})
    flows = []
    for seed in (0, 1):
        net = make_net(change(recipe, {"seed": seed}), CPU)
        flows.append(prepare(material(), recipe, net, CPU, tmp_path, Shape(area=64)).train[0].flow)
    assert not torch.equal(*flows)


def test_flow_comes_from_the_cache_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(RECIPE, tmp_path)
    monkeypatch.setattr(subject, "clip_flow", None)
    again = made(RECIPE, tmp_path)
    assert all(torch.equal(a.flow, b.flow) for a, b in zip(first.train, again.train, strict=True))
