"""The original project's training, its recipe and its data set in both published layouts, made small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from tests.training.fabricated import clip
from vs_rafrvsr.training import export, recipe
from vs_rafrvsr.training.data import DataError
from vs_rafrvsr.training.degrade import degrade
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.prepare import Material, Shape, prepare
from vs_rafrvsr.training.start import make_net

CPU = torch.device("cpu")
RECIPE = Path(__file__).parents[2] / "scripts" / "recipes" / "seed-project.toml"
WEIGHTS = Path(__file__).parents[2] / "vs_rafrvsr" / "weights" / "rafrvsr.safetensors"
NAMES = [f"0000{group}/0001" for group in range(1, 7)]


def write(folder: Path, frames: torch.Tensor) -> None:
    folder.mkdir(parents=True)
    for t, frame in enumerate(frames, 1):
        cv2.imwrite(str(folder / f"im{t}.png"), frame.flip(0).permute(1, 2, 0).contiguous().numpy())


def septuplets(root: Path) -> None:
    for seed, name in enumerate(NAMES):
        write(root / "sequences" / name, clip(name, 7, 64, 64, seed=seed).hr)
    (root / "sep_trainlist.txt").write_text("\n".join(NAMES))
    (root / "sep_testlist.txt").write_text("00009/0001")


def super_resolution(root: Path) -> None:
    """The super-resolution set's LR frames are a step brighter than ours would be."""
    for seed, name in enumerate(NAMES):
        hr = clip(name, 7, 64, 64, seed=seed).hr // 2
        write(root / "target" / name, hr)
        write(root / "low_resolution" / name, degrade(hr, "bi") + 1)
    (root / "sep_testlist.txt").write_text("\n".join(NAMES))


@pytest.mark.parametrize("layout", [septuplets, super_resolution])
def test_the_original_project_s_recipe_trains_on_either_layout(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path)
    torch.manual_seed(0)
    features = torchvision.models.squeezenet1_1(weights=None).state_dict()
    save_file(features, tmp_path / "features.safetensors")
    small = ["steps=1", "crop=8", "model.channels=4", "model.blocks=1", "data.subset=5", "data.validation_every=2"]
    small += ["losses.network=squeezenet1_1", 'losses.layers=["features.3"]']
    small += [f"losses.features={tmp_path}/features.safetensors"]
    plan = recipe.load(RECIPE, [*small, f"flow.weights={WEIGHTS}"])
    material = Material.of_vimeo(tmp_path, plan, Shape())
    prepared = prepare(material, plan, make_net(plan, CPU), CPU, None, Shape())
    assert len(prepared.train) + len(prepared.real) == 5
    assert prepared.real
    brighter = int(layout is super_resolution)
    assert all(torch.equal(c.lr, degrade(c.hr, "bi") + brighter) for c in prepared.train)
    trainer = Trainer(plan, prepared, CPU, tmp_path / "out")
    (row,) = trainer.run()
    assert row["skipped"] == 0
    assert all(row[term] > 0 for term in ("mse", "perceptual", "total_variation", "flow_original"))
    export.write(tmp_path / "out" / "weights.safetensors", trainer)


def test_lr_frames_of_a_data_set_are_not_taken_for_another_degradation(tmp_path: Path) -> None:
    super_resolution(tmp_path)
    plan = recipe.load(RECIPE, ["data.degradation=bd", "data.subset=5", f"flow.weights={WEIGHTS}"])
    with pytest.raises(DataError, match=r"has LR frames of its own, which are bicubic: .* not bd"):
        prepare(Material.of_vimeo(tmp_path, plan, Shape()), plan, make_net(plan, CPU), CPU, None, Shape())
