"""The filter in processes that fork, hold several cores, or share torch with others. Each runs in a process of its own,
with a limit, so that a hang fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.encode.media import script
from vs_rafrvsr.encode.process import find_vspipe

ROOT = Path(__file__).parents[2]

FIND_TESTS = "import sys; sys.path.append(sys.argv[1])"
CORES = """
import numpy as np
import vapoursynth as vs

class Policy(vs.EnvironmentPolicy):
    current = None
    def on_policy_registered(self, api): self.api = api
    def on_policy_cleared(self): pass
    def get_current_environment(self): return self.current
    def is_alive(self, environment): return True
    def set_environment(self, environment):
        before, self.current = self.current, environment
        return before

policy = Policy()
vs.register_policy(policy)

def enter(): # a core of its own
    environment = policy.api.create_environment()
    policy.set_environment(environment)
    return environment

def upscaled():
    ramp = vs.core.std.BlankClip(width=48, height=48, length=20, format=vs.RGBS, color=[0.2, 0.4, 0.6])
    return vs.core.rafrvsr.Upscale(vs.core.text.FrameNum(ramp), device="cpu")

def pixels(futures):
    return [np.asarray(f.result(60)[0]).copy() for f in futures]

def ask(clip):
    return [clip.get_frame_async(n) for n in range(12)]
"""

TWO = """
first, second = enter(), enter()
clips = []
for environment in (first, second):
    policy.set_environment(environment)
    clips.append(upscaled())
a, b = [pixels(futures) for futures in [ask(clip) for clip in clips]]
assert all(np.array_equal(x, y) for x, y in zip(a, b))
policy.set_environment(first)
del clips[0]
policy.set_environment(None)
policy.api.destroy_environment(first)
policy.set_environment(second)
assert np.array_equal(pixels([clips[0].get_frame_async(3)])[0], a[3])
del clips
policy.set_environment(None)
policy.api.destroy_environment(second)
"""

FORK = """
import multiprocessing
mine = enter()
clip = upscaled()
wanted = pixels(ask(clip))
busy = ask(upscaled())

def work(queue):
    enter()  # a child has none of its parent's threads: it needs a core of its own
    queue.put([np.array_equal(x, y) for x, y in zip(pixels(ask(upscaled())), wanted)])

context = multiprocessing.get_context("fork")
queue = context.Queue()
for _ in range(3):
    child = context.Process(target=work, args=(queue,))
    child.start()
    assert all(queue.get(timeout=60))
    child.join(20)
    assert child.exitcode == 0, child.exitcode
assert all(np.array_equal(x, y) for x, y in zip(pixels(busy), wanted))
del busy, clip
# A core left alive ends with the process. While frames of a Python function are on their way, VapourSynth alone,
# without this filter, then aborted 15 times in 15 ("terminate called without an active exception"). Idle cores did no
# harm.
policy.set_environment(None)
policy.api.destroy_environment(mine)
"""

NEIGHBOUR = """
import torch
from tests.plugin.clips import core, moving, rgb_clip, same
source = rgb_clip(moving(20, 24, 32))
flipping = core.std.FrameEval(source, lambda n: (flip(n), source)[1])

def flip(n):
    torch.set_default_dtype(torch.float64 if n % 2 else torch.float32)
    torch.set_default_device("meta" if n % 3 else "cpu")
    torch.set_grad_enabled(bool(n % 2))
    torch.use_deterministic_algorithms(bool(n % 2))
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.enabled = bool(n % 2)
    torch.backends.mkldnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_fp16_accumulation = bool(n % 2)
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = bool(n % 3)
    torch.backends.nnpack.set_flags(bool(n % 3))
    torch.manual_seed(n)

wanted = list(core.rafrvsr.Upscale(source, device="cpu").frames())
out = core.rafrvsr.Upscale(flipping, device="cpu")
for n in (0, 7, 3, 19, 1, 12):
    flip(n)
    assert same(out.get_frame(n), wanted[n]), n
"""

LEFT_BEHIND = """
import torch
from tests.plugin.clips import core, moving, rgb_clip, same
core.num_threads = 1  # so that the filter meets what a source leaves behind

def leaving(n, f):
    torch.set_default_device("meta")
    return f

source = rgb_clip(moving(4, 24, 32))
found = list(core.rafrvsr.Upscale(core.std.ModifyFrame(source, source, leaving), device="cpu").frames())
assert all(same(a, b) for a, b in zip(found, core.rafrvsr.Upscale(source, device="cpu").frames(), strict=True))
"""

NUMBER_OF_THREADS = """
import hashlib
from tests.plugin.clips import core, moving, pixels, rgb_clip
frames = core.rafrvsr.Upscale(rgb_clip(moving(6, 24, 32)), device="cpu").frames()
print(hashlib.sha256(b"".join(plane.tobytes() for f in frames for plane in pixels(f))).hexdigest())
"""

MESA = """
import ctypes
ctypes.CDLL(sys.argv[2], ctypes.RTLD_GLOBAL)  # as Mesa's drivers do in a previewer's process
from tests.plugin.clips import core, moving, rgb_clip
core.rafrvsr.Upscale(rgb_clip(moving(2, 24, 32)), device="cpu").get_frame(1)
"""

POOL = """
import multiprocessing
import numpy as np

blank = core.std.BlankClip(width=32, height=32, format=vs.GRAY8, length=6)
clip = core.rafrvsr.Upscale(blank.std.SetFrameProps(_Matrix=1), device="cpu")
clip.get_frame(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(np.square, range(8)) == [n * n for n in range(8)]
clip.set_output()
"""


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*")
@pytest.mark.parametrize(
    "code",
    [CORES + TWO, CORES + FORK, FIND_TESTS + NEIGHBOUR, FIND_TESTS + LEFT_BEHIND],
    ids=["two cores", "forked children", "a neighbour that flips torch's settings", "a default device left behind"],
)
def test_processes_of_all_kinds(code: str) -> None:
    run(code)


def test_a_previewer_with_mesas_llvm() -> None:
    others = sorted(Path("/usr/lib").glob("*/libLLVM*.so*"))
    if not others:
        pytest.skip("needs Mesa's LLVM: apt install libllvm15")
    run(FIND_TESTS + MESA, str(others[-1]))


def test_a_script_that_forks_a_pool_of_workers_after_it_has_used_the_filter(tmp_path: Path) -> None:
    path = script(tmp_path, POOL)
    done = subprocess.run([find_vspipe(), str(path), "-"], capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert len(done.stdout) == 6 * 128 * 128


def test_the_number_of_threads_changes_nothing() -> None:
    """Ray's workers have one a core, other processes one for all."""
    one, three = (run(FIND_TESTS + NUMBER_OF_THREADS, OMP_NUM_THREADS=number) for number in ("1", "3"))
    assert one == three != ""


def run(code: str, *words: str, **environment: str) -> str:
    """What it prints."""
    command = [sys.executable, "-c", code, str(ROOT), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
