"""LAW 2: the door opens under Python, closes politely without it, and importing the package costs nothing."""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import vapoursynth as vs

from tests.plugin.clips import core, moving, rgb_clip, same
from vs_rafrvsr import OptionError, __version__, upscale
from vs_rafrvsr.encode.process import find_vspipe
from vs_rafrvsr.models.registry import MODELS

VAPOURSYNTH = Path(vs.__file__).parent


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, cwd=cwd, check=False)


def test_importing_the_package_loads_neither_torch_nor_cupy() -> None:
    code = "import sys, vs_rafrvsr; sys.exit(any(m in sys.modules for m in ('torch', 'cupy', 'vapoursynth')))"
    assert run(sys.executable, "-c", code).returncode == 0


def test_version_and_models() -> None:
    assert core.rafrvsr.Version() == __version__
    found = core.rafrvsr.Models()
    assert ([found] if isinstance(found, str) else found) == list(MODELS)


def test_the_typed_face_is_the_same_filter() -> None:
    clip = rgb_clip(moving(2, 24, 32))
    assert same(
        upscale(clip, leadin=0, tile=(32, 32)).get_frame(1),
        core.rafrvsr.Upscale(clip, leadin=0, tile=[32, 32]).get_frame(1),
    )
    with pytest.raises(OptionError, match="chunk=0"):
        upscale(clip, chunk=0)


def test_a_c_host_without_python_gets_an_error_and_lives(tmp_path: Path) -> None:
    program = tmp_path / "host"
    built = run(
        "cc", Path(__file__).with_name("host.c"), "-I", vs.get_include(), VAPOURSYNTH / "libvapoursynth.so.4",
        f"-Wl,-rpath,{VAPOURSYNTH}", "-o", program,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    out = run(program)
    assert out.returncode == 0, out.stderr
    assert "error: Upscale: this program runs no Python" in out.stdout
    assert "alive: 1" in out.stdout


def test_vspipe_runs_the_filter_and_reports_its_errors(tmp_path: Path) -> None:
    vspipe = shutil.which("vspipe") or Path(sys.executable).with_name("vspipe")
    script = tmp_path / "script.vpy"
    text = "import vapoursynth as vs\nvs.core.std.BlankClip(width=32, height=32, length=3, format=vs.YUV420P8)"
    script.write_text(f"{text}.rafrvsr.Upscale().set_output()\n")
    out = run(vspipe, "-c", "y4m", script, tmp_path / "out.y4m")
    assert out.returncode == 0, out.stderr
    assert (tmp_path / "out.y4m").stat().st_size > 3 * 128 * 128 * 3 // 2
    script.write_text(f"{text}.rafrvsr.Upscale(chunk=0).set_output()\n")
    out = run(vspipe, script, "--")
    assert out.returncode != 0
    assert "Upscale: chunk=0 is out of range" in out.stderr


def test_leaving_python_with_frames_in_flight_neither_hangs_nor_crashes_and_they_say_why_they_fail() -> None:
    code = """
import os, sys
sys.path.append(sys.argv[1])
from tests.plugin.clips import core, moving, rgb_clip

def tell(future):
    if future.exception() is not None:
        os.write(1, f"{future.exception()}\\n".encode())  # print's lock might be held by a thread that ends with Python

out = core.rafrvsr.Upscale(rgb_clip(moving(100, 24, 32)))
pending = [out.get_frame_async(n) for n in range(100)]
for future in pending:
    future.add_done_callback(tell)
pending[0].result()
"""
    done = run(sys.executable, "-c", code, Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {"Upscale: Python is being shut down"}


def test_vspipe_ends_although_its_script_left_frames_in_flight(tmp_path: Path) -> None:
    script = tmp_path / "script.vpy"
    script.write_text("""
import vapoursynth as vs
blank = vs.core.std.BlankClip(width=48, height=32, format=vs.YUV420P8, length=60)
out = vs.core.rafrvsr.Upscale(blank)
pending = [out.get_frame_async(n) for n in range(30)]
blank[0].set_output()
""")
    out = run(find_vspipe(), script, "--")
    assert out.returncode == 0, out.stderr


IMPORTING = """
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "vs_rafrvsr.plugin.nodes":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""
MAKING = """
vs.core.rafrvsr.Version()
from vs_rafrvsr.plugin import nodes
prepare = nodes.prepare
nodes.prepare = lambda *given: signal.raise_signal(signal.SIGINT) or prepare(*given)
"""


@pytest.mark.parametrize("interrupt", [IMPORTING, MAKING], ids=["importing", "making"])
def test_ctrl_c_while_a_filter_is_made_ends_the_script(interrupt: str) -> None:
    code = f"""
import signal, sys
import vapoursynth as vs
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
{interrupt}
clip = vs.core.std.BlankClip(width=32, height=32, length=1)
vs.core.rafrvsr.Upscale(clip, device="cpu")
print("went on")
"""
    done = run(sys.executable, "-c", code)
    assert done.returncode != 0
    assert re.search("vapoursynth.Error: Upscale: .*interrupt", done.stderr, re.IGNORECASE), done.stderr
    assert done.stdout == ""


def test_no_frame_stays_no_filter_and_no_source() -> None:
    """Frames came and went through the resizer. In a process of its own, so that no others count."""
    code = """
import gc, weakref
from vapoursynth import GRAY8, YUV420P8, core
from vs_rafrvsr.engine.engine import Engine
for fmt in (YUV420P8, GRAY8):
    blank = core.std.BlankClip(width=48, height=32, format=fmt, length=4)
    draw = lambda n, f: f
    source = weakref.ref(draw)
    out = core.rafrvsr.Upscale(core.std.ModifyFrame(blank, blank, draw), device="cpu", flow_updates=1)
    for n in range(4):
        out.get_frame(n)
    del blank, draw, out
    gc.collect()
    core.clear_cache()
    assert core.used_cache_size == 0, core.used_cache_size
    assert source() is None
    assert not any(isinstance(thing, Engine) for thing in gc.get_objects())
"""
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


def test_vapoursynth_caches_no_rgb_of_frames_that_the_resizer_brings_back() -> None:
    """Another filter follows, as in most chains. In RGB a frame is eight times as large."""
    code = """
import vapoursynth as vs
core = vs.core
clip = core.std.BlankClip(format=vs.YUV420P8, width=32, height=32, length=60).std.SetFrameProps(_Matrix=1)
out = core.rafrvsr.Upscale(clip, device="cpu", leadin=0).std.Crop(right=64)
for frame in out.frames(prefetch=2, close=True):
    pass
print(core.used_cache_size / (128 * 128 * 1.5))
"""
    done = run(sys.executable, "-c", code)
    assert float(done.stdout) < 60, done.stderr  # 20 of RGB would be 160


def test_ten_evaluations_of_a_script_leave_no_memory_behind() -> None:
    """What a previewer's reload does, with two instances in the script; the first rounds fill caches."""
    process, used = psutil.Process(os.getpid()), []
    for _ in range(10):
        clip = rgb_clip(moving(3, 24, 32))
        two = [core.rafrvsr.Upscale(clip, leadin=leadin, flow_updates=1) for leadin in (2, 0)]
        for out in two:
            out.get_frame(2)
        del clip, two, out
        gc.collect()
        used.append(process.memory_info().rss)
    assert max(used[6:]) - max(used[2:6]) < 4 * 2**20, [f"{u / 2**20:.0f}" for u in used]


def test_frames_say_what_their_bits_depend_on() -> None:
    clip = upscale(rgb_clip(moving(2, 24, 40)), device="cpu", chunk=8, warmup=1, leadin=1, tile=(32, 32))
    props = clip.get_frame(1).props
    assert props["_RafrvsrChunk"] == 8
    numerics = str(props["_RafrvsrNumerics"])
    assert "fp32, " in numerics
    assert "tiles of 32x32" in numerics
    assert props["_RafrvsrDevice"]
    twice = upscale(clip.resize.Bicubic(32, 24), device="cpu", chunk=12, warmup=1, leadin=1)
    assert twice.get_frame(0).props["_RafrvsrChunk"] == [8, 12]
