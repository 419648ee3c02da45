"""What no shipped model may do, whatever it was trained on: change the colour of a flat area."""

from __future__ import annotations

import numpy as np
import pytest
import vapoursynth as vs

from vs_rafrvsr.models.registry import MODELS

core = vs.core
COLOURS = np.random.default_rng(0).integers(16, 241, (16, 3))
SHOT = 3


@pytest.mark.parametrize("model", MODELS)
def test_flat_colours_come_back(model: str) -> None:
    """In 8-bit steps. No model makes all darker or brighter, as one did that had learnt from darkened clips.

    Compression takes saturation away, and a model that has learnt so may give back a step or two: rafrvsr-texture 0.51
    in the mean. So may a colour that training hardly ever shows: rafrvsr-bi makes a strong magenta 2.7 darker.
    """
    shots = [
        core.std.BlankClip(format=vs.RGBS, width=32, height=32, length=SHOT, color=list(colour / 255))
        for colour in COLOURS
    ]
    marked = [core.std.SetFrameProps(s[0], _SceneChangePrev=1) + s[1:] for s in shots]
    out = core.rafrvsr.Upscale(core.std.Splice(marked), model=model, device="cpu", scenecut="props")
    found = [[np.asarray(frame[p])[48:80, 48:80].mean() * 255 for p in range(3)] for frame in out.frames()]
    errors = np.array(found).reshape(len(COLOURS), SHOT, 3) - COLOURS[:, None]
    assert abs(errors.mean()) < 0.25
    assert np.abs(errors).mean() < 0.6
    assert np.abs(errors).max() < 3
