"""What the scripts that score models share."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluating.scoring import (
    ALIGNED,
    BICUBIC,
    machine,
    mean,
    measure,
    named,
    packed,
    score,
    small,
    upscaler,
)

from tests.metrics.pictures import blurred, moving
from vs_rafrvsr.metrics.protocol import PROTOCOLS, EvaluationError
from vs_rafrvsr.metrics.tof import tof
from vs_rafrvsr.training import data


@pytest.mark.parametrize(("protocol", "counted"), [("tecogan", slice(2, 5)), ("bd", slice(0, 7))])
def test_tof_crops_flow_of_whole_frames_once(protocol: str, counted: slice) -> None:
    truth = moving(7, 112, 144, 3)
    output = blurred(truth)
    expected = tof(truth[counted], output[counted]).mean()
    assert score(PROTOCOLS[protocol], truth, output, None, ["tOF"]) == {"tOF": expected}
    cropped = PROTOCOLS[protocol].count(truth), PROTOCOLS[protocol].count(output)
    assert tof(*cropped).mean() != pytest.approx(expected, rel=1e-3)


def test_models_of_one_name_are_refused() -> None:
    assert named(["bicubic", "a/x.safetensors", "bicubic"]) == {"bicubic": "bicubic", "x": "a/x.safetensors"}
    with pytest.raises(EvaluationError, match=r"a/x\.safetensors and b/x\.safetensors would both be called x"):
        named(["a/x.safetensors", "b/x.safetensors"])


def test_a_machine_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine("auto") == "CPU"
    with pytest.raises(EvaluationError, match="cuda:1: PyTorch finds no CUDA device"):
        machine("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(EvaluationError, match="cuda:2: PyTorch finds cuda:0, cuda:1; use one of them"):
        machine("cuda:2")


def test_a_clip_that_begins_black_has_a_mean() -> None:
    black = np.zeros((2, 48, 48, 3), np.uint8)
    output = black + np.array([0, 9], np.uint8)[:, None, None, None]
    assert np.isfinite(score(PROTOCOLS["bi"], black, output, None, ["PSNR-Y"])["PSNR-Y"])


@pytest.mark.skipif("RAFRVSR_VID4" not in os.environ, reason="needs RAFRVSR_VID4=FOLDER, Vid4's truth")
@pytest.mark.parametrize(
    ("protocol", "model", "expected"), [("bi", BICUBIC, 23.78), ("bd-whole", BICUBIC, 21.80), ("bd", ALIGNED, 23.44)]
)
def test_bicubic_gives_the_published_figures_on_vid4(protocol: str, model: str, expected: float) -> None:
    """Those of arXiv 2312.09909, table I, whose BD one is of a bicubic a pixel and a half off; the last is our own."""
    chosen = PROTOCOLS[protocol]
    sources = data.read_folders(Path(os.environ["RAFRVSR_VID4"]), shortest=30, multiple=4).sources
    assert [source.name for source in sources] == ["calendar", "city", "foliage", "walk"]
    truth, lr = {s.name: packed(s.hr) for s in sources}, {s.name: small(s, chosen) for s in sources}
    with ThreadPoolExecutor() as pool:
        parts = measure(pool, chosen, upscaler(model, chosen, "cpu"), truth, lr, None, ["PSNR-Y"])
    found = mean([part.result() for part in parts.values()])
    assert np.isclose(found["PSNR-Y"], expected, atol=0.01, rtol=0)
