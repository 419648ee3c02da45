from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from vs_rafrvsr.training import recipe
from vs_rafrvsr.training.degrade import PHASE
from vs_rafrvsr.training.losses import TERMS
from vs_rafrvsr.training.recipe import Recipe, RecipeError

FOLDER = Path(__file__).parents[2] / "scripts" / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))
TABLES = [file for file in RECIPES if "[runs.baseline]" in file.read_text()]


def test_overrides_reach_tables_and_keep_types(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("rate = 1\n[model]\nchannels = 32\n")
    found = recipe.load(file, ["model.blocks=3", "betas=[0.9, 0.95]", "precision=fp16", "flow.joint=true"])
    assert (found.name, found.rate, found.betas, found.precision) == ("mine", 1.0, (0.9, 0.95), "fp16")
    assert (found.model.channels, found.model.blocks, found.flow.joint) == (32, 3, True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rte=1", "unknown key rte: did you mean rate?"),
        ("model.chanels=1", "unknown key model.chanels: did you mean model.channels?"),
        ("steps=1.5", "steps = 1.5: expected int"),
        ("steps=true", "steps = True: expected int"),
        ("precision=int8", "precision = 'int8': one of 'bf16', 'fp16', 'fp32'"),
        ("data.degradation=BI", "data.degradation = 'BI': one of 'bi', 'bd', 'bd-1.5', 'real'"),
        ("betas=[0.9]", "betas = .*: a list of 2"),
        ("model=3", "model is a table"),
        ("rate", "write key=value"),
        ("architecture=frvsr", "set flow.joint = true"),
    ],
)
def test_a_bad_override_says_what_is_allowed(override: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("")
    with pytest.raises(RecipeError, match=message.replace("?", r"\?")):
        recipe.load(file, [override])


def test_a_change_keeps_the_rest_of_its_table() -> None:
    changed = recipe.change(Recipe(name="a"), {"model": {"refine": 8}})
    again = recipe.change(changed, {"model": {"blocks": 1}, "batch": 4})
    assert (again.model.refine, again.model.blocks, again.batch) == (8, 1, 4)


def test_a_record_of_an_earlier_version_lacks_keys_and_fits() -> None:
    record = json.loads(json.dumps(dataclasses.asdict(Recipe(name="a"))))
    del record["losses"]["flow_known"]
    assert recipe.differences(Recipe(name="b"), record) == []
    record["losses"]["mse"] = 1.0
    assert recipe.differences(Recipe(name="b"), record) == ["losses.mse"]


def test_every_degradation_can_be_named() -> None:
    for kind in PHASE:
        assert recipe.change(Recipe(name="a"), {"data": {"degradation": kind}}).data.degradation == kind


@pytest.mark.parametrize("file", [f for f in RECIPES if f not in TABLES], ids=lambda f: f.stem)
def test_recipes_load(file: Path) -> None:
    assert recipe.load(file).steps > 0


@pytest.mark.parametrize(("name", "pixel"), [("rafrvsr-texture", "charbonnier"), ("seed-project", "mse")])
def test_recipes_of_the_original_s_four_losses_use_all_four(name: str, pixel: str) -> None:
    losses = recipe.load(FOLDER / f"{name}.toml").losses
    used = {term for term in (*TERMS, "perceptual") if getattr(losses, term)}
    assert used - {"spectrum", "lattice"} == {pixel, "perceptual", "total_variation", "flow_original"}


def test_the_seed_project_trains_for_ten_epochs() -> None:
    seed = recipe.load(FOLDER / "seed-project.toml")
    clips = seed.data.subset - seed.data.subset // seed.data.validation_every
    assert seed.steps * seed.batch == 10 * clips


@pytest.mark.parametrize("file", TABLES, ids=lambda f: f.stem)
def test_runs_of_a_table_are_changes_of_its_baseline(file: Path) -> None:
    baseline, changes = recipe.read_table(file, ["losses.features=mine"])
    assert baseline.losses.features == "mine"
    runs = {name: recipe.change(baseline, change) for name, change in changes.items()}
    assert runs.pop("baseline") == baseline
    assert all(run != baseline for run in runs.values())
    assert len(set(map(repr, runs.values()))) == len(runs)


@pytest.mark.parametrize(
    ("baseline", "change", "refused"),
    [
        ("", 'data = { degradation = "bd" }', "data.degradation"),
        ("", "seed = 1", "seed"),
        ("", "flow = { scale = 1.0 }", "flow.scale"),
        ("flow = { joint = true }", "flow = { scale = 1.0 }", ""),
        ("", "data = { stills_weight = 3.0 }", ""),
    ],
)
def test_runs_of_a_table_share_their_clips(baseline: str, change: str, refused: str, tmp_path: Path) -> None:
    file = tmp_path / "table.toml"
    file.write_text(f"[baseline]\n{baseline}\n[runs.a]\n{change}\n")
    if not refused:
        assert recipe.chosen(recipe.read_table(file)[1], None) == ["a"]
        return
    with pytest.raises(RecipeError, match=f"a changes {refused}, but all runs share the baseline's clips"):
        recipe.read_table(file)


def test_a_run_that_is_not_in_the_table_is_named() -> None:
    with pytest.raises(RecipeError, match=r"no run c in the table: it has a, b"):
        recipe.chosen({"a": {}, "b": {}}, ["a", "c"])


@pytest.mark.parametrize(("text", "says"), [("steps = ", "no TOML"), ("steps = 1", "no table of experiments")])
def test_a_file_that_is_no_table_is_named(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "table.toml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=says):
        recipe.read_table(file)
