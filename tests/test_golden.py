"""Numbers hold across machines and versions of PyTorch: each shipped model's output on the CPU, as it was when written.

python -m tests.test_golden    writes the files anew: only when a model's weights change
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import vapoursynth as vs
from numpy.typing import NDArray
from PIL import Image

from vs_rafrvsr.models.registry import MODELS

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "samples"))
FRAMES, LEFT, TOP, WIDTH, HEIGHT = 6, 20, 34, 48, 24
TOLERANCE = 2  # of 255, in any sample: rounding to 8 bits on both sides, and other sums in another order
MEAN_TOLERANCE = 0.05


def golden(model: str) -> Path:
    return HERE / "golden" / f"{model}.png"


def output(model: str) -> NDArray[np.uint8]:
    """Frame 5 of a window of the sample clip's second shot, which has no text and so no font, x4: (96, 192, 3)."""
    core, pictures = vs.core, import_module("pictures")
    blank = core.std.BlankClip(width=WIDTH, height=HEIGHT, format=vs.RGB24, length=FRAMES, keep=True)

    def draw(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        small = (
            pictures.frame(pictures.SHOT + n).reshape(pictures.HEIGHT // 4, 4, pictures.WIDTH // 4, 4, 3).mean((1, 3))
        )
        window = np.rint(small[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]).astype(np.uint8)
        for plane in range(3):
            np.copyto(np.asarray(out[plane]), window[..., plane])
        return out

    clip = core.std.ModifyFrame(blank, blank, draw)
    frame = core.rafrvsr.Upscale(clip, model=model, device="cpu").get_frame(FRAMES - 1)
    return np.stack([np.asarray(frame[plane]) for plane in range(3)], -1)


@pytest.mark.parametrize("model", MODELS)
def test_the_output_is_what_it_was(model: str) -> None:
    with Image.open(golden(model)) as image:
        wanted = np.asarray(image).astype(int)
    difference = np.abs(output(model) - wanted)
    assert difference.max() <= TOLERANCE, f"largest {difference.max()}, mean {difference.mean():.3f}"
    assert difference.mean() <= MEAN_TOLERANCE


@pytest.mark.parametrize("model", MODELS)
def test_the_file_is_small(model: str) -> None:
    assert golden(model).stat().st_size <= 50_000


if __name__ == "__main__":
    for name in MODELS:
        Image.fromarray(output(name)).save(golden(name), optimize=True)
