"""Steps without a finite gradient are left out, and a run that has too many stops and says what to do."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from tests.training.fabricated import losses_of, tiny
from vs_rafrvsr.training.loop import DivergedError, Trainer
from vs_rafrvsr.training.prepare import Prepared

CPU = torch.device("cpu")


def spoil(trainer: Trainer, steps: set[int]) -> Trainer:
    """The trainer, whose losses at these steps will be no numbers."""
    fine = dict(trainer.weights)

    def step() -> None:
        trainer.weights = dict.fromkeys(fine, math.nan) if trainer.step in steps else fine
        trainer._body()

    trainer._advance = step
    return trainer


def test_a_run_whose_gradients_are_never_finite_stops_and_says_so(prepared: Prepared, tmp_path: Path) -> None:
    trainer = Trainer(tiny(steps=20, report_every=10), prepared, CPU, tmp_path)
    trainer.weights = dict.fromkeys(trainer.weights, math.nan)
    with pytest.raises(DivergedError, match="10 of 10 steps before step 10 had no finite gradient"):
        losses_of(trainer)


@pytest.mark.parametrize("report_every", [1, 2, 4])
def test_it_stops_too_where_reports_are_a_few_steps_apart(
    report_every: int, prepared: Prepared, tmp_path: Path
) -> None:
    trainer = Trainer(tiny(steps=20, report_every=report_every), prepared, CPU, tmp_path)
    trainer.weights = dict.fromkeys(trainer.weights, math.nan)
    with pytest.raises(DivergedError):
        losses_of(trainer)
    assert trainer.step <= 8


def test_steps_without_a_finite_gradient_are_left_out_of_the_report(prepared: Prepared, tmp_path: Path) -> None:
    """And up to four of ten are borne."""
    single = spoil(Trainer(tiny(steps=10, report_every=1), prepared, CPU, tmp_path / "single"), {3})
    single.recipe = dataclasses.replace(single.recipe, validate_every=100)
    by_step = losses_of(single)
    assert [step for step, loss in enumerate(by_step) if math.isnan(loss)] == [3]
    (row,) = spoil(Trainer(tiny(steps=10, report_every=10), prepared, CPU, tmp_path), {3}).run()
    assert row["skipped"] == 1
    assert row["loss"] == row["charbonnier"] == pytest.approx(sum(by_step[:3] + by_step[4:]) / 9)
    (row,) = spoil(Trainer(tiny(steps=10, report_every=10), prepared, CPU, tmp_path), {0, 2, 4, 6}).run()
    assert row["skipped"] == 4


def test_a_run_that_diverged_writes_its_last_report_and_goes_on_at_a_lower_rate(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny(steps=20, report_every=10, rate=8e-4, checkpoint_every=10)
    with pytest.raises(DivergedError, match=r"^5 of 20 steps before step 20 .* such as rate=0\.0004$"):
        losses_of(spoil(Trainer(recipe, prepared, CPU, tmp_path), {11, 12, 13, 14, 19}))
    rows = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert [(row["step"], row["skipped"]) for row in rows] == [("10", "0"), ("20", "5")]
    assert not rows[1]["real_all"]
    lower = Trainer(dataclasses.replace(recipe, rate=4e-4), prepared, CPU, tmp_path)
    lower.resume()
    assert "rate was 0.0008 and is 0.0004 from step 10 on" in capsys.readouterr().out
    (row,) = lower.run()
    assert (row["step"], row["skipped"]) == (20, 0)
