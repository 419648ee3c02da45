from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.training.fabricated import clip
from vs_rafrvsr import weights
from vs_rafrvsr.errors import WeightsError
from vs_rafrvsr.models import registry
from vs_rafrvsr.training import export
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.prepare import Prepared
from vs_rafrvsr.training.recipe import Recipe, change

RECIPE = change(
    Recipe(name="tiny", steps=2, batch=1, frames=2, crop=8, warm_up=1, start=""),
    {"model": {"channels": 4, "blocks": 1}, "flow": {"updates": 3}},
)


def trained(recipe: Recipe, folder: Path) -> Trainer:
    held = clip("held", 9, 48, 48, seed=1)
    trainer = Trainer(recipe, Prepared([clip("a", 4, 64, 64)], [held], []), torch.device("cpu"), folder)
    list(trainer.run())
    export.write(folder / "weights" / "tiny.safetensors", trainer)
    return trainer


def test_the_plugin_loads_what_was_trained(tmp_path: Path) -> None:
    trainer = trained(RECIPE, tmp_path)
    file = tmp_path / "weights" / "tiny.safetensors"
    model = registry.load("rafrvsr", str(file), None)
    with trainer.optimiser.averaged():
        ours = trainer.net.state_dict()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, ours[name].half().float()), name
    header = weights.read_header(file)
    assert header.config == {
        "channels": 4, "blocks": 1, "flow_updates": 3, "flow_input_scale": 2.0, "offset": -1.5,
    }  # fmt: skip
    assert (header.training["steps"], header.training["clips"]) == (2, 1)
    assert list(header.quality) == ["validation PSNR-Y, filmed clips"]


def test_a_finished_run_that_is_resumed_keeps_its_scores(tmp_path: Path) -> None:
    first = trained(RECIPE, tmp_path)
    file = tmp_path / "weights" / "tiny.safetensors"
    before = weights.read_header(file)
    again = Trainer(RECIPE, first.prepared, torch.device("cpu"), tmp_path)
    again.resume()
    assert list(again.run()) == []
    export.write(file, again)
    assert weights.read_header(file) == before


def test_frvsr_is_a_file_for_the_plugin_too(tmp_path: Path) -> None:
    trainer = trained(change(RECIPE, {"architecture": "frvsr", "flow": {"joint": True}}), tmp_path)
    model = registry.load("rafrvsr", str(tmp_path / "weights" / "tiny.safetensors"), None)
    assert type(model).__name__ == "FRVSR"
    assert sum(p.numel() for p in model.parameters()) == trainer.optimiser.weights.numel()


def test_an_experiment_s_network_is_refused_by_the_plugin(tmp_path: Path) -> None:
    trained(change(RECIPE, {"model": {"previous_lr": True}}), tmp_path)
    with pytest.raises(WeightsError, match="'rafrvsr-variant', and this version knows"):
        registry.load("rafrvsr", str(tmp_path / "weights" / "tiny.safetensors"), None)


def test_the_record_goes_back_to_the_first_weights(tmp_path: Path) -> None:
    trained(RECIPE, tmp_path / "first")
    first = tmp_path / "first" / "weights" / "tiny.safetensors"
    trained(change(RECIPE, {"start": str(first), "steps": 3}), tmp_path)
    record = weights.read_header(tmp_path / "weights" / "tiny.safetensors").training
    assert (record["steps"], record["before"]["steps"], record["before"]["before"]) == (3, 2, {})
    save_file({"sr.head.weight": torch.zeros(4, 55, 3, 3)}, tmp_path / "foreign.safetensors")
    assert export.before(str(tmp_path / "foreign.safetensors")) == {}


def test_the_record_names_no_folder() -> None:
    recipe = change(RECIPE, {"start": "/somewhere/a.safetensors", "flow": {"weights": "/elsewhere/b.safetensors"}})
    table = export.record(recipe)
    assert (table["start"], table["flow"]["weights"]) == ("a.safetensors", "b.safetensors")
