"""An editor's life: a VSScript host evaluates a script again and again, out of order, and drops half of the frames."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import vapoursynth as vs

from tests.plugin.clips import DEVICES

VAPOURSYNTH = Path(vs.__file__).parent
ROUNDS, WANTED = 50, 6
SCRIPT = """
import numpy as np
import vapoursynth as vs

texture = np.kron(np.random.default_rng(0).integers(60, 190, (12, 12), np.uint8), np.ones((4, 4), np.uint8))
blank = vs.core.std.BlankClip(width=48, height=48, length=12, format=vs.YUV420P8, color=[0, 120, 140])

def draw(n, f):
    f = f.copy()
    np.copyto(np.asarray(f[0]), np.roll(texture, 2 * n, 1))
    return f

clip = blank.std.ModifyFrame(blank, draw).std.SetFrameProps(_Matrix=1)
vs.core.rafrvsr.Upscale(clip, device="{device}", chunk=6, warmup=1, leadin=2, flow_updates=1).set_output()
"""


@pytest.mark.parametrize("device", DEVICES)
def test_fifty_evaluations_out_of_order_with_half_of_the_frames_dropped(device: str, tmp_path: Path) -> None:
    program, script = tmp_path / "editor", tmp_path / "script.vpy"
    script.write_text(SCRIPT.format(device=device))
    link = [str(VAPOURSYNTH / "libvsscript.so"), f"-Wl,-rpath,{VAPOURSYNTH}", "-lpthread"]
    source = str(Path(__file__).with_name("editor.c"))
    subprocess.run(["cc", source, "-I", vs.get_include(), *link, "-o", str(program)], check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(VAPOURSYNTH)}
    done = subprocess.run(
        [program, script, str(ROUNDS)], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    frames = [(n, value) for kind, n, *hashed in said if kind == "frame" for value in hashed]
    assert len(frames) == ROUNDS * WANTED
    assert len(set(frames)) == 12, "every frame is the same in every evaluation and order"
    assert len({value for _, value in frames}) == 12
    assert said[-1][0] == "dropped"
    assert int(said[-1][1]) > ROUNDS / 2, "the frames had come before their script was dropped"
    memory = [int(kib) for kind, kib, *_ in said if kind == "memory"]
    assert max(memory[25:]) - max(memory[5:25]) < 8 * 1024, memory
