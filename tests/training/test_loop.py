from __future__ import annotations

import csv
import dataclasses
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tests.training.fabricated import clip, losses_of, tiny
from vs_rafrvsr.training import checkpoint, data
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.prepare import Prepared
from vs_rafrvsr.training.recipe import Recipe, change
from vs_rafrvsr.training.start import make_net
from vs_rafrvsr.training.validate import SETTLED
from vs_rafrvsr.training.variants import VariantNet

CPU = torch.device("cpu")


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(tiny(steps=100, warm_up=10, rate=1.0, final_rate=0.01), prepared, CPU, tmp_path)
    cosine = {step: 0.5 + 0.5 * math.cos(math.pi * step / 100) for step in (4, 9, 25)}
    assert trainer.schedule(0) == pytest.approx(0.1)
    assert trainer.schedule(4) == pytest.approx(0.5 * cosine[4])
    assert trainer.schedule(9) == pytest.approx(cosine[9])  # the end of the warm-up
    assert trainer.schedule(25) == pytest.approx(cosine[25])
    assert trainer.schedule(50) == pytest.approx(0.5)
    assert trainer.schedule(99) == trainer.schedule(100) == pytest.approx(0.01)


def test_the_average_follows_the_weights_by_the_recipe_s_decay(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(tiny(ema=0.9, warm_up=1), prepared, CPU, tmp_path)
    before = trainer.optimiser.weights.clone()
    trainer.advance(1)
    moved = trainer.optimiser.weights - before
    assert moved.abs().max() > 1e-4
    assert torch.allclose(trainer.optimiser.average - before, 0.1 * moved, atol=1e-7)


def test_the_average_is_what_is_scored(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(tiny(), prepared, CPU, tmp_path)
    first = trainer.scores()
    trainer.optimiser.weights += 0.01
    raw = trainer.optimiser.weights.clone()
    assert trainer.scores() == first
    assert torch.equal(trainer.optimiser.weights, raw)
    trainer.optimiser.average.copy_(raw)
    assert trainer.scores()["real"]["all"] < first["real"]["all"]


def test_a_resumed_run_equals_an_unbroken_one(prepared: Prepared, tmp_path: Path) -> None:
    recipe = tiny(followed=1.0)
    whole = Trainer(recipe, prepared, CPU, tmp_path / "whole")
    unbroken = losses_of(whole)
    first = Trainer(recipe, prepared, CPU, tmp_path / "parts")
    for row in first.run():
        if row["step"] == 4:
            break
    first.save()
    second = Trainer(recipe, prepared, CPU, tmp_path / "parts")
    second.resume()
    assert second.step == 4
    assert losses_of(second) == unbroken[1:]
    for name, tensor in whole.optimiser.state().items():
        assert torch.equal(tensor, second.optimiser.state()[name]), name


def test_a_run_that_is_stopped_is_scored_and_saved_where_it_stands(prepared: Prepared, tmp_path: Path) -> None:
    recipe = tiny(steps=8, report_every=1, validate_every=8, checkpoint_every=8)
    trainer = Trainer(recipe, prepared, CPU, tmp_path)
    rows = list(trainer.run(lambda: trainer.step == 3))
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert ["real_all" in row for row in rows] == [False, False, True]
    resumed = Trainer(recipe, prepared, CPU, tmp_path)
    resumed.resume()
    assert resumed.step == 3
    assert resumed.scored["real_all"] == rows[-1]["real_all"]


def test_a_row_goes_on_from_the_state_that_it_left(prepared: Prepared, tmp_path: Path) -> None:
    """To the half precision of what is handed on."""
    long = dataclasses.replace(prepared, train=[clip("long", 17, 64, 80)])
    trainer = Trainer(tiny(followed=1.0, rate=0.0, final_rate=0.0), long, CPU, tmp_path)
    state = trainer.net.empty_state(torch.zeros(2, 3, 8, 8))
    for _ in range(5):
        trainer.advance(1)
        batch = trainer.pool.cut(trainer.plan)
        with torch.no_grad():
            _, _, state = trainer.unroll(batch.lr, batch.flow, state)
    assert not batch.anew.any()
    for ours, theirs in zip(trainer.state, state, strict=True):
        torch.testing.assert_close(ours.float(), theirs.float(), atol=1e-2, rtol=0)


def test_a_state_that_is_not_finite_is_not_handed_on(prepared: Prepared, tmp_path: Path) -> None:
    long = dataclasses.replace(prepared, train=[clip("long", 17, 64, 80)])
    trainer = Trainer(tiny(followed=1.0), long, CPU, tmp_path)
    trainer.advance(1)
    trainer.state.hr.fill_(torch.nan)
    trainer.advance(1)
    assert all(part.isfinite().all() for part in trainer.state)
    trainer.advance(1)
    assert float(trainer.optimiser.skipped) == 1


def test_curves_go_on_where_the_checkpoint_stands(prepared: Prepared, tmp_path: Path) -> None:
    """What was done after it is done again, and written once; a run that is tried anew begins anew."""
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


def test_a_checkpoint_of_another_recipe_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    first = Trainer(tiny(steps=4), prepared, CPU, tmp_path)
    first.save()
    Trainer(tiny(steps=4, checkpoint_every=2), prepared, CPU, tmp_path).resume()
    other = Trainer(tiny(steps=4, frames=4, muon={"rate": 2.0}), prepared, CPU, tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match=r"other values of frames, muon\.rate: resume with the same"):
        other.resume()


@pytest.mark.parametrize("steps", [4, 8])
def test_a_run_that_is_resumed_may_end_earlier_or_later(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    """By the schedule of a run of that length."""
    plan = tiny(steps=6, report_every=2)
    list(Trainer(plan, prepared, CPU, tmp_path).run(lambda: True))
    other = Trainer(dataclasses.replace(plan, steps=steps), prepared, CPU, tmp_path)
    other.resume()
    assert f"steps was 6 and is {steps} from step 2 on" in capsys.readouterr().out
    found = [(row["step"], row["rate"]) for row in other.run()]
    assert found == [(step, other.schedule(step)) for step in range(4, steps + 1, 2)]
    assert found[-1][1] == pytest.approx(plan.rate * plan.final_rate)


def test_a_checkpoint_of_other_clips_or_another_frozen_network_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    def net(seed: int) -> Recipe:
        torch.manual_seed(seed)
        features = torchvision.models.squeezenet1_1(weights=None).state_dict()
        raft = torchvision.models.optical_flow.raft_small(weights=None).state_dict()
        for name, tensors in (("features", features), ("raft", raft)):
            save_file(tensors, tmp_path / f"{name}{seed}.safetensors")
        return tiny(
            flow={"weights": str(tmp_path / f"raft{seed}.safetensors")},
            losses={
                "perceptual": 1.0,
                "network": "squeezenet1_1",
                "layers": ["features.1"],
                "features": str(tmp_path / f"features{seed}.safetensors"),
            },
        )

    first, second = net(0), net(1)
    Trainer(first, prepared, CPU, tmp_path).save()
    Trainer(first, prepared, CPU, tmp_path).resume()
    darker = dataclasses.replace(prepared.train[0], hr=prepared.train[0].hr // 2)
    renamed = dataclasses.replace(prepared.train[0], name="another")
    clips = [prepared.train[:1], prepared.train[::-1], *([c, prepared.train[1]] for c in (darker, renamed))]
    others = [(first, dataclasses.replace(prepared, train=train), "clips") for train in clips]
    others.append((change(first, {"flow": {"weights": second.flow.weights}}), prepared, "the flow network's weights"))
    others.append(
        (change(first, {"losses": {"features": second.losses.features}}), prepared, "the feature network's weights")
    )
    for recipe, made, what in others:
        with pytest.raises(checkpoint.CheckpointError, match=f"with other values of {what}: resume with the same"):
            Trainer(recipe, made, CPU, tmp_path).resume()


def test_weights_that_are_trained_are_the_checkpoint_s_and_lr_frames_may_differ(
    prepared: Prepared, tmp_path: Path
) -> None:
    recipe = tiny(flow={"joint": True}, data={"degradation": "real"})
    first = Trainer(recipe, prepared, CPU, tmp_path)
    first.save()
    save_file(torchvision.models.optical_flow.raft_small(weights=None).state_dict(), tmp_path / "raft.safetensors")
    encoded = [dataclasses.replace(c, lr=c.lr // 2) for c in prepared.train]
    other = change(recipe, {"flow": {"weights": str(tmp_path / "raft.safetensors")}})
    again = Trainer(other, dataclasses.replace(prepared, train=encoded), CPU, tmp_path)
    again.resume()
    assert torch.equal(again.optimiser.weights, first.optimiser.weights)


def test_the_loss_falls(prepared: Prepared, tmp_path: Path) -> None:
    values = losses_of(Trainer(tiny(steps=60, report_every=10, frames=2, rate=5e-3), prepared, CPU, tmp_path))
    assert values[-1] < 0.95 * values[0]  # it starts as the bicubic base


@pytest.mark.parametrize(
    "changes",
    [
        {"flow": {"joint": True}, "losses": {"flow": 0.1}, "crop": 16},
        {"precision": "bf16", "muon": {"on": "body"}, "followed": 1.0},
        {"model": {"refine": 4, "previous_lr": True}},
        {
            "model": {"previous": "none", "hidden": "conv"},
            "muon": {"on": "all", "rate": 2.0},
        },
        {"data": {"degradation": "bd"}},
        {
            "architecture": "frvsr",
            "flow": {"joint": True},
            "losses": {"flow": 0.1},
            "muon": {"on": "all"},
            "followed": 1.0,
        },
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
    plan = {
        "network": "squeezenet1_1",
        "layers": ["features.1", "features.3"],
        "features": str(tmp_path / "features.safetensors"),
    }
    every = {"mse": 1.0, "charbonnier": 0.0, "perceptual": 0.5, "total_variation": 0.1, "flow_original": 0.2}
    trainer = Trainer(tiny(steps=2, losses={**plan, **every}), prepared, CPU, tmp_path / "run")
    (row,) = trainer.run()
    weighed = row["mse"] + 0.5 * row["perceptual"] + 0.1 * row["total_variation"] + 0.2 * row["flow_original"]
    assert row["loss"] == pytest.approx(weighed, rel=1e-4)
    assert row["perceptual"] > 0
    assert not any(name.startswith("features") for name in trainer.export())


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
    shown = dataclasses.replace(
        prepared, shown=[clip("walk", 12, 48, 64, seed=7), clip("city", 12, 64, 48, seed=8), clip("short", 5, 48, 64)]
    )
    assert losses_of(Trainer(tiny(), shown, CPU, tmp_path)) == plain
    rows = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert [float(row["shown_all"] or 0) > 5 for row in rows] == [False, True, True]
    assert not any(
        "shown" in name for name in csv.DictReader((tmp_path / "plain" / "curves.csv").open()).fieldnames or ()
    )
    pictures = {file.stem: torch.from_numpy(data.read_image(file)) for file in (tmp_path / "pictures").iterdir()}
    assert sorted(pictures) == [f"0000{step}-{c}" for step in ("08", "12") for c in ("city", "short", "walk")]
    assert [tuple(pictures[f"000008-{c.name}"].shape) for c in shown.shown] == [(3, 48, 128), (3, 64, 96), (3, 48, 128)]
    for c in shown.shown:
        assert torch.equal(pictures[f"000008-{c.name}"][..., c.hr.shape[-1] :], c.hr[: SETTLED + 1][-1])
    assert not torch.equal(pictures["000008-walk"], pictures["000012-walk"])


def test_start_weights_replace_what_fits(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(tiny(steps=4), prepared, CPU, tmp_path)
    losses_of(trainer)
    save_file(trainer.export(), tmp_path / "start.safetensors")
    held = load_file(tmp_path / "start.safetensors")
    wider = make_net(tiny(start=str(tmp_path / "start.safetensors"), model={"previous_lr": True}), CPU)
    own = wider.state_dict()
    assert torch.equal(own["sr.tail.weight"], held["sr.tail.weight"].float())
    assert own["sr.head.weight"].shape[1] == held["sr.head.weight"].shape[1] + 3
    begun = Trainer(
        tiny(start=str(tmp_path / "start.safetensors"), model={"previous_lr": True}), prepared, CPU, tmp_path
    )
    assert f"{len(own) - 1} of {len(own)} tensors from {tmp_path}/start.safetensors" in begun.describe()
    assert "tensors from" not in trainer.describe()


def test_training_clips_may_go_once_the_trainer_has_them(prepared: Prepared, tmp_path: Path) -> None:
    whole = losses_of(Trainer(tiny(), prepared, CPU, tmp_path / "whole"))
    trainer = Trainer(tiny(), prepared, CPU, tmp_path)
    held = weakref.ref(prepared.train[0].hr)
    prepared.train.clear()
    assert held() is None
    assert losses_of(trainer) == whole


def test_a_log_names_clips_left_out_and_says_where_nothing_validates(prepared: Prepared, tmp_path: Path) -> None:
    short = [clip("one", 2, 64, 64), clip("two", 2, 64, 64)]
    told = Trainer(tiny(), dataclasses.replace(prepared, train=[*prepared.train, *short]), CPU, tmp_path).describe()
    assert "2 clips (2 too short or small: one, two), 3 real + 1 camera for validation" in told
    assert "none for validation" in Trainer(tiny(), Prepared(prepared.train, [], []), CPU, tmp_path).describe()
