from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.fabricated import clip
from vs_rafrvsr.training.loop import Trainer
from vs_rafrvsr.training.pool import PoolClip
from vs_rafrvsr.training.prepare import Prepared
from vs_rafrvsr.training.recipe import Recipe, change

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda")


def on_cuda(source: PoolClip) -> PoolClip:
    return PoolClip(
        source.name, source.source, source.hr.cuda(), source.lr.cuda(), source.flow.cuda(), source.weight, source.camera
    )


@pytest.fixture
def prepared() -> Prepared:
    clips = [on_cuda(clip(str(seed), 12, 128, 160, seed=seed)) for seed in range(3)]
    return Prepared(clips, clips[:1], [])


RECIPE = change(
    Recipe(name="cuda", life=3.0, steps=100, batch=4, frames=5, crop=24, report_every=10, validate_every=100),
    {"checkpoint_every": 50, "model": {"channels": 16, "blocks": 2}},
)


def test_the_graph_takes_the_steps_that_eager_code_takes(prepared: Prepared, tmp_path: Path) -> None:
    graphed, eager = (Trainer(RECIPE, prepared, CUDA, tmp_path / name) for name in ("graph", "eager"))
    eager._advance = eager._body
    for trainer in (graphed, eager):
        trainer.advance(20)
    assert graphed.step == eager.step == 20
    a, b = (float(trainer.sums["loss"]) / 20 for trainer in (graphed, eager))
    assert a == pytest.approx(b, rel=1e-3)
    assert torch.allclose(graphed.optimiser.weights, eager.optimiser.weights, atol=2e-3)


@pytest.mark.parametrize("changes", [{}, {"muon": {"on": "all", "rows": True, "decay": 0.1}}, {"life": 4.0}])
def test_the_compiled_step_takes_the_same_steps(changes: dict[str, Any], prepared: Prepared, tmp_path: Path) -> None:
    """To bf16's rounding: fused kernels round less often."""
    recipe = change(RECIPE, changes)
    plain, compiled = (
        Trainer(change(recipe, {"compiled": c}), prepared, CUDA, tmp_path / str(c)) for c in (False, True)
    )
    for trainer in (plain, compiled):
        trainer.advance(20)
    a, b = (float(trainer.sums["loss"]) / 20 for trainer in (plain, compiled))
    assert a == pytest.approx(b, rel=1e-2)


def test_a_resumed_run_equals_an_unbroken_one_to_a_thousandth(prepared: Prepared, tmp_path: Path) -> None:
    whole = [row["loss"] for row in Trainer(RECIPE, prepared, CUDA, tmp_path / "whole").run()]
    first = Trainer(RECIPE, prepared, CUDA, tmp_path / "parts")
    for row in first.run():
        if row["step"] == 50:
            break
    second = Trainer(RECIPE, prepared, CUDA, tmp_path / "parts")
    second.resume()
    assert second.step == 50
    assert [row["loss"] for row in second.run()] == pytest.approx(whole[5:], rel=1e-3)
