"""An editor's life: a VSScript host evaluates a script again and again, out of order, and drops half of the frames."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import vapoursynth as vs

VAPOURSYNTH = Path(vs.__file__).parent
SCRIPT = """
import vapoursynth as vs
ramp = vs.core.std.BlankClip(width=48, height=48, length=12, format=vs.YUV420P8, color=[90, 120, 140])
clip = vs.core.text.FrameNum(ramp.std.SetFrameProps(_Matrix=1))
vs.core.rafrvsr.Upscale(clip, device="cpu", chunk=6, warmup=1, leadin=2, flow_updates=1).set_output()
"""


def test_fifty_evaluations_out_of_order_with_half_of_the_frames_dropped(tmp_path: Path) -> None:
    program, script = tmp_path / "editor", tmp_path / "script.vpy"
    script.write_text(SCRIPT)
    link = [str(VAPOURSYNTH / "libvsscript.so"), f"-Wl,-rpath,{VAPOURSYNTH}", "-lpthread"]
    source = str(Path(__file__).with_name("editor.c"))
    subprocess.run(["cc", source, "-I", vs.get_include(), *link, "-o", str(program)], check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(VAPOURSYNTH)}
    done = subprocess.run(
        [program, script, "50"], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    rounds = [line.split() for line in done.stdout.splitlines()]
    assert len(rounds) == 50
    seen = {(n, value) for _, _, *values in rounds for n, value in enumerate(values) if value != "0"}
    assert len(seen) == 12, "every frame is the same in every evaluation and order"
    memory = [int(kib) for _, kib, *_ in rounds]
    assert max(memory[25:]) - max(memory[5:25]) < 8 * 1024, memory
