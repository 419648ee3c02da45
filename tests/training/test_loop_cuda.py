from __future__ import annotations

import weakref
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
    Recipe(name="cuda", followed=1.0, steps=100, batch=4, frames=5, crop=24, report_every=10, validate_every=100),
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


def test_every_step_has_its_own_plan_though_the_device_lags_behind(prepared: Prepared, tmp_path: Path) -> None:
    trainer, seen, drawn = Trainer(RECIPE, prepared, CUDA, tmp_path), list[torch.Tensor](), list[torch.Tensor]()

    def step() -> None:
        torch.cuda._sleep(20_000_000)  # so that the next plans are drawn before this one's copy has begun
        seen.append(trainer.plan.clone())
        drawn.append(torch.from_numpy(trainer.drawn))

    trainer._advance = step
    trainer.advance(9)
    assert torch.equal(torch.stack(seen).cpu(), torch.stack(drawn))


def test_a_closed_trainer_lets_its_graph_go(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(RECIPE, prepared, CUDA, tmp_path)
    trainer.advance(1)
    graph = weakref.ref(trainer._advance.__self__)  # type: ignore[union-attr]
    assert graph() is not None
    trainer.close()
    assert graph() is None


@pytest.mark.parametrize("changes", [{}, {"muon": {"on": "all"}}, {"followed": 0.5}])
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
