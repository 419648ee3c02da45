from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tests.training.fabricated import clip
from vs_rafrvsr.training import checkpoint, data
from vs_rafrvsr.training.loop import DivergedError, Trainer, make_net
from vs_rafrvsr.training.prepare import Prepared
from vs_rafrvsr.training.recipe import Recipe, RecipeError, change, check_flow
from vs_rafrvsr.training.validate import SETTLED
from vs_rafrvsr.training.variants import VariantNet

CPU = torch.device("cpu")


@pytest.fixture
def prepared() -> Prepared:
    return Prepared(
        [clip("a", 6, 64, 80), clip("b", 7, 80, 64, seed=1)],
        [clip("held", 10, 48, 64, seed=2), clip("held2", 10, 48, 64, seed=3), clip("other", 9, 64, 48, seed=4)],
        [clip("still", 9, 48, 48, seed=5, camera=True)],
    )


def tiny(**changes: Any) -> Recipe:  # noqa: ANN401  (recipe values)
    recipe = Recipe(name="tiny", steps=12, batch=2, frames=3, crop=8, warm_up=2, report_every=4, validate_every=8)
    model = {"channels": 4, "blocks": 1, **changes.pop("model", {})}
    return change(recipe, {"checkpoint_every": 4, "model": model, **changes})


def losses_of(trainer: Trainer) -> list[float]:
    return [row["loss"] for row in trainer.run()]


def test_a_resumed_run_equals_an_unbroken_one(prepared: Prepared, tmp_path: Path) -> None:
    whole = Trainer(tiny(), prepared, CPU, tmp_path / "whole")
    unbroken = losses_of(whole)
    first = Trainer(tiny(), prepared, CPU, tmp_path / "parts")
    for row in first.run():
        if row["step"] == 4:
            break
    first.save()
    second = Trainer(tiny(), prepared, CPU, tmp_path / "parts")
    second.resume()
    assert second.step == 4
    assert losses_of(second) == unbroken[1:]
    for name, tensor in whole.optimiser.state().items():
        assert torch.equal(tensor, second.optimiser.state()[name]), name


def test_an_old_state_costs_no_clip_and_changes_what_is_learnt(prepared: Prepared, tmp_path: Path) -> None:
    aged = Trainer(tiny(age=20, steps=4), prepared, CPU, tmp_path)
    assert not aged.pool.left_out
    plain = Trainer(tiny(steps=4), prepared, CPU, tmp_path / "plain")
    assert losses_of(aged) != losses_of(plain)
    with pytest.raises(ValueError, match="a batch of 3 cannot be shared evenly by 1 processes; use a multiple of 2"):
        Trainer(tiny(age=2, batch=3), prepared, CPU, tmp_path)


def test_curves_go_on_where_the_checkpoint_stands(prepared: Prepared, tmp_path: Path) -> None:
    """What was done after it is done again, and written once; a new run in the same folder begins anew."""
    recipe = tiny(steps=6, report_every=1, checkpoint_every=2, validate_every=6)

    def steps() -> list[int]:
        return [int(row["step"]) for row in csv.DictReader((tmp_path / "curves.csv").open())]

    for row in Trainer(recipe, prepared, CPU, tmp_path).run():
        if row["step"] == 5:
            break
    assert steps() == [1, 2, 3, 4, 5]
    resumed = Trainer(recipe, prepared, CPU, tmp_path)
    resumed.resume()
    list(resumed.run())
    assert steps() == [1, 2, 3, 4, 5, 6]
    next(Trainer(recipe, prepared, CPU, tmp_path).run())
    assert steps() == [1]


def test_weights_that_have_nothing_for_the_network_are_refused(tmp_path: Path) -> None:
    save_file({"foreign.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    file = str(tmp_path / "w.safetensors")
    for given in ({"start": file}, {"flow": {"weights": file}}):
        with pytest.raises(RecipeError, match="none of its 1 tensors fits"):
            make_net(tiny(**given), CPU)


def test_frozen_flow_needs_weights() -> None:
    with pytest.raises(RecipeError, match=r"flow\.weights=FILE"):
        check_flow(tiny())
    check_flow(tiny(flow={"joint": True}))
    check_flow(tiny(start="w.safetensors"))


def test_a_checkpoint_of_another_recipe_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    first = Trainer(tiny(steps=4), prepared, CPU, tmp_path)
    first.save()
    Trainer(tiny(steps=4, checkpoint_every=2), prepared, CPU, tmp_path).resume()
    other = Trainer(tiny(steps=8, muon={"momentum": 0.9}), prepared, CPU, tmp_path)
    with pytest.raises(
        checkpoint.CheckpointError, match=r"other values of muon\.momentum, steps: resume with the same"
    ):
        other.resume()


def test_the_loss_falls(prepared: Prepared, tmp_path: Path) -> None:
    values = losses_of(Trainer(tiny(steps=60, report_every=10, frames=2, rate=5e-3), prepared, CPU, tmp_path))
    assert values[-1] < 0.95 * values[0]  # it starts as the bicubic base


@pytest.mark.parametrize(
    "changes",
    [
        {"flow": {"joint": True}, "losses": {"flow": 0.1}, "crop": 16},
        {"precision": "bf16", "muon": {"on": "body"}, "age": 2},
        {"model": {"refine": 4, "previous": "detail", "previous_lr": True, "phase": True}},
        {
            "model": {"previous": "none", "fetch": "nearest", "hidden": "conv", "tail": 1, "previous_dropout": 0.5},
            "muon": {"on": "all", "rate": 2.0, "rows": True, "decay": 0.1},
        },
        {"data": {"degradation": "bd"}},
        {"architecture": "frvsr", "flow": {"joint": True}, "losses": {"flow": 0.1}, "muon": {"on": "all"}, "age": 2},
    ],
)
def test_every_kind_of_run_steps_and_scores(changes: dict[str, Any], prepared: Prepared, tmp_path: Path) -> None:
    clips = [clip("a", 6, 96, 96), clip("b", 6, 96, 96, seed=1)]
    trainer = Trainer(tiny(steps=4, **changes), Prepared(clips, prepared.real, prepared.camera), CPU, tmp_path)
    before = trainer.optimiser.weights.clone()
    (row,) = trainer.run()
    assert row["skipped"] == 0
    assert not torch.equal(before, trainer.optimiser.weights)
    assert all(row[f"{kind}_{name}"] > 5 for kind in ("real", "camera") for name in ("all", "settled", "first"))


def test_the_perceptual_term_takes_part(prepared: Prepared, tmp_path: Path) -> None:
    """Features of a small network with made-up weights from a file; layers as TOML gives them."""
    torch.manual_seed(0)
    features = torchvision.models.squeezenet1_1(weights=None).features
    save_file({f"features.{n}": t for n, t in features.state_dict().items()}, tmp_path / "features.safetensors")
    plan = {"network": "squeezenet1_1", "layers": [1, 3], "features": str(tmp_path / "features.safetensors")}
    every = {"mse": 1.0, "charbonnier": 0.0, "perceptual": 0.5, "total_variation": 0.1, "flow_original": 0.2}
    trainer = Trainer(tiny(steps=2, losses={**plan, **every}), prepared, CPU, tmp_path / "run")
    (row,) = trainer.run()
    weighed = row["mse"] + 0.5 * row["perceptual"] + 0.1 * row["total_variation"] + 0.2 * row["flow_original"]
    assert row["loss"] == pytest.approx(weighed, rel=1e-4)
    assert row["perceptual"] > 0
    assert not any(name.startswith("features") for name in trainer.export())


def test_torchvision_s_own_raft_file_is_taken(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.optical_flow.raft_small(weights=None).state_dict()
    save_file(theirs, tmp_path / "raft_small.safetensors")
    net = make_net(tiny(flow={"weights": str(tmp_path / "raft_small.safetensors")}), CPU)
    assert isinstance(net, VariantNet)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in net.raft.state_dict().items())


def test_joint_training_moves_raft_and_frozen_does_not(prepared: Prepared, tmp_path: Path) -> None:
    for joint in (False, True):
        clips = Prepared([clip("a", 6, 96, 96)], prepared.real, prepared.camera)
        trainer = Trainer(tiny(steps=2, crop=16, flow={"joint": joint}), clips, CPU, tmp_path / str(joint))
        assert isinstance(trainer.net, VariantNet)
        raft = trainer.net.raft
        before = {name: t.clone() for name, t in raft.state_dict().items()}
        losses_of(trainer)
        moved = any(not torch.equal(t, before[name]) for name, t in raft.state_dict().items())
        assert moved == joint


def test_a_run_whose_gradients_are_never_finite_stops_and_says_so(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(tiny(steps=20, report_every=10), prepared, CPU, tmp_path)
    trainer.by_frame *= torch.nan
    with pytest.raises(DivergedError, match="10 of 10 steps before step 10 had no finite gradient"):
        losses_of(trainer)


def test_curves_and_export(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(tiny(), prepared, CPU, tmp_path)
    losses_of(trainer)
    rows = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert [bool(row["real_settled"]) for row in rows] == [False, True, True]
    weights = trainer.export()
    assert all(t.dtype == torch.float16 for t in weights.values())
    assert torch.equal(weights["sr.tail.bias"], trainer.optimiser.average[-48:].half())


def test_clips_to_show_are_scored_and_pictured_and_change_nothing_else(prepared: Prepared, tmp_path: Path) -> None:
    plain = losses_of(Trainer(tiny(), prepared, CPU, tmp_path / "plain"))
    shown = dataclasses.replace(prepared, shown=[clip("vid4", 12, 48, 64, seed=7)])
    assert losses_of(Trainer(tiny(), shown, CPU, tmp_path)) == plain
    rows = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert [float(row["shown_all"] or 0) > 5 for row in rows] == [False, True, True]
    assert not any(
        "shown" in name for name in csv.DictReader((tmp_path / "plain" / "curves.csv").open()).fieldnames or ()
    )
    pictures = [torch.from_numpy(data.read_image(file)) for file in sorted((tmp_path / "pictures").iterdir())]
    assert [tuple(picture.shape) for picture in pictures] == [(3, 48, 128)] * 2
    assert torch.equal(pictures[0][..., 64:], shown.shown[0].hr[SETTLED])
    assert not torch.equal(pictures[0], pictures[1])


def test_start_weights_replace_what_fits(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(tiny(steps=4), prepared, CPU, tmp_path)
    losses_of(trainer)
    save_file(trainer.export(), tmp_path / "start.safetensors")
    held = load_file(tmp_path / "start.safetensors")
    wider = make_net(tiny(start=str(tmp_path / "start.safetensors"), model={"previous_lr": True}), CPU)
    own = wider.state_dict()
    assert torch.equal(own["sr.tail.weight"], held["sr.tail.weight"].float())
    assert own["sr.head.weight"].shape[1] == held["sr.head.weight"].shape[1] + 3


def test_a_checkpoint_is_split_and_a_mixture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LARGEST_FILE", 100)
    tensors = {name: torch.full((20,), value) for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    stem = tmp_path / "deep" / "checkpoint"
    assert len(checkpoint.save(stem, tensors, {"step": 1})) == 3
    found, record = checkpoint.load(stem)
    assert record == {"step": 1}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    old = (tmp_path / "deep" / "checkpoint.2.safetensors").read_bytes()
    checkpoint.save(stem, tensors, {"step": 2})
    (tmp_path / "deep" / "checkpoint.2.safetensors").write_bytes(old)
    with pytest.raises(checkpoint.CheckpointError, match=r"checkpoint\.2\.safetensors belongs to another step"):
        checkpoint.load(stem)
